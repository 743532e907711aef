//! Files of the state directory that cannot be used: what becomes of them, and what is said of it.

use std::fs;
use std::path::{Path, PathBuf};

use super::file::Unread;
use super::{Record, StateError};

/// The end of every sentence on a file that cannot be used.
pub(super) const ACKNOWLEDGE: &str = "see to it, then remove that file, which ends this message";
/// The extension of files that are put aside.
pub(super) const DAMAGED: &str = "damaged";

/// Where a file is put aside: a name that nothing reads.
pub(super) fn aside_of(path: &Path) -> PathBuf {
    path.with_extension(DAMAGED)
}

/// Why a file cannot be used.
pub(super) struct Unusable {
    why: String,
    /// It is of no use to any lbd as it is.
    is_damage: bool,
    /// What is not in force because of it.
    loss: Loss,
    /// The configuration that it names and that is missing.
    missing: Option<PathBuf>,
}

/// What is lost with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// The revision in use is a later one.
    Nothing,
    /// The revision in use is an older one, or none.
    Changes,
    /// A copy of the file's content alone: lbctl's part of this revision is there.
    File(u64),
    /// Which file it was that something else was put in the place of.
    Aside,
}

impl Unusable {
    /// What a failed read of `path` means; nothing if somebody has just removed it.
    ///
    /// # Errors
    /// The system refuses to read it.
    pub(super) fn of(
        path: PathBuf,
        unread: Unread,
        loss: Loss,
    ) -> Result<Option<(PathBuf, Self)>, StateError> {
        let (why, is_damage) = match unread {
            Unread::Missing => return Ok(None),
            Unread::Damaged(why) => (why, true),
            Unread::Foreign(why) => (why, false),
            Unread::System(error) => {
                return Err(StateError::System { what: "read", path: path.display().to_string(), error });
            }
        };
        Ok(Some((path, Self { why, is_damage, loss, missing: None })))
    }

    /// A revision whose configuration is not there. It stays: the rest of it is whole.
    pub(super) fn without(path: PathBuf, configuration: &Path, loss: Loss) -> (PathBuf, Self) {
        let why = format!("the configuration {} of {} is missing", configuration.display(), path.display());
        (path, Self { why, is_damage: false, loss, missing: Some(configuration.to_owned()) })
    }

    /// It names this configuration, which is missing.
    pub(super) fn wants(&self, configuration: &Path) -> bool {
        self.missing.as_deref() == Some(configuration)
    }

    /// What is wrong is that the configuration it names is missing.
    pub(super) const fn is_missing(&self) -> bool {
        self.missing.is_some()
    }

    /// Puts it aside if nothing can be done with it; where it is now, and what to say.
    pub(super) fn see_to(self, path: &Path, last: Option<&Record>) -> (PathBuf, String) {
        let lost = if self.is_damage || self.missing.is_some() { "lost" } else { "not in force" };
        let meaning = meaning(self.loss, lost, last);
        if self.missing.is_some() {
            return (
                path.to_owned(),
                format!("{}; {meaning}; the next change, or start, ends this message", self.why),
            );
        }
        let (kept, where_) = match self.is_damage {
            true => put_aside(path),
            false => (path.to_owned(), "it stays where it is, for that version".to_owned()),
        };
        (kept, format!("{}; {where_}; {meaning}; {ACKNOWLEDGE}", self.why))
    }
}

/// Puts a damaged file where nothing reads it; where it is now, and a sentence that says so.
pub(super) fn put_aside(path: &Path) -> (PathBuf, String) {
    let aside = aside_of(path);
    match fs::rename(path, &aside) {
        Ok(()) => {
            let sentence = format!("it is kept as {}", aside.display());
            (aside, sentence)
        }
        Err(error) => (path.to_owned(), format!("it cannot be put aside ({error})")),
    }
}

/// What an unusable file means for what lbctl changed.
fn meaning(loss: Loss, lost: &str, last: Option<&Record>) -> String {
    match (loss, last) {
        (Loss::Changes, None) => {
            format!("what lbctl had added and overridden is {lost}, no revision is whole")
        }
        (Loss::Changes, Some(last)) => format!(
            "revision {} of {} is used, what lbctl changed after it is {lost}",
            last.revision, last.time
        ),
        (Loss::Nothing, _) => "the revision in use is a later one, nothing in force is lost".to_owned(),
        (Loss::File(revision), _) => format!(
            "it was a copy of what the configuration file said; what lbctl had added and overridden by revision {revision} is in force"
        ),
        (Loss::Aside, _) => {
            "it was the file that a revision was put in the place of; the file as it is now is in force"
                .to_owned()
        }
    }
}
