//! From what the maps hold to what they should hold: an ordered list of changes.
//!
//! In: an [`Image`], a [`Desired`], the [`Settings`] of the loaded program. Out: a [`Plan`], or a [`PlanError`] before anything
//! is written. Invariants: after every prefix of the changes each listener that was and will be there reaches a live
//! backend that was or will be its own; a daemon that dies after any of them finds its way with `Image::read` and another
//! plan; a plan for what is there already is empty; a batch is one plan.
//!
//! The order: endpoint filter on, ways and sources, backends (new entries, blocks that grow) · grace, if a block moved ·
//! directory words of listeners that go · Maglev regions, each swapped in by its pool's table word · services, then the
//! directory words that name them (`switch`) · grace · services that go, backends that go or keep nothing, pools that go, filter off.
//! Each step refers only to what an earlier one wrote, and takes away only what nothing has referred to since the grace period
//! before. A grace period is waited for when something comes after it: what the last steps have left is waited for by the next
//! plan, or by whoever has time before it ([`LiveImage::note_grace`](crate::image::LiveImage::note_grace)).
//!
//! A service that gets another pool or another way of forwarding becomes a new id, because entries of the flow table hold
//! backend indexes of the old pool: the directory word changes from one id to the other in one store. A backend that gets
//! other sources becomes a new entry for new flows, and the old entry keeps its flows until a scan meets none.

mod backends;
mod check;
mod directory;
mod error;
mod filter;
mod report;
mod services;
mod sources;
mod switch;
mod tables;
mod ways;

use std::collections::{BTreeMap, BTreeSet};

use lb_common::{NAME_LEN, NameEntry, Settings};

use crate::change::{Change, name_entry};
use crate::desired::{Desired, PoolKey};
use crate::ids::{Ids, Space};
use crate::image::Image;
use crate::record::PoolReport;
use crate::store::{Store, StoreError};

pub use error::PlanError;
pub use report::{Moves, PlanReport, PoolSwap};

/// Changes that lead from one state of the maps to another.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The steps, in order.
    pub changes: Vec<Change>,
    /// What the maps hold after the last one.
    pub after: Image,
    /// What they mean for people.
    pub report: PlanReport,
}

impl Plan {
    /// Carries out every change and returns the image afterwards. On an error what was written stays: read the image
    /// anew and plan again.
    ///
    /// # Errors
    /// What the store says.
    pub fn carry_out(self, store: &mut impl Store) -> Result<Image, StoreError> {
        self.changes.iter().try_for_each(|change| store.apply(change))?;
        Ok(self.after)
    }
}

/// Plans the way from `image` to `desired` for the program that was loaded with `settings`.
///
/// # Errors
/// [`PlanError`]; nothing was changed.
pub fn plan(image: &Image, desired: &Desired, settings: &Settings) -> Result<Plan, PlanError> {
    check::check(image, desired, settings)?;
    let mut planner = Planner::new(image, desired, settings);
    let pools = planner.name_pools()?;
    let filter = filter::wanted(desired, settings);
    // Before the backends: one that comes back may still have flows, which meet it as soon as its entry lives.
    planner.widen_filter(&filter);
    let retiring = planner.place_backends(&pools)?;
    if planner.a_block_moved {
        planner.settle();
    }
    let services = planner.switch(&pools)?;
    planner.point_vips(&services)?;
    planner.settle();
    planner.tidy_directory();
    planner.drop_services(&services);
    planner.retire(retiring);
    planner.drop_pools(&pools);
    planner.narrow_filter(&filter);
    Ok(planner.finish())
}

/// Pool ids of what is desired.
type PoolIds<'a> = BTreeMap<&'a PoolKey, u16>;

/// A plan in the making: the image as it will be after the changes so far.
struct Planner<'a> {
    before: &'a Image,
    desired: &'a Desired,
    settings: &'a Settings,
    image: Image,
    changes: Vec<Change>,
    arena: Space,
    blocks: Space,
    service_ids: Ids,
    /// Next hops, sources and counters; made when the first is needed.
    ways: Option<ways::Ways>,
    sources: Option<sources::Sources>,
    counters: Option<Ids>,
    counters_in_use: Vec<bool>,
    a_block_moved: bool,
    /// Pools whose entries stay as they are.
    as_before: BTreeSet<u16>,
    /// The next change comes after a grace period.
    grace_is_due: bool,
    report: PlanReport,
}

impl<'a> Planner<'a> {
    fn new(before: &'a Image, desired: &'a Desired, settings: &'a Settings) -> Self {
        let mut image = before.clone();
        // If the first change is not a grace period already, `finish` puts one in front.
        image.unsettled = false;
        let arena = Space::new(image.sizes.arena_words, image.pools.values().map(|pool| pool.region()));
        let blocks = Space::new(image.sizes.backends, image.pools.values().map(|pool| pool.block()));
        Self {
            before,
            desired,
            settings,
            image,
            changes: Vec::new(),
            arena,
            blocks,
            service_ids: Ids::new(1, before.sizes.services),
            ways: None,
            sources: None,
            counters: None,
            counters_in_use: Vec::new(),
            a_block_moved: false,
            as_before: BTreeSet::new(),
            grace_is_due: false,
            report: PlanReport::default(),
        }
    }

    /// Adds a change.
    fn emit(&mut self, change: Change) {
        if self.grace_is_due {
            self.settle_now();
        }
        self.image.apply(&change);
        self.changes.push(change);
    }

    /// What comes next, if anything does, comes when no packet under way may still read what nothing refers to any more.
    const fn settle(&mut self) {
        self.grace_is_due = self.image.unsettled;
    }

    /// Adds a grace period if packets under way may still read what nothing refers to any more.
    fn settle_now(&mut self) {
        self.grace_is_due = false;
        if self.image.unsettled {
            self.image.apply(&Change::Grace);
            self.changes.push(Change::Grace);
            self.arena.settle();
            self.blocks.settle();
        }
    }

    /// Finds the id of each desired pool, or gives it one.
    fn name_pools(&mut self) -> Result<PoolIds<'a>, PlanError> {
        let mut known: BTreeMap<PoolKey, u16> = BTreeMap::new();
        for (id, pool) in self.image.pools.iter().rev() {
            known.extend(pool.key().map(|key| (key, *id)));
        }
        let mut ids = Ids::new(1, self.image.sizes.pools);
        let desired = self.desired;
        let mut named = PoolIds::new();
        for key in desired.pools.keys() {
            let id = match known.get(key) {
                Some(id) => *id,
                None => self.new_pool(key, &mut ids)?,
            };
            named.insert(key, id);
        }
        Ok(named)
    }

    fn new_pool(&mut self, key: &PoolKey, ids: &mut Ids) -> Result<u16, PlanError> {
        let pools = &self.image.pools;
        let in_use = |id: u32| u16::try_from(id).is_ok_and(|id| pools.contains_key(&id));
        let id = ids.take(in_use).and_then(|id| u16::try_from(id).ok());
        let id = id.ok_or_else(|| PlanError::pools_full(self.before, self.desired))?;
        let name = name_entry(&key.to_string()).ok_or_else(|| PlanError::name_too_long(&key.name))?;
        self.emit(Change::PoolName { pool: id, name });
        self.report.pools_added += 1;
        Ok(id)
    }

    /// Takes away the pools that no service names any more.
    fn drop_pools(&mut self, pools: &PoolIds<'_>) {
        let kept: BTreeSet<u16> = pools.values().copied().collect();
        let gone: Vec<u16> = self.image.pools.keys().copied().filter(|id| !kept.contains(id)).collect();
        if !gone.is_empty() {
            // A reply under way may have read the policy of a service that has just gone.
            self.settle();
        }
        for pool in gone {
            let Some(image) = self.image.pools.get(&pool) else { continue };
            let (has_table, has_block) = (image.table.is_some(), !image.records.is_empty());
            let (region, block) = (image.region(), image.block());
            if has_table {
                self.emit(Change::PoolTable { pool, word: 0 });
                self.arena.give_back(region.0, region.1);
            }
            if has_block {
                self.emit(Change::PoolBackends { pool, word: 0 });
                self.blocks.give_back(block.0, block.1);
            }
            self.emit(Change::PoolReport { pool, report: PoolReport::default() });
            self.emit(Change::PoolName { pool, name: NO_NAME });
            self.report.pools_removed += 1;
        }
    }

    fn finish(mut self) -> Plan {
        if self.changes.is_empty() {
            self.image.unsettled = self.before.unsettled;
        } else if self.before.unsettled {
            self.changes.insert(0, Change::Grace);
        }
        self.report.map_writes = self.changes.iter().filter(|change| **change != Change::Grace).count();
        Plan { changes: self.changes, after: self.image, report: self.report }
    }
}

/// The name of nothing.
const NO_NAME: NameEntry = NameEntry { bytes: [0; NAME_LEN + 8] };

#[cfg(test)]
pub(crate) mod tests;
