//! One question: what is asked of an address, how it goes on, and how what was found is told.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::schedule::step;
use super::super::state::{Health, HealthState, Thresholds};
use super::super::target::{TargetId, Through};
use crate::spec::HealthSpec;

/// What is asked of one address, and the answers so far.
#[derive(Debug)]
pub(super) struct Question<Id> {
    pub(super) address: SocketAddr,
    pub(super) through: Option<Through>,
    pub(super) spec: Arc<HealthSpec>,
    pub(super) ids: Vec<Id>,
    pub(super) state: HealthState,
    /// The last finding and how long it took; `None` until the first.
    pub(super) last: Option<(Arc<str>, Duration)>,
    pub(super) probes_started: u64,
    pub(super) last_success: u64,
    /// It is doubted: the success of a probe with this number, or a later one, is to be told.
    pub(super) doubted: Option<u64>,
    /// When it is asked next by its rhythm; `None` until its first probe is planned.
    pub(super) beat: Option<Instant>,
    /// A probe besides those of the beat is planned, for this time.
    pub(super) again: Option<Instant>,
}

impl<Id: TargetId> Question<Id> {
    /// Names of pools in alphabetical order, so that a program is told the same each time.
    pub(super) fn pools(&self) -> String {
        let pools: BTreeSet<&str> = self.ids.iter().map(TargetId::pool).collect();
        pools.into_iter().collect::<Vec<_>>().join(" ")
    }

    pub(super) fn thresholds(&self) -> Thresholds {
        Thresholds { rise: self.spec.rise, fall: self.spec.fall }
    }

    /// Whether it is still to be asked at this planned time.
    pub(super) fn is_due(&self, at: Instant) -> bool {
        self.beat == Some(at) || self.again == Some(at)
    }

    /// Pulls the beat forward while the health is changing; the new time of the next probe, if it is another. The last probe ended
    /// now and took `latency`.
    pub(super) fn hurry(&mut self, latency: Duration, now: Instant, random: u64) -> Option<Instant> {
        let fast = self.spec.fast_interval?;
        let is_changing = self.state.against() > 0 || self.state.health() == Health::Unknown;
        // From the start of one to the start of the next, but never before its answer.
        let next = now + step(fast, self.spec.jitter, random).saturating_sub(latency);
        if !is_changing || self.beat.is_some_and(|beat| beat <= next) {
            return None;
        }
        self.beat = Some(next);
        self.beat
    }

    /// The finding with how far it has come against the health, where the health keeps new flows away.
    pub(super) fn with_progress(&self, found: Cow<'static, str>) -> Cow<'static, str> {
        let Thresholds { rise, fall } = self.thresholds();
        match (self.state.health(), self.state.against()) {
            (Health::Healthy, _) | (_, 0) => found,
            (Health::Unhealthy, good) => format!("{found} ({good} of {rise} good checks)").into(),
            (Health::Unknown, bad) => format!("{found} ({bad} of {fall} bad checks)").into(),
        }
    }

    /// Keeps the finding; a text that is the same as before is not stored again.
    pub(super) fn remember(&mut self, detail: Cow<'static, str>, latency: Duration) -> Arc<str> {
        let detail = match &self.last {
            Some((same, _)) if **same == *detail => Arc::clone(same),
            _ => Arc::from(&*detail),
        };
        self.last = Some((Arc::clone(&detail), latency));
        detail
    }

    /// One line for a change of health.
    pub(super) fn log(&self, detail: &str, results: u32) {
        let backends = self.ids.iter().map(Id::to_string).collect::<Vec<_>>().join(", ");
        let (address, check) = (self.address, self.spec.kind.as_str());
        match self.state.health() {
            Health::Healthy => {
                tracing::debug!(%backends, %address, check, results, "backend is healthy: {detail}");
            }
            _ => tracing::debug!(%backends, %address, check, results, "backend is unhealthy: {detail}"),
        }
    }
}
