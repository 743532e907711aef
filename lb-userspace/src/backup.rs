//! The whole of a configuration as one plain file, for another disk.
//!
//! In: what the daemon has in force. Out: a checksum line, then JSON that a person can read; and back. Invariant: what is read is what
//! was written, or it is refused whole.

use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::membership::{CliObjects, OverrideEntry};
use crate::moment::Millis;
use crate::spec::Spec;
use crate::state::file::{Misplaced, checksum, place_among_others};

/// `GET /v1/backup`, and what `POST /v1/restore` puts in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backup {
    /// The version of lbd that made it.
    pub version: String,
    /// The revision that was in force.
    pub revision: u64,
    /// When it was made.
    pub time: Millis,
    /// What the configuration file said.
    pub configuration: Spec,
    /// What lbctl had added.
    pub cli: CliObjects,
    /// The operator's hand on backends.
    pub overrides: Vec<OverrideEntry>,
}

impl Backup {
    /// What it is called in messages and revisions: `the backup of revision 7 of 2026-…`.
    pub fn name(&self) -> String {
        format!("the backup of revision {} of {}", self.revision, self.time)
    }

    /// The file.
    ///
    /// # Errors
    /// In a sentence: it cannot be JSON.
    pub fn text(&self) -> Result<String, String> {
        let body = serde_json::to_string_pretty(self).map_err(|error| error.to_string())? + "\n";
        Ok(format!("{HEAD}{}\n{body}", checksum(&body)))
    }

    /// What a file says.
    ///
    /// # Errors
    /// In a sentence: it is no backup, or not what was written.
    pub fn read(text: &str) -> Result<Self, String> {
        let parts = text.strip_prefix(HEAD).and_then(|rest| rest.split_once('\n'));
        let (wanted, body) = parts.ok_or("it does not begin as a backup of lbd does, with its checksum")?;
        if checksum(body) != wanted {
            return Err("its checksum does not match: it was cut off or edited".to_owned());
        }
        serde_json::from_str(body).map_err(|error| {
            format!("it is whole but not understood ({error}): another version of lbd wrote it")
        })
    }

    /// Writes it to `path`, which has it whole afterwards or is as before. `replaces`: also where a file is already.
    ///
    /// # Errors
    /// In a sentence, the system's.
    pub fn write(text: &str, path: &Path, replaces: bool) -> Result<(), Unwritten> {
        place_among_others(path, text.as_bytes(), replaces).map_err(|Misplaced { error, name }| {
            match error.kind() {
                ErrorKind::AlreadyExists => Unwritten::Taken,
                _ if name => Unwritten::Unsynced(error.to_string()),
                _ => Unwritten::System(error.to_string()),
            }
        })
    }
}

/// Why a backup was not written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwritten {
    /// There is a file of this name.
    #[error("it is there already")]
    Taken,
    /// It is written, but may be gone after a power cut.
    #[error("it is written, but the disk does not say that it has its name: {0}")]
    Unsynced(String),
    /// The system refuses; nothing has changed.
    #[error("{0}")]
    System(String),
}

/// Before the checksum.
const HEAD: &str = "# lbd backup 1, sha256 of what follows: ";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, MINIMAL_EXAMPLE};

    fn backup() -> Backup {
        Backup {
            version: "0.1.0".to_owned(),
            revision: 7,
            time: Millis(1_795_248_000_000),
            configuration: config::parse(MINIMAL_EXAMPLE, "lbd.toml").unwrap().spec,
            cli: CliObjects::default(),
            overrides: Vec::new(),
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_nothing_else() {
        let text = backup().text().unwrap();
        assert_eq!(Backup::read(&text), Ok(backup()));
        for cut in 0..text.len() {
            assert!(Backup::read(&text[..cut]).is_err(), "cut off at {cut}");
        }
        for position in 0..text.len() {
            let mut bad = text.clone().into_bytes();
            bad[position] ^= 1;
            let read = std::str::from_utf8(&bad).map_err(|_| String::new()).and_then(Backup::read);
            assert!(read.is_err(), "byte {position}");
        }
    }

    #[test]
    fn a_name_without_a_directory_is_one_here() {
        // Tests run in the directory of the crate.
        let name = format!("relative-{}.backup", std::process::id());
        let written = Backup::write("one", Path::new(&name), false);
        let read = std::fs::read_to_string(&name);
        let _tidied = std::fs::remove_file(&name);
        assert_eq!((written, read.ok()), (Ok(()), Some("one".to_owned())));
    }

    #[test]
    fn a_file_is_written_whole_and_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("backup");
        Backup::write("one", &path, false).unwrap();
        assert_eq!(Backup::write("two", &path, false), Err(Unwritten::Taken));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
        Backup::write("two", &path, true).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
        assert!(Backup::write("three", &directory.path().join("none/backup"), true).is_err());
    }

    #[test]
    fn what_others_put_beside_it_is_neither_followed_nor_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let (path, theirs) = (directory.path().join("backup"), directory.path().join("theirs"));
        std::fs::write(&theirs, "theirs").unwrap();
        // The names that a backup is written under before it is in place, of old and now.
        let fresh = [".new".to_owned(), format!(".{}.new", std::process::id())];
        for name in &fresh {
            std::os::unix::fs::symlink(&theirs, format!("{}{name}", path.display())).unwrap();
        }
        let refused = Backup::write("ours", &path, true).unwrap_err();
        assert!(matches!(refused, Unwritten::System(_)), "{refused:?}");
        std::fs::remove_file(format!("{}{}", path.display(), fresh[1])).unwrap();
        Backup::write("ours", &path, true).unwrap();
        assert_eq!(std::fs::read_to_string(&theirs).unwrap(), "theirs");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3, "what is theirs stays");
    }
}
