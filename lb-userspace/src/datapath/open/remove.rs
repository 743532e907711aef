//! The end: the daemon lets go, or everything under the pin path is removed.

use std::path::{Path, PathBuf};

use super::Datapath;
use crate::datapath::attach::Links;
use crate::datapath::lock::Lock;
use crate::datapath::pins::{self, Layout};
use crate::datapath::{DatapathError, bpffs};
use crate::spec::OnExit;

impl Datapath {
    /// Ends the daemon's hold; drop the datapath after it: the kernel goes on forwarding (`keep`), or everything is removed (`detach`).
    ///
    /// # Errors
    /// [`DatapathError`] if something pinned cannot be removed, or pins that are gone cannot be made again.
    pub fn close(&mut self, on_exit: OnExit) -> Result<(), DatapathError> {
        match on_exit {
            OnExit::Keep if self.lost_pins().is_empty() => Ok(()),
            OnExit::Keep => self.pin_again(),
            OnExit::Detach => remove_all(&self.pin),
        }
    }

    /// Directories under the pin path that another version of lbd left, but for the one whose place this one takes.
    pub fn foreign_pins(&self) -> Vec<PathBuf> {
        let previous = self.previous.as_ref().map(|previous| previous.layout.base());
        foreign_pins(&self.pin).into_iter().filter(|pins| Some(pins.as_path()) != previous).collect()
    }
}

/// Removes program, pins and maps of a pin path. The answer names the interfaces that carried the program.
///
/// # Errors
/// [`DatapathError::Locked`] while a daemon runs; [`DatapathError::Pin`] if something cannot be removed.
pub fn detach(pin: &Path) -> Result<Vec<String>, DatapathError> {
    if !bpffs::is_prepared(pin) {
        return Ok(Vec::new());
    }
    let _lock = Lock::take(pin)?;
    let interfaces = bpffs::names(&Layout::new(pin).links()).map_err(|error| pins::broken(pin, &error))?;
    remove_all(pin)?;
    Ok(interfaces.iter().map(|file| pins::link_interface(file)).collect())
}

/// Directories of pins under this path that are of another ABI.
pub fn foreign_pins(pin: &Path) -> Vec<PathBuf> {
    let own = Layout::new(pin);
    let is_version = |name: &str| name.strip_prefix('v').is_some_and(|number| number.parse::<u32>().is_ok());
    // A directory that cannot be read is told of by whoever has to use it.
    let names = bpffs::names(pin).unwrap_or_default();
    let directories = names.iter().filter(|name| is_version(name)).map(|name| pin.join(name));
    directories.filter(|directory| directory != own.base()).collect()
}

/// Links first: they keep program and maps alive.
pub(super) fn remove_all(pin: &Path) -> Result<(), DatapathError> {
    let layout = Layout::new(pin);
    if let Ok(mut links) = Links::open(&layout) {
        for name in links.names() {
            links.detach(&name)?;
        }
    }
    bpffs::remove_tree(layout.base()).map_err(|error| pins::broken(layout.base(), &error))?;
    match std::fs::remove_dir(pin) {
        // The pin path may itself be the mount point, or hold what is not ours.
        Err(error)
            if !matches!(
                error.raw_os_error(),
                Some(libc::EBUSY | libc::ENOTEMPTY | libc::EPERM | libc::EACCES | libc::ENOENT)
            ) =>
        {
            Err(pins::broken(pin, &error))
        }
        _ => Ok(()),
    }
}
