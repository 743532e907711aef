//! The rounds a packet goes through: each a function of its own in the kernel. Nearly every packet needs one, the quick one.
//!
//! In: the frame, the [`Turn`] the round before ended with, notes of a flow that begins. Out: the next turn. The kernel's verifier judges each
//! round once, by itself, over any turn and any notes ([`Tables::round`]), and each has the stack of 512 bytes nearly to itself.
//! Invariant: a round that ends with `Begins`, `Reply` or `Rare` has not changed the frame.

use lb_common::{FEATURE_ANY_PORT, Reason};

use crate::{
    answer, begin, classify, cold,
    constants::has,
    encap,
    flow_table::{Kind, Wide},
    forward::{SHORT, Stop, Way},
    hash,
    header::ethernet,
    icmp, nat,
    packet::Packet,
    parse::{self, Ends, Parsed},
    pipeline::{Family, Served, Verdict, classified, is_wide, is_wrapped, quick, serve},
    reply,
    select::{Begun, Request, Wish},
    tables::{FlowEvent, Tables, explain, note},
};

/// What a round came to. The first numbers are those of [`Verdict`].
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It goes no further; the turn says why. (0: what no round left behind stops.)
    Stops = 0,
    /// Dropped, and counted.
    Drop = 1,
    /// Left to the kernel.
    Pass = 2,
    /// Sent back.
    Transmit = 3,
    /// Sent on.
    Redirect = 4,
    /// The packet begins a flow, or its flow needs another backend.
    Begins = 5,
    /// It may be the reply of a backend.
    Reply = 6,
    /// It is nothing that can be done at once.
    Rare = 7,
    /// It is ready to be sent, but for the tunnel it goes into; the turn says how it is sent.
    Wraps = 8,
}

/// What a round leaves for the next, in one word: outcome 8 · reason 8 · service 16 · MTU 16 · flags.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Turn(pub u64);

/// The service answers clients when no backend is usable.
const ANSWERS_WHEN_NONE: u64 = 1 << 48;
/// The flow lies in the family's other table.
const IS_WIDE: u64 = 1 << 49;

impl Turn {
    /// A turn of no service.
    #[inline(always)]
    pub const fn new(outcome: Outcome) -> Self {
        Self(outcome as u64)
    }

    /// It stops for this reason.
    #[inline(always)]
    const fn stop(stop: Stop) -> Self {
        let (reason, mtu) = match stop {
            Stop::Drop(reason) => (reason, 0),
            Stop::Unresolved => (Reason::NextHopUnknown, 0),
            Stop::TooBig { mtu } => (Reason::TooBigAnswered, mtu as u64 & 0xffff),
        };
        Self(Outcome::Stops as u64 | (reason as u64) << 8 | mtu << 32)
    }

    /// It comes to this verdict once it is in its tunnel. The verdict stands where a reason would.
    #[inline(always)]
    const fn wraps(verdict: Verdict) -> Self {
        Self(Outcome::Wraps as u64 | (verdict as u64) << 8)
    }

    /// The verdict of a packet that was to be put into a tunnel.
    #[inline(always)]
    const fn wrapped(self) -> Self {
        Self((self.0 >> 8) & 0xff)
    }

    /// With this service.
    #[inline(always)]
    const fn of(self, service: u16) -> Self {
        Self(self.0 | (service as u64) << 16)
    }

    #[inline(always)]
    const fn with(self, flag: u64, is_set: bool) -> Self {
        Self(if is_set { self.0 | flag } else { self.0 })
    }

    /// The same service and flags, another outcome.
    #[inline(always)]
    const fn then(self, next: Self) -> Self {
        Self(self.0 & !0xffff_0000_ffff | next.0 | self.0 & 0xffff_0000)
    }

    /// What the round came to.
    #[inline(always)]
    pub const fn outcome(self) -> Outcome {
        match self.0 as u8 {
            1 => Outcome::Drop,
            2 => Outcome::Pass,
            3 => Outcome::Transmit,
            4 => Outcome::Redirect,
            5 => Outcome::Begins,
            6 => Outcome::Reply,
            7 => Outcome::Rare,
            8 => Outcome::Wraps,
            _ => Outcome::Stops,
        }
    }

    /// The verdict, if the round came to one.
    #[inline(always)]
    pub const fn verdict(self) -> Option<Verdict> {
        match self.0 as u8 {
            1 => Some(Verdict::Drop),
            2 => Some(Verdict::Pass),
            3 => Some(Verdict::Transmit),
            4 => Some(Verdict::Redirect),
            _ => None,
        }
    }

    /// Why it stops.
    #[inline(always)]
    fn reason(self) -> Reason {
        Reason::from_number((self.0 >> 8) as u8).unwrap_or(Reason::BackendMissing)
    }

    #[inline(always)]
    const fn service(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// What a packet would have to fit in, if its sender is to be told.
    #[inline(always)]
    const fn mtu(self) -> u32 {
        (self.0 >> 32) as u32 & 0xffff
    }

    #[inline(always)]
    const fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }
}

impl From<Verdict> for Turn {
    #[inline(always)]
    fn from(verdict: Verdict) -> Self {
        // The same numbers.
        Self(verdict as u8 as u64)
    }
}

/// A flow that begins: plain and without holes, because the kernel's verifier judges each round over any bytes of it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Notes {
    /// The flow that is to begin.
    wish: Wish,
    /// What it was given.
    begun: Begun,
}

const _: () = assert!(size_of::<Notes>() == size_of::<Wish>() + size_of::<Begun>());

/// One round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Round {
    /// The packet of a known flow, or one that is none of ours, done at once (`pipeline::quick`).
    Quick,
    /// Parse, classify, select, forward: whatever the packet is. Ends early for what has rounds of its own. Needs notes.
    Steps,
    /// Selects a backend for the flow in the notes.
    Choose,
    /// Enters that flow.
    Enter,
    /// Frees a word of the reply index for it.
    MakeRoom,
    /// Translates a packet that may be a backend's reply.
    Back,
    /// Puts a packet that is ready to be sent into its service's tunnel.
    Wrap,
    /// Answers or drops a packet that goes no further, and counts why.
    Stop,
}

/// Takes a packet through one round.
#[inline(always)]
pub fn round<H: Family, P: Packet, T: Tables>(
    round: Round,
    packet: &mut P,
    tables: &T,
    turn: Turn,
    notes: Option<&mut Notes>,
) -> Turn {
    match (round, notes) {
        (Round::Quick, _) => quick::<H, P, T>(packet, tables),
        (Round::Back, _) => translate_back::<H, P, T>(packet, tables),
        (Round::Wrap, _) => wrap::<H, P, T>(packet, tables, turn),
        (Round::Stop, _) => stop::<H, P, T>(packet, tables, turn).into(),
        (Round::Steps, Some(notes)) => steps::<H, P, T>(packet, tables, notes),
        (_, Some(notes)) => {
            if H::HAS_OTHER && has(tables.constants(), FEATURE_ANY_PORT) && turn.has(IS_WIDE) {
                flow_round::<Wide, T>(round, tables, turn, notes)
            } else {
                flow_round::<H::Fixed, T>(round, tables, turn, notes)
            }
        }
        // Cannot happen, and costs a drop instead of a panic.
        (_, None) => Turn::default(),
    }
}

#[inline(always)]
fn flow_round<K: Kind, T: Tables>(round: Round, tables: &T, turn: Turn, notes: &mut Notes) -> Turn {
    let done = match round {
        Round::Choose => match begin::begin::<K, T>(tables, &notes.wish) {
            Ok(begun) => {
                notes.begun = begun;
                true
            }
            Err(reason) => return turn.then(Turn::stop(Stop::Drop(reason))),
        },
        Round::Enter => begin::enter::<K, T>(tables, &notes.wish, &notes.begun),
        _ => {
            let done = nat::make_room::<K, T>(tables, &notes.wish, &notes.begun);
            if !done && !T::OBSERVE {
                tables.count_flow(K::INDEX, FlowEvent::NotStored);
            }
            done
        }
    };
    if done { turn } else { turn.then(Turn::stop(Stop::Drop(Reason::FlowTableFull))) }
}

/// [`Round::Steps`].
#[inline(always)]
fn steps<H: Family, P: Packet, T: Tables>(packet: &mut P, tables: &T, notes: &mut Notes) -> Turn {
    let Parsed { kind, reason, icmp_type, segment } = H::parse(packet);
    match kind {
        parse::Kind::Segment => {}
        parse::Kind::Icmp => {
            icmp::to_vip::<H, T>(tables, packet, icmp_type);
            return Turn::new(Outcome::Pass);
        }
        parse::Kind::Fault => return faulty::<H, P, T>(packet, tables, reason, segment.ends()),
        parse::Kind::Foreign => return Turn::new(Outcome::Pass),
    }
    let Some(request) = classified::<H, P, T>(packet, tables, segment) else {
        let Some(source) = H::load_source(packet) else { return Turn::new(Outcome::Pass) };
        let source = hash::address_word(tables.constants(), &source);
        let is_reply = reply::is_possible(tables, source, segment.ends());
        return Turn::new(if is_reply { Outcome::Reply } else { Outcome::Pass });
    };
    explain_request(tables, &request);
    let is_wide = is_wide::<H, T>(tables, &request);
    let result = if is_wide {
        serve::<H, Wide, P, T>(packet, tables, &request, Some(&notes.begun))
    } else {
        serve::<H, H::Fixed, P, T>(packet, tables, &request, Some(&notes.begun))
    };
    let turn = match result {
        Ok(Served::Done(verdict)) if is_wrapped(tables, &request) => Turn::wraps(verdict),
        Ok(Served::Done(verdict)) => return verdict.into(),
        Ok(Served::Begins(wish)) => {
            notes.wish = wish;
            Turn::new(Outcome::Begins)
        }
        Err(stop) => Turn::stop(stop),
    };
    turn.of(request.service_id)
        .with(ANSWERS_WHEN_NONE, request.policy.answers_when_none())
        .with(IS_WIDE, is_wide)
}

/// [`Round::Back`].
#[inline(always)]
fn translate_back<H: Family, P: Packet, T: Tables>(packet: &mut P, tables: &T) -> Turn {
    let Parsed { kind, segment, .. } = H::parse(packet);
    if kind != parse::Kind::Segment {
        return Turn::new(Outcome::Pass);
    }
    let mut outcome = reply::reply::<H, H::Fixed, P, T>(packet, tables, &segment, None, Way::Any);
    if outcome.is_none() && H::HAS_OTHER && has(tables.constants(), FEATURE_ANY_PORT) {
        outcome = reply::reply::<H, Wide, P, T>(packet, tables, &segment, None, Way::Any);
    }
    match outcome {
        // To the kernel it would be a packet of no connection: it would reset the one whose it is.
        None if cold::flows_are_moving(tables, tables.now()) => Turn::stop(Stop::Drop(Reason::FlowsMoving)),
        None => Turn::new(Outcome::Pass),
        Some(reply::Outcome { verdict: Ok(verdict), .. }) => verdict.into(),
        Some(reply::Outcome { service, verdict: Err(stop) }) => Turn::stop(stop).of(service),
    }
}

/// A packet with a fault: dropped if it is for a service, or, if its ports cannot be read (protocol 0), for a vip; else none of our business.
#[inline(always)]
fn faulty<H: Family, P: Packet, T: Tables>(packet: &P, tables: &T, reason: Reason, ends: Ends) -> Turn {
    let found = H::load_destination(packet).and_then(|destination| {
        if ends.protocol == 0 {
            classify::vip(tables, &destination)
        } else {
            classify::service(tables, &destination, ends.destination_port_be(), ends.protocol)
        }
    });
    let Some(found) = found else { return Turn::new(Outcome::Pass) };
    explain(tables, |explanation| explanation.service = found.id);
    Turn::stop(Stop::Drop(reason)).of(found.id)
}

/// [`Round::Wrap`]. The link header is written already, and nothing sent: that happens when the program has ended.
#[inline(always)]
fn wrap<H: Family, P: Packet, T: Tables>(packet: &mut P, tables: &T, turn: Turn) -> Turn {
    let sent = turn.wrapped();
    if sent.verdict().is_none() || sent.outcome() == Outcome::Pass {
        return sent;
    }
    match wrapped::<H, P, T>(packet, tables, turn.service()) {
        Ok(()) => sent,
        Err(stop) => Turn::stop(stop).of(turn.service()),
    }
}

#[inline(always)]
fn wrapped<H: Family, P: Packet, T: Tables>(packet: &mut P, tables: &T, service: u16) -> Result<(), Stop> {
    let service = tables.service(service as u32).ok_or(Reason::BackendMissing)?;
    let source = tables.source(service.tunnel_source as u32).ok_or(Reason::SourceMissing)?;
    let link: ethernet::Addresses = packet.load_words(0).ok_or(SHORT)?;
    let ip = H::load(packet).ok_or(SHORT)?;
    let (from, to) = (&source.address, &service.tunnel);
    let done = if to.is_v4() {
        encap::ipv4(packet, &ip, ip.packet_len(), from, to)
    } else {
        // One prober, one backend: there is nothing to spread.
        encap::ipv6(packet, &ip, ip.packet_len(), from, to, 0)
    };
    done.ok_or(Reason::NoHeadroom)?;
    ethernet::store_addresses(packet, &link).ok_or(SHORT)
}

/// [`Round::Stop`].
#[inline(always)]
fn stop<H: Family, P: Packet, T: Tables>(packet: &mut P, tables: &T, turn: Turn) -> Verdict {
    let (answered, answer, otherwise) = match turn.reason() {
        Reason::TooBigAnswered => {
            (answer::too_big::<H, P>(packet, turn.mtu()), Reason::TooBigAnswered, Reason::TooBig)
        }
        Reason::NoBackend if turn.has(ANSWERS_WHEN_NONE) => {
            let Parsed { kind, segment, .. } = H::parse(packet);
            if kind == parse::Kind::Segment && segment.is_tcp() {
                (answer::reset::<H, P>(packet, &segment), Reason::ResetAnswered, Reason::NoBackend)
            } else {
                (answer::unreachable::<H, P>(packet), Reason::UnreachableAnswered, Reason::NoBackend)
            }
        }
        Reason::FlowLost => {
            let Parsed { segment, .. } = H::parse(packet);
            (answer::reset::<H, P>(packet, &segment), Reason::FlowResetAnswered, Reason::FlowLost)
        }
        reason => (None, reason, reason),
    };
    let (verdict, reason) = match answered {
        Some(()) => (Verdict::Transmit, answer),
        None => (Verdict::Drop, otherwise),
    };
    note(tables, turn.service(), reason);
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
