//! What the checks add up to, for `/metrics`.
//!
//! In: one call per finished probe. Out: [`HealthMetrics`], a copy of all counters. Invariant: counters only grow; the
//! engine alone adds, anyone may read at any time without holding it up.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::probe::{Kind, ProbeReport, ProbeResult};

/// Upper bounds of the buckets of `health_check_duration_seconds`; the last bucket, +Inf, is not among them.
pub const DURATION_BOUNDS_SECONDS: [f64; 13] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// One number for each result of one kind of check, and how long they took.
#[derive(Debug, Default)]
struct KindCounters {
    results: [AtomicU64; ProbeResult::ALL.len()],
    buckets: [AtomicU64; DURATION_BOUNDS_SECONDS.len() + 1],
    sum_ns: AtomicU64,
}

/// The engine's counters, shared with whoever reads them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    kinds: [KindCounters; Kind::ALL.len()],
    late: AtomicU64,
    in_flight: AtomicU64,
    questions: AtomicU64,
}

impl Counters {
    /// A probe has ended.
    pub(super) fn finished(&self, kind: Kind, report: &ProbeReport) {
        let counters = &self.kinds[kind as usize];
        counters.results[report.result as usize].fetch_add(1, Relaxed);
        let seconds = report.latency.as_secs_f64();
        let bucket = DURATION_BOUNDS_SECONDS.partition_point(|bound| *bound < seconds);
        counters.buckets[bucket].fetch_add(1, Relaxed);
        counters.sum_ns.fetch_add(u64::try_from(report.latency.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// A probe started later than planned.
    pub(super) fn late(&self) {
        self.late.fetch_add(1, Relaxed);
    }

    /// How many probes are under way and how many questions are asked, now.
    pub(super) fn now(&self, in_flight: usize, questions: usize) {
        self.in_flight.store(in_flight as u64, Relaxed);
        self.questions.store(questions as u64, Relaxed);
    }

    /// A copy of all of them.
    pub(super) fn snapshot(&self) -> HealthMetrics {
        HealthMetrics {
            checks: Kind::ALL
                .iter()
                .zip(&self.kinds)
                .map(|(kind, counters)| counters.snapshot(*kind))
                .collect(),
            late_probes: self.late.load(Relaxed),
            probes_in_flight: self.in_flight.load(Relaxed),
            questions: self.questions.load(Relaxed),
        }
    }
}

impl KindCounters {
    fn snapshot(&self, kind: Kind) -> CheckMetrics {
        let results = ProbeResult::ALL.iter().zip(&self.results);
        let mut count = 0;
        let cumulative = self.buckets.iter().map(|bucket| {
            count += bucket.load(Relaxed);
            count
        });
        CheckMetrics {
            kind: kind.as_str(),
            results: results.map(|(result, counter)| (result.as_str(), counter.load(Relaxed))).collect(),
            duration: DurationHistogram {
                cumulative: cumulative.collect(),
                count,
                sum_seconds: Duration::from_nanos(self.sum_ns.load(Relaxed)).as_secs_f64(),
            },
        }
    }
}

/// All counters of the checks at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthMetrics {
    /// One entry for each kind of check.
    pub checks: Vec<CheckMetrics>,
    /// Probes that started more than 100 ms after the time planned for them.
    pub late_probes: u64,
    /// Probes under way now.
    pub probes_in_flight: u64,
    /// Different questions asked now (targets that ask the same of the same address count once).
    pub questions: u64,
}

/// The counters of one kind of check.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckMetrics {
    /// The label `type`: `tcp`, `http` and so on.
    pub kind: &'static str,
    /// The label `result` and how often it came, for every result there is.
    pub results: Vec<(&'static str, u64)>,
    /// How long the probes took.
    pub duration: DurationHistogram,
}

/// A histogram as Prometheus has it.
#[derive(Clone, Debug, PartialEq)]
pub struct DurationHistogram {
    /// For each of [`DURATION_BOUNDS_SECONDS`], and then +Inf: how many probes took that long or less.
    pub cumulative: Vec<u64>,
    /// How many probes there were.
    pub count: u64,
    /// How long they took together.
    pub sum_seconds: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_moves_its_own_counters_only() {
        let counters = Counters::default();
        let report = ProbeReport {
            result: ProbeResult::Refused,
            detail: "connection refused".into(),
            latency: Duration::from_millis(1),
        };
        counters.finished(Kind::Http, &report);
        let metrics = counters.snapshot();
        let (http, others): (Vec<_>, Vec<_>) = metrics.checks.iter().partition(|check| check.kind == "http");
        let http = http[0];
        assert_eq!(others.len(), Kind::ALL.len() - 1);
        let nothing = |check: &CheckMetrics| check.results.iter().all(|(_, count)| *count == 0);
        assert!(others.iter().all(|check| nothing(check) && check.duration.count == 0));
        assert_eq!(
            http.results.iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>(),
            [&("refused", 1)]
        );
        // 1 ms belongs to the bucket that ends at 1 ms, the third.
        assert_eq!(http.duration.cumulative, [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!((http.duration.count, http.duration.sum_seconds), (1, 0.001));
    }
}
