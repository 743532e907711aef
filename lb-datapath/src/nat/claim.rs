//! A 4-tuple towards a backend for a flow that begins.
//!
//! In: a wish. Out: a claim (backend and source-port attempt that no other live flow has), and room for its word in the reply index.
//! Invariant: nothing is taken from an established or half-closed flow, and from one on probation only where nothing else is left.

use lb_common::{Forward, Reason, Word};

use super::reply_key;
use crate::{
    cold::{self, Occupant},
    flow_table::{self, ENDING, Entry, FREE, Kind, greater},
    hash,
    maglev::{Pick, maglev_hash, pick},
    reply_index::{self, ReplyKey},
    select::{Begun, NO_ENTRY, Wish},
    tables::{FlowEvent, Tables},
};

/// Takes a 4-tuple towards a backend that no other live flow has: full-nat tries 32 source ports (the attempt has five bits), nat
/// 8 Maglev slots. Failing that one whose flow gives way, which then has to end: one that is ending, else the oldest on probation. In a flood all
/// are on probation, and what begins shall have a place for as long as it takes a client to answer. Leaves backend, attempt and the hash of the
/// replies in `begun`.
#[inline(always)]
pub fn claim<K: Kind, T: Tables>(tables: &T, wish: &Wish, begun: &mut Begun) -> Result<(), Reason> {
    let is_full_nat = wish.policy.is(Forward::FullNat);
    let mut best = best_of_eight::<K, T>(tables, wish, 0, Offer::NONE);
    if is_full_nat {
        best = best_of_eight::<K, T>(tables, wish, 8, best);
        best = best_of_eight::<K, T>(tables, wish, 16, best);
        best = best_of_eight::<K, T>(tables, wish, 24, best);
    }
    // Of attempt 0 if there is none: the reason may be that there is no such 4-tuple at all.
    let (local, attempt, key) = proposal(tables, wish, best.step())?;
    // In nat the flow that would give way is the same client's, and no flood: its connection to another service is as good as this one.
    if best.rank() < if is_full_nat { 1 } else { ENDING } {
        return Err(if is_full_nat { Reason::SnatExhausted } else { Reason::NatCollision });
    }
    begun.local = local;
    begun.attempt = attempt;
    begun.ending = if best.is_free() { NO_ENTRY } else { best.number() };
    begun.reply_hash = key.hash(tables.constants());
    Ok(())
}

/// Looks at eight attempts, until one is nobody's. VERIFIER: "The sequence of 8193 jumps is too complex": written out, because of a loop the verifier
/// takes it that a CPU that guesses wrong never leaves it.
#[inline(always)]
fn best_of_eight<K: Kind, T: Tables>(tables: &T, wish: &Wish, first: u32, best: Offer) -> Offer {
    let better = |best: Offer, step: u32| {
        if best.is_free() { best } else { best.or(Offer(tables.offer::<K>(wish, first + step))) }
    };
    let best = better(better(better(better(best, 0), 1), 2), 3);
    better(better(better(better(best, 4), 5), 6), 7)
}

/// Where the word of a claim goes in the reply index; the flow that has to end for it is ended, and counted as evicted. `None` if there is no free word. The word is to be
/// written after the flow's entry: before, another CPU would find that the entry is not the word's, and take it for stale.
#[inline(always)]
pub fn room<'t, K: Kind, T: Tables>(tables: &'t T, begun: &Begun) -> Option<&'t Word> {
    let word = reply_index::room::<K, T>(tables, begun.reply_hash)?;
    if !T::OBSERVE
        && begun.ending != NO_ENTRY
        && let Some(entry) = flow_table::entry::<K, T>(tables, begun.ending)
    {
        entry.value().store(0);
        tables.count_flow(K::INDEX, FlowEvent::Evicted);
    }
    Some(word)
}

/// Frees a word of the reply index whose flow is gone: its entry is free or expired, or another flow's. Words are not freed when their
/// flows go, so in the long run every bucket is full and a newcomer looks for one that is stale. If none is (a flood fills the flow
/// table far beyond what it is made for), one gives way that is ending or on probation, never one that is established or half-closed.
#[inline(always)]
pub fn make_room<K: Kind, T: Tables>(tables: &T, wish: &Wish, begun: &Begun) -> bool {
    let freed = reply_index::free_stale::<K, T>(tables, begun.reply_hash, |word| {
        let number = hash::low(word.load()).wrapping_sub(1);
        !Occupant::of::<K, T>(tables, number, wish.now).wrote(word.load())
    });
    if freed {
        return true;
    }
    // No word is stale, so each is its entry's.
    let word = reply_index::yielding::<K, T>(tables, begun.reply_hash, |word| {
        tables.rank::<K>(hash::low(word).wrapping_sub(1), wish.now) != 0
    });
    let Some(word) = word else { return false };
    if !T::OBSERVE {
        let number = hash::low(word.load()).wrapping_sub(1);
        word.store(0);
        if let Some(entry) = flow_table::entry::<K, T>(tables, number) {
            entry.value().store(0);
        }
        tables.count_flow(K::INDEX, FlowEvent::Evicted);
    }
    true
}

/// Whether a new flow may have the 4-tuple of an attempt, in one word: how gladly the flow that has it gives way (see [`flow_table::rank`];
/// 0 = not at all, [`FREE`] = it is nobody's) × 2^40, the attempt × 2^32, the number of that flow's entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offer(pub u64);

impl Offer {
    /// None that may be had.
    pub const NONE: Self = Self(0);

    #[inline(always)]
    const fn new(rank: u64, step: u32, number: u32) -> Self {
        Self(rank << 40 | (step as u64) << 32 | number as u64)
    }

    /// How gladly its flow gives way.
    #[inline(always)]
    pub const fn rank(self) -> u64 {
        self.0 >> 40
    }

    /// The attempt.
    #[inline(always)]
    const fn step(self) -> u32 {
        (self.0 >> 32) as u32 & 31
    }

    /// The number of the entry of the flow that has it.
    #[inline(always)]
    pub const fn number(self) -> u32 {
        hash::low(self.0)
    }

    /// Whether nobody has it.
    #[inline(always)]
    pub const fn is_free(self) -> bool {
        self.rank() >= FREE
    }

    /// The better of two. VERIFIER: without a branch, as in `flow_table::place`.
    #[inline(always)]
    const fn or(self, other: Self) -> Self {
        Self(greater(self.0, other.0))
    }
}

/// Whether the 4-tuple of attempt `step` may be had: an [`Offer`] ([`Tables::offer`]).
#[inline(always)]
pub fn offer<K: Kind, T: Tables>(tables: &T, wish: &Wish, step: u32) -> u64 {
    let Ok((_, _, key)) = proposal(tables, wish, step) else { return Offer::NONE.0 };
    let offer = match holder_of::<K, T>(tables, wish, key.hash(tables.constants())) {
        None => Offer::new(FREE, step, 0),
        // A late answer to the flow before would come to the new one's client: of TCP that is a segment which is not its, by the numbers
        // in it; of UDP somebody else's data.
        Some(_) if !wish.state.is_tcp() => Offer::NONE,
        Some(number) => Offer::new(tables.rank::<K>(number, wish.now), step, number),
    };
    offer.0
}

/// The number of the entry of the other live flow whose replies hash to `hash`.
#[inline(always)]
fn holder_of<K: Kind, T: Tables>(tables: &T, wish: &Wish, hash: u64) -> Option<u32> {
    // The hash in place of the key: at worst a free 4-tuple is not taken.
    let is_it = |number: u32| Occupant::of::<K, T>(tables, number, wish.now).replies_as(hash);
    let number = match cold::hinted::<K, T>(tables, hash, true) {
        Some(number) if is_it(number) => number,
        // VERIFIER: no loop over the two, as in `best_of_eight`.
        _ => cold::hinted::<K, T>(tables, hash, false).filter(|number| is_it(*number))?,
    };
    // What holds this 4-tuple is the new flow itself if its key is there: in the entry it will have, or in a doublet that another CPU
    // entered at the same moment.
    (!is_own::<K, T>(tables, wish, number)).then_some(number)
}

#[inline(always)]
fn is_own<K: Kind, T: Tables>(tables: &T, wish: &Wish, number: u32) -> bool {
    flow_table::entry::<K, T>(tables, number).is_some_and(|entry| entry.holds(K::pack(&wish.flow)))
}

/// The 4-tuple that attempt `step` would give: backend (index local to the pool), attempt, what replies carry.
#[inline(always)]
fn proposal<T: Tables>(tables: &T, wish: &Wish, step: u32) -> Result<(u16, u8, ReplyKey), Reason> {
    let Wish { flow, hash, policy, .. } = wish;
    let pool = tables.pool(policy.pool()).ok_or(Reason::BackendMissing)?;
    let maglev = maglev_hash(tables, wish);
    let is_full_nat = policy.is(Forward::FullNat);
    let Pick { backend, local } = pick(tables, *policy, pool, maglev, if is_full_nat { 0 } else { step })?;
    #[expect(clippy::cast_possible_truncation, reason = "below 32")]
    let attempt = if is_full_nat { step as u8 } else { 0 };
    let service = tables.service(flow.service as u32).ok_or(Reason::BackendMissing)?;
    let key = reply_key(tables, (service, *policy), flow, backend, (*hash, attempt));
    Ok((local, attempt, key.ok_or(Reason::SourceMissing)?))
}
