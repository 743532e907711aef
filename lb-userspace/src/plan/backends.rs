//! Backends: an entry for each in its pool's block, brought up before anything refers to it and taken down after.
//!
//! In: the desired backends of each pool. Out: changes that make entries usable, at once; changes that take something away
//! ([`Retiring`]), for when tables no longer name them. Invariants: an entry gets a new owner only if no flow holds its
//! index; until tables are swapped an entry may do all that it may do before or after the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use lb_common::backend_state::{KEEPS, LIVE, TAKES_NEW};

use super::ways::{self, WayFinder};
use super::{PlanError, Planner, PoolIds};
use crate::change::Change;
use crate::desired::{BackendKey, DesiredBackend, DesiredPool, PoolKey};
use crate::ids::Ids;
use crate::image::PoolImage;
use crate::record::BackendRecord;
use crate::store::{CounterBlock, Table};

/// Smallest block: room for a few backends more without moving it.
const SMALLEST_BLOCK: u32 = 8;
/// Largest block: indexes have 16 bits.
const LARGEST_BLOCK: u32 = 1 << 16;

/// States to store once tables no longer name those they take something from: pool, backend index, state.
pub(super) type Retiring = Vec<(u16, u16, u64)>;

/// A backend without an entry.
type Missing<'a> = (BackendKey, &'a DesiredBackend);

impl<'a> Planner<'a> {
    /// Sees that each desired backend has an entry that can be used.
    pub(super) fn place_backends(&mut self, pools: &PoolIds<'a>) -> Result<Retiring, PlanError> {
        let desired = self.desired;
        let mut finder = WayFinder::new(&desired.next_hops);
        let mut retiring = Retiring::new();
        let changed = ways::changed(&self.image.ways, &desired.next_hops);
        for ((key, wish), id) in desired.pools.iter().zip(pools.values()) {
            if self.is_placed(*id, wish) && !is_led(wish, &changed) {
                self.as_before.insert(*id);
                continue;
            }
            self.place_pool(key, wish, *id, &mut finder, &mut retiring)?;
            if let Some(pool) = self.image.pools.get_mut(id) {
                // Entries that only keep their flows are looked at until a scan meets none.
                let live = pool.entries().filter(|(_, record)| record.is_live()).count();
                pool.placed = (live == pool.current.len()).then(|| Arc::clone(wish));
            }
        }
        self.image.ways = Arc::clone(&desired.next_hops);
        Ok(retiring)
    }

    /// The entries of a pool were made of this very value.
    fn is_placed(&self, id: u16, wish: &Arc<DesiredPool>) -> bool {
        let placed = self.image.pools.get(&id).and_then(|pool| pool.placed.as_ref());
        placed.is_some_and(|placed| Arc::ptr_eq(placed, wish))
    }

    fn place_pool(
        &mut self,
        key: &PoolKey,
        wish: &'a DesiredPool,
        id: u16,
        finder: &mut WayFinder<'a>,
        retiring: &mut Retiring,
    ) -> Result<(), PlanError> {
        let Some(pool) = self.image.pools.get(&id).cloned() else { return Ok(()) };
        if self.has_all_entries(&pool, wish) {
            for (local, wanted) in pool.current.values().zip(wish.backends.values()) {
                self.bring_up(&pool, *local, wanted, finder, id, retiring)?;
            }
            return self.retire_others(&pool, wish, id, &pool.current, retiring);
        }
        let mut missing: Vec<Missing<'a>> = Vec::new();
        let mut current: BTreeMap<BackendKey, u16> = BTreeMap::new();
        for (backend, wanted) in &wish.backends {
            let Some(local) = self.entry_of(&pool, id, backend, wanted) else {
                missing.push((*backend, wanted));
                continue;
            };
            current.insert(*backend, local);
            self.bring_up(&pool, local, wanted, finder, id, retiring)?;
        }
        if !missing.is_empty() {
            self.report.backends_added += missing.len();
            self.add(key, id, &missing, &mut current)?;
        }
        self.retire_others(&pool, wish, id, &current, retiring)?;
        if let Some(pool) = self.image.pools.get_mut(&id) {
            // Collected anew, as a tree whose nodes are full.
            pool.current = Arc::new(current.into_iter().collect());
        }
        Ok(())
    }

    /// Whether the backends are those that have entries, each with the sources it wants: the usual case, and a quick one.
    fn has_all_entries(&self, pool: &PoolImage, wish: &DesiredPool) -> bool {
        pool.current.keys().eq(wish.backends.keys())
            && pool
                .current
                .values()
                .zip(wish.backends.values())
                .all(|(local, wanted)| self.has_sources(&pool.record(*local), &wanted.sources))
    }

    /// The entry that new flows of a backend go to: one that has its sources, in use or resting since it was last there.
    fn entry_of(
        &self,
        pool: &PoolImage,
        id: u16,
        backend: &BackendKey,
        wanted: &DesiredBackend,
    ) -> Option<u16> {
        let fits = |local: &u16| self.has_sources(&pool.record(*local), &wanted.sources);
        if let Some(local) = pool.current.get(backend).filter(|local| fits(local)) {
            return Some(*local);
        }
        let usable = |local: u16, record: &BackendRecord| {
            record.family != 0 && (record.is_live() || self.image.rest.backends.contains(&(id, local)))
        };
        let mut own =
            pool.entries().filter(|(local, record)| record.key() == *backend && usable(*local, record));
        own.find(|(local, _)| fits(local)).map(|(local, _)| local)
    }

    /// Gives an entry its way and whatever it may do now or then; what it may no longer do is for later.
    fn bring_up(
        &mut self,
        pool: &PoolImage,
        local: u16,
        wanted: &DesiredBackend,
        finder: &mut WayFinder<'a>,
        id: u16,
        retiring: &mut Retiring,
    ) -> Result<(), PlanError> {
        let record = pool.record(local);
        let way = finder.find(wanted.way(record.address.into()));
        let goal = u64::from(self.next_hop(way, record.next_hop())?) | flags(wanted);
        let meanwhile = goal | record.state & (TAKES_NEW | KEEPS);
        if meanwhile != record.state {
            self.emit(Change::BackendState { index: pool.base + u32::from(local), state: meanwhile });
        }
        if goal != meanwhile {
            retiring.push((id, local, goal));
        }
        Ok(())
    }

    /// Writes entries for backends that have none, moving the block if it has no room.
    fn add(
        &mut self,
        key: &PoolKey,
        id: u16,
        missing: &[Missing<'a>],
        current: &mut BTreeMap<BackendKey, u16>,
    ) -> Result<(), PlanError> {
        // As it is now: an entry that was resting may have come back to its backend.
        let Some(pool) = self.image.pools.get(&id).cloned() else { return Ok(()) };
        let rest = &self.image.rest.backends;
        let is_free = |local: u16, record: &BackendRecord| !record.is_live() && !rest.contains(&(id, local));
        let free = pool.entries().filter(|(local, record)| is_free(*local, record)).map(|(local, _)| local);
        let mut free: Vec<u16> = free.collect();
        let mut place = None;
        if free.len() < missing.len() {
            let (_, entries) = pool.block();
            let taken = entries.max(1) as usize - free.len();
            let len = block_len(key, taken + missing.len())?;
            place = Some((self.take_block(len)?, len));
            free.extend((entries.max(1)..len).filter_map(|local| u16::try_from(local).ok()));
        }
        let mut new: Vec<(u16, BackendRecord)> = Vec::with_capacity(missing.len());
        for ((backend, wanted), local) in missing.iter().zip(free) {
            let record = self.new_entry(&pool, id, backend, wanted)?;
            new.push((local, record));
            current.insert(*backend, local);
        }
        if let Some((base, len)) = place {
            self.move_block(id, base, len, &new);
            return Ok(());
        }
        for (local, record) in new {
            let index = pool.base + u32::from(local);
            self.emit(Change::Backend { index, record });
            self.emit(Change::BackendState { index, state: record.state });
        }
        Ok(())
    }

    fn new_entry(
        &mut self,
        pool: &PoolImage,
        id: u16,
        backend: &BackendKey,
        wanted: &DesiredBackend,
    ) -> Result<BackendRecord, PlanError> {
        let (source, source_count) = self.source_run(&wanted.sources)?;
        let way = self.desired.next_hops.get(&wanted.way(backend.ip));
        let state = u64::from(self.next_hop(way, 0)?) | flags(wanted);
        Ok(BackendRecord {
            address: backend.ip.into(),
            state,
            counter: self.counter(pool, id, backend)?,
            source,
            source_count,
            pool: id,
            port_be: backend.port.unwrap_or_default().to_be(),
            family: if backend.ip.is_ipv4() { 4 } else { 6 },
        })
    }

    /// The counter of a backend: that of an older entry of its own, else one that nobody counts with.
    fn counter(&mut self, pool: &PoolImage, id: u16, backend: &BackendKey) -> Result<u32, PlanError> {
        let rest = &self.image.rest.backends;
        let is_owned = |local: u16, record: &BackendRecord| record.is_live() || rest.contains(&(id, local));
        let mut own = pool.entries().filter(|(_, record)| record.family != 0 && record.key() == *backend);
        if let Some((_, record)) = own.find(|(local, record)| is_owned(*local, record)) {
            return Ok(record.counter);
        }
        let end = self.image.sizes.backends;
        let (image, in_use) = (&self.image, &mut self.counters_in_use);
        let ids = self.counters.get_or_insert_with(|| {
            *in_use = counters_in_use(image);
            Ids::new(0, end)
        });
        let is_used = |counter: u32| in_use.get(counter as usize).copied().unwrap_or(true);
        let counter =
            ids.take(is_used).ok_or_else(|| PlanError::full(Table::Backends, "counters", 1, 0, end))?;
        if counter < self.image.used_counters {
            self.emit(Change::ClearCounters(CounterBlock::Backend(counter)));
        }
        self.image.used_counters = self.image.used_counters.max(counter + 1);
        Ok(counter)
    }

    /// Writes a longer block with every old entry at its place and the new ones, and has the pool refer to it.
    fn move_block(&mut self, id: u16, base: u32, len: u32, new: &[(u16, BackendRecord)]) {
        let Some(pool) = self.image.pools.get(&id) else { return };
        let (old_base, old_len) = pool.block();
        let mut records = pool.records.to_vec();
        records.resize(len as usize, BackendRecord::default());
        for (local, record) in new {
            if let Some(entry) = records.get_mut(usize::from(*local)) {
                *entry = *record;
            }
        }
        self.emit(Change::Block { base, records });
        self.emit(Change::PoolBackends { pool: id, word: u64::from(base) | u64::from(len) << 32 });
        self.blocks.give_back(old_base, old_len);
        self.a_block_moved |= old_len > 0;
    }

    fn take_block(&mut self, len: u32) -> Result<u32, PlanError> {
        let mut base = self.blocks.take(len);
        if base.is_none() && self.blocks.is_unsettled() {
            self.settle_now();
            base = self.blocks.take(len);
        }
        let (_, longest) = self.blocks.room();
        let entries = self.image.sizes.backends;
        base.ok_or_else(|| {
            PlanError::full(Table::Backends, "entries in a row", len.into(), longest.into(), entries)
        })
    }

    /// Notes the entries that are nobody's current one: gone with their backend, or kept for its flows alone.
    fn retire_others(
        &mut self,
        pool: &PoolImage,
        wish: &DesiredPool,
        id: u16,
        current: &BTreeMap<BackendKey, u16>,
        retiring: &mut Retiring,
    ) -> Result<(), PlanError> {
        let live = || pool.entries().filter(|(_, record)| record.is_live());
        // In the usual case each backend has one entry and each entry a backend.
        let is_as_before = std::ptr::eq(current, &*pool.current) || *current == *pool.current;
        if is_as_before && live().count() == pool.current.len() {
            return Ok(());
        }
        for (local, record) in live() {
            let backend = record.key();
            if current.get(&backend) == Some(&local) {
                continue;
            }
            let goal = match wish.backends.get(&backend) {
                Some(wanted) if !self.image.rest.unheld.contains(&(id, local)) => {
                    let way = self.desired.next_hops.get(&wanted.way(backend.ip));
                    let hop = self.next_hop(way, record.next_hop())?;
                    u64::from(hop) | flags(wanted) & !TAKES_NEW
                }
                _ => 0,
            };
            if goal != record.state {
                retiring.push((id, local, goal));
            }
        }
        let gone = pool.current.keys().filter(|backend| !wish.backends.contains_key(backend)).count();
        self.report.backends_removed += gone;
        Ok(())
    }

    /// Takes away what was to be taken away.
    pub(super) fn retire(&mut self, retiring: Retiring) {
        for (id, local, state) in retiring {
            let Some(pool) = self.image.pools.get(&id) else { continue };
            if pool.record(local).state != state {
                self.emit(Change::BackendState { index: pool.base + u32::from(local), state });
            }
        }
    }
}

/// The way to one of these backends is among those.
fn is_led(wish: &DesiredPool, ways: &BTreeSet<IpAddr>) -> bool {
    let is_there = |(key, backend): (&BackendKey, &DesiredBackend)| ways.contains(&backend.way(key.ip));
    !ways.is_empty() && wish.backends.iter().any(is_there)
}

const fn flags(wanted: &DesiredBackend) -> u64 {
    let takes_new = if wanted.takes_new { TAKES_NEW } else { 0 };
    let keeps = if wanted.keeps { KEEPS } else { 0 };
    LIVE | takes_new | keeps
}

/// Entries of a block for this many, index 0 counted.
fn block_len(key: &PoolKey, entries: usize) -> Result<u32, PlanError> {
    let len = u32::try_from(entries).ok().and_then(u32::checked_next_power_of_two);
    len.filter(|len| *len <= LARGEST_BLOCK).map(|len| len.max(SMALLEST_BLOCK)).ok_or_else(|| {
        PlanError::Contradiction(format!("pool {key} needs {entries} entries, a block has {LARGEST_BLOCK}"))
    })
}

/// By counter: whether an entry that is in use or rests counts there.
fn counters_in_use(image: &crate::image::Image) -> Vec<bool> {
    let mut in_use = vec![false; image.sizes.backends as usize];
    for (id, pool) in &image.pools {
        for (local, record) in pool.entries() {
            let counts = record.is_live() || image.rest.backends.contains(&(*id, local));
            if let Some(used) = in_use.get_mut(record.counter as usize).filter(|_| counts) {
                *used = true;
            }
        }
    }
    in_use
}
