//! Maglev tables: built anew for pools whose members changed, and swapped in by one word each.
//!
//! In: the pools with their entries in place. Out: a region, a table word and its report for each table that differs.
//! Invariants: a region is written only where nothing refers to; generations count up by one a swap; a table is built
//! only if its inputs changed or are not known.

use std::collections::BTreeMap;
use std::sync::Arc;

use lb_common::{Address, SLOTS_PER_WORD};
use lb_datapath::maglev::TableWord;

use super::report::PoolSwap;
use super::{PlanError, Planner, PoolIds};
use crate::change::Change;
use crate::desired::{BackendKey, DesiredPool, PoolKey};
use crate::image::{PoolImage, TableInputs, digest};
use crate::maglev::{self, Member};
use crate::parallel;
use crate::record::PoolReport;
use crate::store::Table;

/// Tables from which on they are built on every CPU: starting threads costs more than a few tables.
const MANY_TABLES: usize = 16;

/// A table that differs, as far as is known, from the one in use.
pub(super) struct NewTable<'a> {
    key: &'a PoolKey,
    inputs: TableInputs,
    table: Packed,
}

/// A table as it goes into the maps.
struct Packed {
    slots: u32,
    words: Arc<[u64]>,
    hash: u64,
}

/// New tables by pool id.
pub(super) type NewTables<'a> = BTreeMap<u16, NewTable<'a>>;

/// A table to be built.
struct Job<'a> {
    key: &'a PoolKey,
    id: u16,
    inputs: TableInputs,
}

impl<'a> Planner<'a> {
    /// Builds the tables that the backends of each pool ask for, where they ask for another one than before.
    pub(super) fn new_tables(&self, pools: &PoolIds<'a>) -> NewTables<'a> {
        let mut jobs = Vec::new();
        for ((key, wish), id) in self.desired.pools.iter().zip(pools.values()) {
            let Some(pool) = self.image.pools.get(id) else { continue };
            let is_as_before = pool.inputs.as_ref().is_some_and(|inputs| {
                self.as_before.contains(id)
                    || inputs.len == wish.table_len && inputs.members.iter().copied().eq(members(wish, pool))
            });
            if !is_as_before {
                let inputs = TableInputs { len: wish.table_len, members: members(wish, pool).collect() };
                jobs.push(Job { key, id: *id, inputs });
            }
        }
        let tables = parallel::map(&jobs, MANY_TABLES, |job| build(&self.settings.seed, job));
        let named = jobs.into_iter().zip(tables);
        named.map(|(Job { key, id, inputs }, table)| (id, NewTable { key, inputs, table })).collect()
    }

    /// Swaps a pool's table in, unless it turns out to be the one in use.
    pub(super) fn swap(&mut self, pool: u16, new: NewTable<'a>) -> Result<(), PlanError> {
        let NewTable { key, inputs, table } = new;
        let Some(before) = self.image.pools.get(&pool).cloned() else { return Ok(()) };
        let Packed { slots, words, hash } = table;
        let mut generation = stored_generation(&before);
        if before.slots() != slots || before.digest != digest(&words) {
            generation += 1;
            self.store_table(pool, &before, slots, &words, generation)?;
        }
        let report = PoolReport { generation, table_hash: hash };
        if before.report != report {
            self.emit(Change::PoolReport { pool, report });
        }
        if let Some(image) = self.image.pools.get_mut(&pool) {
            image.inputs = Some(Arc::new(inputs));
        }
        if generation != before.report.generation {
            self.report.pools.push(PoolSwap {
                pool: key.clone(),
                id: pool,
                generation_before: before.report.generation,
                generation_after: generation,
                table_hash: hash,
                slots,
                words,
            });
        }
        Ok(())
    }

    fn store_table(
        &mut self,
        pool: u16,
        before: &PoolImage,
        slots: u32,
        words: &Arc<[u64]>,
        generation: u64,
    ) -> Result<(), PlanError> {
        let (base, len) = before.region();
        let base_after = if slots == 0 { 0 } else { self.take_region(slots.div_ceil(SLOTS_PER_WORD))? };
        if slots > 0 {
            self.emit(Change::Region { base: base_after, words: Arc::clone(words) });
        }
        let table = TableWord { base: base_after, slots, generation: low_bits(generation) };
        self.emit(Change::PoolTable { pool, word: table.pack() });
        self.arena.give_back(base, len);
        Ok(())
    }

    fn take_region(&mut self, words: u32) -> Result<u32, PlanError> {
        let mut base = self.arena.take(words);
        if base.is_none() && self.arena.is_unsettled() {
            self.settle_now();
            base = self.arena.take(words);
        }
        let (_, longest) = self.arena.room();
        let entries = self.image.sizes.arena_words;
        base.ok_or_else(|| {
            PlanError::full(Table::Maglev, "words in a row", words.into(), longest.into(), entries)
        })
    }
}

/// The generation of the table in use: that of the report, unless a crash came between the swap and the report.
fn stored_generation(pool: &PoolImage) -> u64 {
    let generation = pool.report.generation;
    let word = pool.table.map_or(low_bits(generation), |table| table.generation);
    generation + u64::from(word.wrapping_sub(low_bits(generation)) & GENERATION_MASK)
}

/// Bits of the generation in a table word.
const GENERATION_MASK: u16 = 0xfff;

#[expect(clippy::cast_possible_truncation, reason = "the low bits are what the table word holds")]
const fn low_bits(generation: u64) -> u16 {
    generation as u16 & GENERATION_MASK
}

/// The members of a pool's table: key, weight and backend index. Each desired backend has an entry and no other has a
/// current one, because entries were placed before, so the two go side by side.
fn members(wish: &DesiredPool, pool: &PoolImage) -> impl Iterator<Item = (BackendKey, u16, u16)> {
    let backends = wish.backends.iter().zip(pool.current.values());
    let with_weight = backends.filter(|((_, backend), _)| backend.table_weight() > 0);
    with_weight.filter_map(|((key, backend), local)| {
        Some((*key, u16::try_from(backend.table_weight()).ok()?, *local))
    })
}

fn build(seed: &[u64; 4], job: &Job<'_>) -> Packed {
    let member = |(key, weight, _): &(BackendKey, u16, u16)| Member {
        address: Address::from(key.ip),
        port: key.port.unwrap_or_default(),
        weight: *weight,
    };
    let members: Vec<Member> = job.inputs.members.iter().map(member).collect();
    let locals: Vec<u16> = job.inputs.members.iter().map(|(_, _, local)| *local).collect();
    let table = maglev::build(seed, job.inputs.len, &members);
    Packed { slots: table.len(), words: table.pack(&locals).into(), hash: table.hash() }
}
