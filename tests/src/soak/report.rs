//! What a soak says: while it runs, and at its end.
//!
//! In: what happened. Out: lines for people, JSON for programs. Invariant: the same figures in both.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::Options;
use super::change::{Change, name};
use super::chronicle::{Chronicle, Done};
use super::judge::{Evidence, Verdict};
use super::play::Played;
use super::{datagrams, streams};
use crate::screen::{Screen, grouped};

/// Where a soak stands.
#[derive(Debug)]
pub(super) struct Moment<'a> {
    pub(super) step: usize,
    pub(super) steps: usize,
    pub(super) time: Duration,
    pub(super) last: Option<&'a Done>,
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// The longest of what is only written down from a certain length on.
fn longest(what: &str, time: Duration, least: Duration) -> String {
    if time.is_zero() {
        format!("no {what} of {} ms", ms(least))
    } else {
        format!("longest {what} {} ms", ms(time))
    }
}

/// One line.
pub(super) fn progress(moment: &Moment<'_>, evidence: &Evidence) -> String {
    let last = moment.last.map_or_else(|| "-".to_owned(), |done| done.change.to_string());
    format!(
        "{:>4} s  change {}/{}  {} connections ({} lost), {} records, {} datagrams; last: {last}",
        moment.time.as_secs(),
        moment.step,
        moment.steps,
        grouped(evidence.times.count),
        evidence.lost.len(),
        grouped(evidence.records),
        grouped(evidence.datagrams),
    )
}

/// The picture on a terminal.
pub(super) fn live(
    moment: &Moment<'_>,
    chronicle: &Chronicle,
    evidence: &Evidence,
    screen: &Screen,
) -> Vec<String> {
    let width = screen.width();
    let clip = |text: &str| text.chars().take(width).collect::<String>();
    let mut lines = vec![String::new(), screen.cyan(&clip(&progress(moment, evidence)))];
    lines.extend(picture(chronicle, evidence, width).iter().map(|line| clip(line)));
    let model = &chronicle.model;
    let describe = |backend: usize| {
        let (tcp, udp) = (model.keeps(backend, true), model.keeps(backend, false));
        let word = format!(
            "{}{}",
            name(backend),
            if model.is_dead(backend) {
                " dead"
            } else if model.is_cut(backend) {
                " cut"
            } else {
                ""
            }
        );
        if tcp && udp { screen.green(&word) } else { screen.red(&word) }
    };
    lines.push(format!("  {}", model.indices().map(describe).collect::<Vec<_>>().join("  ")));
    lines
}

/// A letter for each kind of change that is worth a mark.
fn mark(change: &Change) -> char {
    match change {
        Change::Kill(_) => 'K',
        Change::Cut(..) => 'C',
        Change::Crash(_) => 'X',
        Change::Upgrade => 'U',
        Change::Mac(_) => 'M',
        Change::Reload(_) => 'R',
        Change::Revive(_) | Change::Heal(_) => '+',
        _ => '.',
    }
}

/// The run from left to right: the slowest new connection of each slice of time, and under it what was done.
pub(super) fn picture(chronicle: &Chronicle, evidence: &Evidence, width: usize) -> Vec<String> {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    const LABEL: usize = 10;
    let (Some((first, _)), Some((last, _))) =
        (evidence.seconds.first_key_value(), evidence.seconds.last_key_value())
    else {
        return Vec::new();
    };
    let columns = (width.saturating_sub(LABEL + 2)).max(10) as u64;
    let slice = ((last - first) / columns + 1).max(1);
    let column = |second: u64| usize::try_from((second.max(*first) - first) / slice).unwrap_or(0);
    let mut longest = vec![Duration::ZERO; column(*last) + 1];
    for (second, time) in &evidence.seconds {
        let place = &mut longest[column(*second)];
        *place = (*place).max(*time);
    }
    // From 1 ms to 3 s by its logarithm: a stall of a second stands out from what is usual.
    let bar = |time: &Duration| {
        let share = (ms(*time).max(1.0).log10() / 3.5).clamp(0.0, 1.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 7")]
        let index = (share * 7.0).round() as usize;
        BARS[index.min(7)]
    };
    let mut marks = vec![' '; longest.len()];
    for done in &chronicle.done {
        if let Some(place) = marks.get_mut(column(done.stretch.0.as_secs())) {
            let new = mark(&done.change);
            // A change of the configuration among others is the least of them.
            if *place == ' ' || *place == '.' || *place == '+' {
                *place = new;
            }
        }
    }
    let (bars, marks): (String, String) = (longest.iter().map(bar).collect(), marks.into_iter().collect());
    vec![
        format!("  {:<LABEL$}{bars}", "slowest"),
        format!("  {:<LABEL$}{marks}   K kill C cut M MAC R reload X SIGKILL of lbd U upgrade", "changes"),
    ]
}

/// How often each kind of change was made.
fn kinds(chronicle: &Chronicle) -> BTreeMap<&'static str, u64> {
    let mut kinds = BTreeMap::new();
    for done in &chronicle.done {
        *kinds.entry(done.change.kind()).or_default() += 1;
    }
    kinds
}

/// The costs summed up by kind of change.
fn costs(played: &Played, verdict: &Verdict) -> BTreeMap<&'static str, super::judge::Cost> {
    let mut costs: BTreeMap<&'static str, super::judge::Cost> = BTreeMap::new();
    for (step, cost) in &verdict.costs {
        let done = played.chronicle.done.iter().rev().find(|done| done.step == *step);
        let sum = costs.entry(done.map_or("-", |done| done.change.kind())).or_default();
        sum.connections += cost.connections;
        sum.streams += cost.streams;
        sum.datagrams += cost.datagrams;
        sum.moved += cost.moved;
    }
    costs
}

/// The end, for people.
pub(super) fn summary(played: &Played, verdict: &Verdict, width: usize) -> Vec<String> {
    let evidence = &played.evidence;
    let times = &evidence.times;
    let kinds: Vec<String> =
        kinds(&played.chronicle).into_iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let explained: u64 = verdict.costs.values().map(|cost| cost.connections).sum();
    let mut lines = picture(&played.chronicle, evidence, width);
    lines.push(format!(
        "  changes      {} in {:.0} s, {} left out: {}",
        played.chronicle.done.len(),
        played.length.as_secs_f64(),
        played.left_out,
        kinds.join(", ")
    ));
    lines.push(format!(
        "  connections  {} new, {} lost ({explained} of them explained); p50 {} ms, p99 {} ms, p99.9 {} ms, longest {} ms; outside detection windows {} ms",
        grouped(times.count + evidence.lost.len() as u64),
        evidence.lost.len(),
        ms(times.quantile(0.5)), ms(times.quantile(0.99)), ms(times.quantile(0.999)), ms(times.longest),
        ms(verdict.longest_connection)
    ));
    lines.push(format!(
        "  streams      {} ended, {} given up with their backend, {} records checked; {}",
        evidence.streams.len(),
        evidence.abandoned.len(),
        grouped(evidence.records),
        longest("stall", verdict.longest_stall, streams::SLOW)
    ));
    lines.push(format!(
        "  datagrams    {} sent, {} answered, {} flows moved; {}",
        grouped(evidence.datagrams),
        grouped(evidence.echoes),
        evidence.moves.len(),
        longest("silence", verdict.longest_silence, datagrams::SLOW)
    ));
    lines.push(format!(
        "  found out    a killed backend after {} ms at most, a cut one after {} ms; the load itself was late by {} ms at most",
        ms(verdict.longest_kill), ms(verdict.longest_cut), ms(verdict.longest_late)
    ));
    for (kind, cost) in costs(played, verdict) {
        lines.push(format!(
            "  explained    by {kind}: {} connections, {} streams, {} datagrams lost, {} flows moved",
            cost.connections, cost.streams, cost.datagrams, cost.moved
        ));
    }
    lines
}

/// The end, for programs.
pub(super) fn json(played: &Played, verdict: &Verdict, options: &Options) -> Value {
    let (evidence, times) = (&played.evidence, &played.evidence.times);
    let costs: BTreeMap<&str, Value> = costs(played, verdict)
        .into_iter()
        .map(|(kind, cost)| {
            (kind, json!({ "connections": cost.connections, "streams": cost.streams, "datagrams": cost.datagrams, "moved": cost.moved }))
        })
        .collect();
    json!({
        "mode": options.mode.name(), "via": options.via.name(), "seed": options.seed, "held": verdict.complaints.is_empty(), "complaints": verdict.complaints,
        "seconds": played.length.as_secs_f64(), "changes": kinds(&played.chronicle), "left_out": played.left_out,
        "connections": {
            "new": times.count + evidence.lost.len() as u64, "lost": evidence.lost.len(),
            "p50_ms": ms(times.quantile(0.5)), "p99_ms": ms(times.quantile(0.99)),
            "p999_ms": ms(times.quantile(0.999)), "longest_ms": ms(times.longest), "longest_outside_windows_ms": ms(verdict.longest_connection),
        },
        "streams": {
            "ended": evidence.streams.len(), "given_up": evidence.abandoned.len(), "records": evidence.records,
            "longest_stall_ms": ms(verdict.longest_stall),
        },
        "datagrams": {
            "sent": evidence.datagrams, "answered": evidence.echoes, "moved": evidence.moves.len(),
            "longest_silence_ms": ms(verdict.longest_silence),
        },
        "found_out_ms": { "kill": ms(verdict.longest_kill), "cut": ms(verdict.longest_cut) },
        "load_late_ms": ms(verdict.longest_late), "explained": costs,
    })
}
