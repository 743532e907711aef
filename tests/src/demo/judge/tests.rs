//! A judge that cannot condemn is none: each promise broken once.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;

/// A phase of ten seconds with 500 good connections a second to each of the servers in turn, the act at its beginning.
struct Case {
    start: Instant,
    attempts: Vec<Attempt>,
}

impl Case {
    fn new(backends: &[&str]) -> Case {
        let start = Instant::now();
        let backends = backends.iter().cycle();
        let due = |number: u64| start + Duration::from_millis(2 * number);
        let attempts = (0..5_000)
            .zip(backends)
            .map(|(number, backend)| attempt(due(number), Some(backend), Ok(())))
            .collect();
        Case { start, attempts }
    }

    fn and(mut self, after_ms: u64, backend: Option<&str>, outcome: Result<(), Failure>) -> Case {
        self.attempts.push(attempt(self.start + Duration::from_millis(after_ms), backend, outcome));
        self
    }

    fn judged(self, judge: fn(&mut Scene)) -> Vec<String> {
        let mut summary = Summary { new_connections: 5_000, ok: 5_000, ..Summary::default() };
        summary.stalled = Some(Kind::New);
        summary.longest_stall =
            self.attempts.iter().map(|attempt| attempt.end - attempt.start).max().unwrap_or_default();
        let mut failed: BTreeMap<Failure, u64> = BTreeMap::new();
        self.attempts
            .iter()
            .filter_map(|attempt| attempt.outcome.err())
            .for_each(|failure| *failed.entry(failure).or_default() += 1);
        summary.failed = failed;
        let span = self.start..self.start + Duration::from_secs(10);
        let mut scene = Scene::new("case", span, self.start, summary, self.attempts);
        judge(&mut scene);
        scene.into_report().complaints
    }
}

fn attempt(start: Instant, backend: Option<&str>, outcome: Result<(), Failure>) -> Attempt {
    let end = start + Duration::from_millis(1);
    Attempt { kind: Kind::New, start, end, local_port: None, backend: backend.map(Arc::from), outcome }
}

#[test]
fn what_holds_draws_no_complaint() {
    assert_eq!(Case::new(&["b1", "b2", "b3"]).judged(baseline), [""; 0]);
    assert_eq!(Case::new(&["b1", "b2", "b3", "b4"]).judged(add), [""; 0]);
    assert_eq!(Case::new(&["b1", "b3", "b4"]).and(100, Some("b2"), Ok(())).judged(drain), [""; 0]);
    assert_eq!(Case::new(&["b1", "b4"]).and(900, None, Err(Failure::Refused)).judged(kill), [""; 0]);
    assert_eq!(Case::new(&["b1", "b2", "b3", "b4"]).judged(back), [""; 0]);
}

#[test]
fn a_failure_outside_the_kill_is_told() {
    for judge in [baseline, add, drain, back] {
        let case = Case::new(&["b1", "b2", "b3", "b4"]).and(5_000, Some("b1"), Err(Failure::Reset));
        assert!(case.judged(judge).iter().any(|complaint| complaint == "1 failed: 1 reset"));
    }
}

#[test]
fn a_stall_is_told() {
    let mut case = Case::new(&["b1", "b2", "b3"]);
    case.attempts[7].end = case.attempts[7].start + Duration::from_millis(1_001);
    assert_eq!(case.judged(baseline), ["a new connection stalled for 1001 ms, over 1000 ms"]);
}

#[test]
fn a_server_without_its_share_is_told() {
    let complaints = Case::new(&["b1", "b2"]).judged(baseline);
    assert_eq!(complaints, ["b3 answered 0 of 5000 new connections, too few"]);
    assert_eq!(Case::new(&["b1", "b2", "b3"]).judged(add), ["b4 was added and never answered"]);
    assert_eq!(Case::new(&["b1", "b4"]).judged(back).len(), 2);
}

#[test]
fn a_new_connection_to_a_draining_server_is_told() {
    let complaints = Case::new(&["b1", "b3", "b4"]).and(1_000, Some("b2"), Ok(())).judged(drain);
    assert_eq!(complaints, ["1 new connections went to b2 although it is draining"]);
}

#[test]
fn a_loss_the_kill_does_not_explain_is_told() {
    let on = |backend| Case::new(&["b1", "b4"]).and(900, backend, Err(Failure::Reset)).judged(kill);
    assert_eq!(on(Some("b3")), [""; 0]);
    assert_eq!(on(Some("b1")), ["1 failed on servers that live"]);
    let late = Case::new(&["b1", "b4"]).and(2_000, None, Err(Failure::Refused)).judged(kill);
    assert_eq!(late, ["1 failed after the health check had to know"]);
    let strange = Case::new(&["b1", "b4"]).and(900, None, Err(Failure::TimedOut)).judged(kill);
    assert_eq!(strange, ["1 failed in a way no dead server causes (neither refused, reset nor closed)"]);
}

#[test]
fn too_small_a_load_is_told() {
    let mut scene = {
        let start = Instant::now();
        let summary = Summary { new_connections: 4_000, ..Summary::default() };
        Scene::new("case", start..start + Duration::from_secs(10), start, summary, Vec::new())
    };
    scene.report.complaints.clear();
    let complaints = scene.into_report().complaints;
    assert_eq!(complaints, ["only 400 new connections a second were offered: is the machine too busy?"]);
}
