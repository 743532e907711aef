//! The state directory: every accepted configuration, as plain files.
//!
//! In: a [`Record`] for each accepted change. Out: the newest one that is whole, when lbd starts again. Invariants: a change
//! is written down before it is done, by one rename, so a crash or a full disk leaves the revision before it and never
//! half of one; what the file defines, what lbctl added and the overrides stand in the same revision, so they cannot
//! disagree; a damaged file is put aside for the one before it, and said until somebody removes it; a whole one that another
//! version of lbd wrote stays where that version finds it; what the system does not let us read is no damage; a revision
//! whose copy of the file is lost still has lbctl's objects and the overrides.
//!
//! ```text
//! STATE/lock                   held by the daemon that uses the directory
//! STATE/revisions/7            time, who, what, lbctl's objects, overrides, the name of the configuration
//! STATE/configurations/SHA256  what the configuration file said, once for all revisions that share it
//! STATE/discovered/POOL@SOURCE what a discovery source said last (no revision)
//! STATE/ejections              who is ejected, until when, and how often in a row (no revision)
//! STATE/…/NAME.damaged         what could not be used
//! ```

mod discovered;
mod ejections;
mod error;
pub(crate) mod file;
mod kept;
mod leftovers;
mod lines;
mod unusable;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::membership::{CliObjects, Ejected, OverrideEntry, SetAside};
use crate::moment::Millis;
use crate::spec::Spec;

pub use discovered::{AnswerFiles, Said};
pub use ejections::EjectionFile;
pub use error::StateError;
use file::Unread;
use kept::Kept;
pub use kept::{Summary, Unkept};
use leftovers::{make, remove_all};
use unusable::{ACKNOWLEDGE, DAMAGED, Loss, Unusable, aside_of};
use written::Written;

/// Revisions that are kept.
pub const KEPT: u64 = 50;

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
    /// `file` is not what the daemon's file said: that one is here.
    pub set_aside: Option<Arc<SetAside>>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    set_aside: Option<StoredAside>,
}

/// What a revision says of the file that it is in the place of.
#[derive(Clone, Serialize, Deserialize)]
struct StoredAside {
    instead: String,
    configuration: String,
}

impl Stored {
    /// The configurations that it names.
    fn configurations(&self) -> Vec<String> {
        let aside = self.set_aside.as_ref().map(|aside| aside.configuration.clone());
        std::iter::once(self.configuration.clone()).chain(aside).collect()
    }

    fn with(self, file: Spec, set_aside: Option<Arc<SetAside>>) -> Record {
        let Self { revision, time, who, what, cli, overrides, .. } = self;
        Record { revision, time, who, what, file: Arc::new(file), cli: Arc::new(cli), overrides, set_aside }
    }
}

/// What lbctl had done by a revision whose copy of the file is lost.
#[derive(Clone, Debug, PartialEq)]
pub struct Objects {
    /// The revision.
    pub revision: u64,
    /// What lbctl added.
    pub cli: CliObjects,
    /// The operator's hand on backends.
    pub overrides: Vec<OverrideEntry>,
}

/// What an earlier run left behind.
#[derive(Debug, Default)]
pub struct Left {
    /// The newest revision that is whole.
    pub last: Option<Record>,
    /// lbctl's part of a newer one, of which the file's part is lost.
    pub objects: Option<Objects>,
    /// The highest number in use, damaged ones included: new revisions count from here.
    pub highest: u64,
    /// Files that could not be used, now or at an earlier start, where they are now, each with what that means. They are
    /// somebody's to look at and to remove.
    pub damaged: BTreeMap<PathBuf, String>,
    /// Those of them that are whole but for a file that is gone: there is nothing to look at, and the next revision misses nothing.
    pub missing: BTreeSet<PathBuf>,
    /// Who was ejected.
    pub ejections: Vec<Ejected>,
}

impl Left {
    /// The revision that stays in force although this is what the file says: something was put back, and the file has not changed since.
    pub fn instead_of(&self, file: &Spec) -> Option<&Record> {
        let last = self.last.as_ref().filter(|_| self.objects.is_none())?;
        last.set_aside.as_ref().is_some_and(|aside| aside.file.means_the_same(file)).then_some(last)
    }
}

/// The directory, held by this daemon.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// What is known of each kept revision.
    kept: BTreeMap<u64, Kept>,
    /// The configurations of the last revision.
    written: Vec<Written>,
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
            make(&directory).map_err(system("make"))?;
        }
        let lock = match File::create(path.join("lock")) {
            // What was written down is of use although nothing can be added to it.
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => File::open(path.join("lock")),
            lock => lock,
        };
        let lock = lock.map_err(system("lock"))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
            nix::errno::Errno::EWOULDBLOCK => StateError::Held { path: path.display().to_string() },
            error => system("lock")(error.into()),
        })?;
        let mut state =
            Self { path: path.to_owned(), kept: BTreeMap::new(), written: Vec::new(), _lock: lock };
        let before = state.put_aside_before().map_err(system("read"))?;
        let numbers = state.numbers().map_err(system("read"))?;
        let mut left = state.read(before, numbers)?;
        left.ejections = state.ejection_file().read(&mut left.damaged);
        state.clear_leftovers();
        Ok((state, left))
    }

    /// What there is: `before` has been put aside already, `numbers` are those of the revisions, in order.
    fn read(&mut self, before: BTreeMap<PathBuf, String>, numbers: Vec<u64>) -> Result<Left, StateError> {
        // A number is not given twice.
        let aside = before.keys().filter_map(|path| path.file_stem()?.to_str()?.parse().ok());
        let mut left = Left { highest: aside.max().unwrap_or(0), damaged: before, ..Left::default() };
        let mut unusable = BTreeMap::new();
        for number in numbers.into_iter().rev() {
            left.highest = left.highest.max(number);
            let path = self.revision_path(number);
            let loss = if left.last.is_none() { Loss::Changes } else { Loss::Nothing };
            match file::read::<Stored>(&path) {
                Ok(stored) => {
                    self.kept.insert(number, Kept::of(&stored));
                    if left.last.is_none() {
                        self.complete(path, stored, &mut left, &mut unusable)?;
                    }
                }
                Err(unread) => {
                    self.kept.insert(number, Kept::default());
                    unusable.extend(Unusable::of(path, unread, loss)?);
                }
            }
        }
        let missing = unusable.iter().filter(|(_, fault)| fault.is_missing());
        left.missing = missing.map(|(path, _)| path.clone()).collect();
        left.damaged
            .extend(unusable.into_iter().map(|(path, fault)| fault.see_to(&path, left.last.as_ref())));
        Ok(left)
    }

    /// Takes a revision with its configuration as the last one; or, where that is lost, the rest of it.
    fn complete(
        &self,
        path: PathBuf,
        stored: Stored,
        left: &mut Left,
        unusable: &mut BTreeMap<PathBuf, Unusable>,
    ) -> Result<(), StateError> {
        let configuration = self.configuration_path(&stored.configuration);
        let unread = match file::read::<Spec>(&configuration) {
            Ok(spec) => {
                let set_aside = self.set_aside(&stored, unusable)?;
                left.last = Some(stored.with(spec, set_aside));
                return Ok(());
            }
            Err(unread) => unread,
        };
        let is_newest = left.objects.is_none();
        let objects = left.objects.get_or_insert(Objects {
            revision: stored.revision,
            cli: stored.cli,
            overrides: stored.overrides,
        });
        let loss = Loss::File(objects.revision);
        match unread {
            // It is said already, by the file that was put aside, or by a newer revision that wants it too.
            Unread::Missing if left.damaged.contains_key(&aside_of(&configuration)) => {}
            Unread::Missing if !is_newest && unusable.values().any(|fault| fault.wants(&configuration)) => {}
            Unread::Missing => unusable.extend([Unusable::without(path, &configuration, loss)]),
            unread => unusable.extend(Unusable::of(configuration, unread, loss)?),
        }
        Ok(())
    }

    /// The file that a revision is in the place of. One that is lost can no longer be told from a changed one, so the present file counts.
    fn set_aside(
        &self,
        stored: &Stored,
        unusable: &mut BTreeMap<PathBuf, Unusable>,
    ) -> Result<Option<Arc<SetAside>>, StateError> {
        let Some(StoredAside { instead, configuration }) = stored.set_aside.clone() else { return Ok(None) };
        let path = self.configuration_path(&configuration);
        match file::read::<Spec>(&path) {
            Ok(file) => Ok(Some(Arc::new(SetAside { file: Arc::new(file), instead }))),
            Err(Unread::Missing) => {
                unusable.extend([Unusable::without(self.revision_path(stored.revision), &path, Loss::Aside)]);
                Ok(None)
            }
            Err(unread) => {
                unusable.extend(Unusable::of(path, unread, Loss::Aside)?);
                Ok(None)
            }
        }
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
        let written = self.write_record(record);
        if written.is_err() {
            // On a full disk every attempt would leave the configuration of a revision that there is not.
            self.clear_configurations(
                [&record.file].into_iter().chain(record.set_aside.as_ref().map(|aside| &aside.file)),
            );
        }
        written
    }

    fn write_record(&mut self, record: &Record) -> Result<(), StateError> {
        let configuration = self.write_configuration(&record.file)?;
        let set_aside = record.set_aside.as_ref().map(|aside| {
            let configuration = self.write_configuration(&aside.file)?;
            Ok(StoredAside { instead: aside.instead.clone(), configuration })
        });
        let stored = Stored {
            revision: record.revision,
            time: record.time,
            who: record.who.clone(),
            what: record.what.clone(),
            configuration,
            cli: CliObjects::clone(&record.cli),
            overrides: record.overrides.clone(),
            set_aside: set_aside.transpose()?,
        };
        let path = self.revision_path(record.revision);
        file::write(&path, &file::json(&stored, &path)?)?;
        self.kept.insert(record.revision, Kept::of(&stored));
        self.forget_old(record.revision);
        Ok(())
    }

    /// Removes revisions beyond the last [`KEPT`], and configurations that no kept one names. What cannot be removed is
    /// tried again next time.
    fn forget_old(&mut self, newest: u64) {
        let kept = self.kept.split_off(&(newest + 1).saturating_sub(KEPT));
        let old = std::mem::replace(&mut self.kept, kept);
        for (number, kept) in old {
            let unused = kept.configurations.iter().filter(|name| !self.is_named(name));
            remove_all(unused.map(|name| self.configuration_path(name)).chain([self.revision_path(number)]));
        }
    }

    fn revision_path(&self, number: u64) -> PathBuf {
        self.path.join(REVISIONS).join(number.to_string())
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
