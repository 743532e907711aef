//! Tasks that the controller lives by and that have ended, which they ought not to.
//!
//! In: the end of one. Out: a sentence in `degraded`, for good: only a restart brings it back. Invariant: nobody takes for checked what
//! nobody checks.

use super::{Controller, Fault};

/// What a task was there for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Work {
    /// Checks of backends.
    Checks,
    /// Ways to backends.
    Ways,
}

impl Work {
    /// What is no longer so.
    const fn loss(self) -> &'static str {
        match self {
            Self::Checks => "health checks have ended: every backend stays as it was found last",
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
