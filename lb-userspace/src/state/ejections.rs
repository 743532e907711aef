//! Who was ejected, so that a restart does not let them in before their time.
//!
//! In: all ejections that a restart is to know, whenever they are others. Out: the same, when lbd starts again. Invariants: one file,
//! plain like the others and with a checksum; no revision speaks of it; without it, or with one that cannot be used, backends are in that
//! were out, and are found out again: that is said, and ends no start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::file::{self, Unread};
use super::unusable::{ACKNOWLEDGE, aside_of, put_aside};
use super::{StateDir, StateError};
use crate::membership::Ejected;

const EJECTIONS: &str = "ejections";
/// What it means where the file is of no use.
const MEANING: &str = "backends that were ejected are in until they are found out again";

#[derive(Serialize, Deserialize)]
struct Stored {
    ejections: Vec<Ejected>,
}

/// The file of ejections. Clones are of the same file, whose directory is held as long as its [`StateDir`] is.
#[derive(Clone, Debug)]
pub struct EjectionFile {
    path: PathBuf,
}

impl EjectionFile {
    /// That of this state directory.
    pub(super) fn of(state: &Path) -> Self {
        Self { path: state.join(EJECTIONS) }
    }

    /// Writes ejections down in the place of those before.
    ///
    /// # Errors
    /// They could not be written: a restart would go by those before, or, where only the name is not surely on the disk, by either.
    pub fn write(&self, ejections: Vec<Ejected>) -> Result<(), StateError> {
        file::write_over(&self.path, &file::json(&Stored { ejections }, &self.path)?)
    }

    /// What was written last and may be read: a file in its place that could not be is no longer among those which cannot be used.
    pub fn has_replaced(&self, unusable: &mut BTreeMap<PathBuf, String>) {
        unusable.remove(&self.path);
    }

    /// What an earlier run has written. A file that cannot be used is put aside if it is damaged, and is in `unusable` with what that
    /// means.
    pub(super) fn read(&self, unusable: &mut BTreeMap<PathBuf, String>) -> Vec<Ejected> {
        let aside = aside_of(&self.path);
        if aside.exists() {
            let sentence = format!(
                "{} was damaged and put aside by an earlier start: backends that were ejected then were in until they were found out \
                 again; {ACKNOWLEDGE}",
                aside.display()
            );
            unusable.insert(aside, sentence);
        }
        let (path, sentence) = match file::read::<Stored>(&self.path) {
            Ok(Stored { ejections }) => return ejections,
            Err(Unread::Missing) => return Vec::new(),
            Err(Unread::Damaged(why)) => {
                let (path, where_) = put_aside(&self.path);
                (path, format!("{why}; {where_}; {MEANING}; {ACKNOWLEDGE}"))
            }
            // The next ejection takes its place: what it says is worth nothing after minutes.
            Err(Unread::Foreign(why)) => {
                tracing::warn!("{why}; {MEANING}");
                return Vec::new();
            }
            Err(Unread::System(error)) => {
                let sentence = format!(
                    "cannot read {path} ({error}): check that lbd may read there; {MEANING}; {ACKNOWLEDGE}",
                    path = self.path.display()
                );
                (self.path.clone(), sentence)
            }
        };
        unusable.insert(path, sentence);
        Vec::new()
    }

    /// Where it lies until it is whole.
    pub(super) fn fresh(&self) -> PathBuf {
        self.path.with_extension(file::FRESH)
    }
}

impl StateDir {
    /// Where ejections are written down.
    pub fn ejection_file(&self) -> EjectionFile {
        EjectionFile::of(&self.path)
    }
}

#[cfg(test)]
mod tests;
