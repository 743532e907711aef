//! What each phase promises, and whether it held.
//!
//! In: everything the load saw in a phase. Out: a [`Report`]; an empty list of complaints means that it held. The promises are
//! those of the project: nothing fails and nothing stalls over a second, except that connections to a killed server may be
//! lost until the health check can know.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::stage::{PROMISED_PER_SECOND, detection_time};
use crate::load::{Attempt, Failure, Kind, Summary};
use crate::screen;

/// The longest stall that is allowed outside the kill phase.
const ALLOWED_STALL: Duration = Duration::from_secs(1);
/// Time after lbctl's answer in which a connection that was already on its way may still reach a drained server.
const UNDER_WAY: Duration = Duration::from_millis(200);
/// Least share of new connections of one of `n` equal servers: half of an even share.
const LEAST_OF_EVEN_SHARE: f64 = 0.5;

/// One phase, judged.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) name: &'static str,
    pub(super) is_kill: bool,
    pub(super) length: Duration,
    pub(super) summary: Summary,
    /// What is worth telling although nothing is wrong with it.
    pub(super) note: String,
    pub(super) complaints: Vec<String>,
}

impl Report {
    pub(super) fn held(&self) -> bool {
        self.complaints.is_empty()
    }

    fn offered_per_second(&self) -> f64 {
        self.summary.new_connections as f64 / self.length.as_secs_f64()
    }

    fn share(&self, backend: &str) -> f64 {
        let total: u64 = self.summary.answered.values().sum();
        let own = self.summary.answered.get(backend).copied().unwrap_or(0);
        if total == 0 { 0.0 } else { own as f64 / total as f64 }
    }
}

/// A phase while it is judged.
#[derive(Debug)]
pub(super) struct Scene {
    report: Report,
    span: Range<Instant>,
    /// When the operator's command had returned, or just before the kill.
    acted: Instant,
    attempts: Vec<Attempt>,
}

impl Scene {
    pub(super) fn new(
        name: &'static str,
        span: Range<Instant>,
        acted: Instant,
        summary: Summary,
        attempts: Vec<Attempt>,
    ) -> Scene {
        let length = span.end - span.start;
        let report =
            Report { name, is_kill: false, length, summary, note: String::new(), complaints: Vec::new() };
        Scene { report, span, acted, attempts }
    }

    pub(super) fn into_report(mut self) -> Report {
        let offered = self.report.offered_per_second();
        if offered < PROMISED_PER_SECOND {
            self.complain(format!(
                "only {offered:.0} new connections a second were offered: is the machine too busy?"
            ));
        }
        self.report
    }

    fn complain(&mut self, what: String) {
        self.report.complaints.push(what);
    }

    /// Nothing failed, nothing stalled.
    fn expect_smooth(&mut self) {
        if self.report.summary.failures() > 0 {
            let listed =
                self.report.summary.failed.iter().map(|(failure, count)| format!("{count} {failure}"));
            let listed: Vec<String> = listed.collect();
            self.complain(format!("{} failed: {}", self.report.summary.failures(), listed.join(", ")));
        }
        let stall = self.report.summary.longest_stall;
        if stall > ALLOWED_STALL {
            let late = self.report.summary.client_delay;
            let busy = if late * 2 > stall {
                format!(" (the client itself was {} ms late: is the machine too busy?)", late.as_millis())
            } else {
                String::new()
            };
            let what = self.report.summary.stalled.map_or("something".to_owned(), |kind| kind.to_string());
            let allowed = ALLOWED_STALL.as_millis();
            self.complain(format!("{what} stalled for {} ms, over {allowed} ms{busy}", stall.as_millis()));
        }
    }

    /// Each of these, equal in weight, has its part of the new connections made from `since` on.
    fn expect_shares(&mut self, backends: &[&str], since: Instant) {
        let answered = |backend: &str| self.new_connections(since).filter(|name| *name == backend).count();
        let total = self.new_connections(since).count();
        let least = LEAST_OF_EVEN_SHARE / backends.len() as f64;
        let starved: Vec<String> = backends
            .iter()
            .map(|backend| (backend, answered(backend)))
            .filter(|(_, count)| (*count as f64) < least * total as f64)
            .map(|(backend, count)| format!("{backend} answered {count} of {total} new connections, too few"))
            .collect();
        starved.into_iter().for_each(|complaint| self.complain(complaint));
    }

    /// Who answered the new connections due from `since` on.
    fn new_connections(&self, since: Instant) -> impl Iterator<Item = &str> {
        let due =
            self.attempts.iter().filter(move |attempt| attempt.kind == Kind::New && attempt.start >= since);
        due.filter(|attempt| attempt.outcome.is_ok()).filter_map(|attempt| attempt.backend.as_deref())
    }

    /// How long after the act this backend answered a new connection for the first time.
    fn first_answer(&self, backend: &str) -> Option<Duration> {
        let own = self
            .attempts
            .iter()
            .filter(|attempt| attempt.kind == Kind::New && attempt.backend.as_deref() == Some(backend));
        own.filter(|attempt| attempt.outcome.is_ok())
            .map(|attempt| attempt.end.saturating_duration_since(self.acted))
            .min()
    }
}

pub(super) fn baseline(scene: &mut Scene) {
    scene.expect_smooth();
    scene.expect_shares(&["b1", "b2", "b3"], scene.span.start);
}

pub(super) fn add(scene: &mut Scene) {
    scene.expect_smooth();
    match scene.first_answer("b4") {
        None => scene.complain("b4 was added and never answered".to_owned()),
        Some(after) => {
            scene.report.note = format!("b4 answers {} ms after lbctl", after.as_millis());
            scene.expect_shares(&["b1", "b2", "b3", "b4"], scene.acted + after);
        }
    }
}

pub(super) fn drain(scene: &mut Scene) {
    scene.expect_smooth();
    let late = scene.new_connections(scene.acted + UNDER_WAY).filter(|backend| *backend == "b2").count();
    if late > 0 {
        scene.complain(format!("{late} new connections went to b2 although it is draining"));
    }
    let standing = |since: Instant| {
        let own =
            scene.attempts.iter().filter(|attempt| attempt.kind == Kind::KeepAlive && attempt.start >= since);
        own.filter(|attempt| attempt.outcome.is_ok() && attempt.backend.as_deref() == Some("b2")).count()
    };
    let (before, after) = (standing(scene.span.start), standing(scene.span.end - Duration::from_secs(1)));
    if before > 0 && after == 0 {
        scene.complain("standing connections to b2 did not survive its draining".to_owned());
    }
    scene.report.note = format!("b2 keeps its standing connections: {after} answers in the last second");
    scene.expect_shares(&["b1", "b3", "b4"], scene.acted + UNDER_WAY);
}

pub(super) fn kill(scene: &mut Scene) {
    scene.report.is_kill = true;
    let (killed, known) = (scene.acted, scene.acted + detection_time());
    let failed: Vec<&Attempt> = scene.attempts.iter().filter(|attempt| attempt.outcome.is_err()).collect();
    let elsewhere = failed
        .iter()
        .filter(|attempt| attempt.backend.as_deref().is_some_and(|backend| backend != "b3"))
        .count();
    // A download may have begun long before; what counts is when it was lost.
    let when = |attempt: &Attempt| if attempt.kind == Kind::Download { attempt.end } else { attempt.start };
    let late = failed.iter().filter(|attempt| when(attempt) > known).count();
    let early = failed.iter().filter(|attempt| attempt.end < killed).count();
    // A dead server refuses and cuts off. Anything else would be the balancer's doing.
    let others_doing =
        |failure: Failure| !matches!(failure, Failure::Refused | Failure::Reset | Failure::Closed);
    let strange = failed.iter().filter(|attempt| attempt.outcome.is_err_and(others_doing)).count();
    let last =
        failed.iter().map(|attempt| attempt.end.saturating_duration_since(killed)).max().unwrap_or_default();
    let complaints = [
        (elsewhere, "failed on servers that live"),
        (late, "failed after the health check had to know"),
        (early, "failed before the kill"),
        (strange, "failed in a way no dead server causes (neither refused, reset nor closed)"),
    ];
    scene.report.note = format!("{} lost to b3, the last after {} ms", failed.len(), last.as_millis());
    for (count, what) in complaints.into_iter().filter(|(count, _)| *count > 0) {
        scene.complain(format!("{count} {what}"));
    }
    scene.expect_shares(&["b1", "b4"], known);
}

pub(super) fn back(scene: &mut Scene) {
    scene.expect_smooth();
    for backend in ["b2", "b3"] {
        if scene.first_answer(backend).is_none() {
            scene.complain(format!("{backend} came back and never answered a new connection"));
        }
    }
    if let Some(after) = scene.first_answer("b3") {
        scene.report.note = format!("b3 answers {} ms after its start", after.as_millis());
    }
}

/// One phase in one line.
pub(super) fn line(report: &Report) -> String {
    let note = if report.note.is_empty() { String::new() } else { format!("   ({})", report.note) };
    format!(
        "{:<9} {:>4.0} new/s offered, {:>4} failed, longest stall {:>4} ms{note}",
        report.name,
        report.offered_per_second(),
        screen::grouped(report.summary.failures()),
        report.summary.longest_stall.as_millis()
    )
}

/// All phases: who answered the new connections.
pub(super) fn table(reports: &[Report], backends: &[String]) -> Vec<String> {
    const BAR_WIDTH: usize = 6;
    let heads: String =
        backends.iter().map(|name| format!("  {name:<width$}", width = BAR_WIDTH + 5)).collect();
    let mut lines = vec![format!("  {:<9} {:>6} {:>7} {:>9}{heads}", "phase", "new/s", "failed", "stall")];
    for report in reports {
        let cell = |name: &String| {
            let share = report.share(name);
            format!("  {} {:>3.0}%", screen::bar(2.0 * share, BAR_WIDTH), 100.0 * share)
        };
        let shares: String = backends.iter().map(cell).collect();
        let stall = format!("{} ms", report.summary.longest_stall.as_millis());
        let failed = screen::grouped(report.summary.failures());
        lines.push(format!(
            "  {:<9} {:>6.0} {failed:>7} {stall:>9}{shares}",
            report.name,
            report.offered_per_second()
        ));
    }
    lines
}

#[cfg(test)]
mod tests;
