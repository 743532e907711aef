//! One lbd per pin path.
//!
//! In: the pin directory. Out: a [`Lock`] held until it is dropped or the process ends, however it ends. A bpffs takes no
//! ordinary files, so the lock is a flock(2) on the directory itself.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{major, minor};

use super::DatapathError;

/// The lock on a pin path.
#[derive(Debug)]
pub(super) struct Lock {
    _directory: Flock<File>,
    /// Of the directory: device and inode.
    identity: (u64, u64),
}

impl Lock {
    /// Takes the lock, or says who holds it.
    pub(super) fn take(pin: &Path) -> Result<Self, DatapathError> {
        let failed = |error: io::Error| {
            DatapathError::Pin {
            path: pin.to_path_buf(),
            reason: format!("cannot be locked: {error}"),
            remedy: "start again if another lbd was just detached; else let the user lbd runs as read the directory".into(),
        }
        };
        let directory = File::open(pin).map_err(failed)?;
        let metadata = directory.metadata().map_err(failed)?;
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(directory) => {
                let lock = Self { _directory: directory, identity: (metadata.dev(), metadata.ino()) };
                // Who had it before may have removed the directory: a lock on what is no longer there keeps nobody out.
                if lock.is_of(pin) {
                    Ok(lock)
                } else {
                    Err(failed(io::Error::from_raw_os_error(libc::ENOENT)))
                }
            }
            Err((_, Errno::EWOULDBLOCK)) => Err(DatapathError::Locked {
                path: pin.to_path_buf(),
                holder: holder(&metadata).map_or_else(|| "another process".to_owned(), describe),
            }),
            Err((_, error)) => Err(failed(error.into())),
        }
    }

    /// Whether the directory that is there now is the one that is locked.
    pub(super) fn is_of(&self, pin: &Path) -> bool {
        fs::metadata(pin).is_ok_and(|present| (present.dev(), present.ino()) == self.identity)
    }
}

/// The process that holds a flock on this inode, from /proc/locks.
fn holder(metadata: &fs::Metadata) -> Option<u32> {
    let device = metadata.dev();
    let inode = format!("{:02x}:{:02x}:{}", major(device), minor(device), metadata.ino());
    find_holder(&fs::read_to_string("/proc/locks").ok()?, &inode)
}

/// A line: `7: FLOCK  ADVISORY  WRITE 1234 00:1d:16 0 EOF`; waiters have `->` after the number.
fn find_holder(locks: &str, inode: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields[..] {
            [_, "FLOCK", _, _, process, place, ..] if place == inode => process.parse().ok(),
            _ => None,
        }
    })
}

fn describe(process: u32) -> String {
    match fs::read_to_string(format!("/proc/{process}/comm")) {
        Ok(name) => format!("process {process} ({})", name.trim()),
        Err(_) => format!("process {process}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_among_other_locks_and_waiters() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 fe:00:5 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 22 00:1d:7 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 33 00:1d:8 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 44 00:1d:8 0 EOF\n";
        assert_eq!(find_holder(locks, "00:1d:8"), Some(33));
        assert_eq!(find_holder(locks, "00:1d:9"), None);
    }

    #[test]
    fn a_second_lock_names_the_process_that_has_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let first = Lock::take(directory.path()).unwrap();
        let error = Lock::take(directory.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        assert!(first.is_of(directory.path()) && !first.is_of(Path::new("/")));
        drop(first);
        Lock::take(directory.path()).unwrap();
    }
}
