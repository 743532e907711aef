//! Starts the probes when they are due, and tells what they found.
//!
//! In: targets through [`HealthEngine`], the clock. Out: [`HealthEvent`]s on the channel given to
//! [`HealthEngine::start`]. Invariants: one task keeps the schedule, one short-lived task runs each probe, and there are
//! never more of those than the limit; a probe that has to wait for its turn is started as soon as one ends, oldest
//! first, and counted when it is late. It ends, and its probes with it, when the last handle is dropped.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::counters::{Counters, HealthMetrics};
use super::probe::{Kind, ProbeReport, ask};
use super::prober::Prober;
use super::questions::{Due, QuestionNumber, Questions};
use super::target::{HealthEvent, Target, TargetId};
use crate::ended::panic_if_told;

/// A probe that starts this long after its planned time is counted as late.
const LATE: Duration = Duration::from_millis(100);

/// The limit where the number of file descriptors cannot be asked.
const FALLBACK_PROBE_LIMIT: usize = 1024;

/// More probes than this at a time would only wait for one another.
const MOST_PROBES: u64 = 8192;

/// How many probes may be under way at a time: half of the file descriptors this process may open, at most 8192. The
/// other half is left to the API, to maps and to links.
pub fn default_probe_limit() -> usize {
    let half = |(soft, _hard): (u64, u64)| usize::try_from((soft / 2).clamp(1, MOST_PROBES)).ok();
    getrlimit(Resource::RLIMIT_NOFILE).ok().and_then(half).unwrap_or(FALLBACK_PROBE_LIMIT)
}

/// What can be asked of the engine.
#[derive(Debug)]
enum Command<Id> {
    Set(Vec<Target<Id>>),
    Put(Vec<Target<Id>>),
    Remove(Vec<Id>),
    Doubt(Vec<Id>),
}

/// The handle of a running engine. Clones speak to the same engine.
#[derive(Clone, Debug)]
pub struct HealthEngine<Id> {
    commands: mpsc::UnboundedSender<Command<Id>>,
    counters: Arc<Counters>,
}

impl<Id: TargetId + Send + Sync + 'static> HealthEngine<Id> {
    /// Starts an engine on the current tokio runtime. `probe_limit` is the most probes under way at a time
    /// ([`default_probe_limit`]); `prober` is what checks through services are sent by.
    ///
    /// The channel of events is unbounded on purpose: an engine held up by a slow reader would check nobody. Its fill is
    /// bounded by the rate of changes; only changes and new reasons are sent, not probes.
    pub fn start(
        probe_limit: usize,
        events: mpsc::UnboundedSender<HealthEvent<Id>>,
        prober: Prober,
    ) -> (Self, JoinHandle<()>) {
        let (commands, inbox) = mpsc::unbounded_channel();
        let counters = Arc::new(Counters::default());
        let work = Work {
            questions: Questions::new(),
            probes: JoinSet::new(),
            probe_limit: probe_limit.max(1),
            inbox,
            events,
            prober,
            counters: Arc::clone(&counters),
        };
        (Self { commands, counters }, tokio::spawn(work.run()))
    }

    /// From now on exactly these targets are checked; those that are the same as before keep their beat and health.
    pub fn set(&self, targets: Vec<Target<Id>>) {
        self.command(Command::Set(targets));
    }

    /// Adds these targets, or changes those whose id is known. A changed check of an unchanged address keeps the health
    /// that is held until the new check has spoken; another address begins at `initial`.
    pub fn put(&self, targets: Vec<Target<Id>>) {
        self.command(Command::Put(targets));
    }

    /// Stops checking these ids. Events of theirs that are on their way may still arrive.
    pub fn remove(&self, ids: Vec<Id>) {
        self.command(Command::Remove(ids));
    }

    /// Asks these ids again at once. The first success of a probe that starts after this is told as a confirmation, whatever is held.
    pub fn doubt(&self, ids: Vec<Id>) {
        self.command(Command::Doubt(ids));
    }

    /// The counters as they are now.
    pub fn metrics(&self) -> HealthMetrics {
        self.counters.snapshot()
    }

    fn command(&self, command: Command<Id>) {
        if self.commands.send(command).is_err() {
            // Only at shutdown, or after a panic that the owner of the JoinHandle sees.
            tracing::debug!("the health engine has ended; a command to it is dropped");
        }
    }
}

/// One probe that has ended.
type Done = (QuestionNumber, u64, Kind, ProbeReport);

/// The engine's task.
struct Work<Id> {
    questions: Questions<Id>,
    probes: JoinSet<Done>,
    probe_limit: usize,
    inbox: mpsc::UnboundedReceiver<Command<Id>>,
    events: mpsc::UnboundedSender<HealthEvent<Id>>,
    prober: Prober,
    counters: Arc<Counters>,
}

impl<Id: TargetId + Send + Sync + 'static> Work<Id> {
    async fn run(mut self) {
        loop {
            self.start_due();
            let next = self.next_start();
            tokio::select! {
                command = self.inbox.recv() => match command {
                    Some(command) => self.apply(command),
                    None => return,
                },
                Some(done) = self.probes.join_next() => self.finish(done),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
            while let Some(done) = self.probes.try_join_next() {
                self.finish(done);
            }
            for event in self.questions.take_events() {
                if self.events.send(event).is_err() {
                    return;
                }
            }
        }
    }

    fn apply(&mut self, command: Command<Id>) {
        let now = Instant::now().into_std();
        match command {
            Command::Set(targets) => self.questions.set(targets, now),
            Command::Put(targets) => self.questions.put(targets, now),
            Command::Remove(ids) => self.questions.remove(&ids),
            Command::Doubt(ids) => self.questions.doubt(&ids, now),
        }
    }

    /// When a probe can start next; `None`: not before one ends or a target comes.
    fn next_start(&mut self) -> Option<Instant> {
        if self.probes.len() >= self.probe_limit {
            return None;
        }
        self.questions.next_due().map(Instant::from_std)
    }

    fn start_due(&mut self) {
        while self.probes.len() < self.probe_limit {
            let Some(due) = self.questions.take_due(Instant::now().into_std()) else { break };
            self.start_probe(due);
        }
        self.counters.now(self.probes.len(), self.questions.len());
    }

    fn start_probe(&mut self, due: Due) {
        let Due { question, probe, address, through, spec, pools, late } = due;
        let Some(kind) = Kind::of(&spec) else { return };
        panic_if_told("checks");
        if late > LATE {
            self.counters.late();
        }
        let prober = through.map(|through| (through, self.prober.clone()));
        self.probes.spawn(async move {
            (question, probe, kind, ask(address, prober.as_ref(), &spec, &pools).await)
        });
    }

    fn finish(&mut self, done: Result<Done, JoinError>) {
        match done {
            Ok((question, probe, kind, report)) => {
                self.counters.finished(kind, &report);
                self.questions.record(question, probe, report, Instant::now().into_std());
            }
            // The next probe of the same question is planned already; this one just tells nothing.
            Err(error) => tracing::error!("a health probe ended without a result: {error}"),
        }
    }
}

#[cfg(test)]
mod tests;
