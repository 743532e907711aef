//! A 4-tuple towards a backend for a flow that begins.
//!
//! In: a wish. Out: a claim (backend and source-port attempt that no other live flow has), and room for its word in the reply index.
//! Invariant: nothing of a flow that lives and is not ending is taken away, but in a flood one on probation.

use lb_common::{Forward, Reason, Word};

use super::reply_key;
use crate::{
    cold::{self, Occupant},
    flow_table::{self, Entry, Kind},
    hash,
    maglev::{Pick, maglev_hash, pick},
    reply_index::{self, ReplyKey},
    select::{Begun, NO_ENTRY, Wish},
    tables::{FlowEvent, Tables},
};

/// No attempt's number.
const NO_STEP: u32 = u32::MAX;

/// Takes a 4-tuple towards a backend that no other live flow has: full-nat tries 32 source ports (the attempt has five bits), nat
/// 8 Maglev slots. Failing that one whose flow is ending, which then has to end. Leaves backend, attempt and the hash of the replies in `begun`.
#[inline(always)]
pub fn claim<K: Kind, T: Tables>(tables: &T, wish: &Wish, begun: &mut Begun) -> Result<(), Reason> {
    let is_full_nat = wish.policy.is(Forward::FullNat);
    let mut found = Free { step: NO_STEP, ending: NO_ENTRY };
    let mut is_done = try_eight::<K, T>(tables, wish, 0, &mut found)?;
    if is_full_nat {
        for first in [8, 16, 24] {
            is_done = is_done || try_eight::<K, T>(tables, wish, first, &mut found)?;
        }
    }
    let Free { step, ending } = found;
    if step == NO_STEP {
        return Err(if is_full_nat { Reason::SnatExhausted } else { Reason::NatCollision });
    }
    let (local, attempt, key) = proposal(tables, wish, step)?;
    begun.local = local;
    begun.attempt = attempt;
    begun.ending = ending;
    begun.reply_hash = key.hash(tables.constants());
    Ok(())
}

/// The first attempt that a new flow may have. VERIFIER: "invalid read from stack": numbers, because the compiler carries along what an empty
/// option leaves unset.
struct Free {
    /// Its number, or [`NO_STEP`].
    step: u32,
    /// The number of the entry whose flow has to end for it, or [`NO_ENTRY`].
    ending: u32,
}

/// Looks at eight attempts, until one is nobody's: then it is done. VERIFIER: "The sequence of 8193 jumps is too complex": eight, which the compiler
/// writes out; of a loop the verifier takes it that a CPU that guesses wrong never leaves it.
#[inline(always)]
fn try_eight<K: Kind, T: Tables>(
    tables: &T,
    wish: &Wish,
    first: u32,
    found: &mut Free,
) -> Result<bool, Reason> {
    for step in first..first + 8 {
        match Contender::unpack(tables.contender::<K>(wish, step)) {
            Contender::Nobody => {
                *found = Free { step, ending: NO_ENTRY };
                return Ok(true);
            }
            Contender::Ending(ending) if found.step == NO_STEP => *found = Free { step, ending },
            Contender::Ending(_) | Contender::Live => {}
            Contender::Refused(reason) => return Err(reason),
        }
    }
    Ok(false)
}

/// Where the word of a claim goes in the reply index; the flow that has to end for it is ended. `None` if there is no free word. The word is to be
/// written after the flow's entry: before, another CPU would find that the entry is not the word's, and take it for stale.
#[inline(always)]
pub fn room<'t, K: Kind, T: Tables>(tables: &'t T, begun: &Begun) -> Option<&'t Word> {
    let word = reply_index::room::<K, T>(tables, begun.reply_hash)?;
    if !T::OBSERVE
        && begun.ending != NO_ENTRY
        && let Some(entry) = flow_table::entry::<K, T>(tables, begun.ending)
    {
        entry.value().store(0);
    }
    Some(word)
}

/// Frees a word of the reply index whose flow is gone: its entry is free or expired, or another flow's. Words are not freed when their
/// flows go, so in the long run every bucket is full and a newcomer looks for one that is stale. If none is (a flood fills the flow
/// table far beyond what it is made for), one gives way that is ending or on probation, never one that is established.
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

/// Who has a 4-tuple that a new flow would like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contender {
    /// Nobody, or the new flow itself.
    Nobody,
    /// A flow that needs it.
    Live,
    /// There is no such 4-tuple.
    Refused(Reason),
    /// A flow that is ending, in the entry of this number.
    Ending(u32),
}

impl Contender {
    /// As one word: what it is, and above 32 bits its number.
    #[inline(always)]
    const fn pack(self) -> u64 {
        match self {
            Self::Nobody => 0,
            Self::Live => 1,
            Self::Refused(reason) => 2 | (reason as u64) << 32,
            Self::Ending(entry) => 3 | (entry as u64) << 32,
        }
    }

    /// From one word.
    #[inline(always)]
    fn unpack(word: u64) -> Self {
        match word & 3 {
            0 => Self::Nobody,
            1 => Self::Live,
            2 => Self::Refused(Reason::from_number((word >> 32) as u8).unwrap_or(Reason::BackendMissing)),
            _ => Self::Ending((word >> 32) as u32),
        }
    }
}

/// Who has the 4-tuple of attempt `step`: a [`Contender`], packed ([`Tables::contender`]).
#[inline(always)]
pub fn contender<K: Kind, T: Tables>(tables: &T, wish: &Wish, step: u32) -> u64 {
    match proposal(tables, wish, step) {
        Ok((_, _, key)) => holder_of::<K, T>(tables, wish, key.hash(tables.constants())),
        Err(reason) => Contender::Refused(reason),
    }
    .pack()
}

#[inline(always)]
fn holder_of<K: Kind, T: Tables>(tables: &T, wish: &Wish, hash: u64) -> Contender {
    // VERIFIER: an array's iterator would be memory on the stack with a variable index, which takes CAP_PERFMON.
    for turn in 0..2 {
        let home = turn == 0;
        let Some(number) = cold::hinted::<K, T>(tables, hash, home) else { continue };
        let occupant = Occupant::of::<K, T>(tables, number, wish.now);
        // The hash in place of the key: at worst a free 4-tuple is not taken. What holds this one is the new flow itself if its
        // key is there: in the entry it will have, or in a doublet that another CPU entered at the same moment.
        if occupant.replies_as(hash) && !is_own::<K, T>(tables, wish, number) {
            return if occupant.is_ending() { Contender::Ending(number) } else { Contender::Live };
        }
    }
    Contender::Nobody
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
