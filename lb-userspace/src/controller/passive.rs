//! Looks at what becomes of new connections, and ejects backends with which they do not go on (`health/passive.rs`).
//!
//! In: the counters of backends, ten times a second. Out: suspicions, as observations of the membership. Invariant: the looks cost at
//! most a twentieth of a CPU: what takes long is done more rarely, and that is said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_common::BackendCounters;

use super::effort::Effort;
use super::{Controller, Notice};
use crate::desired::{BackendKey, PoolKey};
use crate::health::passive::{Tally, Watch};
use crate::image::{PoolImage, PoolView};
use crate::membership::{Event, MemberId, Millis, Outcome};
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

/// A table with which nothing was begun for so long is not looked at: nothing that was seen of it counts any more, unless looks take so long
/// that they are more than some four seconds apart; then it is forgotten early.
const IDLE: Duration = Duration::from_secs(15);

/// Which tables have flows begun with them: of a hundred thousand backends most are idle, and of those nothing is remembered.
#[derive(Debug, Default)]
struct Busy {
    /// By table: all that was ever begun, and when that was last another number than before.
    seen: BTreeMap<PoolKey, (u64, Option<Millis>)>,
}

impl Busy {
    /// Something was begun with this table since it was first looked at, and not long ago.
    fn is(&mut self, table: &PoolKey, begun: u64, now: Millis) -> bool {
        let Some((before, changed)) = self.seen.get_mut(table) else {
            self.seen.insert(table.clone(), (begun, None));
            return false;
        };
        if std::mem::replace(before, begun) != begun {
            *changed = Some(now);
        }
        changed.is_some_and(|changed| now.since(changed) < IDLE)
    }
}

/// What was seen so far, and when to look again.
#[derive(Debug)]
pub(super) struct Looks {
    watch: Watch,
    busy: Busy,
    /// When the last look was, and every counter then.
    before: Option<(Millis, Vec<BackendCounters>)>,
    pace: Pace,
    is_seldom: bool,
    /// When to look again.
    pub(super) next: Instant,
}

impl Default for Looks {
    fn default() -> Self {
        let (watch, busy, pace) = (Watch::default(), Busy::default(), Pace::default());
        Self { watch, busy, before: None, pace, is_seldom: false, next: Instant::now() }
    }
}

impl Controller {
    /// Takes the counters of every pool that is watched, and ejects whom they speak against.
    pub(super) fn look_at_flows(&mut self) {
        let effort = Effort::begin();
        let now = self.clock.now();
        let Look { is_watched, tables } = self.look(now);
        self.note_pace(effort.begun(), is_watched);
        let judged: BTreeSet<&PoolKey> = tables.iter().map(|busy| &busy.table).collect();
        self.looks.watch.retain(|table| judged.contains(table));
        let mut outcome = Outcome::default();
        for BusyTable { table, before, now: tallies } in tables {
            let Ok(name) = table.name.parse::<Name>() else { continue };
            let Some(policy) = self.membership.passive(&name) else { continue };
            if let Some((at, before)) = before {
                // Of one look nobody is suspect.
                self.looks.watch.observe(at, &table, before, policy.patience);
            }
            for suspect in self.looks.watch.observe(now, &table, tallies, policy.patience) {
                let id = MemberId { pool: name.clone(), address: suspect.backend };
                let event = Event::Suspect { id, why: Arc::from(suspect.why) };
                outcome.absorb(self.membership.handle(now, event));
            }
        }
        // Before what follows from it: an ejection waits for the kernel, and who is let in meanwhile has to be looked at soon.
        self.looks.next = effort.again(INTERVAL);
        // One that may not be ejected is suspect at every look: readers are told nothing of it.
        if !outcome.is_nothing() {
            self.follow(outcome);
        }
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

    /// The counters of every busy table of a watched pool with more than one backend.
    fn look(&mut self, now: Millis) -> Look {
        let is_watched =
            |key: &PoolKey| key.name.parse().is_ok_and(|name| self.membership.passive(&name).is_some());
        let tables = self.image.pools.iter().filter(|(_, pool)| pool.backends_with_slots() > 1);
        let watched: BTreeMap<PoolKey, u16> =
            tables.filter_map(|(id, pool)| Some((pool.key().filter(|key| is_watched(key))?, *id))).collect();
        self.looks.busy.seen.retain(|table, _| watched.contains_key(table));
        let used = watched.values().filter_map(|id| self.image.pools.get(id)).flat_map(PoolImage::counters);
        let mut look = Look { is_watched: !watched.is_empty(), tables: Vec::new() };
        let Some(last) = used.max() else { return look };
        let counters = match self.read_datapath().counters().backends(0, last + 1) {
            Ok(counters) => counters,
            Err(error) => {
                tracing::debug!("cannot look at new connections: {error}");
                return look;
            }
        };
        let begun = |pool: &PoolImage| -> u64 {
            let counted = pool.counters().filter_map(|counter| counters.get(counter as usize));
            counted.fold(0, |sum, counted| sum.wrapping_add(counted.new_flows))
        };
        for (table, id) in watched {
            let Some(pool) = self.image.pools.get(&id) else { continue };
            if !self.looks.busy.is(&table, begun(pool), now) {
                continue;
            }
            let Some(pool) = self.image.pool(id) else { continue };
            // As it stood when it was still idle: what was begun since counts from the first connection on.
            let before = self.looks.before.as_ref().filter(|_| !self.looks.watch.knows(&table));
            let before = before.map(|(at, counters)| (*at, tallies(&pool, counters)));
            look.tables.push(BusyTable { before, now: tallies(&pool, &counters), table });
        }
        self.looks.before = Some((now, counters));
        look
    }
}

/// What a look has found.
struct Look {
    /// Some table is watched, busy or not.
    is_watched: bool,
    tables: Vec<BusyTable>,
}

/// A table that is judged.
struct BusyTable {
    table: PoolKey,
    /// At the look before, where that is not known already.
    before: Option<(Millis, BTreeMap<BackendKey, Tally>)>,
    now: BTreeMap<BackendKey, Tally>,
}

/// The counters of a pool's backends.
fn tallies(pool: &PoolView, counters: &[BackendCounters]) -> BTreeMap<BackendKey, Tally> {
    let mut tallies: BTreeMap<BackendKey, Tally> = BTreeMap::new();
    for backend in &pool.backends {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_busy_from_the_first_flow_that_is_begun_until_none_was_for_long() {
        let table = |name: &str| PoolKey { name: name.to_owned(), variant: crate::desired::Variant::V4 };
        let mut busy = Busy::default();
        let mut is = |begun, at| busy.is(&table("web"), begun, Millis(at));
        assert!(!is(7, 0) && !is(7, 60_000), "what was begun before the first look says nothing");
        assert!(is(8, 60_100) && is(8, 75_000));
        assert!(!is(8, 75_100));
        // Counters that begin anew are a change too.
        assert!(is(0, 80_000));
        assert!(!busy.is(&table("api"), 8, Millis(80_000)));
    }

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
