//! How each source is doing, for lists, status and metrics.
//!
//! In: what the controller makes of a source's answers and failures. Out: a [`SourceState`] for each, read at any moment. Invariant:
//! the controller alone writes; it is no part of a snapshot, because an answer that changes nothing is no new picture.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use crate::moment::Millis;
use crate::spec::SourceId;

/// How a source is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceState {
    /// dns, file or http.
    pub kind: &'static str,
    /// When it last answered; of an earlier run, if it has not answered in this one.
    pub answered: Option<Millis>,
    /// It has answered since this daemon started.
    pub is_fresh: bool,
    /// Answers since this daemon started.
    pub answers: u64,
    /// Failures since this daemon started.
    pub failures: u64,
    /// Why it failed, if it did the last time.
    pub failing: Option<String>,
    /// What it names that was not taken, a sentence each.
    pub left_out: Vec<String>,
    /// Backends that are in the pool by its word.
    pub backends: usize,
    /// Those of them that it no longer names, kept because nobody else could take their place yet.
    pub lingering: usize,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Board {
    sources: RwLock<BTreeMap<SourceId, SourceState>>,
}

impl Board {
    /// How every source is doing now.
    pub fn read(&self) -> BTreeMap<SourceId, SourceState> {
        // A panic while the lock was held leaves a whole map.
        self.sources.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what is known of a source.
    pub(crate) fn note(&self, id: &SourceId, note: impl FnOnce(&mut SourceState)) {
        let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
        note(sources.entry(id.clone()).or_default());
    }

    /// Forgets the sources that are not among these.
    pub(crate) fn keep(&self, is_there: impl Fn(&SourceId) -> bool) {
        self.sources.write().unwrap_or_else(PoisonError::into_inner).retain(|id, _| is_there(id));
    }
}
