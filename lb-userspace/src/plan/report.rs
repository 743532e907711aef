//! What a plan means for people: how many clients' slots move.
//!
//! In: a pool's table before and after. Out: slots that change hands, and how many of them more than had to.

use std::collections::BTreeMap;

use crate::desired::{BackendKey, PoolKey};
use crate::image::PoolImage;
use crate::maglev;
use crate::record::BackendRecord;

/// A table that a plan swaps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolMoves {
    /// Which.
    pub pool: PoolKey,
    /// Generation before.
    pub generation_before: u64,
    /// Generation after.
    pub generation_after: u64,
    /// Hash of the table after.
    pub table_hash: u64,
    /// Slots of the table after.
    pub slots: u32,
    /// Slots that had a backend and get another: untracked flows there move.
    pub slots_moved: u32,
    /// Those of them beyond what any table must move for the new shares: slots of backends whose share did not shrink as much.
    pub collateral: u32,
}

/// The sum of a plan.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct PlanReport {
    /// Tables that are swapped.
    pub pools: Vec<PoolMoves>,
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

/// Slots that moved between two tables of a pool, and those of them that need not have. Tables of different lengths are
/// compared where the middle of each new slot lies in the old table.
pub(super) fn moves(before: &PoolImage, after: &PoolImage) -> (u32, u32) {
    if before.slots() == 0 || after.slots() == 0 {
        return (0, 0);
    }
    let mut names = BTreeMap::new();
    let (old, new) = (owners(before, &mut names), owners(after, &mut names));
    let mut moved: u32 = 0;
    // By backend: slots now less slots then, in slots of the new table.
    let mut balance = vec![0_i64; names.len()];
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
    (moved, moved.saturating_sub(u32::try_from(-due).unwrap_or(u32::MAX)))
}

/// Which backend has each slot, by numbers that are the same for the same backend in both tables.
fn owners(pool: &PoolImage, names: &mut BTreeMap<BackendKey, usize>) -> Vec<usize> {
    let mut name = |record: &BackendRecord| {
        let next = names.len();
        *names.entry(record.key()).or_insert(next)
    };
    let by_local: Vec<usize> = pool.records.iter().map(&mut name).collect();
    let locals = maglev::unpack(&pool.words, pool.slots());
    locals.map(|local| by_local.get(usize::from(local)).copied().unwrap_or_default()).collect()
}
