//! Searches of the cold paths, over plain numbers: what [`Tables::listener`], [`Tables::place`], [`Tables::hint`], [`Tables::occupant`]
//! and [`Tables::rank`] do. The kernel makes each a function that the verifier judges once.
//!
//! In: hashes, numbers, the tick. Out: one word, packed and unpacked here. Invariant: they change nothing, but that
//! [`flows_are_moving`] takes back its own word when that is overdue.

use lb_common::{Address, FLOWS_MOVE};

use crate::{
    classify,
    flow_table::{self, Kind, Place},
    hash, nat, reply_index,
    tables::Tables,
};

/// Which service listens there: [`classify::search`]. The address as two words, port and protocol in one.
#[inline(always)]
pub fn listener<T: Tables>(tables: &T, upper: u64, lower: u64, listener: u64) -> u64 {
    let words = [upper as u32, (upper >> 32) as u32, lower as u32, (lower >> 32) as u32];
    classify::search(tables, &Address { words }, listener as u16, (listener >> 16) as u8)
}

/// The address, port and protocol as [`listener`] takes them.
#[inline(always)]
pub const fn listener_words(address: &Address, port_be: u16, protocol: u8) -> [u64; 3] {
    let [a, b, c, d] = address.words;
    let (upper, lower) = (a as u64 | (b as u64) << 32, c as u64 | (d as u64) << 32);
    [upper, lower, port_be as u64 | (protocol as u64) << 16]
}

/// Where an entry with this hash may be written: [`flow_table::place`], packed.
#[inline(always)]
pub fn place<K: Kind, T: Tables>(tables: &T, hash: u64, now: u16) -> u64 {
    flow_table::place::<K, T>(tables, hash, now).pack()
}

/// The entry named by the word with the tag of `hash` in its home (or other) bucket of the reply index: number + 1, or 0.
#[inline(always)]
pub fn hint<K: Kind, T: Tables>(tables: &T, hash: u64, home: bool) -> u64 {
    reply_index::hint::<K, T>(tables, hash, home).map_or(0, |number| number as u64 + 1)
}

/// Who holds an entry: 0 if there is no live flow of nat or full-nat in it; else the hash of what its replies carry.
#[inline(always)]
pub fn occupant<K: Kind, T: Tables>(tables: &T, number: u32, now: u16) -> u64 {
    match nat::flow_in::<K, T>(tables, number, now) {
        None => 0,
        Some((_, key)) => key.hash(tables.constants()),
    }
}

/// How gladly the entry with this number gives way: [`flow_table::rank`].
#[inline(always)]
pub fn rank<K: Kind, T: Tables>(tables: &T, number: u32, now: u16) -> u64 {
    flow_table::rank::<K, T>(tables, number, now)
}

/// The most ticks that a move is announced for: more are a word that was forgotten, and is read again when the clock has gone round.
pub const MOVE_TICKS: u16 = 8;

/// Whether flows are on their way into the tables ([`lb_common::Control::flows_move`]).
#[inline(always)]
pub fn flows_are_moving<T: Tables>(tables: &T, now: u16) -> bool {
    let Some(word) = tables.flows_move() else { return false };
    let until = word.load();
    if until & FLOWS_MOVE == 0 {
        return false;
    }
    let left = (until as u16).wrapping_sub(now);
    let is_past = left == 0 || left > MOVE_TICKS;
    if is_past && !T::OBSERVE {
        word.store(0);
    }
    !is_past
}

/// The answer of [`Tables::place`].
#[inline(always)]
pub fn placed<K: Kind, T: Tables>(tables: &T, hash: u64, now: u16) -> Place {
    Place::unpack(tables.place::<K>(hash, now))
}

/// The answer of [`Tables::hint`].
#[inline(always)]
pub fn hinted<K: Kind, T: Tables>(tables: &T, hash: u64, home: bool) -> Option<u32> {
    let answer = tables.hint::<K>(hash, home);
    if answer == 0 { None } else { Some(hash::low(answer).wrapping_sub(1)) }
}

/// What an entry holds.
#[derive(Clone, Copy)]
pub struct Occupant(u64);

impl Occupant {
    /// Asks for the entry with this number.
    #[inline(always)]
    pub fn of<K: Kind, T: Tables>(tables: &T, number: u32, now: u16) -> Self {
        Self(tables.occupant::<K>(number, now))
    }

    /// Whether its replies carry what hashes to `hash`.
    #[inline(always)]
    pub const fn replies_as(self, hash: u64) -> bool {
        self.0 != 0 && self.0 == hash
    }

    /// Whether a word of the reply index is its own.
    #[inline(always)]
    pub const fn wrote(self, word: u64) -> bool {
        self.0 != 0 && reply_index::entry_of(word, self.0).is_some()
    }
}
