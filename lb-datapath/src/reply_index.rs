//! The reply index: from what a reply of nat or full-nat carries to the flow's entry.
//!
//! In: backend address and port, destination address and port, protocol. Out: the number of a flow's entry. A word is a hint: the
//! flow entry it names decides, by holding that flow (see `nat.rs`). Invariant: a word never leads to a translation by
//! itself.

mod search;

use lb_common::Address;

pub use self::search::{free_stale, hint, room, yielding};
use crate::{constants::Constants, hash};

/// What a reply carries, and so what names a flow towards its backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplyKey {
    /// Where the reply comes from: the backend.
    pub backend: Address,
    /// Where it goes: the client (nat) or our source address (full-nat).
    pub destination: Address,
    /// The backend's port, network bytes.
    pub backend_port_be: u16,
    /// The destination's port, network bytes.
    pub destination_port_be: u16,
    /// IP protocol number.
    pub protocol: u8,
}

impl ReplyKey {
    /// The hash; its candidate buckets are `hash::candidates(hash, reply_buckets)`.
    #[inline(always)]
    pub fn hash(&self, constants: impl Constants) -> u64 {
        let words =
            (hash::address_word(constants, &self.backend), hash::address_word(constants, &self.destination));
        self.hash_of(constants, words)
    }

    /// The hash, given the address words of backend and destination.
    #[inline(always)]
    pub fn hash_of(&self, constants: impl Constants, words: (u64, u64)) -> u64 {
        hash::reply(constants, words, self.backend_port_be, self.destination_port_be, self.protocol)
    }
}

/// The word for a flow's entry.
#[inline(always)]
pub const fn word(hash: u64, entry_number: u32) -> u64 {
    (hash::tag32(hash) as u64) << 32 | entry_number.wrapping_add(1) as u64
}

/// The entry number in a word whose tag is that of `hash`.
#[inline(always)]
pub const fn entry_of(word: u64, hash: u64) -> Option<u32> {
    let number = hash::low(word);
    if (word >> 32) as u32 == hash::tag32(hash) && number != 0 { Some(number - 1) } else { None }
}
