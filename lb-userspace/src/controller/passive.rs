//! Looks at what becomes of new connections, and ejects backends with which they do not go on (`health/passive.rs`).
//!
//! In: the counters of backends, ten times a second. Out: suspicions, as observations of the membership. Invariant: the looks cost at
//! most a twentieth of a CPU: what takes long is done more rarely.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Controller, REST};
use crate::desired::{BackendKey, PoolKey};
use crate::health::passive::{Tally, Watch};
use crate::membership::{Event, MemberId, Outcome};
use crate::spec::Name;

/// From one look to the next, at least.
const INTERVAL: Duration = Duration::from_millis(100);

/// What was seen so far, and when to look again.
#[derive(Debug)]
pub(super) struct Looks {
    watch: Watch,
    /// When to look again.
    pub(super) next: Instant,
}

impl Default for Looks {
    fn default() -> Self {
        Self { watch: Watch::default(), next: Instant::now() }
    }
}

impl Controller {
    /// Takes the counters of every pool that is watched, and ejects whom they speak against.
    pub(super) fn look_at_flows(&mut self) {
        let begun = Instant::now();
        let tables = self.tallies();
        let now = self.clock.now();
        self.looks.watch.retain(|table| tables.contains_key(table));
        let mut outcome = Outcome::default();
        for (table, tallies) in tables {
            let Ok(name) = table.name.parse::<Name>() else { continue };
            let Some(policy) = self.membership.passive(&name) else { continue };
            for suspect in self.looks.watch.observe(now, &table, tallies, policy.patience) {
                let id = MemberId { pool: name.clone(), address: suspect.backend };
                let event = Event::Suspect { id, why: Arc::from(suspect.why) };
                outcome.absorb(self.membership.handle(now, event));
            }
        }
        // One that may not be ejected is suspect at every look: readers are told nothing of it.
        if !outcome.is_nothing() {
            self.follow(outcome);
        }
        self.looks.next = begun + INTERVAL.max(begun.elapsed() * REST);
    }

    /// The counters of every table of a watched pool with more than one backend.
    fn tallies(&self) -> BTreeMap<PoolKey, BTreeMap<BackendKey, Tally>> {
        let is_watched =
            |key: &PoolKey| key.name.parse().is_ok_and(|name| self.membership.passive(&name).is_some());
        let pools: Vec<_> = self
            .image
            .pools()
            .filter_map(|pool| Some((pool.key.filter(|key| is_watched(key))?, pool.backends)))
            .filter(|(_, backends)| backends.iter().filter(|backend| backend.slots > 0).count() > 1)
            .collect();
        let used = pools.iter().flat_map(|(_, backends)| backends).map(|backend| backend.counter);
        let Some(last) = used.max() else { return BTreeMap::new() };
        let counters = match self.read_datapath().counters().backends(0, last + 1) {
            Ok(counters) => counters,
            Err(error) => {
                tracing::debug!("cannot look at new connections: {error}");
                return BTreeMap::new();
            }
        };
        let table = |backends: Vec<crate::image::BackendView>| {
            let mut tallies: BTreeMap<BackendKey, Tally> = BTreeMap::new();
            for backend in backends {
                let Some(counted) = counters.get(backend.counter as usize) else { continue };
                // Two entries of one backend have one counter.
                let tally = tallies.entry(backend.key).or_default();
                tally.slots += backend.slots;
                tally.begun = counted.new_flows;
                tally.continued = counted.continued_flows;
                tally.repeated = counted.repeated_syns;
                tally.refused = counted.refused_flows;
            }
            tallies
        };
        pools.into_iter().map(|(key, backends)| (key, table(backends))).collect()
    }
}
