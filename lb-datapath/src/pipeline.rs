//! The steps of a packet, on one screen: parse → icmp → classify → (reply |) select → forward, and answers to what stops.
//!
//! In: a frame and the tables. Out: a verdict, the frame rewritten, every counter moved that the verdict explains. Invariant: a packet
//! whose destination is no service and whose source is no endpoint is not touched, and nothing but the interface's
//! counter knows of it.

use lb_common::{FEATURE_ANY_PORT, FEATURE_V4, FEATURE_V6, Reason};

use crate::{
    answer,
    classify::{self, Found},
    constants::has,
    flow_table::{Kind, Narrow, Wide},
    forward::{self, Stop},
    header::{ethernet, ipv4::Ipv4, ipv6::Ipv6},
    icmp,
    packet::Packet,
    parse::{Parse, Parsed, Segment},
    reply,
    select::{self, Request},
    tables::{Tables, Traffic, explain, note},
};

/// What becomes of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Left to the kernel.
    Pass,
    /// Dropped.
    Drop,
    /// Sent back out of the interface it came in by.
    Transmit,
    /// Sent out of another interface.
    Redirect,
}

/// An IP family of the pipeline: its header and where its flows lie.
trait Family: Parse {
    /// Flows of services with a fixed port.
    type Fixed: Kind + 'static;
    /// Whether flows of services on every port lie in another table.
    const HAS_OTHER: bool;
}

impl Family for Ipv4 {
    type Fixed = Narrow;
    const HAS_OTHER: bool = true;
}

impl Family for Ipv6 {
    type Fixed = Wide;
    const HAS_OTHER: bool = false;
}

/// Takes one frame through all steps.
#[inline(always)]
pub fn balance<P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Verdict {
    let constants = tables.constants();
    let verdict = match packet.load_half(ethernet::TYPE_OFFSET) {
        Some(ethernet::IPV4_BE) if has(constants, FEATURE_V4) => family::<Ipv4, P, T>(packet, tables),
        Some(ethernet::IPV6_BE) if has(constants, FEATURE_V6) => family::<Ipv6, P, T>(packet, tables),
        _ => Verdict::Pass,
    };
    if !T::OBSERVE {
        tables.count_verdict(verdict);
    }
    verdict
}

#[inline(always)]
fn family<H: Family, P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Verdict {
    match H::parse(packet) {
        Parsed::Segment(segment) => {
            let (destination, port_be) = (segment.ip.destination(), segment.destination_port_be());
            match classify::service(tables, &destination, port_be, segment.protocol) {
                Some(found) => to_service(packet, tables, segment, found),
                None => from_backend(packet, tables, &segment),
            }
        }
        Parsed::Icmp { destination, kind } => {
            icmp::to_vip::<H, T>(tables, &destination, kind);
            Verdict::Pass
        }
        Parsed::Fault { destination, reason } => match classify::vip(tables, &destination) {
            Some(found) => stopped(packet, tables, None::<&Segment<H>>, found.id, Stop::Drop(reason)),
            None => Verdict::Pass,
        },
        Parsed::Foreign => Verdict::Pass,
    }
}

/// A packet from a client.
#[inline(always)]
fn to_service<H: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    segment: Segment<H>,
    found: Found<'_>,
) -> Verdict {
    let Found { id, service, policy } = found;
    let request = Request { segment, service_id: id, service, policy };
    #[expect(clippy::cast_possible_truncation, reason = "pool ids have 16 bits")]
    explain(tables, |explanation| {
        explanation.service = id;
        explanation.pool = policy.pool() as u16;
    });
    let wide = H::HAS_OTHER && has(tables.constants(), FEATURE_ANY_PORT) && service.port_be == 0;
    let verdict = if request.segment.ip.hops() <= 1 && !policy.is_loopback() {
        Err(Stop::Drop(Reason::TtlExceeded))
    } else if wide {
        serve::<H, Wide, P, T>(packet, tables, &request)
    } else {
        serve::<H, H::Fixed, P, T>(packet, tables, &request)
    };
    match verdict {
        Ok(verdict) => verdict,
        Err(Stop::Drop(Reason::NoBackend)) if policy.answers_when_none() => {
            unserved(packet, tables, &request)
        }
        Err(stop) => stopped(packet, tables, Some(&request.segment), id, stop),
    }
}

/// Selects, forwards and counts.
#[inline(always)]
fn serve<H: Family, K: Kind + 'static, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    request: &Request<'_, H>,
) -> Result<Verdict, Stop> {
    let chosen = select::select::<H, K, T>(tables, request)?;
    let verdict = forward::request(packet, tables, request, &chosen)?;
    if !T::OBSERVE {
        let traffic = Traffic {
            service: request.service_id,
            backend_counter: chosen.backend.counter,
            bytes: request.segment.packet_len,
        };
        tables.count_request(traffic, chosen.is_new);
    }
    Ok(verdict)
}

/// A packet to no service: perhaps a backend's reply.
#[inline(always)]
fn from_backend<H: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    segment: &Segment<H>,
) -> Verdict {
    let constants = tables.constants();
    if !reply::are_expected(constants) || !reply::is_possible(tables, segment) {
        return Verdict::Pass;
    }
    let mut outcome = reply::reply::<H, H::Fixed, P, T>(packet, tables, segment);
    if outcome.is_none() && H::HAS_OTHER && has(constants, FEATURE_ANY_PORT) {
        outcome = reply::reply::<H, Wide, P, T>(packet, tables, segment);
    }
    match outcome {
        None => Verdict::Pass,
        Some(reply::Outcome { verdict: Ok(verdict), .. }) => verdict,
        Some(reply::Outcome { service, verdict: Err(stop) }) => {
            stopped(packet, tables, Some(segment), service, stop)
        }
    }
}

/// No backend is usable, and the client is told.
#[inline(always)]
fn unserved<H: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    request: &Request<'_, H>,
) -> Verdict {
    let segment = &request.segment;
    let (answered, reason) = if segment.is_tcp() {
        (answer::reset(packet, segment), Reason::ResetAnswered)
    } else {
        (answer::unreachable(packet, segment), Reason::UnreachableAnswered)
    };
    answered_or_dropped(tables, request.service_id, answered, reason, Reason::NoBackend)
}

/// A packet goes no further.
#[inline(always)]
fn stopped<H: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    segment: Option<&Segment<H>>,
    service: u16,
    stop: Stop,
) -> Verdict {
    match (stop, segment) {
        (Stop::TooBig { mtu }, Some(segment)) => {
            let answered = answer::too_big(packet, segment, mtu);
            answered_or_dropped(tables, service, answered, Reason::TooBigAnswered, Reason::TooBig)
        }
        (Stop::TooBig { .. }, None) => {
            answered_or_dropped(tables, service, None, Reason::TooBig, Reason::TooBig)
        }
        (Stop::Drop(reason), _) => answered_or_dropped(tables, service, None, reason, reason),
    }
}

#[inline(always)]
fn answered_or_dropped<T: Tables>(
    tables: &T,
    service: u16,
    answered: Option<()>,
    answer: Reason,
    drop: Reason,
) -> Verdict {
    match answered {
        Some(()) => {
            note(tables, service, answer);
            Verdict::Transmit
        }
        None => {
            note(tables, service, drop);
            Verdict::Drop
        }
    }
}
