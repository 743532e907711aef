//! The configurations that this daemon has written down and that are still as it left them.
//!
//! In: a configuration in force. Out: the name under which it is written down. Invariant: a change by lbctl leaves the file's part as
//! it is, so nothing of it is written, read or hashed again, however large it is; a file that somebody has touched since is not
//! trusted, and looked at as a whole.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file;
use super::{CONFIGURATIONS, StateDir, StateError};
use crate::spec::Spec;

/// A configuration that is written down.
#[derive(Debug)]
pub(super) struct Written {
    spec: Arc<Spec>,
    name: String,
    stamp: Stamp,
}

/// What is another after any write to a file: inode, length, time of its last change in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp(u64, u64, i64, i64);

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        Some(Self(found.ino(), found.len(), found.ctime(), found.ctime_nsec()))
    }
}

impl StateDir {
    /// Writes a configuration down under its name, which is its checksum: what is there and whole is the same.
    pub(super) fn write_configuration(&mut self, spec: &Arc<Spec>) -> Result<String, StateError> {
        if let Some(written) = self.written.iter().find(|written| Arc::ptr_eq(&written.spec, spec))
            && Stamp::of(&self.configuration_path(&written.name)) == Some(written.stamp)
        {
            return Ok(written.name.clone());
        }
        let text = file::json(spec.as_ref(), Path::new(CONFIGURATIONS))?;
        let name = file::checksum(&text);
        let path = self.configuration_path(&name);
        // Read first: if it is touched after that, the stamp is another.
        let stamp = Stamp::of(&path);
        let is_there = file::read::<Spec>(&path).is_ok();
        if !is_there {
            file::write(&path, &text)?;
        }
        self.remember(spec, &name, if is_there { stamp } else { Stamp::of(&path) });
        Ok(name)
    }

    fn remember(&mut self, spec: &Arc<Spec>, name: &str, stamp: Option<Stamp>) {
        let Some(stamp) = stamp else { return };
        self.written.retain(|written| !Arc::ptr_eq(&written.spec, spec));
        // A revision names at most two: what is in force and what is set aside for it.
        self.written.truncate(1);
        self.written.insert(0, Written { spec: Arc::clone(spec), name: name.to_owned(), stamp });
    }

    pub(super) fn configuration_path(&self, name: &str) -> PathBuf {
        self.path.join(CONFIGURATIONS).join(name)
    }
}
