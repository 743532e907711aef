//! One file of the state directory: a checksum line, then JSON.
//!
//! In: a value. Out: a file that is whole or not there; and back. Invariant: what is read is what was written, or an error
//! that tells whether the file, its writer or the system is to blame.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::StateError;

/// Before the checksum.
const HEAD: &str = "# lbd state 1, sha256 of what follows: ";

/// Indented JSON, for people.
pub(super) fn json(value: &impl Serialize, path: &Path) -> Result<String, StateError> {
    let text = serde_json::to_string_pretty(value);
    let mut text = text.map_err(|error| StateError::Json { path: path.display().to_string(), error })?;
    text.push('\n');
    Ok(text)
}

/// SHA-256 as hexadecimal digits.
pub(crate) fn checksum(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why a file is not read.
#[derive(Debug)]
pub(super) enum Unread {
    /// There is none.
    Missing,
    /// It is not what was written; a sentence.
    Damaged(String),
    /// It is what was written, by a version of lbd that writes other things; a sentence.
    Foreign(String),
    /// The system refuses, which says nothing about the file.
    System(io::Error),
}

/// Reads a file; the sentences of the error name it.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Unread> {
    let whole = fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unread::Missing,
        _ => Unread::System(error),
    })?;
    let damaged = |why: &str| Unread::Damaged(format!("{} cannot be used: {why}", path.display()));
    let whole = String::from_utf8(whole).map_err(|_| damaged("it is no text"))?;
    let parts = whole.strip_prefix(HEAD).and_then(|rest| rest.split_once('\n'));
    let Some((wanted, text)) = parts else {
        return Err(damaged("it does not begin with its checksum"));
    };
    if checksum(text) != wanted {
        return Err(damaged("its checksum does not match: it was cut off or edited"));
    }
    serde_json::from_str(text).map_err(|error| {
        let path = path.display();
        Unread::Foreign(format!(
            "{path} cannot be used: it is whole but not understood ({error}), another version of lbd wrote it"
        ))
    })
}

/// Puts a file of the state directory in place.
pub(super) fn write(path: &Path, text: &str) -> Result<(), StateError> {
    let whole = format!("{HEAD}{}\n{text}", checksum(text));
    place(path, whole.as_bytes()).map_err(|error| StateError::System {
        what: "write",
        path: path.display().to_string(),
        error,
    })
}

/// Puts a file in place, whole, for its owner alone, and waits until the disk has it and its name.
///
/// # Errors
/// The system's; nothing is in place then.
pub(crate) fn place(path: &Path, whole: &[u8]) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let placed = put(&fresh, whole).and_then(|()| fs::rename(&fresh, path));
    if let Err(error) = placed {
        // Of no use to anybody; the fault that counts is the first one.
        let _unused = fs::remove_file(&fresh);
        return Err(error);
    }
    step();
    sync_names(path).inspect_err(|_| {
        // The caller will not do what this file says is done.
        let _unused = fs::remove_file(path);
    })
}

fn put(fresh: &Path, whole: &[u8]) -> io::Result<()> {
    step();
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(fresh)?;
    step();
    let (first, rest) = whole.split_at(whole.len() / 2);
    file.write_all(first)?;
    step();
    file.write_all(rest)?;
    step();
    file.sync_all()?;
    step();
    Ok(())
}

/// Waits until the disk has the names of the directory that `path` is in.
fn sync_names(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// Between two steps of a write: where the tests of crash safety end it.
#[cfg(not(test))]
const fn step() {}

#[cfg(test)]
pub(super) use super::tests::step;
