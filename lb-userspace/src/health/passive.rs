//! Passive health: backends to which new connections are sent and do not go on, while those of their neighbours do.
//!
//! In: the counters of every backend of a table, sampled again and again, and the time. Out: [`Suspect`]s. Invariants: pure; a backend is
//! judged against the other backends of its table alone, so whatever hits all alike (a flood of SYNs with forged sources, slow
//! clients) makes nobody a suspect; what its slots promise a backend is counted with the shares as they were, so a table whose shares change all the
//! time is judged as any other; nobody is judged by what it did before it came, or came back, into service.
//!
//! How it is told. Clients are spread over a table by a secret hash, so a backend differs from its neighbours by chance alone, in two ways
//! that are both asked for. Of the connections begun with it as large a part *goes on* (the client's packet after its SYN comes) as of
//! theirs; a backend that answers nobody is found out by eleven connections. And as many go on with it as its slots promise: in a flood
//! most of what is begun never goes on anywhere, so there the first question says little and the second decides. A backend is suspect if
//! both would be unlikely even of one half as good as its neighbours. Connections that are younger than `patience` count for it if they
//! went on, and not against it if they did not.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::desired::{BackendKey, PoolKey};
use crate::moment::Millis;

/// How far back a judgement looks at most, or over so many of the last pauses between looks, where those are long.
const MEMORY: Duration = Duration::from_secs(5);
const PAUSES: u32 = 4;
/// Windows tried in one judgement, from the shortest on.
const MOST_SAMPLES: usize = 64;
/// Chance of so small a part by accident, were the backend half as good as its neighbours.
const UNLIKELY: f64 = 1e-3;
/// The same where resets or repeated SYNs of most connections confirm it.
const UNLIKELY_CONFIRMED: f64 = 5e-2;
/// Chance of so few against what its slots promise.
const TOO_FEW: f64 = 2e-2;
/// The same of one that far more is sent to than to its neighbours: most of that is not clients.
const TOO_FEW_OF_ONE_SINGLED_OUT: f64 = 1e-4;
/// That much more.
const SINGLED_OUT: f64 = 3.0;

/// The counters of one backend, all counting up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Slots it has in the table now; 0: no new flow is sent to it.
    pub slots: u32,
    /// Flows begun.
    pub begun: u64,
    /// Flows that went on.
    pub continued: u64,
    /// SYNs that came again.
    pub repeated: u64,
    /// Flows that it refused.
    pub refused: u64,
}

/// A backend that should get no new flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// Which.
    pub backend: BackendKey,
    /// What was seen, in words.
    pub why: String,
}

/// One look at a table: its backends in the order of its keys, and what all with slots together had done until then.
#[derive(Debug, Default)]
struct Sample {
    at: Millis,
    seen: Vec<Seen>,
    begun: u64,
    continued: u64,
}

/// A backend up to a look.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    tally: Tally,
    /// So many of its neighbours' flows that went on, and of those begun with them, its slots promised it.
    promised: f64,
    sent: f64,
}

/// A table, as far back as it is remembered.
#[derive(Debug, Default)]
struct Table {
    backends: Vec<BackendKey>,
    /// When each came into service: it is judged by what it has done since.
    since: Vec<Millis>,
    samples: VecDeque<Sample>,
}

/// What was seen of every table.
#[derive(Debug, Default)]
pub struct Watch {
    tables: BTreeMap<PoolKey, Table>,
}

impl Watch {
    /// Takes the counters of a table as they are now, and says who in it is suspect. `patience`: how long a client may take to go on.
    pub fn observe(
        &mut self,
        now: Millis,
        table: &PoolKey,
        tallies: BTreeMap<BackendKey, Tally>,
        patience: Duration,
    ) -> Vec<Suspect> {
        if !self.tables.contains_key(table) {
            self.tables.insert(table.clone(), Table::default());
        }
        let Some(table) = self.tables.get_mut(table) else { return Vec::new() };
        table.add(now, tallies, patience);
        table.judge(patience)
    }

    /// It has seen this table before.
    pub fn knows(&self, table: &PoolKey) -> bool {
        self.tables.contains_key(table)
    }

    /// Forgets the tables that are none of these.
    pub fn retain(&mut self, is_watched: impl Fn(&PoolKey) -> bool) {
        self.tables.retain(|table, _| is_watched(table));
    }
}

impl Table {
    fn add(&mut self, at: Millis, tallies: BTreeMap<BackendKey, Tally>, patience: Duration) {
        self.align(at, &tallies);
        let sample = self.next(at, tallies.into_values().collect(), patience);
        let pause = self.samples.back().map(|last| at.since(last.at)).unwrap_or_default();
        let memory = MEMORY.max(pause * PAUSES);
        self.samples.push_back(sample);
        let is_old = |first: &Sample| at.since(first.at) > memory;
        while self.samples.front().is_some_and(is_old) || self.samples.len() > MOST_SAMPLES {
            self.samples.pop_front();
        }
    }

    /// Gives earlier samples the backends of the present one: who has come did nothing until now.
    fn align(&mut self, at: Millis, tallies: &BTreeMap<BackendKey, Tally>) {
        if self.backends.iter().eq(tallies.keys()) {
            return;
        }
        let before: BTreeMap<BackendKey, usize> = self.backends.drain(..).zip(0..).collect();
        let places: Vec<Option<usize>> = tallies.keys().map(|key| before.get(key).copied()).collect();
        for sample in &mut self.samples {
            let seen = |(place, tally): (&Option<usize>, &Tally)| {
                let new = Seen { tally: Tally { slots: 0, ..*tally }, ..Seen::default() };
                place.and_then(|place| sample.seen.get(place)).copied().unwrap_or(new)
            };
            sample.seen = places.iter().zip(tallies.values()).map(seen).collect();
        }
        self.since = places.iter().map(|place| place.map_or(at, |place| self.since[place])).collect();
        self.backends = tallies.keys().copied().collect();
    }

    /// The sample that follows the last one.
    fn next(&mut self, at: Millis, tallies: Vec<Tally>, patience: Duration) -> Sample {
        let whole = |tallies: &mut dyn Iterator<Item = u32>| tallies.map(u64::from).sum::<u64>();
        let slots = whole(&mut tallies.iter().map(|tally| tally.slots));
        let mut shares: Vec<f64> = tallies.iter().map(|tally| share(tally.slots, slots)).collect();
        // What goes on now may have begun when its share was less.
        for sample in self.samples.iter().rev().take_while(|sample| at.since(sample.at) <= patience) {
            let slots = whole(&mut sample.seen.iter().map(|seen| seen.tally.slots));
            for (least, seen) in shares.iter_mut().zip(&sample.seen) {
                *least = least.min(share(seen.tally.slots, slots));
            }
        }
        let Some(last) = self.samples.back() else {
            let seen = tallies.into_iter().map(|tally| Seen { tally, ..Seen::default() }).collect();
            return Sample { at, seen, ..Sample::default() };
        };
        let steps: Vec<Option<(u64, u64)>> =
            last.seen.iter().zip(&tallies).map(|(before, now)| step(&before.tally, now)).collect();
        for ((since, step), tally) in self.since.iter_mut().zip(&steps).zip(&tallies) {
            if step.is_none() && tally.slots > 0 {
                *since = at;
            }
        }
        let (begun, continued) =
            steps.iter().flatten().fold((0, 0), |(b, c), (begun, continued)| (b + begun, c + continued));
        let seen = { last.seen.iter() }.zip(&steps).zip(tallies).zip(shares);
        let seen = seen.map(|(((before, step), tally), share)| {
            let own = step.unwrap_or_default();
            #[expect(clippy::cast_precision_loss, reason = "flows of some seconds")]
            let [others_begun, others_continued] = [begun - own.0, continued - own.1].map(|of| of as f64);
            let (promised, sent) =
                (before.promised + others_continued * share, before.sent + others_begun * share);
            Seen { tally, promised, sent }
        });
        Sample { at, seen: seen.collect(), begun: last.begun + begun, continued: last.continued + continued }
    }

    /// Every suspect. The shortest window in which a backend is suspect decides: what it did before its fault is no excuse.
    fn judge(&self, patience: Duration) -> Vec<Suspect> {
        let Some(last) = self.samples.back() else { return Vec::new() };
        // The last look before which everything has had its time.
        let has_had_its_time = |sample: &&Sample| last.at.since(sample.at) >= patience;
        let Some(ripe) = self.samples.iter().rev().find(has_had_its_time) else { return Vec::new() };
        let mut suspects = Vec::new();
        for (number, (backend, since)) in self.backends.iter().zip(&self.since).enumerate() {
            if last.seen.get(number).is_none_or(|seen| seen.tally.slots == 0) {
                continue;
            }
            let starts = self.samples.iter().rev().filter(|sample| sample.at < ripe.at);
            let in_service = starts.take_while(|sample| sample.at >= *since);
            let windows = in_service.filter_map(|start| Window::of(number, [start, ripe, last]));
            if let Some(window) = { windows }.find(Window::is_suspect) {
                suspects.push(Suspect { backend: *backend, why: window.in_words() });
            }
        }
        suspects
    }
}

/// Its slots, as a part of its neighbours'.
#[expect(clippy::cast_precision_loss, reason = "at most 65,537 slots")]
fn share(own: u32, all: u64) -> f64 {
    let others = all.saturating_sub(u64::from(own));
    if others > 0 { f64::from(own) / others as f64 } else { 0.0 }
}

/// What was begun and went on from one look to the next; `None`: it was not in service, or its counters began anew.
fn step(before: &Tally, now: &Tally) -> Option<(u64, u64)> {
    let (begun, continued) =
        (now.begun.checked_sub(before.begun)?, now.continued.checked_sub(before.continued)?);
    (before.slots > 0).then_some((begun, continued))
}

/// What a backend did in a time, and its neighbours.
#[derive(Debug)]
struct Window {
    /// Flows sent to it that have had their time.
    begun: u64,
    /// Flows of it that went on, those begun last included.
    continued: u64,
    /// Confirmations.
    refused: u64,
    repeated: u64,
    /// What its slots promised, of all that went on and of all that was begun.
    promised: f64,
    sent: f64,
    /// Of the neighbours.
    others_begun: u64,
    others_continued: u64,
}

impl Window {
    /// Backend `number` of a table with so many slots: from `start`, what was begun until `ripe` and went on until `last`; its
    /// neighbours' flows have had no more time than until `ripe`.
    fn of(number: usize, [start, ripe, last]: [&Sample; 3]) -> Option<Self> {
        let [first, then, now] = [start, ripe, last].map(|sample| sample.seen.get(number));
        let (first, then, now) = (first?, then?, &now?.tally);
        let (promised, sent) = (then.promised - first.promised, then.sent - first.sent);
        let (first, then) = (&first.tally, &then.tally);
        let begun = then.begun - first.begun;
        Some(Self {
            begun,
            continued: now.continued - first.continued,
            refused: now.refused.saturating_sub(first.refused),
            repeated: now.repeated.saturating_sub(first.repeated),
            promised,
            sent,
            others_begun: ripe.begun - start.begun - begun,
            others_continued: ripe.continued - start.continued - (then.continued - first.continued),
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "flows of some seconds")]
    fn is_suspect(&self) -> bool {
        let (begun, others_begun) = (self.begun as f64, self.others_begun as f64);
        let too_few = if begun > SINGLED_OUT * self.sent { TOO_FEW_OF_ONE_SINGLED_OUT } else { TOO_FEW };
        if poisson_tail(self.continued, self.promised / 2.0) >= too_few {
            return false;
        }
        let is_confirmed = 2 * (self.refused + self.repeated) >= self.begun.max(1);
        let limit = if is_confirmed { UNLIKELY_CONFIRMED } else { UNLIKELY };
        let part = (self.others_continued as f64 / others_begun.max(1.0)).min(1.0);
        binomial_tail(self.continued, self.begun, part / 2.0) < limit
    }

    fn in_words(&self) -> String {
        let Self { begun, continued, others_begun, others_continued, .. } = self;
        let confirmed = match (self.refused, self.repeated) {
            (0, 0) => String::new(),
            (refused, 0) => format!(", {refused} refused"),
            (0, repeated) => format!(", {repeated} SYNs came again"),
            (refused, repeated) => format!(", {refused} refused, {repeated} SYNs came again"),
        };
        format!(
            "{continued} of {begun} new connections went on{confirmed}, while {others_continued} of {others_begun} did at its neighbours"
        )
    }
}

/// The chance of at most `count` where `mean` are expected (Poisson).
#[expect(clippy::cast_precision_loss, reason = "flows of some seconds")]
fn poisson_tail(count: u64, mean: f64) -> f64 {
    if mean <= 0.0 || count as f64 >= mean {
        return 1.0;
    }
    let log_of_last = count as f64 * mean.ln() - mean - log_factorial(count);
    log_of_last.exp() * sum_down(count, |k| k / mean)
}

/// The chance of at most `count` successes in `trials`, each of this chance.
#[expect(clippy::cast_precision_loss, reason = "flows of some seconds")]
fn binomial_tail(count: u64, trials: u64, chance: f64) -> f64 {
    if chance <= 0.0 || count as f64 >= trials as f64 * chance {
        return 1.0;
    }
    let (n, k) = (trials as f64, count as f64);
    let ways = log_falling(trials, count) - log_factorial(count);
    let log_of_last = ways + k * chance.ln() + (n - k) * (-chance).ln_1p();
    log_of_last.exp() * sum_down(count, |k| k * (1.0 - chance) / ((n - k + 1.0) * chance))
}

/// The terms of a tail from its last and largest on down, as multiples of that one; `ratio`: of the term before to term `k`. Begun there
/// because the first terms are too small for numbers.
#[expect(clippy::cast_precision_loss, reason = "flows of some seconds")]
fn sum_down(last: u64, ratio: impl Fn(f64) -> f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for k in (1..=last).rev() {
        term *= ratio(k as f64);
        sum += term;
        if term < 1e-12 {
            break;
        }
    }
    sum
}

fn log_factorial(n: u64) -> f64 {
    log_falling(n, n)
}

/// Logarithm of n (n − 1) … of `count` factors.
#[expect(clippy::cast_precision_loss, reason = "flows of some seconds")]
fn log_falling(n: u64, count: u64) -> f64 {
    (0..count).map(|k| ((n - k) as f64).ln()).sum()
}

#[cfg(test)]
mod tests;
