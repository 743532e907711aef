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
    /// The revision in use is an older one, or none.
    is_loss: bool,
}

impl Unusable {
    /// What a failed read of `path` means; nothing if somebody has just removed it.
    ///
    /// # Errors
    /// The system refuses to read it.
    pub(super) fn of(
        path: PathBuf,
        unread: Unread,
        is_loss: bool,
    ) -> Result<Option<(PathBuf, Self)>, StateError> {
        let (why, is_damage) = match unread {
            Unread::Missing => return Ok(None),
            Unread::Damaged(why) => (why, true),
            Unread::Foreign(why) => (why, false),
            Unread::System(error) => {
                return Err(StateError::System { what: "read", path: path.display().to_string(), error });
            }
        };
        Ok(Some((path, Self { why, is_damage, is_loss })))
    }

    /// A revision whose configuration is not there.
    pub(super) fn without(path: PathBuf, configuration: &Path) -> (PathBuf, Self) {
        let why = format!(
            "{} cannot be used: its configuration {} is missing",
            path.display(),
            configuration.display()
        );
        (path, Self { why, is_damage: true, is_loss: true })
    }

    /// Puts it aside if nothing can be done with it; where it is now, and what to say.
    pub(super) fn see_to(self, path: &Path, last: Option<&Record>) -> (PathBuf, String) {
        let (kept, where_) = match self.is_damage {
            true => put_aside(path),
            false => (path.to_owned(), "it stays where it is, for that version".to_owned()),
        };
        let meaning = meaning(self.is_loss, if self.is_damage { "lost" } else { "not in force" }, last);
        (kept, format!("{}; {where_}; {meaning}; {ACKNOWLEDGE}", self.why))
    }
}

/// Puts a damaged file where nothing reads it; where it is now, and a sentence that says so.
fn put_aside(path: &Path) -> (PathBuf, String) {
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
fn meaning(is_loss: bool, lost: &str, last: Option<&Record>) -> String {
    match (is_loss, last) {
        (true, None) => format!("what lbctl had added and overridden is {lost}, no revision is whole"),
        (true, Some(last)) => {
            format!(
                "revision {} of {} is used, what lbctl changed after it is {lost}",
                last.revision, last.time
            )
        }
        (false, _) => "the revision in use is a later one, nothing in force is lost".to_owned(),
    }
}
