//! What a plan means for people: how many clients' slots move.
//!
//! In: a pool's table before, as the maps have it, and after. Out: slots that change hands, and how many of them more than had to.
//! Invariant: counted only where somebody asks for it; nobody does for what is observed.

use std::collections::BTreeMap;
use std::sync::Arc;

use lb_common::SLOTS_PER_WORD;

use super::Plan;
use crate::desired::{BackendKey, PoolKey};
use crate::image::{Image, PoolImage};
use crate::maglev;
use crate::record::BackendRecord;
use crate::store::{Store, StoreError, Table};

/// A table that a plan swaps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolSwap {
    /// Which.
    pub pool: PoolKey,
    /// The pool's id.
    pub(crate) id: u16,
    /// Generation before.
    pub generation_before: u64,
    /// Generation after.
    pub generation_after: u64,
    /// Hash of the table after.
    pub table_hash: u64,
    /// Slots of the table after.
    pub slots: u32,
    /// The table after.
    pub(crate) words: Arc<[u64]>,
}

/// What becomes of a table's slots.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Moves {
    /// Slots that had a backend and get another: untracked flows there move.
    pub slots_moved: u32,
    /// Those of them beyond what any table must move for the new shares: slots of backends whose share did not shrink as much.
    pub collateral: u32,
}

/// The sum of a plan.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct PlanReport {
    /// Tables that are swapped.
    pub pools: Vec<PoolSwap>,
    /// Changes that write to a map.
    pub map_writes: usize,
    /// Listeners that are new.
    pub services_added: usize,
    /// Listeners that go.
    pub services_removed: usize,
    /// Pools of the datapath that are new.
    pub pools_added: usize,
    /// Pools of the datapath that go.
    pub pools_removed: usize,
    /// Entries of backends that are new, counted in each pool.
    pub backends_added: usize,
    /// Backends that go, counted in each pool.
    pub backends_removed: usize,
}

impl Plan {
    /// What one of its swaps moves. `before` is the image that it was made of, `store` the maps, in which nothing of it is done yet.
    /// Tables of different lengths are compared where the middle of each new slot lies in the old table.
    ///
    /// # Errors
    /// What the store says.
    pub fn moves(&self, swap: &PoolSwap, before: &Image, store: &impl Store) -> Result<Moves, StoreError> {
        let (before, after) = (before.pools.get(&swap.id), self.after.pools.get(&swap.id));
        let Some((before, after)) = before.zip(after) else { return Ok(Moves::default()) };
        if before.slots() == 0 || swap.slots == 0 {
            return Ok(Moves::default());
        }
        let mut words = vec![0; before.slots().div_ceil(SLOTS_PER_WORD) as usize];
        store.read(Table::Maglev, before.region().0 as usize, &mut words)?;
        let mut names = BTreeMap::new();
        let old = owners(before, &words, before.slots(), &mut names);
        let new = owners(after, &swap.words, swap.slots, &mut names);
        Ok(moves(&old, &new, names.len()))
    }
}

/// Slots that moved between two tables of `names` backends, and those of them that need not have.
fn moves(old: &[usize], new: &[usize], names: usize) -> Moves {
    let mut moved: u32 = 0;
    // By backend: slots now less slots then, in slots of the new table.
    let mut balance = vec![0_i64; names];
    for (slot, now) in new.iter().enumerate() {
        let Some(then) = old.get((2 * slot + 1) * old.len() / (2 * new.len())) else { continue };
        if then != now {
            moved += 1;
            [(then, -1), (now, 1)].into_iter().for_each(|(name, by)| {
                if let Some(slots) = balance.get_mut(*name) {
                    *slots += by;
                }
            });
        }
    }
    let due: i64 = balance.iter().filter(|slots| **slots < 0).sum();
    let due = u32::try_from(-due).unwrap_or(u32::MAX);
    Moves { slots_moved: moved, collateral: moved.saturating_sub(due) }
}

/// Which backend has each slot, by numbers that are the same for the same backend in both tables.
fn owners(
    pool: &PoolImage,
    words: &[u64],
    slots: u32,
    names: &mut BTreeMap<BackendKey, usize>,
) -> Vec<usize> {
    let mut name = |record: &BackendRecord| {
        let next = names.len();
        *names.entry(record.key()).or_insert(next)
    };
    let by_local: Vec<usize> = pool.records.iter().map(&mut name).collect();
    let locals = maglev::unpack(words, slots);
    locals.map(|local| by_local.get(usize::from(local)).copied().unwrap_or_default()).collect()
}
