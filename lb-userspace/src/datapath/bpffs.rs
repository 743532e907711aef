//! The BPF filesystem that pins lie on.
//!
//! In: the pin path. Out: the path exists and is on a bpffs, mounted if need be, or an error that says what to run.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount, umount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::DatapathError;

/// Where the kernel keeps a directory ready for the bpffs of the system.
const SYSTEM_MOUNT: &str = "/sys/fs/bpf";

/// What the kernel itself pins in a bpffs (CONFIG_BPF_PRELOAD).
const PRELOADED: [&str; 2] = ["maps.debug", "progs.debug"];

/// A bpffs that this process has mounted. When it is dropped with nothing pinned in it, it is unmounted.
#[derive(Debug)]
pub(super) struct Mounted {
    target: PathBuf,
    /// The directory was made for it.
    is_new: bool,
    /// Its device number: what somebody mounts over it has another. `None`: somebody was quicker than we could look.
    device: Option<u64>,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // umount(2) takes the topmost one.
        if self.device.is_none() || device(&self.target) != self.device {
            tracing::debug!(path = %self.target.display(), "it stays mounted: another one is over it or in its place");
            return;
        }
        let is_empty = |names: Vec<String>| names.iter().all(|name| PRELOADED.contains(&name.as_str()));
        if !names(&self.target).is_ok_and(is_empty) {
            return;
        }
        match umount(&self.target) {
            Ok(()) => tracing::info!(path = %self.target.display(), "unmounted the BPF filesystem again"),
            // EBUSY: somebody else is at work there.
            Err(error) => tracing::debug!(path = %self.target.display(), "it stays mounted: {error}"),
        }
        if self.is_new {
            // What cannot be removed was not empty before the mount, or still is a mount point.
            let _unused = fs::remove_dir(&self.target);
        }
    }
}

/// Makes `pin` a directory on a bpffs. What has to be mounted for it is noted in `mounted`.
pub(super) fn prepare(pin: &Path, mounted: &mut Option<Mounted>) -> Result<(), DatapathError> {
    let existing = nearest_existing(pin);
    if !is_bpffs(&existing).map_err(|error| unusable(pin, &existing, &error))? {
        let target = if pin.starts_with(SYSTEM_MOUNT) { Path::new(SYSTEM_MOUNT) } else { pin };
        let is_new = !target.exists();
        make_directory(target).map_err(|error| unusable(pin, target, &error))?;
        mount_at(target).map_err(|error| not_mounted(pin, target, &error))?;
        // Noted before: the same place was mounted before and taken away meanwhile.
        let noted =
            mounted.get_or_insert_with(|| Mounted { target: target.to_path_buf(), is_new, device: None });
        noted.device = device(target).filter(|_| is_bpffs(target).unwrap_or(false));
    }
    make_directory(pin).map_err(|error| unusable(pin, pin, &error))
}

/// Whether `pin` is there and on a bpffs: nothing is made or mounted.
pub(super) fn is_prepared(pin: &Path) -> bool {
    is_bpffs(pin).unwrap_or(false)
}

/// The device number of the filesystem that a path is on.
fn device(path: &Path) -> Option<u64> {
    Some(fs::metadata(path).ok()?.dev())
}

fn is_bpffs(path: &Path) -> io::Result<bool> {
    Ok(statfs(path)?.filesystem_type() == BPF_FS_MAGIC)
}

fn nearest_existing(path: &Path) -> PathBuf {
    path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/")).to_path_buf()
}

/// A directory and its parents, for its owner alone.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn mount_at(target: &Path) -> io::Result<()> {
    // A shared parent must not carry this mount elsewhere; the flags are those of systemd.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), target, Some("bpf"), flags, Some("mode=0700"))?;
    tracing::info!(path = %target.display(), "mounted a BPF filesystem");
    Ok(())
}

fn not_mounted(pin: &Path, target: &Path, error: &io::Error) -> DatapathError {
    DatapathError::Pin {
        path: pin.to_path_buf(),
        reason: format!(
            "no BPF filesystem is mounted at {} and lbd may not mount one ({error})",
            target.display()
        ),
        remedy: format!(
            "run once as root: mount -t bpf bpf {} (systemd does it at boot), or set datapath.pin to a directory on a BPF filesystem",
            target.display()
        ),
    }
}

fn unusable(pin: &Path, place: &Path, error: &io::Error) -> DatapathError {
    DatapathError::Pin {
        path: pin.to_path_buf(),
        reason: format!("{}: {error}", place.display()),
        remedy: "let the user lbd runs as write there (chown the directory), or set datapath.pin to one of its own".into(),
    }
}

/// The names in a directory, sorted; none if it is not there.
pub(super) fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Removes a directory of pins and everything pinned in it; nothing happens if it is not there.
pub(super) fn remove_tree(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_existing_parent_is_found() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(nearest_existing(&directory.path().join("a/b")), directory.path());
        assert_eq!(nearest_existing(Path::new("/no-such-directory/x")), Path::new("/"));
    }

    #[test]
    fn an_ordinary_directory_is_no_bpffs() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!is_prepared(directory.path()));
        assert!(!is_prepared(&directory.path().join("missing")));
    }

    #[test]
    fn names_of_a_missing_directory_are_none() {
        let directory = tempfile::tempdir().unwrap();
        assert!(names(&directory.path().join("missing")).unwrap().is_empty());
        fs::write(directory.path().join("b"), "").unwrap();
        fs::write(directory.path().join("a"), "").unwrap();
        assert_eq!(names(directory.path()).unwrap(), ["a", "b"]);
        remove_tree(&directory.path().join("missing")).unwrap();
    }
}
