//! Maglev tables (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, §3.4), weighted.
//!
//! In: seed, length and members (address, port, weight). Out: who has which slot, and a hash of that. Invariants: the table
//! is a function of the *set* of members: ids, order and history do not enter, so every node of a cluster builds the
//! same one; every slot is taken unless there is no member of weight above 0.
//!
//! As in the paper each member has its own permutation of the slots (offset and step from a keyed hash of address and
//! port) and takes, turn by turn, the first slot of it that is still free. Weights decide when a member has its turns: turn
//! number `k` of a member comes at the time `(k + phase) / weight`, its phase in `[0, 1)` being hashed as well, and
//! turns are taken in the order of their times until the table is full. So
//! - up to the end of filling, at time T, a member has had `weight × T` turns, rounded up or down: its share is exact to
//!   about a slot, for any mixture of weights;
//! - a turn's time depends on its member alone: if a member comes, goes or changes its weight, all others still take their
//!   turns in the same order among themselves, and nearly every slot stays with whom it was. (Turns by round, as "so
//!   many per round" or with credits carried over, shift against each other when the largest weight changes.)
//! - equal weights are the paper's algorithm, with a hashed order of the members within a round.

mod fill;

use lb_common::{Address, SLOTS_PER_WORD};

/// A member of a pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its address.
    pub address: Address,
    /// Its port as its pool names it, host order; 0 = the listener's.
    pub port: u16,
    /// Its share next to the other weights; 0 = not in the table.
    pub weight: u16,
}

/// A filled table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MaglevTable {
    /// By slot: index into the members it was built of. Empty if no member has a weight.
    slots: Vec<u16>,
    hash: u64,
}

/// Murmur3's 64-bit finalizer (public domain): a bijection whose output bits each depend on every input bit.
const fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let value = (value ^ value >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ value >> 33
}

/// A keyed hash of a member's address and port, from which everything about it follows.
fn identity(seed: &[u64; 4], member: &Member) -> u64 {
    let [a, b, c, d, e, f, g, h, rest @ ..] = member.address.octets();
    let upper = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    let lower = u64::from_be_bytes(rest);
    let hash = mix(seed[0] ^ upper);
    let hash = mix(hash.wrapping_add(seed[1]) ^ lower);
    mix(hash.wrapping_add(seed[2]) ^ u64::from(member.port)).wrapping_add(seed[3])
}

/// Fills a table of `len` slots, a prime. Members beyond 65,535 are ignored, and so are two of the same address and port.
pub fn build(seed: &[u64; 4], len: u32, members: &[Member]) -> MaglevTable {
    let slots = fill::fill(len, &turns(seed, members));
    let fingerprints: Vec<u64> =
        members.iter().map(|member| mix(identity(seed, member) ^ 0x7461_626c_6568_6173)).collect();
    let hash = hash_of(&slots, &fingerprints);
    MaglevTable { slots, hash }
}

/// The members that have turns, in an order that depends on themselves alone.
fn turns(seed: &[u64; 4], members: &[Member]) -> Vec<fill::Contender> {
    let mut contenders: Vec<fill::Contender> = members
        .iter()
        .zip(0..u16::MAX)
        .filter(|(member, _)| member.weight > 0)
        .map(|(member, index)| {
            let identity = identity(seed, member);
            fill::Contender { index, weight: member.weight, identity }
        })
        .collect();
    contenders.sort_unstable_by_key(|contender| (contender.weight, contender.phase(), contender.identity));
    // Two equal identities are the same member twice (or one chance in 2^64): the table must not depend on which is first.
    contenders.dedup_by_key(|contender| contender.identity);
    contenders
}

/// A hash of who has which slot, by addresses.
fn hash_of(slots: &[u16], fingerprints: &[u64]) -> u64 {
    slots.iter().fold(0, |hash: u64, index| {
        let fingerprint = fingerprints.get(usize::from(*index)).copied().unwrap_or_default();
        let product = (hash ^ fingerprint).wrapping_mul(0x9fb2_1c65_1e98_df25);
        product ^ product >> 32
    })
}

impl MaglevTable {
    /// By slot: index into the members the table was built of.
    pub fn slots(&self) -> &[u16] {
        &self.slots
    }

    /// Slots in it: the length asked for, or 0 if no member has a weight.
    pub fn len(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// A hash of addresses and ports by slot; 0 for an empty table. Equal on two nodes if they send every client alike.
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// The table as arena words, each slot holding the backend index that `local` names for a member.
    pub fn pack(&self, local: &[u16]) -> Vec<u64> {
        let backend = |member: &u16| local.get(usize::from(*member)).copied().unwrap_or_default();
        let words = self.slots.chunks(SLOTS_PER_WORD as usize);
        words
            .map(|slots| slots.iter().rev().fold(0, |word, member| word << 16 | u64::from(backend(member))))
            .collect()
    }
}

/// The backend indexes of a packed table of `len` slots, by slot.
pub fn unpack(words: &[u64], len: u32) -> impl Iterator<Item = u16> {
    let halves = words.iter().flat_map(|word| (0..SLOTS_PER_WORD).map(move |slot| cut(*word, slot)));
    halves.take(len as usize)
}

#[expect(clippy::cast_possible_truncation, reason = "one of four 16-bit slots is cut out")]
const fn cut(word: u64, slot: u32) -> u16 {
    (word >> (16 * slot)) as u16
}

#[cfg(test)]
mod tests;
