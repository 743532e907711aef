//! The script of a soak: what is done when.
//!
//! In: a seed, how many changes, how long. Out: steps, the same for the same words. Invariants: a pure function; after each step
//! at least [`LEAST_SERVING`] backends are sure to answer new flows; at most [`MOST_HARMED`] are killed or cut at a time; a backend is
//! cut while it takes new flows, so that there is something to find out.

use std::time::Duration;

use super::Via;
use super::change::{Change, File, Hand, How, Index, Then};
use super::model::{At, Model};
use super::random::Random;

/// Backends that always answer.
const LEAST_SERVING: usize = 2;
/// Backends killed or cut at a time.
const MOST_HARMED: usize = 2;
/// A killed or cut backend stays so at least this long: its loss is to be found out.
const LEAST_HARM: Duration = Duration::from_secs(4);
/// No step is this near a deadline: which of the two came first would be chance.
const NEAR: Duration = Duration::from_millis(1500);
/// Draws for a step until one is found that keeps the rules.
const DRAWS: usize = 200;
const MOST_WEIGHT: u64 = 3;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// After the begin of the script.
    pub(super) at: At,
    pub(super) change: Change,
}

/// What to write a script for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) seed: u64,
    pub(super) changes: usize,
    /// Mean time between two.
    pub(super) pause: Duration,
    pub(super) hosts: usize,
    pub(super) via: Via,
}

/// What the file names at first: all but the last two hosts, with weights.
pub(super) fn first_file(hosts: usize) -> File {
    (0..hosts.saturating_sub(2)).map(|index| (index, 1)).collect()
}

/// The steps.
pub(super) fn write(wish: Wish) -> Vec<Step> {
    let mut writer = Writer {
        random: Random::new(wish.seed),
        model: Model::new(wish.hosts, &first_file(wish.hosts), wish.via),
        now: Duration::ZERO,
        harmed_since: vec![Duration::ZERO; wish.hosts],
    };
    (0..wish.changes).map(|_| writer.step(wish.pause)).collect()
}

/// Whether the model keeps the rules after this change; the same is asked again before the change is really made.
pub(super) fn is_allowed(model: &Model, change: &Change, now: At) -> bool {
    let mut after = model.clone();
    after.advance(now);
    if let Change::Cut(backend, _) = change
        && !after.serves(*backend, now)
    {
        return false;
    }
    if !after.apply(change, now) {
        return false;
    }
    // What deadlines will have done counts already: nothing may be left to chance.
    let mut later = after.clone();
    later.advance(Duration::MAX);
    let serving = |model: &Model| model.indices().filter(|backend| model.serves(*backend, now)).count();
    let harmed = after.indices().filter(|backend| after.is_harmed(*backend)).count();
    serving(&after).min(serving(&later)) >= LEAST_SERVING && harmed <= MOST_HARMED
}

struct Writer {
    random: Random,
    model: Model,
    now: At,
    harmed_since: Vec<At>,
}

impl Writer {
    fn step(&mut self, pause: Duration) -> Step {
        self.now += pause.mul_f64(0.3 + 1.4 * self.random.share());
        self.pass_deadlines();
        let mut change = self.draw();
        let mut draws = 1;
        while !self.fits(&change) {
            change = if draws < DRAWS { self.draw() } else { self.always() };
            draws += 1;
        }
        self.model.apply(&change, self.now);
        if let Change::Kill(backend) | Change::Cut(backend, _) = change {
            self.harmed_since[backend] = self.now;
        }
        Step { at: self.now, change }
    }

    /// Goes on until no deadline is near.
    fn pass_deadlines(&mut self) {
        self.model.advance(self.now);
        while let Some(deadline) = self.model.next_deadline().filter(|deadline| *deadline < self.now + NEAR) {
            self.now = deadline + NEAR;
            self.model.advance(self.now);
        }
    }

    fn fits(&self, change: &Change) -> bool {
        let long_enough = match change {
            Change::Revive(backend) | Change::Heal(backend) => {
                self.now >= self.harmed_since[*backend] + LEAST_HARM
            }
            _ => true,
        };
        long_enough && is_allowed(&self.model, change, self.now)
    }

    /// What may be done at any time.
    fn always(&mut self) -> Change {
        if self.random.below(2) == 0 { Change::Upgrade } else { Change::Mac(self.backend()) }
    }

    fn backend(&mut self) -> Index {
        usize::try_from(self.random.below(self.model.members.len() as u64)).unwrap_or(0)
    }

    fn weight(&mut self) -> u16 {
        u16::try_from(1 + self.random.below(MOST_WEIGHT)).unwrap_or(1)
    }

    fn draw(&mut self) -> Change {
        let backend = self.backend();
        match self.random.below(100) {
            0..45 => Change::Hand(backend, self.hand()),
            45..50 => Change::Batch(self.batch()),
            50..53 => Change::Rollback,
            53..61 => Change::Reload(self.file()),
            61..66 => Change::Kill(backend),
            66..76 => Change::Revive(backend),
            76..81 => Change::Cut(backend, if self.random.below(3) == 0 { How::Reset } else { How::Drop }),
            81..91 => Change::Heal(backend),
            91..94 => Change::Mac(backend),
            94..97 => Change::Crash(Duration::from_millis(self.random.below(2000))),
            _ => Change::Upgrade,
        }
    }

    fn hand(&mut self) -> Hand {
        let time = Duration::from_secs(2 + self.random.below(4));
        match self.random.below(20) {
            0..4 => Hand::Add { weight: self.weight() },
            4..6 => Hand::Remove { drain: None },
            6..8 => Hand::Remove { drain: Some(time) },
            8..11 => Hand::Weight { weight: self.weight() },
            11 => Hand::Weight { weight: 0 },
            12 | 13 => Hand::Drain { deadline: None },
            14 | 15 => {
                let then = self.random.choice(&[Then::Keep, Then::Disable, Then::Remove]);
                Hand::Drain { deadline: Some((time, then.unwrap_or(Then::Keep))) }
            }
            16 => Hand::Disable,
            17 | 18 => Hand::Enable,
            _ => Hand::Clear,
        }
    }

    fn batch(&mut self) -> Vec<(Index, Hand)> {
        (0..2 + self.random.below(2)).map(|_| (self.backend(), self.hand())).collect()
    }

    /// The file with one or two of its lines changed.
    fn file(&mut self) -> File {
        let mut file = self.model.disk.clone();
        for _ in 0..1 + self.random.below(2) {
            let backend = self.backend();
            if file.contains_key(&backend) && self.random.below(3) == 0 {
                file.remove(&backend);
            } else {
                file.insert(backend, self.weight());
            }
        }
        file
    }
}

#[cfg(test)]
mod tests;
