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
use serde::ser::Error as _;
use serde_json::Serializer;
use sha2::{Digest, Sha256};

use super::StateError;
use super::lines::Lines;

/// Before the checksum.
const HEAD: &str = "# lbd state 1, sha256 of what follows: ";

/// Indented JSON, for people: a line for each backend.
pub(super) fn json(value: &impl Serialize, path: &Path) -> Result<String, StateError> {
    let failed = |error| StateError::Json { path: path.display().to_string(), error };
    let mut text = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut text, Lines::default())).map_err(failed)?;
    text.push(b'\n');
    String::from_utf8(text).map_err(|error| failed(serde_json::Error::custom(error)))
}

/// SHA-256 as hexadecimal digits.
pub(crate) fn checksum(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// It looks like what [`checksum`] makes.
pub(super) fn is_checksum(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
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
///
/// # Errors
/// The system's; nothing is in place then.
pub(super) fn write(path: &Path, text: &str) -> Result<(), StateError> {
    written(path, text, |path| {
        sync_names(path).inspect_err(|_| {
            // The caller will not do what this file says is done.
            let _unused = fs::remove_file(path);
        })
    })
}

/// The same for a file that may be there in an older form.
///
/// # Errors
/// The system's; the older form is in place then, or, where only its name may not outlive a power cut, the new one.
pub(super) fn write_over(path: &Path, text: &str) -> Result<(), StateError> {
    written(path, text, sync_names)
}

fn written(path: &Path, text: &str, sync: impl Fn(&Path) -> io::Result<()>) -> Result<(), StateError> {
    let whole = format!("{HEAD}{}\n{text}", checksum(text));
    place(path, whole.as_bytes()).and_then(|()| sync(path)).map_err(|error| StateError::System {
        what: "write",
        path: path.display().to_string(),
        error,
    })
}

/// The extension of a file that is not yet in place.
pub(super) const FRESH: &str = "new";

/// Puts a file in place, whole, for its owner alone; what is missing is that the disk has its name.
fn place(path: &Path, whole: &[u8]) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".");
    fresh.push(FRESH);
    let fresh = PathBuf::from(fresh);
    let placed = put(&fresh, whole).and_then(|()| fs::rename(&fresh, path));
    if let Err(error) = placed {
        // Of no use to anybody; the fault that counts is the first one.
        let _unused = fs::remove_file(&fresh);
        return Err(error);
    }
    step();
    Ok(())
}

fn put(fresh: &Path, whole: &[u8]) -> io::Result<()> {
    step();
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(fresh)?;
    fill(file, whole)
}

/// Writes a file that is open and empty, and waits until the disk has it.
fn fill(mut file: File, whole: &[u8]) -> io::Result<()> {
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

/// Puts a file into a directory that others may write to as well: nothing of theirs is followed, taken over or removed.
/// `replaces`: it may take the place of one that is there.
///
/// # Errors
/// The system's, [`io::ErrorKind::AlreadyExists`] among them. [`Misplaced::name`]: the file is in place, and only its name may not
/// outlive a power cut; else all is as before.
pub(crate) fn place_among_others(path: &Path, whole: &[u8], replaces: bool) -> Result<(), Misplaced> {
    let before = |error: io::Error| Misplaced { error, name: false };
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.{FRESH}", std::process::id()));
    let fresh = PathBuf::from(name);
    // A file of this name is not ours: an earlier lbctl of this number was killed, or somebody waits for us.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).map_err(|error| {
        let path = fresh.display();
        before(io::Error::other(format!("{path}: {error}")))
    })?;
    let placed = fill(file, whole).and_then(|()| match replaces {
        true => fs::rename(&fresh, path),
        false => name_anew(&fresh, path),
    });
    if placed.is_err() {
        // Of no use to anybody; the fault that counts is the first one.
        let _unused = fs::remove_file(&fresh);
    }
    placed.map_err(before)?;
    sync_names(path).map_err(|error| Misplaced { error, name: true })
}

/// Gives a file another name that nothing has.
fn name_anew(fresh: &Path, path: &Path) -> io::Result<()> {
    // Unlike a rename, a link takes no other file's place.
    match fs::hard_link(fresh, path) {
        Ok(()) => fs::remove_file(fresh),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // A file system without links (FAT): looked at just before is as near as it gets.
        Err(_) if path.symlink_metadata().is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(fresh, path),
    }
}

/// Why a file was not put in place.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(crate) struct Misplaced {
    /// The system's word.
    pub(crate) error: io::Error,
    /// It is there, but its name is perhaps not on the disk.
    pub(crate) name: bool,
}

/// Waits until the disk has the names of the directory that `path` is in.
pub(super) fn sync_names(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

/// The directory that `path` is in; of a bare name, the one we are in.
fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Between two steps of a write: where the tests of crash safety end it.
#[cfg(not(test))]
const fn step() {}

#[cfg(test)]
pub(super) use super::tests::step;
