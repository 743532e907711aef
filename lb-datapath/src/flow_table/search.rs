//! Search and replacement in a flow table.

use lb_common::{FEATURE_PERFMON, WAYS};

use super::{
    FREE, FlowKey, State, Value,
    kind::{Entry, Kind},
};
use crate::{constants::has, hash, tables::Tables};

/// An entry and its number.
pub struct Slot<'t, K: Kind> {
    /// The entry.
    pub entry: &'t K::Entry,
    /// Bucket × 4 + way.
    pub number: u32,
}

impl<K: Kind> Clone for Slot<'_, K> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: Kind> Copy for Slot<'_, K> {}

/// The entry that holds this key, and its value as it was read. It may have expired.
#[inline(always)]
pub fn find<'t, K: Kind, T: Tables>(
    tables: &'t T,
    key: <K::Entry as Entry>::Key,
    hash: u64,
) -> Option<(Slot<'t, K>, Value)> {
    let (home, other) = hash::candidates(hash, K::buckets(tables.constants()));
    let found = find_in::<K, T>(tables, home, key, hash);
    if found.is_some() { found } else { find_in::<K, T>(tables, other, key, hash) }
}

#[inline(always)]
fn find_in<'t, K: Kind, T: Tables>(
    tables: &'t T,
    bucket: u32,
    key: <K::Entry as Entry>::Key,
    hash: u64,
) -> Option<(Slot<'t, K>, Value)> {
    let mut number = FlowKey::entry_number(bucket, 0);
    for entry in K::bucket(tables, bucket)? {
        if entry.holds(key) {
            let value = Value(entry.value().load());
            if value.is_of(hash) {
                return Some((Slot { entry, number }, value));
            }
        }
        number = number.wrapping_add(1);
    }
    None
}

/// Entry by number.
#[inline(always)]
pub fn entry<K: Kind, T: Tables>(tables: &T, number: u32) -> Option<&K::Entry> {
    let entries = K::bucket(tables, number / WAYS as u32)?;
    let way = number as usize % WAYS;
    if has(tables.constants(), FEATURE_PERFMON) {
        return entries.get(way);
    }
    // VERIFIER: without CAP_PERFMON, one variable added to a pointer makes it compare every number of every path from there on, of the whole
    // program ("explore_alu_limits"). The look at each entry keeps the compiler from making a sum of it again.
    for (index, entry) in entries.iter().enumerate() {
        entry.value().load();
        if index == way {
            return Some(entry);
        }
    }
    None
}

/// How gladly the entry with this number gives way (see `Value::rank`): 0 = not at all.
#[inline(always)]
pub fn rank<K: Kind, T: Tables>(tables: &T, number: u32, now: u16) -> u64 {
    entry::<K, T>(tables, number).map_or(0, |entry| Value(entry.value().load()).rank(tables.constants(), now))
}

/// The entry of a bucket that gives way first.
#[derive(Clone, Copy)]
struct Candidate {
    /// Rank × 4 + way.
    best: u64,
    /// Entries in use and within their time.
    occupied: u64,
}

// VERIFIER: computed without branches: with one for each question the verifier walks 10^5 paths through two buckets.
#[inline(always)]
fn candidate<K: Kind, T: Tables>(tables: &T, bucket: u32, now: u16) -> Candidate {
    let mut candidate = Candidate { best: 0, occupied: 0 };
    let Some(entries) = K::bucket(tables, bucket) else { return candidate };
    for (way, entry) in entries.iter().enumerate() {
        let rank = Value(entry.value().load()).rank(tables.constants(), now);
        candidate.occupied += 1 - ((rank / FREE) & 1);
        candidate.best = greater(candidate.best, rank * WAYS as u64 + way as u64);
    }
    candidate
}

/// The greater of two numbers below 2^63.
#[inline(always)]
pub const fn greater(a: u64, b: u64) -> u64 {
    let difference = b.wrapping_sub(a);
    // All ones unless b is less.
    let mask = (difference >> 63).wrapping_sub(1);
    a.wrapping_add(difference & mask)
}

/// A place for a new entry, or none. Plain numbers, because it is returned out of line (see `select::Wish`).
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Place {
    rank: u32,
    /// The entry's number.
    pub number: u32,
}

impl Place {
    /// The entry that holds the key already.
    #[inline(always)]
    pub const fn reused(number: u32) -> Self {
        Self { rank: FREE as u32, number }
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "a way is below four, a rank has 19 bits")]
    const fn of(bucket: u32, candidate: Candidate) -> Self {
        let ways = WAYS as u64;
        Self {
            rank: (candidate.best / ways) as u32,
            number: FlowKey::entry_number(bucket, (candidate.best % ways) as u32),
        }
    }

    /// As one word.
    #[inline(always)]
    pub const fn pack(self) -> u64 {
        (self.rank as u64) << 32 | self.number as u64
    }

    /// From one word.
    #[inline(always)]
    pub const fn unpack(word: u64) -> Self {
        Self { rank: (word >> 32) as u32, number: hash::low(word) }
    }

    /// Whether there is one.
    #[inline(always)]
    pub const fn is_some(self) -> bool {
        self.rank != 0
    }

    /// Whether an entry within its time has to give way (on probation or ending).
    #[inline(always)]
    pub const fn evicts(self) -> bool {
        (self.rank as u64) < FREE
    }
}

/// Where a new entry with this hash may be written: in the home bucket unless that is more than half full, then in the emptier;
/// if neither has a free or expired entry, the one ending, else the oldest on probation. None if all are established or half-closed.
#[inline(always)]
pub fn place<K: Kind, T: Tables>(tables: &T, hash: u64, now: u16) -> Place {
    let (home, other) = hash::candidates(hash, K::buckets(tables.constants()));
    let first = candidate::<K, T>(tables, home, now);
    if first.occupied * 2 <= WAYS as u64 {
        return Place::of(home, first);
    }
    let second = candidate::<K, T>(tables, other, now);
    let (in_first, in_second) = (Place::of(home, first), Place::of(other, second));
    let prefer_second = if !in_first.evicts() && !in_second.evicts() {
        second.occupied < first.occupied
    } else {
        in_second.rank > in_first.rank
    };
    if prefer_second { in_second } else { in_first }
}

/// Writes an entry. The value goes first to free, so that no reader sees the old value under the new key for long; what slips
/// through fails the check.
#[inline(always)]
pub fn write<K: Kind, T: Tables>(tables: &T, number: u32, key: <K::Entry as Entry>::Key, value: Value) {
    let Some(entry) = entry::<K, T>(tables, number) else { return };
    entry.value().store(0);
    entry.store_key(key);
    entry.value().store(value.0);
}

/// Notes a packet of a live flow: its time, and its state if that changes. Nothing is written that is so already.
#[inline(always)]
pub fn refresh<K: Kind>(slot: Slot<'_, K>, value: Value, now: u16, state: State) {
    if value.last_seen() != now {
        slot.entry.value().store_bits_16_31(now);
    }
    if value.state() != state {
        slot.entry.value().store_bits_32_39(value.state_byte(state));
    }
}
