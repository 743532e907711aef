//! When results of checks make a backend healthy or unhealthy.
//!
//! In: one result after the other, with `rise` and `fall`. Out: the health, and whether this result changed it.
//! Invariant: unknown → healthy on the first success; unknown or healthy → unhealthy after `fall` failures in a row;
//! unhealthy → healthy after `rise` successes in a row; nothing goes back to unknown. No clock, no I/O.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the checks have found. Observed, as against the *state* that an operator commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Neither one success nor `fall` failures since it was first checked.
    #[default]
    Unknown,
    /// It answers as expected.
    Healthy,
    /// It does not.
    Unhealthy,
}

impl Health {
    /// `unknown`, `healthy` or `unhealthy`, as in JSON and in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How many results in a row it takes; 0 counts as 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Successes that bring an unhealthy backend back.
    pub rise: u32,
    /// Failures that take a backend out.
    pub fall: u32,
}

/// The health of one backend and how far the results have gone against it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HealthState {
    health: Health,
    against: u32,
}

impl HealthState {
    /// Starts from what is already held of the backend (after a restart: what the pinned tables say).
    pub const fn new(health: Health) -> Self {
        Self { health, against: 0 }
    }

    /// What is held of it now.
    pub const fn health(&self) -> Health {
        self.health
    }

    /// Results in a row that speak against [`health`](Self::health) and have not yet changed it.
    pub const fn against(&self) -> u32 {
        self.against
    }

    /// Takes the next result; true: it changed the health.
    pub fn record(&mut self, success: bool, thresholds: Thresholds) -> bool {
        let (next, needed) = match (self.health, success) {
            (Health::Healthy, true) | (Health::Unhealthy, false) => {
                self.against = 0;
                return false;
            }
            (Health::Unknown, true) => (Health::Healthy, 1),
            (Health::Unhealthy, true) => (Health::Healthy, thresholds.rise),
            (Health::Unknown | Health::Healthy, false) => (Health::Unhealthy, thresholds.fall),
        };
        self.against = self.against.saturating_add(1);
        if self.against < needed {
            return false;
        }
        *self = Self::new(next);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rule read off the whole history, without counters: the reference for [`HealthState`].
    fn judged(initial: Health, history: &[bool], thresholds: Thresholds) -> Health {
        let ends_with = |seen: &[bool], wanted: bool, count: u32| {
            let count = usize::try_from(count.max(1)).unwrap();
            seen.len() >= count && seen[seen.len() - count..].iter().all(|result| *result == wanted)
        };
        let mut health = initial;
        for end in 1..=history.len() {
            let seen = &history[..end];
            health = match health {
                Health::Unknown if seen[end - 1] => Health::Healthy,
                Health::Unhealthy if ends_with(seen, true, thresholds.rise) => Health::Healthy,
                Health::Unknown | Health::Healthy if ends_with(seen, false, thresholds.fall) => {
                    Health::Unhealthy
                }
                same => same,
            };
        }
        health
    }

    proptest! {
        #[test]
        fn agrees_with_the_whole_history(
            initial in prop_oneof![Just(Health::Unknown), Just(Health::Healthy), Just(Health::Unhealthy)],
            rise in 0_u32..6,
            fall in 0_u32..6,
            history in prop::collection::vec(any::<bool>(), 0..60),
        ) {
            let thresholds = Thresholds { rise, fall };
            let mut state = HealthState::new(initial);
            for end in 1..=history.len() {
                let before = state.health();
                let changed = state.record(history[end - 1], thresholds);
                prop_assert_eq!(state.health(), judged(initial, &history[..end], thresholds));
                prop_assert_eq!(changed, before != state.health());
                prop_assert!(state.against() < rise.max(fall).max(1));
            }
        }
    }

    #[test]
    fn first_success_admits_although_rise_is_two() {
        let mut state = HealthState::default();
        assert!(state.record(true, Thresholds { rise: 2, fall: 3 }));
        assert_eq!(state.health(), Health::Healthy);
    }

    #[test]
    fn a_success_between_failures_starts_the_count_again() {
        let thresholds = Thresholds { rise: 2, fall: 3 };
        let mut state = HealthState::new(Health::Healthy);
        let changes: Vec<bool> =
            [false, false, true, false, false, false].map(|result| state.record(result, thresholds)).into();
        assert_eq!(changes, [false, false, false, false, false, true]);
    }
}
