//! The state directory: every accepted configuration, as plain files.
//!
//! In: a [`Record`] for each accepted change. Out: the newest one that is whole, when lbd starts again. Invariants: a change
//! is written down before it is done, by one rename, so a crash or a full disk leaves the revision before it and never
//! half of one; what the file defines, what lbctl added and the overrides stand in the same revision, so they cannot
//! disagree; a damaged file is put aside for the one before it, and said until somebody removes it; a whole one that another
//! version of lbd wrote stays where that version finds it; what the system does not let us read is no damage.
//!
//! ```text
//! STATE/lock                   held by the daemon that uses the directory
//! STATE/revisions/7            time, who, what, lbctl's objects, overrides, the name of the configuration
//! STATE/configurations/SHA256  what the configuration file said, once for all revisions that share it
//! STATE/discovered/POOL@SOURCE what a discovery source said last (no revision)
//! STATE/…/NAME.damaged         what could not be used
//! ```

mod discovered;
mod file;
mod unusable;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::membership::{CliObjects, OverrideEntry, Refusal, RefusalCode};
use crate::moment::Millis;
use crate::spec::Spec;

pub use discovered::Said;
use file::Unread;
use unusable::{ACKNOWLEDGE, DAMAGED, Unusable, aside_of};

/// Revisions that are kept.
pub const KEPT: u64 = 50;

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another daemon uses it.
    #[error("{path} is used by another lbd: stop that one, or give this one another daemon.state")]
    Held {
        /// The directory.
        path: String,
    },
    /// The system refuses.
    #[error(
        "cannot {what} {path} ({error}): check that the disk has room and that lbd may read and write there"
    )]
    System {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: String,
        /// Why it failed.
        error: io::Error,
    },
    /// A value that JSON cannot hold.
    #[error("cannot write {path} as JSON ({error})")]
    Json {
        /// Which file.
        path: String,
        /// Why it failed.
        error: serde_json::Error,
    },
}

impl From<StateError> for Refusal {
    fn from(error: StateError) -> Self {
        Self::new(
            RefusalCode::NotSaved,
            error.to_string(),
            "nothing has changed; mend it and repeat the change",
        )
    }
}

/// One accepted configuration, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its number.
    pub revision: u64,
    /// When it was accepted.
    pub time: Millis,
    /// Who asked for it: `uid 0`, `the configuration file`.
    pub who: String,
    /// What it changed, a sentence for each operation.
    pub what: Vec<String>,
    /// What the configuration file says.
    pub file: Arc<Spec>,
    /// What lbctl added.
    pub cli: Arc<CliObjects>,
    /// The operator's hand on backends.
    pub overrides: Vec<OverrideEntry>,
}

/// A revision as its file has it.
#[derive(Serialize, Deserialize)]
struct Stored {
    revision: u64,
    time: Millis,
    who: String,
    what: Vec<String>,
    configuration: String,
    cli: CliObjects,
    overrides: Vec<OverrideEntry>,
}

impl Stored {
    fn with(self, file: Spec) -> Record {
        let Self { revision, time, who, what, cli, overrides, .. } = self;
        Record { revision, time, who, what, file: Arc::new(file), cli: Arc::new(cli), overrides }
    }
}

/// What an earlier run left behind.
#[derive(Debug, Default)]
pub struct Left {
    /// The newest revision that is whole.
    pub last: Option<Record>,
    /// The highest number in use, damaged ones included: new revisions count from here.
    pub highest: u64,
    /// Files that could not be used, now or at an earlier start, where they are now, each with what that means. They are
    /// somebody's to look at and to remove.
    pub damaged: BTreeMap<PathBuf, String>,
}

/// The directory, held by this daemon.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// Which configuration each kept revision names; `None`: it cannot be read.
    configurations: BTreeMap<u64, Option<String>>,
    _lock: Flock<File>,
}

impl StateDir {
    /// Takes the directory, makes it if it is missing, and reads what is left in it.
    ///
    /// # Errors
    /// Another daemon has it, or the system refuses, reading a file too. Damaged files are no error, see [`Left::damaged`].
    pub fn open(path: &Path) -> Result<(Self, Left), StateError> {
        let system = |what: &'static str| {
            move |error: io::Error| StateError::System { what, path: path.display().to_string(), error }
        };
        for directory in [path.to_owned(), path.join(REVISIONS), path.join(CONFIGURATIONS)] {
            DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(system("make"))?;
        }
        let lock = File::create(path.join("lock")).map_err(system("lock"))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
            nix::errno::Errno::EWOULDBLOCK => StateError::Held { path: path.display().to_string() },
            error => system("lock")(error.into()),
        })?;
        let mut state = Self { path: path.to_owned(), configurations: BTreeMap::new(), _lock: lock };
        let before = state.put_aside_before().map_err(system("read"))?;
        let numbers = state.numbers().map_err(system("read"))?;
        let left = state.read(before, numbers)?;
        Ok((state, left))
    }

    /// What there is: `before` has been put aside already, `numbers` are those of the revisions, in order.
    fn read(&mut self, before: BTreeMap<PathBuf, String>, numbers: Vec<u64>) -> Result<Left, StateError> {
        // A number is not given twice.
        let aside = before.keys().filter_map(|path| path.file_stem()?.to_str()?.parse().ok());
        let mut left = Left { highest: aside.max().unwrap_or(0), last: None, damaged: before };
        let (mut unusable, mut missing) = (BTreeMap::new(), BTreeSet::new());
        for number in numbers.into_iter().rev() {
            left.highest = left.highest.max(number);
            let is_loss = left.last.is_none();
            let path = self.revision_path(number);
            let stored = match file::read::<Stored>(&path) {
                Ok(stored) => stored,
                Err(unread) => {
                    self.configurations.insert(number, None);
                    unusable.extend(Unusable::of(path, unread, is_loss)?);
                    continue;
                }
            };
            self.configurations.insert(number, Some(stored.configuration.clone()));
            if !is_loss {
                continue;
            }
            let configuration = self.configuration_path(&stored.configuration);
            match file::read::<Spec>(&configuration) {
                Ok(spec) => left.last = Some(stored.with(spec)),
                // It is said already.
                Err(Unread::Missing) if left.damaged.contains_key(&aside_of(&configuration)) => {}
                Err(Unread::Missing) => {
                    // What is not there cannot be kept and shown: the newest revision that wants it is.
                    if missing.insert(configuration.clone()) {
                        unusable.extend([Unusable::without(path, &configuration)]);
                    }
                }
                Err(unread) => unusable.extend(Unusable::of(configuration, unread, true)?),
            }
        }
        left.damaged
            .extend(unusable.into_iter().map(|(path, fault)| fault.see_to(&path, left.last.as_ref())));
        Ok(left)
    }

    /// Files that earlier starts have put aside and nobody has removed.
    fn put_aside_before(&self) -> io::Result<BTreeMap<PathBuf, String>> {
        let mut found = BTreeMap::new();
        for directory in [REVISIONS, CONFIGURATIONS] {
            for entry in fs::read_dir(self.path.join(directory))? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == DAMAGED) {
                    let sentence = format!(
                        "{} was damaged and put aside by an earlier start: what lbctl had changed by then may be lost; {ACKNOWLEDGE}",
                        path.display()
                    );
                    found.insert(path, sentence);
                }
            }
        }
        Ok(found)
    }

    /// The numbers of the revisions there are, in order.
    fn numbers(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(self.path.join(REVISIONS))? {
            // Other names are leftovers of an interrupted write, or somebody's notes.
            numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Writes a revision down; when this returns it survives a power cut.
    ///
    /// # Errors
    /// It could not be written: then the directory is as before, and the change must not be done.
    pub fn write(&mut self, record: &Record) -> Result<(), StateError> {
        let text = file::json(&*record.file, Path::new(CONFIGURATIONS))?;
        let configuration = file::checksum(&text);
        let path = self.configuration_path(&configuration);
        // The name is the checksum: what is there and whole is the same.
        if file::read::<Spec>(&path).is_err() {
            file::write(&path, &text)?;
        }
        let stored = Stored {
            revision: record.revision,
            time: record.time,
            who: record.who.clone(),
            what: record.what.clone(),
            configuration: configuration.clone(),
            cli: CliObjects::clone(&record.cli),
            overrides: record.overrides.clone(),
        };
        let path = self.revision_path(record.revision);
        file::write(&path, &file::json(&stored, &path)?)?;
        self.configurations.insert(record.revision, Some(configuration));
        self.forget_old(record.revision);
        Ok(())
    }

    /// Removes revisions beyond the last [`KEPT`], and configurations that no kept one names. What cannot be removed is
    /// tried again next time.
    fn forget_old(&mut self, newest: u64) {
        let kept = self.configurations.split_off(&(newest + 1).saturating_sub(KEPT));
        let old = std::mem::replace(&mut self.configurations, kept);
        for (number, configuration) in old {
            let unused = configuration
                .filter(|name| !self.configurations.values().any(|kept| kept.as_ref() == Some(name)));
            let paths = [Some(self.revision_path(number)), unused.map(|name| self.configuration_path(&name))];
            for path in paths.into_iter().flatten() {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        tracing::warn!("cannot remove the old {}: {error}", path.display());
                    }
                    _ => {}
                }
            }
        }
    }

    fn revision_path(&self, number: u64) -> PathBuf {
        self.path.join(REVISIONS).join(number.to_string())
    }

    fn configuration_path(&self, name: &str) -> PathBuf {
        self.path.join(CONFIGURATIONS).join(name)
    }
}

const REVISIONS: &str = "revisions";
const CONFIGURATIONS: &str = "configurations";

/// Whether a daemon uses the directory.
pub fn is_held(path: &Path) -> bool {
    let lock = File::open(path.join("lock"));
    let taken = lock.map(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock));
    matches!(taken, Ok(Err((_, nix::errno::Errno::EWOULDBLOCK))))
}

#[cfg(test)]
mod tests;
