//! The desired state put in force: planned, carried out change by change, published.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_common::FEATURES_OF_HOST;

use super::{Controller, Fault};
use crate::datapath::{Demand, Tuning};
use crate::desired::Desired;
use crate::image::Image;
use crate::membership::{DomainEvent, Level, Outcome};
use crate::plan::{Plan, PlanError, plan};
use crate::store::{Store, Table};

/// Time between two attempts to write down what could not be.
pub(super) const SAVE_AGAIN: Duration = Duration::from_secs(5);

/// What is in force and not written down.
pub(super) struct Unsaved {
    /// In sentences.
    what: Vec<String>,
    /// When it is tried again.
    again: Instant,
}

/// Lines in the log for what has happened at one moment: a hundred thousand backends that are added are no lines to be read.
const MOST_LINES: usize = 1000;

/// Tables of a plan, or pools of which one changes, from which on what they took goes back to the system: a few MiB.
pub(super) const MANY_TABLES: usize = 64;

/// Ends the process when this many changes of plans have been carried out: the tests of crash safety set it.
const CRASH_VARIABLE: &str = "LBD_TEST_CRASH_AFTER_CHANGES";

impl Controller {
    /// What an input has done reaches checks, next hops, maps, log and readers.
    pub(super) fn follow(&mut self, outcome: Outcome) {
        if !outcome.checks_removed.is_empty() {
            self.health.remove(outcome.checks_removed);
        }
        if outcome.members_changed {
            let wanted = self.membership.next_hop_targets();
            let known: BTreeSet<IpAddr> = wanted.difference(&outcome.ways_forgotten).copied().collect();
            if known.len() < wanted.len() {
                // Of a way that it goes on watching the resolver would tell only news, and what it told is forgotten.
                self.resolver.set(known);
            }
            self.resolver.set(wanted);
            self.note_lingering();
        }
        if outcome.revised {
            let what = match outcome.notes.is_empty() {
                true => outcome.events.iter().map(|event| event.message.clone()).collect(),
                false => outcome.notes.clone(),
            };
            self.save_own(what);
        }
        if outcome.desired_changed {
            self.enforce();
        }
        if outcome.ejections_changed {
            self.save_ejections();
        }
        self.follow_probes();
        // Only now: a check that goes through the program needs its service there.
        if !outcome.checks_put.is_empty() {
            self.health.put(outcome.checks_put);
        }
        if !outcome.checks_doubted.is_empty() {
            self.health.doubt(outcome.checks_doubted);
        }
        self.tell(outcome.events);
        self.publish();
    }

    /// Writes down what nobody has asked for, such as a drain that is over: that is done, whether the disk takes it or not.
    fn save_own(&mut self, what: Vec<String>) {
        let mut what = [self.unsaved.take().map(|unsaved| unsaved.what).unwrap_or_default(), what].concat();
        what.dedup();
        let saved = self.save(&self.membership.clone(), "lbd", &what);
        let fault = saved.err().map(|error| error.to_string());
        if fault.is_some() {
            self.unsaved = Some(Unsaved { what, again: Instant::now() + SAVE_AGAIN });
        }
        self.set_fault(Fault::State, fault.into_iter().collect());
    }

    /// Tries again to write down what could not be. True: there is news.
    pub(super) fn save_again(&mut self) -> bool {
        if self.unsaved.as_ref().is_none_or(|unsaved| Instant::now() < unsaved.again) {
            return false;
        }
        self.save_own(Vec::new());
        self.unsaved.is_none()
    }

    /// Events go to the log and to those who ask for them.
    pub(super) fn tell(&self, events: Vec<DomainEvent>) {
        let (told, left_out) = lines(&events);
        for event in told {
            match event.level {
                Level::Info => tracing::info!("{}", event.message),
                Level::Warning => tracing::warn!("{}", event.message),
            }
        }
        if left_out > 0 {
            tracing::info!("and {left_out} more of the same moment: lbctl backend list shows how all stand");
        }
        self.published.events.add(self.clock.now(), events);
    }

    /// Brings the maps to the membership's desired state; what cannot be done is said, and tried again with the next change.
    pub(super) fn enforce(&mut self) {
        let desired = Arc::clone(self.membership.desired());
        let room = self.make_room(&desired);
        let plan = room.and_then(|_| self.plan_in_room(&desired).map_err(|error| said(&error)));
        let result = plan.and_then(|plan| self.carry_out(&desired, plan));
        self.set_fault(Fault::Datapath, result.err().into_iter().collect());
    }

    /// What would have to be written for this state.
    pub(super) fn plan(&self, desired: &Desired) -> Result<Plan, PlanError> {
        plan(&self.image, desired, self.read_datapath().settings())
    }

    /// As [`Self::plan`]; where there is room, but in pieces too short, the maps are made larger for it.
    pub(super) fn plan_in_room(&mut self, desired: &Desired) -> Result<Plan, PlanError> {
        let error = match self.plan(desired) {
            Ok(plan) => return Ok(plan),
            Err(error) => error,
        };
        let Some(demand) = self.larger(desired, &error) else { return Err(error) };
        if let Err(reason) = self.make_room_for(desired, &demand) {
            tracing::warn!("{reason}");
            return Err(error);
        }
        self.plan(desired)
    }

    /// Gives the program and the maps what a state needs besides what is in use now. Nothing that packets see changes. True: plans
    /// that were made before no longer hold.
    pub(super) fn make_room(&mut self, desired: &Desired) -> Result<bool, String> {
        self.make_room_for(desired, &self.demand(desired))
    }

    fn make_room_for(&mut self, desired: &Desired, demand: &Demand) -> Result<bool, String> {
        let before = *self.read_datapath().settings();
        let mut tuning = self.tuning(desired);
        tuning.features |= self.read_datapath().settings().features & !FEATURES_OF_HOST;
        let are_new = self.write_datapath().reconfigure(tuning, demand).map_err(|error| said(&error))?;
        if are_new {
            self.read_image()?;
        }
        Ok(are_new || *self.read_datapath().settings() != before)
    }

    /// What a state asks of the maps that is more than there is, where that is why there is no plan for it.
    pub(super) fn larger(&self, desired: &Desired, error: &PlanError) -> Option<Demand> {
        let PlanError::Full { map, .. } = error else { return None };
        let demand = self.demand(desired);
        let wishes = [Some(demand), (*map == Table::Maglev).then(|| demand.in_pieces())];
        wishes.into_iter().flatten().find(|demand| self.read_datapath().would_grow(demand))
    }

    fn demand(&self, desired: &Desired) -> Demand {
        Demand::of(desired, self.membership.file().datapath.flows)
    }

    /// Writes a plan into the maps, and takes from the program what the new state no longer needs.
    pub(super) fn carry_out(&mut self, desired: &Desired, plan: Plan) -> Result<(), String> {
        for change in &plan.changes {
            // Locked for one change at a time, so that readers of counters wait for no more than one grace period.
            let result = self.write_datapath().apply(change);
            if let Err(error) = result {
                // What is written stays, and the next plan goes on from there.
                self.read_image()?;
                return Err(said(&error));
            }
            crash_if_told();
        }
        self.gives_back |= plan.report.pools.len() >= MANY_TABLES;
        self.replace_image(plan.after);
        let (tuning, demand) = (self.tuning(desired), self.demand(desired));
        let mut datapath = self.write_datapath();
        datapath.reconfigure(tuning, &demand).map_err(|error| said(&error))?;
        // Maps that were made anew are put in the place of the old ones; otherwise there is nothing to do.
        datapath.settle_maps().map_err(|error| said(&error))
    }

    fn read_image(&mut self) -> Result<(), String> {
        let image = Image::read(&*self.read_datapath());
        self.replace_image(image.map_err(|error| said(&error))?);
        Ok(())
    }

    fn tuning(&self, desired: &Desired) -> Tuning {
        Tuning::of(desired, &self.membership.file().datapath.timeouts)
    }
}

/// Those of one moment that are logged, and how many are not: every warning is.
fn lines(events: &[DomainEvent]) -> (Vec<&DomainEvent>, usize) {
    let mut plain = 0;
    let told: Vec<&DomainEvent> = events
        .iter()
        .filter(|event| {
            plain += usize::from(event.level == Level::Info);
            event.level == Level::Warning || plain <= MOST_LINES
        })
        .collect();
    let left_out = events.len() - told.len();
    (told, left_out)
}

fn said(error: &dyn std::fmt::Display) -> String {
    format!("the kernel's tables are not as configured: {error}")
}

/// As `kill -9` at this very change would.
fn crash_if_told() {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static DONE: AtomicU64 = AtomicU64::new(0);
    static LIMIT: LazyLock<Option<u64>> = LazyLock::new(|| std::env::var(CRASH_VARIABLE).ok()?.parse().ok());
    let done = DONE.fetch_add(1, Ordering::Relaxed) + 1;
    if *LIMIT == Some(done) {
        let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::EventKind;

    #[test]
    fn of_a_moment_a_thousand_lines_are_logged_and_every_warning() {
        let event = |kind, level, message: String| DomainEvent {
            kind,
            level,
            service: None,
            pool: None,
            backend: None,
            message,
        };
        let added = |n| event(EventKind::BackendAdded, Level::Info, format!("backend {n} is added"));
        let mut events: Vec<DomainEvent> = (0..MOST_LINES + 5).map(added).collect();
        events.push(event(EventKind::BackendHealth, Level::Warning, "backend 7 is unhealthy".to_owned()));
        let (told, left_out) = lines(&events);
        assert_eq!((told.len(), left_out), (MOST_LINES + 1, 5));
        assert_eq!(told.last().unwrap().message, "backend 7 is unhealthy");
        assert_eq!(lines(&events[..MOST_LINES]).1, 0);
    }
}
