//! Lengths and counts within their limits.
//!
//! In: a pool, or the whole. Out: a problem for each value that is too large or too small. Invariant: what has come by JSON (a
//! backup, a change) is held to the same limits as the file, whose reader names the line.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Gaps;
use crate::spec::{
    HealthKind, Place, PoolSpec, Problem, SourceKind, Spec, TimeoutSpec, format_duration, limits,
};

/// A key, its value, and what it may be.
type Length = (&'static str, Duration, RangeInclusive<Duration>);

/// Of a pool, whatever it is used for.
pub(super) fn pool(pool: &PoolSpec, gaps: &Gaps, problems: &mut Vec<Problem>) {
    let mut fault = |message: String, hint: String| {
        let message = format!("pool {:?} has {message}", pool.name.as_str());
        problems.push(Problem::error(&pool.origin, message, hint));
    };
    let mut lengths: Vec<Length> = vec![("a slow_start", pool.slow_start, limits::RAMP)];
    if pool.health.kind != HealthKind::None {
        let health = &pool.health;
        lengths.extend([
            ("a health interval", health.interval, limits::CHECK_RHYTHM),
            ("a health timeout", health.timeout, limits::CHECK_RHYTHM),
        ]);
        lengths
            .extend(health.fast_interval.map(|fast| ("a health fast_interval", fast, limits::CHECK_RHYTHM)));
        for (key, value) in [("rise", health.rise), ("fall", health.fall)] {
            if !limits::CHECKS.contains(&value) {
                let (low, high) = (limits::CHECKS.start(), limits::CHECKS.end());
                fault(
                    format!("health {key} = {value}: a change needs {low} to {high} checks"),
                    format!("write {key} = {low} or more, {high} at most"),
                );
            }
        }
    }
    if let Some(passive) = &pool.passive {
        lengths.extend([
            ("a passive patience", passive.patience, limits::PATIENCE),
            ("a passive eject", passive.eject, limits::EJECT),
        ]);
    }
    if let Some(backup) = &pool.backup {
        lengths.push(("a backup hold", backup.hold, limits::HOLD));
        if backup.above < backup.below {
            fault(
                format!("a backup with above = \"{}\", less than below = \"{}\"", backup.above, backup.below),
                "the pool comes back at a larger share than it went at".to_owned(),
            );
        }
    }
    // What the reader of the file has refused it has said.
    let sources = if gaps.at(&pool.origin, &["backends"]) { &[][..] } else { &pool.discover };
    for source in sources {
        if !limits::SOURCE_BACKENDS.contains(&source.max_backends) {
            let (low, high) = (limits::SOURCE_BACKENDS.start(), limits::SOURCE_BACKENDS.end());
            fault(
                format!("discover max_backends = {}", source.max_backends),
                format!("write a number from {low} to {high}"),
            );
        }
        lengths.extend(of_source(&source.kind));
        if let SourceKind::Dns(dns) = &source.kind
            && dns.min_interval > dns.max_interval
        {
            fault(
                "a discover min_interval that is longer than its max_interval".to_owned(),
                "write the shorter one as min_interval".to_owned(),
            );
        }
    }
    for (what, value, limits) in lengths {
        if let Some(hint) = outside(value, &limits) {
            fault(format!("{what} of {}", format_duration(value)), hint);
        }
    }
}

fn of_source(kind: &SourceKind) -> Vec<Length> {
    match kind {
        SourceKind::Dns(dns) => vec![
            ("a discover min_interval", dns.min_interval, limits::SOURCE_RHYTHM),
            ("a discover max_interval", dns.max_interval, limits::SOURCE_RHYTHM),
            ("a discover timeout", dns.timeout, limits::SOURCE_TIMEOUT),
        ],
        SourceKind::Http(http) => vec![
            ("a discover interval", http.interval, limits::SOURCE_RHYTHM),
            ("a discover timeout", http.timeout, limits::SOURCE_TIMEOUT),
        ],
        SourceKind::File(_) => Vec::new(),
    }
}

/// Of `[datapath]`.
pub(super) fn settings(spec: &Spec, problems: &mut Vec<Problem>) {
    let place = |key: &str| Place::Setting { key: format!("datapath.{key}") };
    let flows = spec.datapath.flows;
    if !limits::FLOWS.contains(&flows) {
        let hint = format!("write a number from {} to {}", limits::FLOWS.start(), limits::FLOWS.end());
        problems.push(Problem::error(place("flows"), format!("flows = {flows} is out of range"), hint));
    }
    let TimeoutSpec { tcp, tcp_syn, tcp_closing, udp } = spec.datapath.timeouts;
    for (key, value) in [("tcp", tcp), ("tcp_syn", tcp_syn), ("tcp_closing", tcp_closing), ("udp", udp)] {
        if let Some(hint) = outside(value, &limits::IDLE) {
            let message = format!("{key} of {} is out of range", format_duration(value));
            problems.push(Problem::error(place(&format!("timeouts.{key}")), message, hint));
        }
    }
}

/// What to write instead, if it is.
fn outside(value: Duration, limits: &RangeInclusive<Duration>) -> Option<String> {
    let (low, high) = (format_duration(*limits.start()), format_duration(*limits.end()));
    (!limits.contains(&value)).then(|| format!("write {low} to {high}"))
}
