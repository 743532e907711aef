//! From a chosen backend to a frame on its way.
//!
//! In: a request and its backend. Out: the frame rewritten as the service's mode says and the verdict, or why it stops. Invariant:
//! every mode takes one hop off the packet's life, judges its size against the way out before it changes anything, and sends only
//! through interfaces that lbd may send through.

use lb_common::{
    Backend, FEATURE_DSR, FEATURE_FULL_NAT, FEATURE_GENERIC, FEATURE_IPIP, FEATURE_LOOPBACK, FEATURE_NAT,
    Forward, NextHop, Reason, backend_state,
};

use crate::{
    checksum::Delta,
    checksum::Zero,
    constants::has,
    encap, hash,
    header::{IpHeader, ethernet, tcp, udp},
    nat,
    packet::Packet,
    parse::{self, Segment},
    pipeline::Verdict,
    route,
    select::{Chosen, Request},
    tables::{Tables, explain, note},
};

/// Why a packet goes no further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// It is dropped.
    Drop(Reason),
    /// The link address of its next hop is not known, and nobody was asked ([`Way::Resolved`]).
    Unresolved,
    /// It is larger than the way takes and its sender is told.
    TooBig {
        /// Largest packet the sender may send, bytes.
        mtu: u32,
    },
}

/// Which ways a packet may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// By a next hop that the backend names, or, for a reply, by a cached route; else [`Stop::Unresolved`].
    Resolved,
    /// Also one that the kernel is asked for.
    Any,
}

impl From<Reason> for Stop {
    #[inline(always)]
    fn from(reason: Reason) -> Self {
        Self::Drop(reason)
    }
}

/// A frame that ends earlier than its parse said; cannot happen, and costs a drop instead of a panic.
pub(crate) const SHORT: Stop = Stop::Drop(Reason::Truncated);

/// Forwards a request to its backend.
#[inline(always)]
pub fn request<H: IpHeader, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    request: &Request<'_>,
    chosen: &Chosen<'_>,
    ways: Way,
) -> Result<Verdict, Stop> {
    let constants = tables.constants();
    let policy = request.policy;
    if has(constants, FEATURE_DSR) && policy.is(Forward::Dsr) {
        let way = way_to_backend(tables, chosen, ways)?;
        fits::<H, P, T>(packet, tables, &request.segment, &way, 0)?;
        H::take_hop(packet).ok_or(SHORT)?;
        return send(packet, tables, &way);
    }
    if has(constants, FEATURE_IPIP) && policy.is(Forward::Ipip) {
        return encapsulated::<H, P, T>(packet, tables, request, chosen, ways);
    }
    if has(constants, FEATURE_NAT) && policy.is(Forward::Nat) {
        return translated::<H, P, T>(packet, tables, request, (chosen, ways), false);
    }
    if has(constants, FEATURE_FULL_NAT) && policy.is(Forward::FullNat) {
        return translated::<H, P, T>(packet, tables, request, (chosen, ways), true);
    }
    Err(Stop::Drop(Reason::BackendMissing))
}

#[inline(always)]
fn encapsulated<H: IpHeader, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    request: &Request<'_>,
    chosen: &Chosen<'_>,
    ways: Way,
) -> Result<Verdict, Stop> {
    let backend = chosen.backend;
    let index = hash::scale(hash::low(chosen.hash), backend.source_count as u32);
    if backend.source_count == 0 {
        return Err(Stop::Drop(Reason::SourceMissing));
    }
    let source = tables.source((backend.source as u32).wrapping_add(index)).ok_or(Reason::SourceMissing)?;
    let way = way_to_backend(tables, chosen, ways)?;
    let overhead = if backend.family == 6 { encap::IPV6_LEN } else { encap::IPV4_LEN };
    fits::<H, P, T>(packet, tables, &request.segment, &way, overhead)?;
    H::take_hop(packet).ok_or(SHORT)?;
    let ip = &H::load(packet).ok_or(SHORT)?;
    let (from, to) = (&source.address, &backend.address);
    let done = if backend.family == 6 {
        encap::ipv6(packet, ip, request.segment.packet_len, from, to, hash::low(chosen.hash))
    } else {
        encap::ipv4(packet, ip, request.segment.packet_len, from, to)
    };
    done.ok_or(Reason::NoHeadroom)?;
    send(packet, tables, &way)
}

#[inline(always)]
fn translated<H: IpHeader, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    request: &Request<'_>,
    (chosen, ways): (&Chosen<'_>, Way),
    full_nat: bool,
) -> Result<Verdict, Stop> {
    let segment = &request.segment;
    let backend = chosen.backend;
    let (source, source_port_be) = if full_nat {
        nat::full_nat_source(tables, backend, chosen.hash, chosen.attempt).ok_or(Reason::SourceMissing)?
    } else {
        (H::load_source(packet).ok_or(SHORT)?, segment.source_port_be())
    };
    let port_be = nat::endpoint_port_be(backend, request.service, segment.destination_port_be());
    let ports = parse::ports(source_port_be, port_be);
    let ends = Ends { source: &source, destination: &backend.address, ports };
    if has(tables.constants(), FEATURE_LOOPBACK) && request.policy.is_loopback() {
        translate::<H, P>(packet, segment, &ends, false)?;
        note(tables, request.service_id, Reason::LocalDelivery);
        return Ok(Verdict::Pass);
    }
    let way = match way_to_backend(tables, chosen, ways) {
        Ok(way) => way,
        // The kernel resolves the next hop and sends. With full-nat the source is an address of this host, which it
        // would not forward from.
        Err(Stop::Drop(Reason::NextHopUnknown)) if !full_nat => {
            translate::<H, P>(packet, segment, &ends, false)?;
            note(tables, request.service_id, Reason::NextHopByStack);
            return Ok(Verdict::Pass);
        }
        Err(stop) => return Err(stop),
    };
    fits::<H, P, T>(packet, tables, segment, &way, 0)?;
    translate::<H, P>(packet, segment, &ends, true)?;
    send(packet, tables, &way)
}

/// Both ends of a packet after translation.
pub(crate) struct Ends<'a> {
    pub(crate) source: &'a lb_common::Address,
    pub(crate) destination: &'a lb_common::Address,
    pub(crate) ports: u32,
}

/// Rewrites addresses, ports and checksums; `hop` takes one hop off.
#[inline(always)]
pub(crate) fn translate<H: IpHeader, P: Packet>(
    packet: &mut P,
    segment: &Segment,
    ends: &Ends<'_>,
    hop: bool,
) -> Result<(), Stop> {
    let ip = H::load(packet).ok_or(SHORT)?;
    let delta = Delta::default()
        .replace_all(&ip.source().words, &ends.source.words)
        .replace_all(&ip.destination().words, &ends.destination.words)
        .replace(segment.ports, ends.ports);
    parse::go_behind(packet, segment.extra_len).ok_or(SHORT)?;
    // VERIFIER: two stores at constant offsets; one at an offset chosen before takes CAP_PERFMON.
    if segment.is_tcp() {
        packet.update_checksum(H::TRANSPORT + tcp::CHECKSUM, delta, Zero::Sum).ok_or(SHORT)?;
    } else {
        packet.update_checksum(H::TRANSPORT + udp::CHECKSUM, delta, Zero::Absent).ok_or(SHORT)?;
    }
    packet.store_words(H::TRANSPORT, &[ends.ports]).ok_or(SHORT)?;
    parse::come_back(packet, segment.extra_len).ok_or(SHORT)?;
    ip.store_translated(packet, ends.source, ends.destination, hop).ok_or(SHORT)
}

/// The way to a backend: the next hop its state names, else the kernel's.
#[inline(always)]
fn way_to_backend<T: Tables>(tables: &T, chosen: &Chosen<'_>, ways: Way) -> Result<NextHop, Stop> {
    let backend: &Backend = chosen.backend;
    let index = hash::low(backend.state.load() & (backend_state::LIVE - 1));
    let known = if index != 0 { tables.next_hop(index) } else { None };
    if let Some(next_hop) = known
        && next_hop.interface != 0
    {
        return Ok(*next_hop);
    }
    if ways == Way::Resolved {
        return Err(Stop::Unresolved);
    }
    route::way_to(tables, &backend.address, &backend.address, Way::Any)
}

/// Judges a packet's size against its way. In generic mode a frame may be several packets in one (GRO), which the kernel cuts.
#[inline(always)]
pub(crate) fn fits<H: IpHeader, P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    segment: &Segment,
    way: &NextHop,
    overhead: u32,
) -> Result<(), Stop> {
    if has(tables.constants(), FEATURE_GENERIC) || segment.packet_len + overhead <= way.mtu as u32 {
        return Ok(());
    }
    if H::load(packet).ok_or(SHORT)?.dont_fragment() {
        return Err(Stop::TooBig { mtu: (way.mtu as u32).wrapping_sub(overhead) });
    }
    Err(Stop::Drop(Reason::TooBig))
}

/// Writes the link addresses and sends.
#[inline(always)]
pub(crate) fn send<P: Packet, T: Tables>(packet: &mut P, tables: &T, way: &NextHop) -> Result<Verdict, Stop> {
    explain(tables, |explanation| explanation.next_hop = *way);
    ethernet::store_addresses(packet, &way.ethernet).ok_or(SHORT)?;
    if way.interface == tables.ingress() {
        return Ok(Verdict::Transmit);
    }
    if tables.redirect(way.interface) {
        return Ok(Verdict::Redirect);
    }
    Err(Stop::Drop(Reason::RedirectFailed))
}
