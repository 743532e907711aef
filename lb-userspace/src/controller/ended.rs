//! Tasks that the controller lives by and that have ended, which they ought not to.
//!
//! In: the end of one. Out: a sentence in `degraded`, for good: only a restart brings it back. Invariant: nobody takes for checked what
//! nobody checks.

use super::{Controller, Fault};

/// What a task was there for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Work {
    /// Checks of backends.
    Checks,
    /// Ways to backends.
    Ways,
    /// The way of checks through services.
    Probes,
    /// Answers to lbctl.
    Api,
    /// Metrics.
    Metrics,
}

impl Work {
    /// What is no longer so.
    const fn loss(self) -> &'static str {
        match self {
            Self::Checks => "health checks have ended: every backend stays as it was found last",
            Self::Probes => {
                "the way of checks through services is no longer kept: what is taken away of it stays away, and a check that needs more finds \
                 out nothing"
            }
            Self::Api => "the API is no longer served: lbctl does not reach this lbd",
            Self::Metrics => "metrics are no longer served",
            Self::Ways => "next hops are no longer followed: a backend whose MAC or route changes is lost",
        }
    }
}

impl Controller {
    /// Says that a task has ended.
    pub(super) fn ended(&mut self, work: Work, why: &str) {
        let loss = work.loss();
        tracing::error!("{loss} ({why})");
        let mut sentences = self.faults.get(&Fault::Tasks).cloned().unwrap_or_default();
        sentences.push(format!("{loss} ({why}); restart lbd, which breaks no connection, and report this"));
        if self.set_fault(Fault::Tasks, sentences) {
            self.publish();
        }
    }
}
