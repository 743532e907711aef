//! The questions with a made-up clock and made-up reports.

use std::borrow::Cow;

use super::super::probe::ProbeResult;
use super::*;
use crate::spec::{ExecCheck, HealthKind, HttpCheck, Percent};

mod random;

impl TargetId for &'static str {
    fn pool(&self) -> &str {
        self
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 80))
}

fn target(id: &'static str, last: u8) -> Target<&'static str> {
    Target {
        id,
        address: address(last),
        through: None,
        spec: HealthSpec::default(),
        initial: Health::Unknown,
    }
}

fn report(result: ProbeResult, detail: &'static str) -> ProbeReport {
    ProbeReport { result, detail: Cow::Borrowed(detail), latency: SECOND / 100 }
}

fn well() -> ProbeReport {
    report(ProbeResult::Success, "connected")
}

fn refused() -> ProbeReport {
    report(ProbeResult::Refused, "connection refused")
}

/// Every probe due at `now`, all reported alike. Returns the events as (id, health, changed).
fn round(
    questions: &mut Questions<&'static str>,
    now: Instant,
    report: &ProbeReport,
) -> Vec<(&'static str, Health, bool)> {
    let due: Vec<Due> = std::iter::from_fn(|| questions.take_due(now)).collect();
    for due in due {
        questions.record(due.question, due.probe, report.clone(), now);
    }
    events(questions)
}

fn events(questions: &mut Questions<&'static str>) -> Vec<(&'static str, Health, bool)> {
    questions.take_events().into_iter().map(|event| (event.id, event.health, event.changed)).collect()
}

/// Of a backend of which nothing can be found out, asked fast, with a slow beat that is an hour away.
#[test]
fn what_is_due_does_not_grow_while_a_question_hurries() {
    let (mut questions, mut now) = (Questions::new(), Instant::now());
    let mut slow = target("a", 1);
    (slow.spec.interval, slow.spec.fast_interval) = (3_600 * SECOND, Some(SECOND / 100));
    questions.put(vec![slow, target("b", 2)], now);
    let unknown = ProbeReport { latency: Duration::ZERO, ..report(ProbeResult::Local, "no file descriptor") };
    for _ in 0..10_000 {
        round(&mut questions, now, &unknown);
        now = questions.next_due().unwrap();
    }
    assert!(questions.due.len() < 100, "{} entries", questions.due.len());
    let probes: Vec<u64> = questions.questions.values().map(|question| question.probes_started).collect();
    assert!(probes.iter().all(|probes| *probes > 10), "both are still asked: {probes:?}");
}

#[test]
fn a_new_target_is_asked_at_once_and_admitted_by_one_success() {
    let (mut questions, now) = (Questions::new(), Instant::now());
    questions.put(vec![target("a", 1)], now);
    assert_eq!(questions.next_due(), Some(now));
    assert_eq!(round(&mut questions, now, &well()), [("a", Health::Healthy, true)]);
    let next = questions.next_due().unwrap();
    assert!((now + SECOND * 9 / 5..=now + SECOND * 2).contains(&next));
}

#[test]
fn only_changes_and_new_reasons_are_told() {
    let (mut questions, now) = (Questions::new(), Instant::now());
    questions.put(vec![target("a", 1)], now);
    let mut at = |step: u32, report: &ProbeReport| round(&mut questions, now + SECOND * 2 * step, report);
    assert_eq!(at(0, &well()), [("a", Health::Healthy, true)]);
    assert_eq!(at(1, &well()), []);
    assert_eq!(at(2, &refused()), [("a", Health::Healthy, false)]);
    assert_eq!(at(3, &refused()), []);
    assert_eq!(at(4, &refused()), [("a", Health::Unhealthy, true)]);
    assert_eq!(at(5, &refused()), []);
    assert_eq!(at(6, &well()), [("a", Health::Unhealthy, false)]);
    assert_eq!(at(7, &well()), [("a", Health::Healthy, true)]);
}

#[test]
fn how_far_the_checks_have_come_is_told() {
    let (mut questions, now) = (Questions::new(), Instant::now());
    let mut slow = target("a", 1);
    (slow.spec.rise, slow.spec.fall) = (3, 2);
    questions.put(vec![slow], now);
    let mut at = |step: u32, report: &ProbeReport| {
        let due = questions.take_due(now + SECOND * 2 * step).unwrap();
        questions.record(due.question, due.probe, report.clone(), now);
        questions.take_events().into_iter().map(|event| event.detail.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(at(0, &refused()), ["connection refused (1 of 2 bad checks)"]);
    assert_eq!(at(1, &refused()), ["connection refused"]);
    assert_eq!(at(2, &well()), ["connected (1 of 3 good checks)"]);
    assert_eq!(at(3, &well()), ["connected (2 of 3 good checks)"]);
    assert_eq!(at(4, &refused()), ["connection refused"]);
    assert_eq!(at(5, &well()), ["connected (1 of 3 good checks)"]);
    at(6, &well());
    assert_eq!(at(7, &well()), ["connected"]);
}

#[test]
fn one_question_serves_all_who_ask_it() {
    let (mut questions, now) = (Questions::new(), Instant::now());
    questions.put(vec![target("a", 1), target("b", 1), target("c", 2)], now);
    assert_eq!(questions.len(), 2);
    let mut told = round(&mut questions, now, &well());
    told.sort_unstable_by_key(|(id, ..)| *id);
    assert_eq!(
        told,
        [("a", Health::Healthy, true), ("b", Health::Healthy, true), ("c", Health::Healthy, true)]
    );
    // Who comes later hears at once what is known.
    questions.put(vec![target("d", 2)], now + SECOND);
    assert_eq!(events(&mut questions), [("d", Health::Healthy, true)]);
    // The question stays until the last has gone.
    questions.remove(&["c"]);
    assert_eq!(questions.len(), 2);
    questions.remove(&["d", "d", "nobody"]);
    assert_eq!(questions.len(), 1);
    questions.remove(&["a", "b"]);
    assert_eq!((questions.len(), questions.next_due()), (0, None));
}

#[test]
fn a_report_for_what_is_gone_changes_nothing() {
    let (mut questions, now) = (Questions::new(), Instant::now());
    questions.put(vec![target("a", 1)], now);
    let due = questions.take_due(now).unwrap();
    questions.remove(&["a"]);
    questions.put(vec![target("a", 1)], now);
    questions.record(due.question, due.probe, well(), now);
    assert_eq!(events(&mut questions), []);
    assert_eq!(round(&mut questions, now, &refused()), [("a", Health::Unknown, false)]);
}

#[test]
fn another_check_of_the_same_address_keeps_the_health() {
    let (mut questions, now) = (Questions::new(), Instant::now());
    questions.put(vec![target("a", 1)], now);
    round(&mut questions, now, &well());
    let mut changed = target("a", 1);
    changed.spec.kind = HealthKind::Http(HttpCheck::default());
    changed.spec.fall = 2;
    questions.put(vec![changed], now + SECOND);
    assert_eq!((questions.len(), questions.next_due()), (1, Some(now + SECOND)));
    assert_eq!(round(&mut questions, now + SECOND, &refused()), [("a", Health::Healthy, false)]);
    assert_eq!(round(&mut questions, now + SECOND * 3, &refused()), [("a", Health::Unhealthy, true)]);
    // Another address is another backend.
    questions.put(vec![target("a", 9)], now + SECOND * 4);
    assert_eq!(round(&mut questions, now + SECOND * 4, &refused()), [("a", Health::Unknown, false)]);
}

#[test]
fn what_stays_in_a_set_keeps_its_beat() {
    let (mut questions, now) = (Questions::new(), Instant::now());
    questions.set(vec![target("a", 1), target("b", 2)], now);
    round(&mut questions, now, &well());
    let before = questions.next_due();
    questions.set(vec![target("a", 1)], now + SECOND);
    questions.set(vec![target("a", 1), target("b", 2)], now + SECOND);
    assert_eq!(questions.next_due(), Some(now + SECOND), "b is new again");
    assert_eq!(round(&mut questions, now + SECOND, &well()), [("b", Health::Healthy, true)]);
    assert!(questions.next_due() >= before);
}

#[test]
fn a_fault_of_this_host_is_told_but_moves_no_health() {
    let (mut questions, now) = (Questions::new(), Instant::now());
    questions.put(vec![target("a", 1)], now);
    round(&mut questions, now, &well());
    let local = report(ProbeResult::Local, "no file descriptor");
    assert_eq!(round(&mut questions, now + SECOND * 2, &local), [("a", Health::Healthy, false)]);
    for step in 2..20 {
        assert_eq!(round(&mut questions, now + SECOND * 2 * step, &local), []);
    }
}

#[test]
fn a_probe_that_lbd_itself_was_too_slow_for_is_repeated_and_moves_nothing() {
    let (mut questions, now) = (Questions::new(), Instant::now());
    let stalled = report(ProbeResult::Stalled, "lbd itself did not run");
    questions.put(vec![Target { initial: Health::Healthy, ..target("a", 1) }], now);
    let beat = |questions: &mut Questions<&'static str>, at| {
        let due = questions.take_due(at).unwrap();
        (due, questions.next_due().unwrap())
    };
    let (first, next_beat) = beat(&mut questions, now);
    let mut at = now + SECOND;
    questions.record(first.question, first.probe, stalled.clone(), at);
    // However often: asked again at once, told to nobody, and the beat is as before.
    for _ in 0..10 {
        assert_eq!((questions.next_due(), events(&mut questions)), (Some(at), vec![]));
        let again = questions.take_due(at).unwrap();
        assert_eq!(questions.next_due(), Some(next_beat));
        at += SECOND / 100;
        questions.record(again.question, again.probe, stalled.clone(), at);
    }
    let again = questions.take_due(at).unwrap();
    // The beat asks meanwhile: the late probe needs no other.
    let (second, third_beat) = beat(&mut questions, next_beat);
    questions.record(again.question, again.probe, stalled, next_beat);
    assert_eq!(questions.next_due(), Some(third_beat));
    // What does answer counts, and nothing that was discarded counts with it.
    questions.record(second.question, second.probe, refused(), next_beat);
    assert_eq!(events(&mut questions), [("a", Health::Healthy, false)]);
}

#[test]
fn a_backend_that_is_changing_is_asked_faster() {
    let (mut questions, now) = (Questions::new(), Instant::now());
    let mut fast = target("a", 1);
    fast.spec.fast_interval = Some(SECOND / 4);
    fast.spec.jitter = Percent::ZERO;
    questions.put(vec![fast], now);
    // One step: what is found at the next time it is asked, 50 ms after that; and when it is asked again.
    let mut at = now;
    let mut step = |report: &ProbeReport| {
        let asked = questions.next_due().unwrap();
        let due = questions.take_due(asked).unwrap();
        let report = ProbeReport { latency: SECOND / 20, ..report.clone() };
        questions.record(due.question, due.probe, report, asked + SECOND / 20);
        let waited = asked - std::mem::replace(&mut at, asked);
        (waited, questions.questions.values().next().unwrap().state.health())
    };
    let (fast, slow) = (SECOND / 4, SECOND * 2);
    assert_eq!(step(&refused()), (Duration::ZERO, Health::Unknown));
    assert_eq!(step(&well()), (fast, Health::Healthy));
    assert_eq!(step(&well()), (slow, Health::Healthy));
    assert_eq!(step(&refused()), (slow, Health::Healthy));
    assert_eq!(step(&well()), (fast, Health::Healthy));
    assert_eq!(step(&refused()), (slow, Health::Healthy));
    assert_eq!(step(&refused()), (fast, Health::Healthy));
    assert_eq!(step(&refused()), (fast, Health::Unhealthy));
    assert_eq!(step(&refused()), (slow, Health::Unhealthy));
    assert_eq!(step(&well()), (slow, Health::Unhealthy));
    assert_eq!(step(&well()), (fast, Health::Healthy));
    assert_eq!(step(&well()), (slow, Health::Healthy));
    // What was planned before the beat was pulled forward does not ask a second time.
    assert_eq!(questions.take_due(at + slow - SECOND / 100).map(|due| due.probe), None);
}

/// A program is told for whom it is run, and run once for all of them.
#[test]
fn a_program_is_run_once_for_all_pools() {
    let (mut questions, now) = (Questions::new(), Instant::now());
    let exec = |id| {
        let mut target = target(id, 1);
        target.spec.kind =
            HealthKind::Exec(ExecCheck { command: vec!["/bin/true".into()], ..ExecCheck::default() });
        target
    };
    questions.put(vec![exec("b"), exec("a"), target("c", 1)], now);
    let mut due: Vec<Due> = std::iter::from_fn(|| questions.take_due(now)).collect();
    due.sort_by_key(|due| due.pools.clone());
    let pools: Vec<&str> = due.iter().map(|due| due.pools.as_str()).collect();
    assert_eq!(pools, ["", "a b"]);
}

#[test]
fn a_failure_that_a_later_success_has_overtaken_does_not_count() {
    let (mut questions, now) = (Questions::new(), Instant::now());
    let mut patient = target("a", 1);
    patient.spec = HealthSpec { timeout: SECOND * 5, fall: 1, ..patient.spec };
    questions.put(vec![patient], now);
    let first = questions.take_due(now).unwrap();
    let second = questions.take_due(now + SECOND * 2).unwrap();
    questions.record(second.question, second.probe, well(), now);
    assert_eq!(events(&mut questions), [("a", Health::Healthy, true)]);
    questions.record(first.question, first.probe, report(ProbeResult::Timeout, "no answer"), now);
    assert_eq!(events(&mut questions), []);
}

#[test]
fn initial_health_is_confirmed_without_a_change() {
    let (mut questions, now) = (Questions::new(), Instant::now());
    questions.put(vec![Target { initial: Health::Healthy, ..target("a", 1) }], now);
    assert_eq!(round(&mut questions, now, &well()), [("a", Health::Healthy, false)]);
}

#[test]
fn who_is_not_checked_is_healthy_at_once() {
    let (mut questions, now) = (Questions::new(), Instant::now());
    let mut unchecked = target("a", 1);
    unchecked.spec.kind = HealthKind::None;
    questions.put(vec![unchecked], now);
    assert_eq!(events(&mut questions), [("a", Health::Healthy, true)]);
    assert_eq!((questions.len(), questions.next_due()), (0, None));
}

#[test]
fn one_that_is_doubted_is_asked_at_once_and_its_next_success_is_told() {
    let (mut questions, begin) = (Questions::new(), Instant::now());
    questions.put(vec![target("a", 1)], begin);
    let first = questions.take_due(begin).unwrap();
    questions.record(first.question, first.probe, well(), begin);
    assert!(questions.take_events().iter().all(|event| !event.is_confirmation));
    // A probe that is under way already saw what was before.
    let on_its_way = questions.take_due(begin + SECOND * 2).unwrap();
    let doubted = begin + SECOND * 2;
    questions.doubt(&["a", "nobody"], doubted);
    questions.record(on_its_way.question, on_its_way.probe, well(), doubted);
    assert!(questions.take_events().is_empty());
    let again = questions.take_due(doubted).expect("asked at once");
    questions.record(again.question, again.probe, refused(), doubted);
    assert!(questions.take_events().iter().all(|event| !event.is_confirmation));
    let next = questions.take_due(doubted + SECOND * 2).unwrap();
    questions.record(next.question, next.probe, well(), doubted + SECOND * 2);
    let events = questions.take_events();
    assert!(matches!(&events[..], [event] if event.is_confirmation && !event.changed), "{events:?}");
    let later = questions.take_due(doubted + SECOND * 4).unwrap();
    questions.record(later.question, later.probe, well(), doubted + SECOND * 4);
    assert!(questions.take_events().is_empty(), "told once");
}
