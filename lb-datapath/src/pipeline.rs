//! The steps of a packet, on one screen: parse → icmp → classify → (reply |) select → forward, and answers to what stops.
//!
//! In: a frame and the tables. Out: a verdict, the frame rewritten, every counter moved that the verdict explains. Nearly every packet is
//! done by [`quick`]: it is of a known flow, or none of ours. Whatever else it may be, [`rarely`] takes it from the start again, in
//! rounds (rounds.rs). Invariant: a packet whose destination is no service and whose source is no endpoint is not touched, and nothing
//! but the interface's counter knows of it.

use lb_common::{FEATURE_ANY_PORT, FEATURE_V4, FEATURE_V6, FEATURE_WRAP, Reason};

use crate::{
    classify::{self, Glance},
    constants::has,
    flow_table::{Kind, Narrow, Wide},
    forward::{self, Stop, Way},
    hash,
    header::{ethernet, ipv4::Ipv4, ipv6::Ipv6, udp},
    packet::Packet,
    parse::{Ends, Parse, Segment},
    reply,
    rounds::{Notes, Outcome, Round, Turn},
    select::{self, Begun, Known, Request, Wish},
    tables::{Tables, Traffic, note},
};

/// What becomes of a frame. The numbers are those of the kernel's `enum xdp_action`.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Dropped.
    Drop = 1,
    /// Left to the kernel.
    Pass = 2,
    /// Sent back out of the interface it came in by.
    Transmit = 3,
    /// Sent out of another interface.
    Redirect = 4,
}

/// An IP family of the pipeline: its header and where its flows lie.
pub trait Family: Parse {
    /// Flows of services with a fixed port.
    type Fixed: Kind;
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
    // What explains goes the long way, which notes everything.
    let turn = if T::OBSERVE {
        Turn::new(Outcome::Rare)
    } else {
        tables.round::<H, P>(Round::Quick, packet, Turn::default(), None)
    };
    match turn.verdict() {
        Some(verdict) => verdict,
        None if turn.outcome() == Outcome::Reply => finish::<H, P, T>(packet, tables, turn),
        None => rarely::<H, P, T>(packet, tables),
    }
}

/// The way of nearly every packet: parse, classify, select, forward. [`Outcome::Rare`]: it is something else, and the frame is as it was.
#[inline(always)]
pub(crate) fn quick<H: Family, P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Turn {
    const RARE: Turn = Turn::new(Outcome::Rare);
    if !packet.assure(H::TRANSPORT + udp::LEN) {
        return RARE;
    }
    let Some(ends) = H::glance(packet) else { return RARE };
    let Some(destination) = H::load_destination(packet) else { return RARE };
    let word = hash::address_word(tables.constants(), &destination);
    let found = classify::glance(tables, (&destination, word), ends.destination_port_be(), ends.protocol);
    let found = match found {
        Glance::Found(found) => found,
        Glance::Nobody => return quick_reply::<H, P, T>(packet, tables, ends, word),
        Glance::Unsure => return RARE,
    };
    // Only now: a packet that is not ours may be as broken as it likes.
    let Some(segment) = H::plain(packet, ends) else { return RARE };
    let request = Request::new(segment, found);
    if is_wide::<H, T>(tables, &request) || is_wrapped(tables, &request) {
        return RARE;
    }
    match serve::<H, H::Fixed, P, T>(packet, tables, &request, None) {
        Ok(Served::Done(verdict)) => verdict.into(),
        Err(Stop::Drop(reason)) => {
            note(tables, request.service_id, reason);
            Verdict::Drop.into()
        }
        Ok(Served::Begins(_)) | Err(Stop::TooBig { .. } | Stop::Unresolved) => RARE,
    }
}

/// A packet to no service: the reply of a backend, or none of ours. `destination`: the address word.
#[inline(always)]
fn quick_reply<H: Family, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &T,
    ends: Ends,
    destination: u64,
) -> Turn {
    let constants = tables.constants();
    if !reply::are_expected(constants) {
        return Verdict::Pass.into();
    }
    let Some(source) = H::load_source(packet) else { return Verdict::Pass.into() };
    let source = hash::address_word(constants, &source);
    if !reply::is_possible(tables, source, ends) {
        return Verdict::Pass.into();
    }
    const REPLY: Turn = Turn::new(Outcome::Reply);
    let Some(segment) = H::plain(packet, ends) else { return REPLY };
    let words = Some((source, destination));
    match reply::reply::<H, H::Fixed, P, T>(packet, tables, &segment, words, Way::Resolved) {
        Some(reply::Outcome { verdict: Ok(verdict), .. }) => verdict.into(),
        Some(reply::Outcome { service, verdict: Err(Stop::Drop(reason)) }) => {
            note(tables, service, reason);
            Verdict::Drop.into()
        }
        _ => REPLY,
    }
}

/// Takes a packet through the rounds it needs.
#[inline(always)]
fn rarely<H: Family, P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Verdict {
    let turn = tables.with_notes(|notes| {
        let turn = tables.round::<H, P>(Round::Steps, packet, Turn::default(), Some(&mut *notes));
        if turn.outcome() != Outcome::Begins {
            return turn;
        }
        let begun = begin::<H, P, T>(packet, tables, turn, notes);
        if begun.outcome() != Outcome::Begins {
            return begun;
        }
        tables.round::<H, P>(Round::Steps, packet, begun, Some(notes))
    });
    finish::<H, P, T>(packet, tables, turn.unwrap_or_default())
}

/// Selects a backend for the flow in the notes and enters it; the steps then find it there.
#[inline(always)]
fn begin<H: Family, P: Packet, T: Tables>(packet: &mut P, tables: &T, turn: Turn, notes: &mut Notes) -> Turn {
    let turn = tables.round::<H, P>(Round::Choose, packet, turn, Some(notes));
    if turn.outcome() != Outcome::Begins {
        return turn;
    }
    let entered = tables.round::<H, P>(Round::Enter, packet, turn, Some(notes));
    if entered.outcome() == Outcome::Begins {
        return entered;
    }
    let freed = tables.round::<H, P>(Round::MakeRoom, packet, turn, Some(notes));
    if T::OBSERVE || freed.outcome() != Outcome::Begins {
        return freed;
    }
    tables.round::<H, P>(Round::Enter, packet, turn, Some(notes))
}

/// The verdict: what may be a reply is translated back, what goes into a tunnel is put there, what goes no further is answered, and counted.
#[inline(always)]
fn finish<H: Family, P: Packet, T: Tables>(packet: &mut P, tables: &T, mut turn: Turn) -> Verdict {
    if turn.outcome() == Outcome::Reply {
        turn = tables.round::<H, P>(Round::Back, packet, turn, None);
    }
    if has(tables.constants(), FEATURE_WRAP) && turn.outcome() == Outcome::Wraps {
        turn = tables.round::<H, P>(Round::Wrap, packet, turn, None);
    }
    if turn.verdict().is_none() {
        turn = tables.round::<H, P>(Round::Stop, packet, turn, None);
    }
    turn.verdict().unwrap_or(Verdict::Drop)
}

/// Whether the flows of the request's service lie in the family's other table.
#[inline(always)]
pub(crate) fn is_wide<H: Family, T: Tables>(tables: &T, request: &Request<'_>) -> bool {
    H::HAS_OTHER && has(tables.constants(), FEATURE_ANY_PORT) && request.service.port_be == 0
}

/// Whether what the request's service sends is put into a tunnel afterwards, in a round of its own.
#[inline(always)]
pub(crate) fn is_wrapped<T: Tables>(tables: &T, request: &Request<'_>) -> bool {
    has(tables.constants(), FEATURE_WRAP) && request.policy.wraps()
}

#[inline(always)]
pub(crate) fn classified<'t, H: Family, P: Packet, T: Tables>(
    packet: &P,
    tables: &'t T,
    segment: Segment,
) -> Option<Request<'t>> {
    let destination = H::load_destination(packet)?;
    let found = classify::service(tables, &destination, segment.destination_port_be(), segment.protocol)?;
    Some(Request::new(segment, found))
}

/// What serving a request came to.
pub(crate) enum Served {
    Done(Verdict),
    Begins(Wish),
}

/// Forwards the packet of a known flow, and counts it. `begun`: what the rounds before found out; `None` is quick.
#[inline(always)]
pub(crate) fn serve<'t, H: Family, K: Kind, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &'t T,
    request: &Request<'t>,
    begun: Option<&Begun>,
) -> Result<Served, Stop> {
    if request.segment.hops <= 1 && !request.policy.is_loopback() {
        return Err(Stop::Drop(Reason::TtlExceeded));
    }
    let client = H::load_source(packet).ok_or(forward::SHORT)?;
    let chosen = match select::known::<K, T>(tables, request, client, begun)? {
        Known::Chosen(chosen) => chosen,
        Known::Nothing(wish) => return Ok(Served::Begins(wish)),
    };
    let way = if begun.is_some() { Way::Any } else { Way::Resolved };
    let verdict = forward::request::<H, P, T>(packet, tables, request, &chosen, way)?;
    if !T::OBSERVE {
        let traffic = Traffic {
            service: request.service_id,
            backend_counter: chosen.backend.counter,
            bytes: request.segment.packet_len,
        };
        tables.count_request(traffic, chosen.is_new);
    }
    Ok(Served::Done(verdict))
}
