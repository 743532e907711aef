//! Who wants to know what, and what is known.
//!
//! In: targets as they come, change and go; the time; the reports of probes. Out: the probes that are due, and
//! [`HealthEvent`]s. Invariants: a question (address and spec) is asked once, however many ids share it; every id whose
//! health or reason changes gets an event; a report for a question that is gone changes nothing. No clock, no I/O.

mod question;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::probe::{Kind, NOT_CHECKED, ProbeReport, ProbeResult};
use super::schedule::{first_probe, next_probe};
use super::state::{Health, HealthState};
use super::target::{HealthEvent, Target, TargetId, Through};
use crate::spec::HealthSpec;
use question::Question;

/// A probe that is to start now.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) question: QuestionNumber,
    /// Counts the probes of its question.
    pub(super) probe: u64,
    pub(super) address: SocketAddr,
    pub(super) through: Option<Through>,
    pub(super) spec: Arc<HealthSpec>,
    /// The pools that ask, where a program is to be told: their names, with a space between two.
    pub(super) pools: String,
    /// How long after its planned time it starts.
    pub(super) late: Duration,
}

/// Numbers are never used twice, so a number whose question is gone finds nothing.
pub(super) type QuestionNumber = u64;

/// Every target and every question.
#[derive(Debug)]
pub(super) struct Questions<Id> {
    by_id: HashMap<Id, QuestionNumber>,
    by_address: HashMap<SocketAddr, Vec<QuestionNumber>>,
    questions: HashMap<QuestionNumber, Question<Id>>,
    /// When which question is asked next; entries of questions that are gone, or are asked at another time, fall out when their
    /// time comes.
    due: BinaryHeap<Reverse<(Instant, QuestionNumber)>>,
    events: Vec<HealthEvent<Id>>,
    numbers: u64,
    random: RandomState,
}

impl<Id: TargetId> Questions<Id> {
    pub(super) fn new() -> Self {
        Self {
            by_id: HashMap::new(),
            by_address: HashMap::new(),
            questions: HashMap::new(),
            due: BinaryHeap::new(),
            events: Vec::new(),
            numbers: 0,
            random: RandomState::new(),
        }
    }

    /// How many questions are asked.
    pub(super) fn len(&self) -> usize {
        self.questions.len()
    }

    /// The events since the last call.
    pub(super) fn take_events(&mut self) -> Vec<HealthEvent<Id>> {
        std::mem::take(&mut self.events)
    }

    /// From now on exactly these targets are checked. Those that stay as they are keep their beat and their health.
    pub(super) fn set(&mut self, targets: Vec<Target<Id>>, now: Instant) {
        let wanted: HashSet<&Id> = targets.iter().map(|target| &target.id).collect();
        let gone: Vec<Id> = self.by_id.keys().filter(|id| !wanted.contains(id)).cloned().collect();
        self.remove(&gone);
        self.put(targets, now);
    }

    /// Adds these targets, or changes those whose id is known.
    pub(super) fn put(&mut self, targets: Vec<Target<Id>>, now: Instant) {
        let mut new = Vec::new();
        for target in targets {
            new.extend(self.put_one(target));
        }
        for (index, number) in new.iter().enumerate() {
            if let Some(question) = self.questions.get_mut(number) {
                let first = first_probe(now, question.spec.interval, index, new.len());
                question.beat = Some(first);
                self.due.push(Reverse((first, *number)));
            }
        }
    }

    /// Stops asking for these ids; unknown ones are passed over.
    pub(super) fn remove(&mut self, ids: &[Id]) {
        for id in ids {
            self.detach(id);
        }
    }

    /// Asks for these ids again now, and tells of the next success; unknown ones are passed over.
    pub(super) fn doubt(&mut self, ids: &[Id], now: Instant) {
        for number in ids.iter().filter_map(|id| self.by_id.get(id)) {
            let Some(question) = self.questions.get_mut(number) else { continue };
            question.doubted = Some(question.probes_started + 1);
            if question.again.is_none() {
                question.again = Some(now);
                self.due.push(Reverse((now, *number)));
            }
        }
    }

    /// The question that is new because of this target, if there is one.
    fn put_one(&mut self, target: Target<Id>) -> Option<QuestionNumber> {
        let Target { id, address, through, spec, initial } = target;
        if Kind::of(&spec).is_none() {
            self.detach(&id);
            let detail = Arc::from(NOT_CHECKED);
            let changed = initial != Health::Healthy;
            self.events.push(HealthEvent {
                id,
                health: Health::Healthy,
                detail,
                latency: Duration::ZERO,
                changed,
                is_confirmation: false,
            });
            return None;
        }
        let found = self.find(address, through, &spec);
        let held = match self.by_id.get(&id).and_then(|number| Some((*number, self.questions.get(number)?))) {
            Some((number, _)) if Some(number) == found => return None,
            // Another rhythm or another question to the same backend: what is known of it stands until that speaks.
            Some((_, old)) if old.address == address => old.state.health(),
            _ => initial,
        };
        self.detach(&id);
        if let Some(number) = found {
            self.join(number, id, held);
            return None;
        }
        self.numbers += 1;
        self.by_id.insert(id.clone(), self.numbers);
        self.by_address.entry(address).or_default().push(self.numbers);
        let question = Question {
            address,
            through,
            spec: Arc::new(spec),
            ids: vec![id],
            state: HealthState::new(held),
            last: None,
            probes_started: 0,
            last_success: 0,
            doubted: None,
            beat: None,
            again: None,
        };
        self.questions.insert(self.numbers, question);
        Some(self.numbers)
    }

    fn find(
        &self,
        address: SocketAddr,
        through: Option<Through>,
        spec: &HealthSpec,
    ) -> Option<QuestionNumber> {
        let is_it = |question: &Question<Id>| question.through == through && *question.spec == *spec;
        let numbers = self.by_address.get(&address)?;
        numbers.iter().copied().find(|number| self.questions.get(number).is_some_and(is_it))
    }

    /// One more id wants an answer that is known already, or will be.
    fn join(&mut self, number: QuestionNumber, id: Id, held: Health) {
        let Some(question) = self.questions.get_mut(&number) else { return };
        self.by_id.insert(id.clone(), number);
        question.ids.push(id.clone());
        if let Some((detail, latency)) = &question.last {
            let health = question.state.health();
            let (detail, latency) = (Arc::clone(detail), *latency);
            let changed = health != held;
            self.events.push(HealthEvent { id, health, detail, latency, changed, is_confirmation: false });
        }
    }

    /// The id no longer wants an answer; the question goes with the last that did.
    fn detach(&mut self, id: &Id) {
        let Some(number) = self.by_id.remove(id) else { return };
        let Some(question) = self.questions.get_mut(&number) else { return };
        question.ids.retain(|other| other != id);
        if !question.ids.is_empty() {
            return;
        }
        let address = question.address;
        self.questions.remove(&number);
        if let Some(numbers) = self.by_address.get_mut(&address) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.by_address.remove(&address);
            }
        }
    }

    /// When the next probe is due.
    pub(super) fn next_due(&mut self) -> Option<Instant> {
        while let Some(Reverse((at, number))) = self.due.peek() {
            if self.questions.get(number).is_some_and(|question| question.is_due(*at)) {
                return Some(*at);
            }
            self.due.pop();
        }
        None
    }

    /// The probe that has been due for longest, if one is; its successor is planned with it.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Due> {
        self.sweep();
        let planned = self.next_due().filter(|at| *at <= now)?;
        let Reverse((_, number)) = self.due.pop()?;
        let question = self.questions.get_mut(&number)?;
        question.probes_started += 1;
        let probe = question.probes_started;
        // Of two entries for one time it does not matter which is which.
        if question.again == Some(planned) {
            question.again = None;
        } else {
            let random = self.random.hash_one((number, probe));
            let next = next_probe(planned, now, question.spec.interval, question.spec.jitter, random);
            question.beat = Some(next);
            self.due.push(Reverse((next, number)));
        }
        let (address, through, spec) = (question.address, question.through, Arc::clone(&question.spec));
        let pools = if Kind::of(&spec) == Some(Kind::Exec) { question.pools() } else { String::new() };
        Some(Due {
            question: number,
            probe,
            address,
            through,
            spec,
            pools,
            late: now.saturating_duration_since(planned),
        })
    }

    /// Drops entries of `due` that nobody is asked at any more, once they are most of it: a question that hurries leaves one each time, and
    /// its slow beat may be hours away.
    fn sweep(&mut self) {
        if self.due.len() > 4 * self.questions.len() + 64 {
            let questions = &self.questions;
            self.due.retain(|Reverse((at, number))| {
                questions.get(number).is_some_and(|question| question.is_due(*at))
            });
        }
    }

    /// Takes the report of a probe from [`take_due`](Self::take_due).
    pub(super) fn record(&mut self, number: QuestionNumber, probe: u64, report: ProbeReport, now: Instant) {
        let Some(question) = self.questions.get_mut(&number) else { return };
        if report.result == ProbeResult::Stalled {
            tracing::debug!(address = %question.address, latency = ?report.latency, "a check is repeated: {}", report.detail);
            // If the beat has asked again meanwhile, that will do.
            if probe == question.probes_started && question.again.is_none() {
                question.again = Some(now);
                self.due.push(Reverse((now, number)));
            }
            return;
        }
        let before = question.state;
        let changed = match report.result.success() {
            // With a timeout above the interval a later probe may have succeeded while this one waited.
            Some(false) if probe < question.last_success => return,
            Some(success) => {
                if success {
                    question.last_success = question.last_success.max(probe);
                }
                question.state.record(success, question.thresholds())
            }
            None => false,
        };
        if probe == question.probes_started {
            let random = self.random.hash_one((number, probe, 0));
            self.due.extend(question.hurry(report.latency, now, random).map(|at| Reverse((at, number))));
        }
        let found = match report.result.success() {
            Some(_) => question.with_progress(report.detail),
            None => report.detail,
        };
        let is_confirmation =
            report.result.success() == Some(true) && question.doubted.is_some_and(|from| probe >= from);
        if is_confirmation {
            question.doubted = None;
        }
        let news =
            changed || is_confirmation || question.last.as_ref().is_none_or(|(detail, _)| **detail != *found);
        if changed {
            question.log(&found, before.against() + 1);
        }
        let detail = question.remember(found, report.latency);
        if news {
            let health = question.state.health();
            self.events.extend(question.ids.iter().map(|id| HealthEvent {
                id: id.clone(),
                health,
                detail: Arc::clone(&detail),
                latency: report.latency,
                changed,
                is_confirmation,
            }));
        }
    }
}

#[cfg(test)]
mod tests;
