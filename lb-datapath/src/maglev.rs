//! A pool's Maglev table as the packet path reads it (lb-common/src/tables.rs; the daemon builds it: lb-userspace/src/maglev).
//!
//! In: the hash of a flow or client. Out: the backend of its slot. Invariant: the slot depends on seed, listener and client alone, so
//! every node with the same members sends a flow to the same backend.

use lb_common::{Affinity, Backend, Pool, Reason, SLOTS_PER_WORD};

use crate::{
    classify::Policy,
    hash,
    select::{Wish, resident},
    tables::{Tables, explain},
};

/// The table of a pool, unpacked from `Pool::table`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableWord {
    /// First arena word of the table.
    pub base: u32,
    /// Slots in it; 0 = no usable backend.
    pub slots: u32,
    /// Generation modulo 4,096.
    pub generation: u16,
}

impl TableWord {
    /// The word as `Pool::table` holds it.
    #[inline(always)]
    pub const fn pack(self) -> u64 {
        self.base as u64 | (self.slots as u64 & 0xf_ffff) << 32 | (self.generation as u64 & 0xfff) << 52
    }

    /// From the word in `Pool::table`.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "fields are cut out of the word")]
    pub const fn unpack(word: u64) -> Self {
        Self { base: word as u32, slots: (word >> 32) as u32 & 0xf_ffff, generation: (word >> 52) as u16 }
    }

    /// The arena word that holds a slot.
    #[inline(always)]
    pub const fn arena_word(self, slot: u32) -> u32 {
        self.base.wrapping_add(slot / SLOTS_PER_WORD)
    }
}

/// The slot of a flow in a table of `slots`: from the high half of its hash.
#[inline(always)]
pub const fn slot(hash: u64, slots: u32) -> u32 {
    hash::scale((hash >> 32) as u32, slots)
}

/// The backend index of a slot in its arena word; 0 = nobody.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "one of four 16-bit slots is cut out")]
pub const fn slot_of_word(word: u64, slot: u32) -> u16 {
    (word >> (16 * (slot % SLOTS_PER_WORD))) as u16
}

/// A backend out of the Maglev table.
#[derive(Clone, Copy)]
pub(crate) struct Pick<'t> {
    pub(crate) backend: &'t Backend,
    /// Its index local to the pool.
    pub(crate) local: u16,
}

/// The backend in the slot `step` slots after the one of `hash`.
#[inline(always)]
pub(crate) fn pick<'t, T: Tables>(
    tables: &'t T,
    policy: Policy,
    pool: &Pool,
    hash: u64,
    step: u32,
) -> Result<Pick<'t>, Reason> {
    let table = TableWord::unpack(pool.table.load());
    if table.slots == 0 {
        return Err(Reason::NoBackend);
    }
    let slot = slot(hash, table.slots).wrapping_add(step);
    let slot = if slot < table.slots { slot } else { slot.wrapping_sub(table.slots) };
    let word = tables.maglev(table.arena_word(slot)).ok_or(Reason::BackendMissing)?;
    let local = slot_of_word(word.slots.load(), slot);
    explain(tables, |explanation| explanation.slot = slot);
    if local == 0 {
        return Err(Reason::NoBackend);
    }
    let backend =
        resident(tables, policy.pool(), pool.backends.load(), local).ok_or(Reason::BackendMissing)?;
    Ok(Pick { backend, local })
}

/// The Maglev hash of a flow under the service's affinity.
#[inline(always)]
pub(crate) fn maglev_hash<T: Tables>(tables: &T, wish: &Wish) -> u64 {
    if wish.policy.affinity() == Affinity::Client as u64 {
        hash::client(tables.constants(), &wish.flow.client)
    } else {
        wish.hash
    }
}
