//! The switch: tables swapped in and listeners pointed at them, in an order in which no listener meets strangers.
//!
//! In: backends in place. Out: the ids of the desired listeners, all of them in the directory. Invariant: a listener
//! that leaves a pool has left it before that pool's table changes, and arrives at a pool after its table has; so a
//! packet meets a backend of its listener's old pool as it was, or of its new pool as it will be. (Listeners that change
//! places between pools that change as well cannot all have this in one plan: then the pools change first.)

use std::collections::BTreeSet;

use super::services::{KnownServices, ServiceIds};
use super::tables::NewTables;
use super::{PlanError, Planner, PoolIds};

impl<'a> Planner<'a> {
    /// See the module.
    pub(super) fn switch(&mut self, pools: &PoolIds<'a>) -> Result<ServiceIds, PlanError> {
        let mut tables = self.new_tables(pools);
        let known = self.known_services();
        let mut withdrawn = self.withdraw_listeners();
        let mut placed = ServiceIds::new();
        let mut is_stuck = false;
        loop {
            let mut left = withdrawn.clone();
            left.extend(self.being_left(pools, &known, &placed));
            let ready: Vec<u16> =
                tables.keys().copied().filter(|pool| is_stuck || !left.contains(pool)).collect();
            let before = (tables.len(), placed.len());
            for pool in ready {
                if let Some(table) = tables.remove(&pool) {
                    self.swap(pool, table)?;
                }
            }
            self.place_services(pools, &known, &tables, &mut placed)?;
            if tables.is_empty() {
                return Ok(placed);
            }
            is_stuck = before == (tables.len(), placed.len()) && withdrawn.is_empty();
            // A packet under way may have found a service before it left its pool.
            self.settle();
            withdrawn.clear();
        }
    }

    /// The pools that listeners lead to which are to lead elsewhere.
    fn being_left(&self, pools: &PoolIds<'a>, known: &KnownServices, placed: &ServiceIds) -> BTreeSet<u16> {
        let waiting = self.desired.services.iter().filter(|(listener, _)| !placed.contains_key(listener));
        let leaving = waiting.filter_map(|(listener, service)| {
            let goal = *pools.get(&service.pool)?;
            let now = known.get(listener)?.iter().filter_map(|id| self.image.services.get(id));
            Some(now.map(|service| service.record.pool()).filter(move |pool| *pool != goal))
        });
        leaving.flatten().collect()
    }

    /// Places each listener whose pool's table is as it will be, and points the directory at it.
    fn place_services(
        &mut self,
        pools: &PoolIds<'a>,
        known: &KnownServices,
        to_come: &NewTables<'a>,
        placed: &mut ServiceIds,
    ) -> Result<(), PlanError> {
        let desired = self.desired;
        for (listener, service) in &desired.services {
            let Some(pool) = pools.get(&service.pool).filter(|pool| !to_come.contains_key(pool)) else {
                continue;
            };
            if !placed.contains_key(listener) {
                let id = self.place_service(listener, service, *pool, known)?;
                self.point_listener(listener, id)?;
                placed.insert(*listener, id);
            }
        }
        Ok(())
    }
}
