//! What was done and when, and what follows from it for each backend's flows.
//!
//! In: changes as they are made, with the times around them; what lbd said of its backends. Out: [`Spell`]s in which a backend's flows need not
//! survive, and when it was open to new ones. Invariant: outside its spells a backend survives: whatever happens to its flows
//! then is the balancer's fault.

use std::collections::BTreeMap;
use std::time::Duration;

use super::change::{Change, Index};
use super::clock::{Stretch, Stretches};
use super::model::{At, Model};

/// After a deadline lbd may need this long to do what is due.
const DEADLINE_SLACK: Duration = Duration::from_millis(500);
/// And may be this much before our idea of it.
const EARLY: Duration = Duration::from_millis(50);
/// What is seen of lbd is older than this at most.
pub(super) const LOOK: Duration = Duration::from_millis(400);

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
    /// It was killed or cut: lbd has to find out.
    pub(super) harm: bool,
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
            about: BTreeMap::new(),
        }
    }

    /// Lets deadlines pass up to `now`.
    pub(super) fn pass(&mut self, now: At) {
        while let Some(deadline) = self.model.next_deadline().filter(|deadline| *deadline <= now) {
            let before = self.model.clone();
            self.model.advance(deadline);
            self.compare(&before, (deadline, deadline + DEADLINE_SLACK), false, None);
        }
    }

    /// A change that was begun and had been made at these times.
    pub(super) fn made(&mut self, step: usize, change: &Change, stretch: Stretch) {
        self.pass(stretch.0);
        let before = self.model.clone();
        self.model.apply(change, stretch.0);
        let harm = matches!(change, Change::Kill(_) | Change::Cut(..));
        self.compare(&before, stretch, harm, Some(step));
        for backend in
            before.indices().filter(|backend| before.members[*backend] != self.model.members[*backend])
        {
            self.about.insert(backend, (step, stretch.1.saturating_sub(stretch.0)));
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

    fn compare(&mut self, before: &Model, (from, settled): Stretch, harm: bool, step: Option<usize>) {
        for backend in before.indices() {
            for tcp in [true, false] {
                match (before.keeps(backend, tcp), self.model.keeps(backend, tcp)) {
                    (true, false) => {
                        let about = self.about.get(&backend).copied().unwrap_or_default();
                        let (step, settled) =
                            step.map_or((about.0, settled + about.1), |step| (step, settled));
                        self.spells.push(Spell { backend, tcp, from, settled, to: None, harm, step });
                    }
                    (false, true) => {
                        let open = self.spells.iter_mut().rev();
                        // None: it was never there before.
                        if let Some(spell) = open
                            .into_iter()
                            .find(|spell| spell.backend == backend && spell.tcp == tcp && spell.to.is_none())
                        {
                            spell.to = Some(settled);
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
        let is_known = |of: fn(&Look) -> Option<bool>| of(&look).is_none() || of(&look) == before(of);
        if !(is_known(|look| look.eligible) && is_known(|look| look.healthy)) {
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
        if !spell.harm {
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
        let end = spell.to.unwrap_or(At::MAX);
        let waited = (spell.from, out.min(end));
        let length = waited
            .1
            .saturating_sub(waited.0)
            .saturating_sub(Stretches::new(self.down.clone()).covered(waited));
        Some(if out <= end { Ok(length) } else { Err(length) })
    }

    /// When the flows of a spell must have gone to others: lbd has found out, or has done what it was told.
    pub(super) fn gone_by(&self, spell: &Spell) -> At {
        if !spell.harm {
            return self.settled(spell) + LOOK;
        }
        let healthy = self.said(spell.backend, |look| look.healthy);
        let found = healthy.into_iter().find(|(from, to)| *from <= spell.from && spell.from < *to);
        let found = found.map_or(spell.from, |(_, to)| to);
        spell.to.map_or(found, |to| to.min(found)).saturating_add(LOOK)
    }

    /// What is due while there is no lbd is done when it is back.
    fn settled(&self, spell: &Spell) -> At {
        let down = self.down.iter().filter(|(from, to)| *from <= spell.settled && spell.from <= *to);
        let back = down.map(|(_, to)| *to + DEADLINE_SLACK).max();
        back.map_or(spell.settled, |back| back.max(spell.settled))
    }
}
