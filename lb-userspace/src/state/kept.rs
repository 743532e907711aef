//! The revisions that are kept, for those who look back and those who go back.
//!
//! In: a number. Out: its summary, or the whole of it, read from its files at that moment. Invariant: what is shown or put back is
//! what was written, or it is said why it is not there.

use std::path::Path;

use super::file::{self, Unread};
use super::{KEPT, Record, StateDir, Stored};
use crate::moment::Millis;
use crate::spec::Spec;

/// What is known of a kept revision without reading it again.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    /// The configurations it names.
    pub(super) configurations: Vec<String>,
    /// `None`: it cannot be read.
    summary: Option<Summary>,
}

/// A revision in short.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Its number.
    pub revision: u64,
    /// When it was accepted.
    pub time: Millis,
    /// Who asked for it.
    pub who: String,
    /// What it changed.
    pub what: Vec<String>,
}

/// Why there is no such revision.
#[derive(Debug, thiserror::Error)]
pub enum Unkept {
    /// None of this number is kept.
    #[error("revision {number} is not kept: the last {KEPT} are, from {first} on")]
    Missing {
        /// The number.
        number: u64,
        /// The oldest that is kept.
        first: u64,
    },
    /// It is there and cannot be used.
    #[error("revision {number} cannot be used: {why}")]
    Unusable {
        /// The number.
        number: u64,
        /// In a sentence.
        why: String,
    },
}

impl Kept {
    pub(super) fn of(stored: &Stored) -> Self {
        let Stored { revision, time, who, what, .. } = stored;
        let summary = Summary { revision: *revision, time: *time, who: who.clone(), what: what.clone() };
        Self { configurations: stored.configurations(), summary: Some(summary) }
    }

    /// It could be read.
    pub(super) const fn is_known(&self) -> bool {
        self.summary.is_some()
    }
}

impl StateDir {
    /// The revisions that are kept, the newest first, without those that cannot be read.
    pub fn history(&self) -> impl Iterator<Item = &Summary> {
        self.kept.values().rev().filter_map(|kept| kept.summary.as_ref())
    }

    /// A revision that is kept, whole.
    ///
    /// # Errors
    /// [`Unkept`].
    pub fn record(&self, number: u64) -> Result<Record, Unkept> {
        let first = self.kept.keys().next().copied().unwrap_or_default();
        if !self.kept.contains_key(&number) {
            return Err(Unkept::Missing { number, first });
        }
        let unusable = |path: &Path, unread: Unread| {
            let why = match unread {
                Unread::Missing => format!("{} is missing", path.display()),
                Unread::Damaged(why) | Unread::Foreign(why) => why,
                Unread::System(error) => format!("cannot read {} ({error})", path.display()),
            };
            Unkept::Unusable { number, why }
        };
        let path = self.revision_path(number);
        let stored = file::read::<Stored>(&path).map_err(|unread| unusable(&path, unread))?;
        let path = self.configuration_path(&stored.configuration);
        let spec = file::read::<Spec>(&path).map_err(|unread| unusable(&path, unread))?;
        // What it was in the place of then does not matter now.
        Ok(stored.with(spec, None))
    }
}
