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
    icmp, nat,
    packet::Packet,
    parse::{Parse, Parsed, Segment},
    reply,
    select::{self, Begun, Known, Request, Wish},
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

/// What a round of the steps came to.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Left to the kernel.
    Pass,
    /// Sent back.
    Transmit,
    /// Sent on.
    Redirect,
    /// Dropped, and counted.
    Drop,
    /// The packet begins a flow, or its flow needs another backend.
    Begins,
    /// It may be the reply of a backend.
    Reply,
    /// It goes no further; the note says why.
    Stops,
}

impl From<Verdict> for Outcome {
    #[inline(always)]
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass => Self::Pass,
            Verdict::Drop => Self::Drop,
            Verdict::Transmit => Self::Transmit,
            Verdict::Redirect => Self::Redirect,
        }
    }
}

/// What one round leaves for the next: plain, without holes, because the kernel's verifier judges each round by itself over it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Notes {
    /// The flow that is to begin.
    wish: Wish,
    /// What it was given.
    begun: Begun,
    /// What a packet would have to fit in, if its sender is to be told.
    mtu: u32,
    service: u16,
    /// Why it stops: number of a reason.
    reason: u8,
    /// The flow lies in the wide table.
    is_wide: bool,
    answers_when_none: bool,
    reserved: [u8; 7],
}

const _: () = assert!(size_of::<Notes>() == size_of::<Wish>() + size_of::<Begun>() + 16);

/// One round of the steps. Each is a function of its own in the kernel (`Tables::round`), which the verifier judges once and which
/// has the stack of 512 bytes nearly to itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Round {
    /// The way of every packet: parse, classify, select, forward. Ends early for what is rarer.
    Steps,
    /// Selects a backend for the flow in the notes.
    Choose,
    /// Enters that flow.
    Enter,
    /// Frees a word of the reply index for it.
    MakeRoom,
    /// Translates a packet that may be a backend's reply.
    Back,
    /// Answers or drops a packet that goes no further, and counts why.
    Stop,
}

/// Takes a packet through one round.
#[inline(always)]
pub fn round<H: Family, P: Packet, T: Tables>(
    round: Round,
    packet: &mut P,
    tables: &T,
    notes: &mut Notes,
) -> Outcome {
    match round {
        Round::Steps => steps::<H, P, T>(packet, tables, notes),
        Round::Back => translate_back::<H, P, T>(packet, tables, notes),
        Round::Stop => stop::<H, P, T>(packet, tables, notes).into(),
        Round::Choose | Round::Enter | Round::MakeRoom => {
            if H::HAS_OTHER && has(tables.constants(), FEATURE_ANY_PORT) && notes.is_wide {
                flow_round::<Wide, T>(round, tables, notes)
            } else {
                flow_round::<H::Fixed, T>(round, tables, notes)
            }
        }
    }
}

#[inline(always)]
fn flow_round<K: Kind, T: Tables>(round: Round, tables: &T, notes: &mut Notes) -> Outcome {
    let done = match round {
        Round::Choose => return choose::<K, T>(tables, notes),
        Round::Enter => select::enter::<K, T>(tables, &notes.wish, &notes.begun),
        _ => nat::make_room::<K, T>(tables, &notes.wish, &notes.begun),
    };
    if done { Outcome::Begins } else { notes.stop(Stop::Drop(Reason::FlowTableFull)) }
}

impl Notes {
    #[inline(always)]
    fn stop(&mut self, stop: Stop) -> Outcome {
        match stop {
            Stop::Drop(reason) => self.reason = reason as u8,
            Stop::TooBig { mtu } => {
                self.reason = Reason::TooBigAnswered as u8;
                self.mtu = mtu;
            }
        }
        Outcome::Stops
    }
}

#[inline(always)]
fn family<H: Family, P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Verdict {
    let mut notes = Notes { reason: Reason::BackendMissing as u8, ..Notes::default() };
    let mut outcome = tables.round::<H, P>(Round::Steps, packet, &mut notes);
    if outcome == Outcome::Begins {
        outcome = begin::<H, P, T>(packet, tables, &mut notes);
        if outcome == Outcome::Begins {
            outcome = tables.round::<H, P>(Round::Steps, packet, &mut notes);
        }
    }
    if outcome == Outcome::Reply {
        outcome = tables.round::<H, P>(Round::Back, packet, &mut notes);
    }
    if matches!(outcome, Outcome::Stops | Outcome::Begins | Outcome::Reply) {
        outcome = tables.round::<H, P>(Round::Stop, packet, &mut notes);
    }
    match outcome {
        Outcome::Pass => Verdict::Pass,
        Outcome::Transmit => Verdict::Transmit,
        Outcome::Redirect => Verdict::Redirect,
        _ => Verdict::Drop,
    }
}

/// Selects a backend for the flow in the notes and enters it; the steps then find it there.
#[inline(always)]
fn begin<H: Family, P: Packet, T: Tables>(packet: &mut P, tables: &T, notes: &mut Notes) -> Outcome {
    let selected = tables.round::<H, P>(Round::Choose, packet, notes);
    if selected != Outcome::Begins {
        return selected;
    }
    let entered = tables.round::<H, P>(Round::Enter, packet, notes);
    if entered == Outcome::Begins {
        return entered;
    }
    let freed = tables.round::<H, P>(Round::MakeRoom, packet, notes);
    if T::OBSERVE || freed != Outcome::Begins {
        return freed;
    }
    tables.round::<H, P>(Round::Enter, packet, notes)
}

/// [`Round::Steps`].
#[inline(always)]
fn steps<H: Family, P: Packet, T: Tables>(packet: &mut P, tables: &T, notes: &mut Notes) -> Outcome {
    let segment = match H::parse(packet) {
        Parsed::Segment(segment) => segment,
        Parsed::Icmp(kind) => {
            icmp::to_vip::<H, T>(tables, packet, kind);
            return Outcome::Pass;
        }
        Parsed::Fault(reason) => return faulty::<H, P, T>(packet, tables, notes, reason),
        Parsed::Foreign => return Outcome::Pass,
    };
    let Some(request) = classified::<H, P, T>(packet, tables, segment) else {
        let constants = tables.constants();
        let is_reply = reply::are_expected(constants) && reply::is_possible::<H, T>(tables, packet, &segment);
        return if is_reply { Outcome::Reply } else { Outcome::Pass };
    };
    explain_request(tables, &request);
    let is_wide = H::HAS_OTHER && has(tables.constants(), FEATURE_ANY_PORT) && request.service.port_be == 0;
    let result = if is_wide {
        serve::<H, Wide, P, T>(packet, tables, &request, &notes.begun)
    } else {
        serve::<H, H::Fixed, P, T>(packet, tables, &request, &notes.begun)
    };
    let stop = match result {
        Ok(Served::Done(verdict)) => return verdict.into(),
        Ok(Served::Begins(wish)) => {
            notes.wish = wish;
            notes.is_wide = is_wide;
            None
        }
        Err(stop) => Some(stop),
    };
    notes.service = request.service_id;
    notes.answers_when_none = request.policy.answers_when_none();
    match stop {
        None => Outcome::Begins,
        Some(stop) => notes.stop(stop),
    }
}

/// What serving a request came to.
enum Served {
    Done(Verdict),
    Begins(Wish),
}

#[inline(always)]
fn classified<'t, H: Family, P: Packet, T: Tables>(
    packet: &P,
    tables: &'t T,
    segment: Segment,
) -> Option<Request<'t>> {
    let destination = H::load_destination(packet)?;
    let Found { id, service, policy } =
        classify::service(tables, &destination, segment.destination_port_be(), segment.protocol)?;
    Some(Request { segment, service_id: id, service, policy })
}

/// Forwards the packet of a known flow, and counts it.
#[inline(always)]
fn serve<'t, H: Family, K: Kind, P: Packet, T: Tables>(
    packet: &mut P,
    tables: &'t T,
    request: &Request<'t>,
    begun: &Begun,
) -> Result<Served, Stop> {
    if request.segment.hops <= 1 && !request.policy.is_loopback() {
        return Err(Stop::Drop(Reason::TtlExceeded));
    }
    let client = H::load_source(packet).ok_or(forward::SHORT)?;
    let chosen = match select::known::<K, T>(tables, request, client, begun)? {
        Known::Chosen(chosen) => chosen,
        Known::Nothing(wish) => return Ok(Served::Begins(wish)),
    };
    let verdict = forward::request::<H, P, T>(packet, tables, request, &chosen)?;
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

/// [`Round::Choose`].
#[inline(always)]
fn choose<K: Kind, T: Tables>(tables: &T, notes: &mut Notes) -> Outcome {
    match select::begin::<K, T>(tables, &notes.wish) {
        Ok(begun) => {
            notes.begun = begun;
            Outcome::Begins
        }
        Err(reason) => notes.stop(Stop::Drop(reason)),
    }
}

/// [`Round::Back`].
#[inline(always)]
fn translate_back<H: Family, P: Packet, T: Tables>(packet: &mut P, tables: &T, notes: &mut Notes) -> Outcome {
    let Parsed::Segment(segment) = H::parse(packet) else { return Outcome::Pass };
    let mut outcome = reply::reply::<H, H::Fixed, P, T>(packet, tables, &segment);
    if outcome.is_none() && H::HAS_OTHER && has(tables.constants(), FEATURE_ANY_PORT) {
        outcome = reply::reply::<H, Wide, P, T>(packet, tables, &segment);
    }
    match outcome {
        None => Outcome::Pass,
        Some(reply::Outcome { verdict: Ok(verdict), .. }) => verdict.into(),
        Some(reply::Outcome { service, verdict: Err(stop) }) => {
            notes.service = service;
            notes.stop(stop)
        }
    }
}

/// A packet with a fault: dropped if it is for a vip, else none of our business.
#[inline(always)]
fn faulty<H: Family, P: Packet, T: Tables>(
    packet: &P,
    tables: &T,
    notes: &mut Notes,
    reason: Reason,
) -> Outcome {
    let found = H::load_destination(packet).and_then(|destination| classify::vip(tables, &destination));
    let Some(found) = found else { return Outcome::Pass };
    explain(tables, |explanation| explanation.service = found.id);
    notes.service = found.id;
    notes.stop(Stop::Drop(reason))
}

/// [`Round::Stop`].
#[inline(always)]
fn stop<H: Family, P: Packet, T: Tables>(packet: &mut P, tables: &T, notes: &Notes) -> Verdict {
    let reason = Reason::from_number(notes.reason).unwrap_or(Reason::BackendMissing);
    let (answered, answer, otherwise) = match reason {
        Reason::TooBigAnswered => {
            (answer::too_big::<H, P>(packet, notes.mtu), Reason::TooBigAnswered, Reason::TooBig)
        }
        Reason::NoBackend if notes.answers_when_none => match H::parse(packet) {
            Parsed::Segment(segment) if segment.is_tcp() => {
                (answer::reset::<H, P>(packet, &segment), Reason::ResetAnswered, Reason::NoBackend)
            }
            _ => (answer::unreachable::<H, P>(packet), Reason::UnreachableAnswered, Reason::NoBackend),
        },
        reason => (None, reason, reason),
    };
    let (verdict, reason) = match answered {
        Some(()) => (Verdict::Transmit, answer),
        None => (Verdict::Drop, otherwise),
    };
    note(tables, notes.service, reason);
    verdict
}

#[inline(always)]
fn explain_request<T: Tables>(tables: &T, request: &Request<'_>) {
    #[expect(clippy::cast_possible_truncation, reason = "pool ids have 16 bits")]
    explain(tables, |explanation| {
        explanation.service = request.service_id;
        explanation.pool = request.policy.pool() as u16;
    });
}
