//! What outlives the daemon: the directories of pins, and whether the pinned maps are the ones this program wants.
//!
//! In: the pin path and the object's wishes. Out: a directory with every map, old or to be made, and what was found
//! ([`Adoption`]). Invariants: a pinned map is used only if type, key, value, entries and flags are what the object wants
//! (aya 0.14 compares nothing); the directory `maps` is always a whole set, because a new set is built beside it as
//! `maps_new` and put in its place by renaming.

mod layout;
mod previous;
mod remembered;
mod shape;
mod staged;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

pub(super) use layout::{Layout, link_interface};
pub(super) use previous::Previous;
pub(super) use remembered::{Remembered, present_sizes};
pub(super) use shape::{Shape, wanted};
pub(super) use staged::{Staged, commit, stage};

use super::DatapathError;
use super::syscall::{self, ObjectKind};

/// What was found under the pin path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Adoption {
    /// Nothing: every map is new.
    Fresh,
    /// All maps, as wanted: contents and attached programs go on.
    Adopted,
    /// Maps that do not fit were made anew; each with a sentence. What could be copied was.
    Migrated {
        /// One sentence a map.
        what: Vec<String>,
    },
}

/// Opens a pinned map; `None` if nothing is there.
pub(super) fn open_map(path: &Path) -> Result<Option<(OwnedFd, Shape)>, DatapathError> {
    let Some(object) = open(path, ObjectKind::Map)? else { return Ok(None) };
    let info = syscall::map_info(object.as_fd()).map_err(|error| broken(path, &error))?;
    Ok(Some((object, info.into())))
}

/// Opens a pinned object that must be of this kind; `None` if nothing is there.
pub(super) fn open(path: &Path, kind: ObjectKind) -> Result<Option<OwnedFd>, DatapathError> {
    let object = match syscall::open_pin(path) {
        Ok(object) => object,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(broken(path, &error)),
    };
    match syscall::kind(object.as_fd()) {
        Ok(Some(found)) if found == kind => Ok(Some(object)),
        Ok(found) => Err(DatapathError::Pin {
            path: path.to_path_buf(),
            reason: format!(
                "is {}, lbd keeps {} there",
                found.map_or("something else", ObjectKind::as_str),
                kind.as_str()
            ),
            remedy: "remove it, or set datapath.pin to another directory".into(),
        }),
        Err(error) => Err(broken(path, &error)),
    }
}

pub(super) fn broken(path: &Path, error: &io::Error) -> DatapathError {
    let remedy = match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => "run lbd as the user who owns the pins, with CAP_BPF".into(),
        _ => format!(
            "`lbd detach` removes all pins (traffic stops), or set datapath.pin to another directory than {}",
            path.parent().unwrap_or(path).display()
        ),
    };
    DatapathError::Pin { path: path.to_path_buf(), reason: error.to_string(), remedy }
}
