//! What was done and when, and what follows from it for each backend's flows.
//!
//! In: changes as they are made, with the times around them; what lbd said of its backends. Out: [`Spell`]s in which a backend's flows need not
//! survive, and when it was open to new ones. Invariant: outside its spells a backend survives: whatever happens to its flows
//! then is the balancer's fault.

use std::collections::BTreeMap;
use std::time::Duration;

use lb_userspace::moment::Millis;

use super::change::{Change, Index};
use super::clock::{Stretch, Stretches};
use super::model::{At, EJECT, Model};
use super::{CHECK_TIMEOUT, Via};

/// After a deadline lbd may need this long to do what is due.
const DEADLINE_SLACK: Duration = Duration::from_millis(500);
/// And may be this much before our idea of it.
const EARLY: Duration = Duration::from_millis(50);
/// What is seen of lbd is older than this at most.
pub(super) const LOOK: Duration = Duration::from_millis(400);

/// What lbd has to find out by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Harm {
    /// Its server is gone.
    Killed,
    /// Its TCP port is; datagrams it answers.
    Cut,
}

impl Harm {
    fn of(change: &Change) -> Option<Harm> {
        match change {
            Change::Kill(_) => Some(Harm::Killed),
            Change::Cut(..) => Some(Harm::Cut),
            _ => None,
        }
    }
}

/// A time in which the flows of one backend, TCP or UDP, may be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spell {
    pub(super) backend: Index,
    pub(super) tcp: bool,
    pub(super) from: At,
    /// The change was made by then (for one who was harmed: the harm).
    pub(super) settled: At,
    /// It keeps flows again; none: not yet.
    pub(super) to: Option<At>,
    /// When what ended it was begun.
    pub(super) mended: Option<At>,
    /// It was killed or cut: lbd has to find out.
    pub(super) harm: Option<Harm>,
    /// Number of the step.
    pub(super) step: usize,
}

impl Spell {
    /// The whole.
    pub(super) fn stretch(&self) -> Stretch {
        (self.from.saturating_sub(EARLY), self.to.unwrap_or(At::MAX))
    }
}

/// A change that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) step: usize,
    pub(super) change: Change,
    pub(super) stretch: Stretch,
}

/// What lbd said of a backend from then on, in a list or by an event; none: that it did not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) at: At,
    pub(super) backend: Index,
    /// It takes new flows.
    pub(super) eligible: Option<bool>,
    /// Its checks have not found that it is down.
    pub(super) healthy: Option<bool>,
    /// Its connections have shown that it answers nobody.
    pub(super) ejected: Option<Ejected>,
}

/// Whether one is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ejected {
    No,
    /// Until this time.
    Until(At),
    /// Until a check through the service succeeds.
    UntilChecked,
}

impl Ejected {
    /// What lbd's own words say, whose moments are `here` then.
    pub(super) fn from_words(reason: &str, here: impl Fn(Millis) -> At) -> Ejected {
        let moment = reason.strip_prefix("ejected until ").and_then(|rest| rest.split_once(": "));
        let moment = moment.and_then(|(moment, _)| moment.parse().ok());
        moment.map_or(Ejected::UntilChecked, |moment| Ejected::Until(here(moment)))
    }

    /// The same, but for the inaccuracy of clocks.
    fn is_as(self, other: Ejected) -> bool {
        match (self, other) {
            (Ejected::Until(one), Ejected::Until(other)) => one.abs_diff(other) < EARLY,
            _ => self == other,
        }
    }
}

impl Look {
    /// It was found out, whoever may let it in again.
    fn is_out(&self) -> Option<bool> {
        match (self.healthy, self.ejected) {
            (None, None) => None,
            (healthy, ejected) => {
                Some(healthy == Some(false) || ejected.is_some_and(|ejected| ejected != Ejected::No))
            }
        }
    }
}

/// The whole story.
#[derive(Clone, Debug)]
pub(super) struct Chronicle {
    pub(super) model: Model,
    pub(super) done: Vec<Done>,
    pub(super) spells: Vec<Spell>,
    pub(super) looks: Vec<Look>,
    /// When MACs changed, and of whom.
    pub(super) macs: Vec<(Index, Stretch)>,
    /// When there was no lbd.
    pub(super) down: Vec<Stretch>,
    /// When somebody's hand was on a backend, and on which.
    handled: Vec<(Index, At)>,
    /// The step that last was about a backend, and how long it took: what a deadline does is that one's doing, and nobody knows better
    /// when in that time lbd began to count.
    about: BTreeMap<Index, (usize, Duration)>,
}

impl Chronicle {
    pub(super) fn new(model: Model) -> Chronicle {
        Chronicle {
            model,
            done: vec![],
            spells: vec![],
            looks: vec![],
            macs: vec![],
            down: vec![],
            handled: vec![],
            about: BTreeMap::new(),
        }
    }

    /// Lets deadlines pass up to `now`.
    pub(super) fn pass(&mut self, now: At) {
        while let Some(deadline) = self.model.next_deadline().filter(|deadline| *deadline <= now) {
            let before = self.model.clone();
            self.model.advance(deadline);
            self.compare(&before, (deadline, deadline + DEADLINE_SLACK), None, None);
        }
    }

    /// A change that was begun and had been made at these times.
    pub(super) fn made(&mut self, step: usize, change: &Change, stretch: Stretch) {
        self.pass(stretch.0);
        let before = self.model.clone();
        self.model.apply(change, stretch.0);
        self.compare(&before, stretch, Harm::of(change), Some(step));
        for backend in
            before.indices().filter(|backend| before.members[*backend] != self.model.members[*backend])
        {
            self.about.insert(backend, (step, stretch.1.saturating_sub(stretch.0)));
            self.handled.push((backend, stretch.0));
        }
        if let Change::Mac(backend) = change {
            self.macs.push((*backend, stretch));
        }
        if matches!(change, Change::Crash(_) | Change::Upgrade) {
            self.down.push(stretch);
        }
        self.done.push(Done { step, change: change.clone(), stretch });
    }

    /// The change that was begun then is in force only now.
    pub(super) fn settle(&mut self, begun: At, settled: At) {
        for spell in self.spells.iter_mut().filter(|spell| spell.from == begun) {
            spell.settled = settled;
        }
    }

    fn compare(&mut self, before: &Model, (from, settled): Stretch, harm: Option<Harm>, step: Option<usize>) {
        for backend in before.indices() {
            for tcp in [true, false] {
                match (before.keeps(backend, tcp), self.model.keeps(backend, tcp)) {
                    (true, false) => {
                        let about = self.about.get(&backend).copied().unwrap_or_default();
                        let (step, settled) =
                            step.map_or((about.0, settled + about.1), |step| (step, settled));
                        let (to, mended) = (None, None);
                        self.spells.push(Spell { backend, tcp, from, settled, to, mended, harm, step });
                    }
                    (false, true) => {
                        let open = self.spells.iter_mut().rev();
                        // None: it was never there before.
                        if let Some(spell) = open
                            .into_iter()
                            .find(|spell| spell.backend == backend && spell.tcp == tcp && spell.to.is_none())
                        {
                            // What waits for an answer just then may still say that there is none.
                            let is_asked = self.model.via == Via::Service && spell.harm == Some(Harm::Cut);
                            let late = if is_asked { CHECK_TIMEOUT } else { Duration::ZERO };
                            (spell.to, spell.mended) = (Some(settled + late), Some(from));
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// What lbd said; what is known already is not kept.
    pub(super) fn look(&mut self, look: Look) {
        // Events and lists come a little out of order.
        let place = self.looks.partition_point(|known| known.at <= look.at);
        let before = |of: fn(&Look) -> Option<bool>| {
            self.looks[..place].iter().rev().filter(|known| known.backend == look.backend).find_map(of)
        };
        let own = self.looks[..place].iter().rev().filter(|known| known.backend == look.backend);
        let ejected = { own }.find_map(|known| known.ejected);
        let is_as_ejected = look.ejected.is_none_or(|now| ejected.is_some_and(|before| now.is_as(before)));
        let is_known = |of: fn(&Look) -> Option<bool>| of(&look).is_none() || of(&look) == before(of);
        if !(is_known(|look| look.eligible) && is_known(|look| look.healthy) && is_as_ejected) {
            self.looks.insert(place, look);
        }
    }

    /// The times in which lbd said this of the backend.
    pub(super) fn said(&self, backend: Index, of: impl Fn(&Look) -> Option<bool>) -> Vec<Stretch> {
        let mut stretches = Vec::new();
        let mut since = None;
        let looks = self.looks.iter().filter(|look| look.backend == backend);
        for (at, holds) in looks.filter_map(|look| Some((look.at, of(look)?))) {
            match (since, holds) {
                (None, true) => since = Some(at),
                (Some(from), false) => {
                    stretches.push((from, at));
                    since = None;
                }
                _ => {}
            }
        }
        stretches.extend(since.map(|from| (from, At::MAX)));
        stretches
    }

    /// When new connections may go to this backend in vain: as long as it is harmed and lbd has not found out.
    pub(super) fn windows(&self, spell: &Spell) -> Vec<Stretch> {
        if spell.harm.is_none() {
            return vec![(spell.from.saturating_sub(EARLY), self.settled(spell) + LOOK)];
        }
        let to = spell.to.unwrap_or(At::MAX);
        let eligible = self.said(spell.backend, |look| look.eligible).into_iter();
        let inside = eligible.map(|(from, until)| (from.max(spell.from), until.min(to)));
        let open = inside.filter(|(from, until)| from < until);
        open.map(|(from, until)| (from.saturating_sub(LOOK), until.saturating_add(LOOK))).collect()
    }

    /// How long lbd took to find out, time without lbd not counted; none: it was not in service, or lbd did not.
    pub(super) fn found_out_after(&self, spell: &Spell) -> Option<Result<Duration, Duration>> {
        let eligible = self.said(spell.backend, |look| look.eligible);
        let (_, out) = eligible.into_iter().find(|(from, to)| *from <= spell.from && spell.from < *to)?;
        let end = spell.mended.unwrap_or(At::MAX);
        let waited = (spell.from, out.min(end));
        let length = waited
            .1
            .saturating_sub(waited.0)
            .saturating_sub(Stretches::new(self.down.clone()).covered(waited));
        Some(if out <= end { Ok(length) } else { Err(length) })
    }

    /// When the flows of a spell must have gone to others: lbd has found out, or has done what it was told.
    pub(super) fn gone_by(&self, spell: &Spell) -> At {
        if spell.harm.is_none() {
            return self.settled(spell) + LOOK;
        }
        let found = self.found_down(spell);
        spell.to.map_or(found, |to| to.min(found)).saturating_add(LOOK)
    }

    /// When checks found out that it is down; at once, if they knew already.
    fn found_down(&self, spell: &Spell) -> At {
        let healthy = self.said(spell.backend, |look| look.healthy);
        let found = healthy.into_iter().find(|(from, to)| *from <= spell.from && spell.from < *to);
        found.map_or(spell.from, |(_, to)| to)
    }

    /// The time in which flows of a spell may leave. Datagrams of one who is cut off go on: until a check takes them away.
    pub(super) fn may_leave(&self, spell: &Spell) -> Stretch {
        let (from, to) = spell.stretch();
        match (spell.tcp, spell.harm) {
            (false, Some(Harm::Cut)) => (from.max(self.found_down(spell).saturating_sub(LOOK)), to),
            _ => (from, to),
        }
    }

    /// When a backend that was killed or cut, and found out, was in service again before it was mended, without a right to it. Where checks
    /// see what clients see nothing lets it in; else the end of its ejection does, or a hand that takes it away and puts it back.
    pub(super) fn let_in(&self, spell: &Spell) -> Vec<Stretch> {
        let mended = spell.mended.unwrap_or(At::MAX);
        let out = self.said(spell.backend, Look::is_out);
        let Some(found) =
            out.iter().find_map(|(from, to)| (*to > spell.from).then_some(from.max(&spell.from)))
        else {
            return Vec::new();
        };
        let is_seen = self.model.via == Via::Service || spell.harm == Some(Harm::Killed);
        let eligible = self.said(spell.backend, |look| look.eligible);
        let mut left = *found;
        let mut unjust = Vec::new();
        for (from, to) in eligible {
            let inside = (from, to.min(mended));
            // What is shorter may be two looks that came out of order.
            if from > *found && inside.1.saturating_sub(inside.0) >= LOOK {
                let by_time = match self.ejected_until(spell.backend, (left, from)) {
                    Some(until) => until <= from + EARLY,
                    // Nobody looked in so short a time.
                    None => from - left + LOOK >= EJECT,
                };
                let by_hand =
                    self.handled.iter().any(|(of, at)| *of == spell.backend && (left..=from).contains(at));
                if is_seen || !(by_time || by_hand) {
                    unjust.push(inside);
                }
            }
            // Of what came out of order the ejection before it is still the one that counts.
            if to.saturating_sub(from) >= LOOK {
                left = left.max(to);
            }
        }
        unjust
    }

    /// Until when it was ejected by what lbd said last in this time.
    fn ejected_until(&self, backend: Index, (left, from): Stretch) -> Option<At> {
        let looks = self.looks.iter().rev().filter(|look| look.backend == backend);
        let inside = looks.filter(|look| (left.saturating_sub(LOOK)..=from).contains(&look.at));
        { inside }.find_map(|look| match look.ejected? {
            Ejected::Until(until) => Some(until),
            _ => None,
        })
    }

    /// What is due while there is no lbd is done when it is back.
    fn settled(&self, spell: &Spell) -> At {
        let down = self.down.iter().filter(|(from, to)| *from <= spell.settled && spell.from <= *to);
        let back = down.map(|(_, to)| *to + DEADLINE_SLACK).max();
        back.map_or(spell.settled, |back| back.max(spell.settled))
    }
}
