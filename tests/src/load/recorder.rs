//! What became of every attempt of a load.
//!
//! In: attempts as they begin, move and end. Out: counts and the longest stall for any stretch of time, and who answered.
//! Invariant: every attempt begun is in flight or recorded; a stall is known while it lasts, not only when it is over.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::outcome::{Attempt, Failure, Kind, Summary};

/// Gaps in a download shorter than this are not kept.
const LEAST_STALL: Duration = Duration::from_millis(20);
/// A client late by less than this is on time.
const LEAST_DELAY: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    in_flight: HashMap<u64, (Kind, Instant)>,
    ended: Vec<Attempt>,
    /// Gaps in downloads: when they began and how long they were.
    stalls: Vec<(Instant, Duration)>,
    /// Connections begun late: when they were due and by how much.
    delays: Vec<(Instant, Duration)>,
    answers: BTreeMap<Arc<str>, u64>,
}

impl State {
    /// Attempts that ended at `from` or later, and perhaps a few before: they are kept in the order they ended, but for those
    /// that ended while another was being written down.
    fn ended_since(&self, from: Instant) -> impl Iterator<Item = &Attempt> {
        const DISORDER: Duration = Duration::from_secs(1);
        self.ended.iter().rev().take_while(move |attempt| attempt.end + DISORDER >= from)
    }
}

/// The book of a load; shared between the load and its readers.
#[derive(Debug, Default)]
pub struct Recorder {
    state: Mutex<State>,
}

impl Recorder {
    pub(super) fn begin(self: &Arc<Self>, kind: Kind, start: Instant) -> InFlight {
        let mut state = self.lock();
        let id = state.next_id;
        state.next_id += 1;
        let delay = start.elapsed();
        if delay >= LEAST_DELAY {
            state.delays.push((start, delay));
        }
        state.in_flight.insert(id, (kind, start));
        InFlight {
            id,
            kind,
            start,
            moved: start,
            local_port: None,
            backend: None,
            recorder: Arc::clone(self),
        }
    }

    /// Answers so far by backend, all kinds.
    pub fn answers(&self) -> BTreeMap<Arc<str>, u64> {
        self.lock().answers.clone()
    }

    /// Attempts begun so far, all kinds.
    pub fn begun(&self) -> u64 {
        self.lock().next_id
    }

    /// Attempts that ended badly so far, all kinds.
    pub fn failed(&self) -> usize {
        self.lock().ended.iter().filter(|attempt| attempt.outcome.is_err()).count()
    }

    /// How many requests that were due before `mark` have no end yet. Downloads do not count: they may last.
    pub fn unfinished(&self, mark: Instant) -> usize {
        let state = self.lock();
        state.in_flight.values().filter(|(kind, since)| *kind != Kind::Download && *since < mark).count()
    }

    /// The ended attempts that belong to the time from `from` up to `to`, see [`Attempt::when`].
    pub fn attempts(&self, from: Instant, to: Instant) -> Vec<Attempt> {
        let state = self.lock();
        state.ended_since(from).filter(|attempt| (from..to).contains(&attempt.when())).cloned().collect()
    }

    /// Takes what has ended out of the book, with the times at which the client was late (when it was due, by how much): for loads so
    /// long that the book would outgrow the machine. Nothing of it is in any later summary.
    pub fn take(&self) -> (Vec<Attempt>, Vec<(Instant, Duration)>) {
        let mut state = self.lock();
        (std::mem::take(&mut state.ended), std::mem::take(&mut state.delays))
    }

    /// The time from `from` up to `to` in numbers. A stall belongs to when it began; one that lasts counts up to now.
    pub fn summary(&self, from: Instant, to: Instant) -> Summary {
        let mut summary = Summary::default();
        let state = self.lock();
        for attempt in state.ended_since(from).filter(|attempt| (from..to).contains(&attempt.when())) {
            match attempt.outcome {
                Ok(()) => summary.ok += 1,
                Err(failure) => *summary.failed.entry(failure).or_default() += 1,
            }
            if attempt.kind != Kind::Download {
                summary.note_stall(attempt.kind, attempt.end - attempt.start);
            }
            if attempt.kind == Kind::New {
                summary.new_connections += 1;
                if let (Ok(()), Some(backend)) = (attempt.outcome, &attempt.backend) {
                    *summary.answered.entry(Arc::clone(backend)).or_default() += 1;
                }
            }
        }
        let gaps = state.stalls.iter().map(|(begin, length)| (Kind::Download, *begin, *length));
        let lasting = state.in_flight.values().map(|(kind, since)| (*kind, *since, since.elapsed()));
        for (kind, begin, length) in gaps.chain(lasting) {
            if (from..to).contains(&begin) {
                summary.note_stall(kind, length);
            }
        }
        let delays = state.delays.iter().filter(|(due, _)| (from..to).contains(due));
        summary.client_delay = delays.map(|(_, delay)| *delay).max().unwrap_or_default();
        summary
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// An attempt under way. Dropped without [`InFlight::finish`], it was cut off and is not recorded.
#[derive(Debug)]
pub struct InFlight {
    id: u64,
    kind: Kind,
    start: Instant,
    moved: Instant,
    local_port: Option<u16>,
    backend: Option<Arc<str>>,
    recorder: Arc<Recorder>,
}

impl InFlight {
    pub(super) fn local_port(&mut self, port: u16) {
        self.local_port = Some(port);
    }

    pub(super) fn backend(&mut self, name: Option<&str>) {
        self.backend = name.map(Arc::from);
    }

    /// A piece of a download came.
    pub(super) fn progress(&mut self) {
        let now = Instant::now();
        let gap = now - self.moved;
        let mut state = self.recorder.lock();
        if gap >= LEAST_STALL {
            state.stalls.push((self.moved, gap));
        }
        if let Some((_, since)) = state.in_flight.get_mut(&self.id) {
            *since = now;
        }
        self.moved = now;
    }

    pub(super) fn finish(mut self, outcome: Result<(), Failure>) {
        let (end, backend) = (Instant::now(), self.backend.take());
        let mut state = self.recorder.lock();
        if let (Ok(()), Some(backend)) = (outcome, &backend) {
            *state.answers.entry(Arc::clone(backend)).or_default() += 1;
        }
        let (kind, start, local_port) = (self.kind, self.start, self.local_port);
        state.ended.push(Attempt { kind, start, end, local_port, backend, outcome });
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.recorder.lock().in_flight.remove(&self.id);
    }
}

#[cfg(test)]
mod tests;
