//! Searches of the cold paths, over plain numbers: what [`Tables::place`], [`Tables::hint`] and [`Tables::occupant`] do. The kernel makes each
//! a function that the verifier judges once.
//!
//! In: hashes, numbers, the tick. Out: one word, packed and unpacked here. Invariant: read only.

use crate::{
    flow_table::{self, Kind, Place, State},
    hash, nat, reply_index,
    tables::Tables,
};

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

/// Who holds an entry: 0 if there is no live flow of nat or full-nat in it; else the hash of what its replies carry, whose lowest bit
/// is given up to say whether the flow is ending.
#[inline(always)]
pub fn occupant<K: Kind, T: Tables>(tables: &T, number: u32, now: u16) -> u64 {
    match nat::flow_in::<K, T>(tables, number, now) {
        None => 0,
        Some((holder, key)) => {
            let ending = matches!(holder.value.state(), State::TcpEnding) as u64;
            key.hash(tables.constants()) & !1 | ending
        }
    }
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

    /// Whether its replies carry what hashes to `hash` (63 bits of it).
    #[inline(always)]
    pub const fn replies_as(self, hash: u64) -> bool {
        self.0 != 0 && self.0 | 1 == hash | 1
    }

    /// Whether a word of the reply index with the tag `tag` is its own.
    #[inline(always)]
    pub const fn wrote(self, word: u64) -> bool {
        // The lowest bit is not known: either hash may be the one.
        self.0 != 0
            && (reply_index::entry_of(word, self.0 | 1).is_some()
                || reply_index::entry_of(word, self.0 & !1).is_some())
    }

    /// Whether the flow saw FIN or RST.
    #[inline(always)]
    pub const fn is_ending(self) -> bool {
        self.0 & 1 != 0
    }
}
