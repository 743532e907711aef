//! What became of every connection, stream and datagram, held against what was promised.
//!
//! In: a [`Chronicle`], what the load wrote down ([`Evidence`]). Out: a [`Verdict`]: complaints (none: it held), what the losses are explained by, figures.
//! Invariants: each loss is explained by one change or complained of; time in which a process of the load itself did not run does
//! not count as a stall.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::change::name;
use super::chronicle::{Chronicle, Harm, Spell};
use super::clock::{Stretch, Stretches, seconds};
use super::datagrams::{Hole, Move};
use super::figures::Histogram;
use super::model::At;
use super::streams::{Ended, Slow};
use super::wire::Fault;
use super::{CHECK_INTERVAL, CHECK_TIMEOUT, FALL};
use crate::load::Failure;

/// The longest stall on a stream, and the longest silence of a flow, whose backend survives.
pub(super) const ALLOWED_STALL: Duration = Duration::from_secs(1);
/// A killed server is known as dead after this long: `fall` checks, the last of which may be waited for.
pub(super) const KILL_KNOWN: Duration = CHECK_INTERVAL
    .saturating_mul(FALL)
    .saturating_add(CHECK_TIMEOUT)
    .saturating_add(Duration::from_millis(400));
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
    /// The longest of those that did not take long.
    pub(super) longest_quick: Duration,
    /// Those that did.
    pub(super) slow_connections: Vec<Stretch>,
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
    /// The longest that a new connection took which met no backend within its detection window, and no new MAC.
    pub(super) longest_connection: Duration,
    /// The longest that lbd took to find out about a killed and a cut backend.
    pub(super) longest_kill: Duration,
    pub(super) longest_cut: Duration,
    /// The longest that a process of the load did not run.
    pub(super) longest_late: Duration,
}

/// Judges.
pub(super) fn judge(chronicle: &Chronicle, evidence: &Evidence) -> Verdict {
    let late = Stretches::new(evidence.late.clone());
    let mut judge = Judge::new(chronicle, late);
    judge.detection();
    judge.let_in();
    judge.connections(&evidence.lost);
    judge.slow_connections(evidence);
    judge.streams(evidence);
    judge.datagrams(evidence);
    judge.verdict.longest_late = judge.late.longest();
    judge.verdict
}

/// A spell and what follows from it, worked out once: it is asked about each of a hundred thousand holes.
struct Known<'a> {
    spell: &'a Spell,
    name: String,
    windows: Vec<Stretch>,
    may_leave: Stretch,
    gone_by: At,
}

impl Known<'_> {
    /// Whether flows that were this backend's may be lost or move in this time.
    fn may_lose(&self, stretch: Stretch) -> bool {
        // Who is cut off answers datagrams.
        let answers = !self.spell.tcp && self.spell.harm == Some(Harm::Cut);
        !answers && overlap((self.spell.stretch().0, self.gone_by), stretch)
    }
}

struct Judge<'a> {
    chronicle: &'a Chronicle,
    known: Vec<Known<'a>>,
    late: Stretches,
    verdict: Verdict,
}

impl<'a> Judge<'a> {
    fn new(chronicle: &'a Chronicle, late: Stretches) -> Judge<'a> {
        let known = |spell: &'a Spell| Known {
            spell,
            name: name(spell.backend),
            windows: chronicle.windows(spell),
            may_leave: chronicle.may_leave(spell),
            gone_by: chronicle.gone_by(spell),
        };
        let known = chronicle.spells.iter().map(known).collect();
        Judge { chronicle, known, late, verdict: Verdict::default() }
    }
}

fn overlap(a: Stretch, b: Stretch) -> bool {
    a.0 <= b.1 && b.0 <= a.1
}

impl<'a> Judge<'a> {
    /// Those of one kind: a few in words, the others as a number.
    fn complain(&mut self, complaints: Vec<String>, what: &str) {
        let more = complaints.len().saturating_sub(TOLD);
        self.verdict.complaints.extend(complaints.into_iter().take(TOLD));
        if more > 0 {
            self.verdict.complaints.push(format!("and {more} more {what}"));
        }
    }

    fn spells(&self, tcp: bool) -> impl Iterator<Item = &Known<'a>> {
        self.known.iter().filter(move |known| known.spell.tcp == tcp)
    }

    /// The step that excuses what happened to a TCP flow of this backend in this time.
    fn excuse(&self, backend: &str, stretch: Stretch) -> Option<usize> {
        let own = |known: &&Known<'_>| known.name == backend && overlap(known.spell.stretch(), stretch);
        self.spells(true).find(own).map(|known| known.spell.step)
    }

    /// The step that excuses that a new connection to `backend` (none: whoever it was) failed that was due then.
    fn excuse_new(&self, backend: Option<&str>, (from, to): Stretch) -> Option<usize> {
        // What is due while the load does not run is sent when it does.
        let late = self.late.end(from).map_or(Duration::ZERO, |end| end - from);
        let sent = (from, to.min(from + SENT_WITHIN + late));
        let open = |known: &&Known<'_>| {
            backend.is_none_or(|backend| backend == known.name)
                && known.windows.iter().any(|window| overlap(*window, sent))
        };
        self.spells(true).find(open).map(|known| known.spell.step)
    }

    fn cost(&mut self, step: usize) -> &mut Cost {
        self.verdict.costs.entry(step).or_default()
    }

    /// What is left of a stretch without the time in which the load itself did not run.
    fn net(&self, stretch: Stretch) -> Duration {
        stretch.1.saturating_sub(stretch.0).saturating_sub(self.late.covered(stretch))
    }

    fn detection(&mut self) {
        let mut complaints = Vec::new();
        for spell in self.chronicle.spells.iter().filter(|spell| spell.tcp) {
            let Some(harm) = spell.harm else { continue };
            let killed = harm == Harm::Killed;
            let (what, known) = if killed { ("killed", KILL_KNOWN) } else { ("cut", CUT_KNOWN) };
            let Some(found) = self.chronicle.found_out_after(spell) else { continue };
            let length = found.unwrap_or_else(|until_return| until_return);
            if found.is_ok() {
                let longest =
                    if killed { &mut self.verdict.longest_kill } else { &mut self.verdict.longest_cut };
                *longest = length.max(*longest);
            }
            let stretch = (spell.from, spell.from + length);
            if length > known + self.late.covered(stretch) {
                let ms = length.as_millis();
                complaints
                    .push(format!("{} was {what} and in service for {ms} ms more", name(spell.backend)));
            }
        }
        self.complain(complaints, "found out late");
    }

    /// Who was found out stays out, whatever becomes of the daemon.
    fn let_in(&mut self) {
        let mut complaints = Vec::new();
        for spell in self.chronicle.spells.iter().filter(|spell| spell.tcp && spell.harm.is_some()) {
            for (from, to) in self.chronicle.let_in(spell) {
                let ms = to.saturating_sub(from).as_millis();
                complaints.push(format!(
                    "{} was found out and let in again at {}, for {ms} ms, before it was well",
                    name(spell.backend),
                    seconds(from)
                ));
            }
        }
        self.complain(complaints, "let in again");
    }

    fn connections(&mut self, lost: &[Lost]) {
        let mut complaints = Vec::new();
        for lost in lost {
            match self.excuse_new(lost.backend.as_deref(), lost.stretch) {
                Some(step) => self.cost(step).connections += 1,
                None => complaints.push(format!("a new connection failed: {lost}")),
            }
        }
        self.complain(complaints, "new connections failed");
    }

    /// A SYN that was lost in somebody's detection window comes again after a second: that is the loss, told less loudly.
    fn slow_connections(&mut self, evidence: &Evidence) {
        for (from, to) in &evidence.slow_connections {
            let by_mac =
                self.chronicle.macs.iter().any(|(backend, _)| self.changed_mac(&name(*backend), *from));
            if !by_mac && self.excuse_new(None, (*from, *to)).is_none() {
                let net = self.net((*from, *to));
                self.verdict.longest_connection = self.verdict.longest_connection.max(net);
            }
        }
        let longest = self.verdict.longest_connection.max(evidence.longest_quick);
        self.verdict.longest_connection = longest;
    }

    fn streams(&mut self, evidence: &Evidence) {
        let mut complaints = Vec::new();
        for stream in &evidence.streams {
            let Err(fault) = stream.outcome else { continue };
            // Missing, doubled or wrong bytes are nobody's right, whatever becomes of the backend.
            let may_be = !matches!(fault, Fault::Gap | Fault::WrongBytes);
            let life = (stream.opened, stream.ended);
            let guilty = match &stream.backend {
                Some(backend) => self.excuse(backend, life),
                None => self.excuse_new(None, life),
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
            if self.excuse(&slow.backend, slow.stretch).is_some() {
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

    fn datagrams(&mut self, evidence: &Evidence) {
        let mut complaints = Vec::new();
        for hole in &evidence.holes {
            let net = self.net(hole.stretch);
            let by_mac = self.changed_mac(&hole.backend, hole.stretch.0);
            match self.excuse_hole(&hole.backend, hole.stretch) {
                Some((step, gone_by))
                    if self.net((gone_by, hole.stretch.1)) <= ALLOWED_STALL + super::UDP_INTERVAL =>
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
            match self.excuse_move(&moved.from, moved.stretch) {
                Some(step) => self.cost(step).moved += 1,
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
            let late = self.late.covered((*to, *to + 4 * MAC_KNOWN));
            overlap((*from, *to + MAC_KNOWN + late), (sent, sent))
        })
    }

    /// The step that excuses that a UDP flow left this backend: as with streams, when it need not keep any. One that leaves late,
    /// because lbd was late, is not hurt by it.
    fn excuse_move(&self, backend: &str, stretch: Stretch) -> Option<usize> {
        let mut own = self.spells(false).filter(|known| known.name == backend);
        own.find(|known| overlap(known.may_leave, stretch)).map(|known| known.spell.step)
    }

    /// The step that excuses that datagrams of a flow were lost whose last answer was this backend's, and by when it has to be well
    /// elsewhere. A flow that had to leave may have gone to another one of which nobody knew yet that it was dead.
    fn excuse_hole(&self, backend: &str, stretch: Stretch) -> Option<(usize, At)> {
        let own = |known: &Known<'_>| known.name == backend;
        let had_to_leave = self.spells(false).any(|known| own(known) && overlap(known.may_leave, stretch));
        let guilty =
            self.spells(false).filter(|known| (own(known) || had_to_leave) && known.may_lose(stretch));
        guilty.max_by_key(|known| known.gone_by).map(|known| (known.spell.step, known.gone_by))
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.stretch.1.saturating_sub(self.stretch.0).as_millis();
        let who = self.backend.as_deref().unwrap_or("nobody");
        write!(f, "{} after {ms} ms, due at {}, answered by {who}", self.failure, seconds(self.stretch.0))
    }
}

#[cfg(test)]
mod tests;
