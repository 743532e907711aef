//! What a table does when its backends are not well: panic, or the backup pool.
//!
//! In: sums over the members of one table, what the pool is configured to do, the time, the mode so far. Out: the [`Mode`] from
//! now on. Invariants: a pure function of its arguments; a pool of which nobody has said anything yet changes nothing; a pool that
//! has gone over to its backup comes back only after it has been well for `hold`.

use std::time::Duration;

use super::Millis;
use crate::spec::{BackupSpec, Percent};

/// How a table is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mode {
    /// All its backends are used, healthy or not.
    pub(super) panic: bool,
    /// The same because nobody is well and its services say so (`when_none = "spread"`).
    pub(super) spreads: bool,
    /// The backup pool's backends get its new flows.
    pub(super) on_backup: bool,
    /// Since when it has been well enough to come back from there.
    pub(super) well_since: Option<Millis>,
    /// Members of the backup pool that could take its flows.
    pub(super) stand_ins: usize,
    /// Weight of the members that take new flows.
    pub(super) usable: u64,
    /// Weight of the members that should.
    pub(super) known: u64,
}

/// The members of one table, counted by weight; drained, disabled and weightless ones do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// Those that take new flows.
    pub(super) usable: u64,
    /// Those of whom something is known.
    pub(super) known: u64,
    /// There are some of whom nothing is known yet.
    pub(super) waiting: bool,
    /// How many of the backup pool could stand in.
    pub(super) stand_ins: usize,
}

/// What the pool is configured to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy<'a> {
    pub(super) panic_below: Percent,
    pub(super) backup: Option<&'a BackupSpec>,
}

impl Mode {
    /// The mode that follows.
    pub(super) fn next(self, sums: Sums, policy: Policy<'_>, now: Millis) -> Self {
        let Sums { usable, known, waiting, stand_ins } = sums;
        let next = Self { stand_ins, usable, known, ..self };
        if known == 0 && waiting {
            return Self {
                panic: false,
                well_since: None,
                on_backup: self.on_backup && policy.backup.is_some(),
                ..next
            };
        }
        let Some(backup) = policy.backup.filter(|_| stand_ins > 0) else {
            let panic = policy.panic_below.exceeds(usable, known);
            return Self { panic, on_backup: false, well_since: None, ..next };
        };
        let is_low = usable == 0 || backup.below.exceeds(usable, known);
        let is_well = usable > 0 && !backup.above.exceeds(usable, known);
        let well_since = self.well_since.or(Some(now)).filter(|_| is_well);
        let has_held = well_since.is_some_and(|since| now.since(since) >= backup.hold);
        let on_backup = if self.on_backup { !has_held } else { is_low };
        let panic = !on_backup && policy.panic_below.exceeds(usable, known);
        Self { panic, on_backup, well_since: well_since.filter(|_| on_backup), ..next }
    }

    /// When the mode may change although nothing happens.
    pub(super) fn timer(&self, hold: Duration) -> Option<Millis> {
        self.well_since.filter(|_| self.on_backup).map(|since| since.after(hold))
    }

    /// The share of its weight that is healthy.
    pub(super) fn share(&self) -> Percent {
        if self.usable == 0 { Percent::ZERO } else { Percent::of(self.usable, self.known) }
    }
}
