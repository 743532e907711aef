//! The tables of the packet path: look-ups, the clock, the way out and the counters.
//!
//! In: indices computed by the steps. Out: references to entries, which other CPUs and the daemon change word by word at any time: every
//! field that may change under traffic is a `Word`, read once and judged as read. Invariant: with `OBSERVE` nothing is
//! changed but the frame at hand and the explanation.

use lb_common::{
    Address, Backend, DirectoryBucket, Explanation, FlowBucket4, FlowBucket6, MaglevWord, NextHop, Pool,
    Reason, ReplyBucket, RouteEntry, Service, Source, Word,
};

use crate::{
    classify, cold,
    constants::Constants,
    flow_table::Kind,
    nat,
    packet::Packet,
    pipeline::{Family, Verdict},
    rounds::{self, Notes, Round, Turn},
    select::Wish,
};

/// What happened in a flow table; the fields of [`lb_common::FlowCounters`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowEvent {
    /// An entry was written for a new flow.
    Inserted,
    /// An entry within its time gave way.
    Evicted,
    /// A new flow found no room.
    NotStored,
    /// A flow was selected again.
    Reselected,
}

/// What became of a TCP flow that had begun; fields of [`lb_common::BackendCounters`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// The client went on.
    Continued,
    /// The client asked again.
    Repeated,
    /// The backend refused it.
    Refused,
}

/// Packets and bytes of one request or reply, as the counters take them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Traffic {
    /// Service id.
    pub service: u16,
    /// Index in the backend counters.
    pub backend_counter: u32,
    /// Bytes of the IP packet as it arrived.
    pub bytes: u32,
}

/// See the module. Every look-up is by an index that may be beyond the table: then `None`.
pub trait Tables: Sized {
    /// Nothing is changed; an explanation is left.
    const OBSERVE: bool;

    /// How the load-time constants are read.
    type Constants: Constants;

    /// The load-time constants.
    fn constants(&self) -> Self::Constants;
    /// The present tick.
    fn now(&self) -> u16;
    /// A random word (affinity "none").
    fn random(&self) -> u32;
    /// The interface the frame came in by.
    fn ingress(&self) -> u32;

    /// A bucket of the service directory.
    fn directory(&self, bucket: u32) -> Option<&DirectoryBucket>;
    /// A service by id.
    fn service(&self, id: u32) -> Option<&Service>;
    /// A pool by id.
    fn pool(&self, id: u32) -> Option<&Pool>;
    /// A word of the Maglev arena.
    fn maglev(&self, word: u32) -> Option<&MaglevWord>;
    /// A backend by its index in the whole table.
    fn backend(&self, index: u32) -> Option<&Backend>;
    /// A next hop by index.
    fn next_hop(&self, index: u32) -> Option<&NextHop>;
    /// A source address by index.
    fn source(&self, index: u32) -> Option<&Source>;
    /// A word of the endpoint filter.
    fn endpoint_filter(&self, word: u32) -> Option<u64>;

    /// A bucket of the IPv4 flow table.
    fn flow4(&self, bucket: u32) -> Option<&FlowBucket4>;
    /// A bucket of the wide flow table.
    fn flow6(&self, bucket: u32) -> Option<&FlowBucket6>;
    /// A bucket of the IPv4 reply index.
    fn reply4(&self, bucket: u32) -> Option<&ReplyBucket>;
    /// A bucket of the wide reply index.
    fn reply6(&self, bucket: u32) -> Option<&ReplyBucket>;

    /// This CPU's cached route in `slot` (modulo the cache) if it is for `destination`.
    fn cached_route(&self, slot: u32, destination: &Address) -> Option<RouteEntry>;
    /// Replaces this CPU's cached route in `slot`.
    fn cache_route(&self, slot: u32, route: &RouteEntry);
    /// [`lb_common::Control::route_generation`].
    fn route_generation(&self) -> u32;
    /// [`lb_common::Control::flows_move`].
    fn flows_move(&self) -> Option<&Word>;
    /// Asks the kernel's routes and neighbours for the way from `source` to `destination`. The answer's `address`, `tick`
    /// and `generation` are the caller's to fill.
    fn look_up_route(&self, source: &Address, destination: &Address) -> Option<RouteEntry>;
    /// Prepares to send the frame out of `interface`; false if lbd may not send there.
    fn redirect(&self, interface: u32) -> bool;

    /// Counts a verdict on the ingress interface.
    fn count_verdict(&self, verdict: Verdict);
    /// Counts a forwarded packet of a client.
    fn count_request(&self, traffic: Traffic, new_flow: bool);
    /// Counts a translated reply.
    fn count_reply(&self, traffic: Traffic);
    /// Counts what became of a flow that had begun with the backend of this counter.
    fn count_progress(&self, backend_counter: u32, progress: Progress);
    /// Counts a reason of a service.
    fn count_reason(&self, service: u16, reason: Reason);
    /// Counts an event of the IPv4 (0) or wide (1) flow table.
    fn count_flow(&self, table: u32, event: FlowEvent);

    /// `rounds::round`, which see. The kernel makes each round a function of its own.
    #[inline(always)]
    fn round<H: Family, P: Packet>(
        &self,
        round: Round,
        packet: &mut P,
        turn: Turn,
        notes: Option<&mut Notes>,
    ) -> Turn {
        rounds::round::<H, P, Self>(round, packet, self, turn, notes)
    }

    /// Does something with fresh notes. The kernel keeps them in a map: the stack of 512 bytes is for the rounds.
    #[inline(always)]
    fn with_notes<R>(&self, action: impl FnOnce(&mut Notes) -> R) -> Option<R> {
        Some(action(&mut Notes::default()))
    }

    /// `classify::search`: which service listens there.
    #[inline(always)]
    fn listener(&self, destination: &Address, port_be: u16, protocol: u8) -> u64 {
        classify::search(self, destination, port_be, protocol)
    }

    /// `cold::place::<K>`, `cold::hint::<K>`, `cold::occupant::<K>` and `cold::rank::<K>`: searches that are rarely needed. The kernel puts them into functions
    /// of their own, over plain numbers, which the verifier judges once and not on every path that leads to them.
    #[inline(always)]
    fn place<K: Kind>(&self, hash: u64, now: u16) -> u64 {
        cold::place::<K, Self>(self, hash, now)
    }
    /// See `place`.
    #[inline(always)]
    fn hint<K: Kind>(&self, hash: u64, home: bool) -> u64 {
        cold::hint::<K, Self>(self, hash, home)
    }
    /// See `place`.
    #[inline(always)]
    fn occupant<K: Kind>(&self, number: u32, now: u16) -> u64 {
        cold::occupant::<K, Self>(self, number, now)
    }
    /// See `place`.
    #[inline(always)]
    fn rank<K: Kind>(&self, number: u32, now: u16) -> u64 {
        cold::rank::<K, Self>(self, number, now)
    }

    /// Whether a flow that begins may have the 4-tuple that attempt `step` would give: `nat::offer::<K>`.
    #[inline(always)]
    fn offer<K: Kind>(&self, wish: &Wish, step: u32) -> u64 {
        nat::offer::<K, Self>(self, wish, step)
    }

    /// Writes to the explanation; called only with `OBSERVE`.
    fn explain(&self, write: impl FnOnce(&mut Explanation));
}

/// Writes to the explanation if this is the explaining program.
#[inline(always)]
pub fn explain<T: Tables>(tables: &T, write: impl FnOnce(&mut Explanation)) {
    if T::OBSERVE {
        tables.explain(write);
    }
}

/// Counts (or explains) a reason of a service.
#[inline(always)]
pub fn note<T: Tables>(tables: &T, service: u16, reason: Reason) {
    if T::OBSERVE {
        tables.explain(|explanation| explanation.reason = reason as u8);
    } else {
        tables.count_reason(service, reason);
    }
}
