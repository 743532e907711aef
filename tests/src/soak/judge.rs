//! What became of every connection, stream and datagram, held against what was promised.
//!
//! In: a [`Chronicle`], what the load wrote down ([`Evidence`]). Out: a [`Verdict`]: complaints (none: it held), what the losses are explained by, figures.
//! Invariants: each loss is explained by one change or complained of; time in which a process of the load itself did not run does
//! not count as a stall.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::change::name;
use super::chronicle::{Chronicle, Spell};
use super::clock::{Stretch, covered};
use super::datagrams::{Hole, Move};
use super::figures::Histogram;
use super::model::At;
use super::streams::{Ended, Slow};
use super::wire::Fault;
use crate::load::Failure;

/// The longest stall on a stream, and the longest silence of a flow, whose backend survives.
pub(super) const ALLOWED_STALL: Duration = Duration::from_secs(1);
/// A killed server is known as dead after this long: `fall` checks, the last of which may be waited for.
pub(super) const KILL_KNOWN: Duration = Duration::from_millis(2 * 300 + 2000 + 400);
/// A cut port is to be known after a second at 100 connections a second; a backend of little weight gets fewer of them.
pub(super) const CUT_KNOWN: Duration = Duration::from_secs(5);
/// Datagrams may be lost for so long after a MAC changed: 100 ms are promised, the rest is `ip` itself.
const MAC_KNOWN: Duration = Duration::from_millis(500);
/// A failed connection was sent to its backend within this time after it was due.
const SENT_WITHIN: Duration = Duration::from_millis(500);
/// Complaints of one kind that are told one by one.
const TOLD: usize = 5;

/// A new connection that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) stretch: Stretch,
    pub(super) failure: Failure,
    /// Who answered, if somebody did before it failed.
    pub(super) backend: Option<String>,
}

/// What the load saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    /// New connections that ended well, from when they were due to their last byte.
    pub(super) times: Histogram,
    /// New connections answered, by backend.
    pub(super) answered: BTreeMap<String, u64>,
    pub(super) lost: Vec<Lost>,
    pub(super) streams: Vec<Ended>,
    /// Streams given up after their backend lost its flows.
    pub(super) abandoned: BTreeSet<u64>,
    pub(super) slow: Vec<Slow>,
    pub(super) records: u64,
    /// What servers said of streams: the server, the stream, the fault.
    pub(super) servers: Vec<(String, u64, Fault)>,
    pub(super) datagrams: u64,
    pub(super) echoes: u64,
    pub(super) holes: Vec<Hole>,
    pub(super) moves: Vec<Move>,
    pub(super) crossed: u64,
    /// When a process of the load did not run.
    pub(super) late: Vec<Stretch>,
    /// The longest that a new connection due in this second took.
    pub(super) seconds: BTreeMap<u64, Duration>,
}

impl Evidence {
    pub(super) fn note_second(&mut self, due: At, time: Duration) {
        let longest = self.seconds.entry(due.as_secs()).or_default();
        *longest = time.max(*longest);
    }
}

/// What one change cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) connections: u64,
    pub(super) streams: u64,
    pub(super) datagrams: u64,
    pub(super) moved: u64,
}

/// The outcome.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict {
    pub(super) complaints: Vec<String>,
    /// By number of the step.
    pub(super) costs: BTreeMap<usize, Cost>,
    /// The longest on a surviving backend, without the load's own lateness.
    pub(super) longest_stall: Duration,
    pub(super) longest_silence: Duration,
    /// The longest that lbd took to find out about a killed and a cut backend.
    pub(super) longest_kill: Duration,
    pub(super) longest_cut: Duration,
    /// The longest that a process of the load did not run.
    pub(super) longest_late: Duration,
}

/// Judges.
pub(super) fn judge(chronicle: &Chronicle, evidence: &Evidence) -> Verdict {
    let mut judge = Judge { chronicle, late: &evidence.late, verdict: Verdict::default() };
    judge.detection();
    judge.connections(&evidence.lost);
    judge.streams(evidence);
    judge.datagrams(evidence);
    let late = evidence.late.iter().map(|(from, to)| to.saturating_sub(*from));
    judge.verdict.longest_late = late.max().unwrap_or_default();
    judge.verdict
}

struct Judge<'a> {
    chronicle: &'a Chronicle,
    late: &'a [Stretch],
    verdict: Verdict,
}

fn overlap(a: Stretch, b: Stretch) -> bool {
    a.0 <= b.1 && b.0 <= a.1
}

impl Judge<'_> {
    /// Those of one kind: a few in words, the others as a number.
    fn complain(&mut self, complaints: Vec<String>, what: &str) {
        let more = complaints.len().saturating_sub(TOLD);
        self.verdict.complaints.extend(complaints.into_iter().take(TOLD));
        if more > 0 {
            self.verdict.complaints.push(format!("and {more} more {what}"));
        }
    }

    fn spells(&self, tcp: bool) -> impl Iterator<Item = &Spell> {
        self.chronicle.spells.iter().filter(move |spell| spell.tcp == tcp)
    }

    /// The spell of this backend (by name) that excuses what happened in this time.
    fn excuse(&self, tcp: bool, backend: &str, stretch: Stretch) -> Option<&Spell> {
        self.spells(tcp).find(|spell| name(spell.backend) == backend && overlap(spell.stretch(), stretch))
    }

    fn cost(&mut self, step: usize) -> &mut Cost {
        self.verdict.costs.entry(step).or_default()
    }

    /// What is left of a stretch without the time in which the load itself did not run.
    fn net(&self, stretch: Stretch) -> Duration {
        stretch.1.saturating_sub(stretch.0).saturating_sub(covered(stretch, self.late))
    }

    fn detection(&mut self) {
        let mut complaints = Vec::new();
        for spell in self.chronicle.spells.iter().filter(|spell| spell.tcp && spell.harm) {
            let killed = self.spells(false).any(|other| other.step == spell.step);
            let (what, known) = if killed { ("killed", KILL_KNOWN) } else { ("cut", CUT_KNOWN) };
            let Some(found) = self.chronicle.found_out_after(spell) else { continue };
            let length = found.unwrap_or_else(|until_return| until_return);
            if found.is_ok() {
                let longest =
                    if killed { &mut self.verdict.longest_kill } else { &mut self.verdict.longest_cut };
                *longest = length.max(*longest);
            }
            if length > known + covered((spell.from, spell.from + length), self.late) {
                let ms = length.as_millis();
                complaints
                    .push(format!("{} was {what} and in service for {ms} ms more", name(spell.backend)));
            }
        }
        self.complain(complaints, "found out late");
    }

    fn connections(&mut self, lost: &[Lost]) {
        let mut complaints = Vec::new();
        for lost in lost {
            let (from, to) = lost.stretch;
            let sent = (from, to.min(from + SENT_WITHIN.max(self.late_from(from))));
            let guilty = self.spells(true).find(|spell| {
                let answered = lost.backend.as_ref().is_none_or(|backend| *backend == name(spell.backend));
                answered && self.chronicle.windows(spell).into_iter().any(|window| overlap(window, sent))
            });
            match guilty.map(|spell| spell.step) {
                Some(step) => self.cost(step).connections += 1,
                None => complaints.push(format!("a new connection failed: {lost}")),
            }
        }
        self.complain(complaints, "new connections failed");
    }

    /// How late the load was with what was due then.
    fn late_from(&self, due: At) -> Duration {
        let over = self.late.iter().filter(|(from, to)| *from <= due && due < *to);
        over.map(|(_, to)| *to - due + SENT_WITHIN).max().unwrap_or_default()
    }

    fn streams(&mut self, evidence: &Evidence) {
        let mut complaints = Vec::new();
        for stream in &evidence.streams {
            let Err(fault) = stream.outcome else { continue };
            // Missing, doubled or wrong bytes are nobody's right, whatever becomes of the backend.
            let may_be = !matches!(fault, Fault::Gap | Fault::WrongBytes);
            let life = (stream.opened, stream.ended);
            let guilty = match &stream.backend {
                Some(backend) => self.excuse(true, backend, life).map(|spell| spell.step),
                None => self.excuse_opening(life),
            };
            match guilty.filter(|_| may_be) {
                Some(step) => self.cost(step).streams += 1,
                None => complaints.push(format!("a stream broke: {stream}")),
            }
        }
        for (server, number, fault) in &evidence.servers {
            let known = evidence.streams.iter().find(|stream| stream.number == *number);
            let told = known.is_some_and(|stream| stream.outcome.is_err());
            if !told && !evidence.abandoned.contains(number) {
                complaints
                    .push(format!("stream {number} ended well for its client and not for {server}: {fault}"));
            }
        }
        for slow in &evidence.slow {
            if self.excuse(true, &slow.backend, slow.stretch).is_some() {
                continue;
            }
            let net = self.net(slow.stretch);
            self.verdict.longest_stall = self.verdict.longest_stall.max(net);
            if net > ALLOWED_STALL {
                let (ms, at) = (net.as_millis(), seconds(slow.stretch.0));
                complaints
                    .push(format!("stream {} to {} stalled for {ms} ms at {at}", slow.number, slow.backend));
            }
        }
        self.complain(complaints, "streams broke or stalled");
    }

    fn excuse_opening(&self, life: Stretch) -> Option<usize> {
        let sent = (life.0, life.1.min(life.0 + SENT_WITHIN.max(self.late_from(life.0))));
        let open =
            |spell: &&Spell| self.chronicle.windows(spell).into_iter().any(|window| overlap(window, sent));
        self.spells(true).find(open).map(|spell| spell.step)
    }

    fn datagrams(&mut self, evidence: &Evidence) {
        let mut complaints = Vec::new();
        for hole in &evidence.holes {
            let net = self.net(hole.stretch);
            let by_mac = self.changed_mac(&hole.backend, hole.stretch.0);
            match self.excuse_udp(&hole.backend, hole.stretch) {
                Some((step, gone_by))
                    if hole.stretch.1 <= gone_by.saturating_add(ALLOWED_STALL + super::UDP_INTERVAL) =>
                {
                    self.cost(step).datagrams += hole.lost;
                }
                excuse => {
                    if excuse.is_none() {
                        self.verdict.longest_silence = self.verdict.longest_silence.max(net);
                    }
                    if (hole.lost > 0 && !by_mac) || net > ALLOWED_STALL {
                        complaints
                            .push(format!("{hole} ({} ms without the load's lateness)", net.as_millis()));
                    }
                }
            }
        }
        for moved in &evidence.moves {
            match self.excuse_udp(&moved.from, moved.stretch) {
                Some((step, _)) => self.cost(step).moved += 1,
                None => complaints.push(format!(
                    "UDP flow {} moved from {} to {} at {} although {} survives",
                    moved.flow,
                    moved.from,
                    moved.to,
                    seconds(moved.stretch.1),
                    moved.from
                )),
            }
        }
        self.complain(complaints, "holes and moves of UDP flows");
        if evidence.crossed > 0 {
            self.verdict
                .complaints
                .push(format!("{} answers came to another flow than asked", evidence.crossed));
        }
    }

    /// Whether a datagram of then may be lost because this backend has another MAC and nobody can know yet.
    fn changed_mac(&self, backend: &str, sent: At) -> bool {
        let own = self.chronicle.macs.iter().filter(|(of, _)| name(*of) == backend);
        own.map(|(_, stretch)| stretch).any(|(from, to)| {
            // A machine on which the load does not run lets lbd wait too.
            let late = covered((*to, *to + 4 * MAC_KNOWN), self.late);
            overlap((*from, *to + MAC_KNOWN + late), (sent, sent))
        })
    }

    /// The step that excuses a UDP flow of this backend, and by when it has to be well elsewhere.
    fn excuse_udp(&self, backend: &str, stretch: Stretch) -> Option<(usize, At)> {
        let spells = self.spells(false).filter(|spell| name(spell.backend) == backend);
        let until = spells.map(|spell| (spell, self.chronicle.gone_by(spell)));
        let guilty = until.filter(|(spell, gone_by)| overlap((spell.stretch().0, *gone_by), stretch));
        guilty.max_by_key(|(_, gone_by)| *gone_by).map(|(spell, gone_by)| (spell.step, gone_by))
    }
}

fn seconds(at: At) -> String {
    format!("{:.3} s", at.as_secs_f64())
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.stretch.1.saturating_sub(self.stretch.0).as_millis();
        let who = self.backend.as_deref().unwrap_or("nobody");
        write!(f, "{} after {ms} ms, due at {}, answered by {who}", self.failure, seconds(self.stretch.0))
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = self.backend.as_deref().unwrap_or("nobody");
        let how = self.outcome.err().map_or_else(|| "well".to_owned(), |fault| fault.to_string());
        let (opened, ended) = (seconds(self.opened), seconds(self.ended));
        write!(
            f,
            "{} to {who}: {how} at {ended}, opened at {opened}, {} records came",
            self.number, self.heard
        )
    }
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (seconds(self.stretch.0), seconds(self.stretch.1));
        write!(f, "UDP flow {} to {}: {} lost from {from} to {to}", self.flow, self.backend, self.lost)
    }
}

#[cfg(test)]
mod tests;
