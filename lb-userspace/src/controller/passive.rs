//! Looks at what becomes of new connections, and ejects backends with which they do not go on (`health/passive.rs`).
//!
//! In: the counters of backends, ten times a second. Out: suspicions, as observations of the membership. Invariant: the looks cost at
//! most a twentieth of a CPU: what takes long is done more rarely, and that is said.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Controller, Notice, REST};
use crate::desired::{BackendKey, PoolKey};
use crate::health::passive::{Tally, Watch};
use crate::membership::{Event, MemberId, Outcome};
use crate::spec::Name;

/// From one look to the next, at least.
const INTERVAL: Duration = Duration::from_millis(100);

/// Looks that are farther apart find out later who answers nobody than config.md says.
const FAR_APART: Duration = Duration::from_secs(1);
/// So long after the last of those nothing is said of it any more.
const QUIET: Duration = Duration::from_secs(60);
const SELDOM: &str = "passive health: looks at new connections come more than 1s apart (very many backends or CPUs, or lbd did not get to \
     run), so a backend that answers nobody may be found out later than after a second";

/// How the looks come.
#[derive(Debug, Default)]
struct Pace {
    last: Option<Instant>,
    /// The last that came late.
    late: Option<Instant>,
}

impl Pace {
    /// A look begins now, at somebody or at nobody. Returns whether looks come too seldom.
    fn note(&mut self, now: Instant, is_watched: bool) -> bool {
        let before = std::mem::replace(&mut self.last, is_watched.then_some(now));
        let apart = before.map(|before| now.saturating_duration_since(before)).filter(|_| is_watched);
        if apart.is_some_and(|apart| apart > FAR_APART) {
            self.late = Some(now);
        }
        self.late = self.late.filter(|late| is_watched && now.saturating_duration_since(*late) < QUIET);
        self.late.is_some()
    }
}

/// What was seen so far, and when to look again.
#[derive(Debug)]
pub(super) struct Looks {
    watch: Watch,
    pace: Pace,
    is_seldom: bool,
    /// When to look again.
    pub(super) next: Instant,
}

impl Default for Looks {
    fn default() -> Self {
        Self { watch: Watch::default(), pace: Pace::default(), is_seldom: false, next: Instant::now() }
    }
}

impl Controller {
    /// Takes the counters of every pool that is watched, and ejects whom they speak against.
    pub(super) fn look_at_flows(&mut self) {
        let begun = Instant::now();
        let tables = self.tallies();
        self.note_pace(begun, !tables.is_empty());
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

    /// Says when looks come too seldom, and when they no longer do.
    fn note_pace(&mut self, begun: Instant, is_watched: bool) {
        let is_seldom = self.looks.pace.note(begun, is_watched);
        if is_seldom != std::mem::replace(&mut self.looks.is_seldom, is_seldom) {
            let sentence = is_seldom.then_some(SELDOM);
            self.set_notices(Notice::Passive, &sentence.into_iter().collect::<Vec<_>>());
            self.publish();
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_that_come_more_than_a_second_apart_are_said_until_they_have_come_in_time_for_a_minute() {
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let mut pace = Pace::default();
        assert!(!pace.note(at(0), true) && !pace.note(at(1_000), true));
        assert!(pace.note(at(2_001), true), "a look after more than a second");
        assert!((3..=62).all(|second| pace.note(at(second * 1_000), true)));
        assert!(!pace.note(at(62_500), true));
        // Who watches nobody looks at nobody.
        assert!(
            !pace.note(at(63_000), false) && !pace.note(at(90_000), false) && !pace.note(at(120_000), true)
        );
        // Where nobody is watched any more there is nothing to say.
        assert!(pace.note(at(130_000), true) && !pace.note(at(130_100), false));
    }
}
