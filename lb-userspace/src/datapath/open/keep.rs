//! Pins that somebody takes away while the daemon runs.
//!
//! In: the pin path, and what is held open. Out: which pins are gone; what is held, pinned again. Invariant: what is there is left alone.
//! Without its pin a link, and with it the program, ends with the process that holds it.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Datapath;
use crate::datapath::lock::Lock;
use crate::datapath::{DatapathError, bpffs, pins, syscall};

impl Datapath {
    /// The pins that should be there and are not.
    pub fn lost_pins(&self) -> Vec<PathBuf> {
        let mut wanted: Vec<PathBuf> = self.links.pins().map(|(path, _)| path).collect();
        // A set on its way into use is another one's business.
        if self.staged.is_none() {
            wanted.extend(self.maps.pins(&self.layout.maps()).map(|(path, _)| path));
            wanted.extend(self.programs.pins(&self.layout.programs()));
        }
        wanted.retain(|path| !is_there(path));
        wanted
    }

    /// Whether a pin is gone that the program needs to stay on an interface when this process ends.
    pub fn has_lost_links(&self) -> bool {
        self.links.pins().any(|(path, _)| !is_there(&path))
    }

    /// Pins again what is gone.
    ///
    /// # Errors
    /// [`DatapathError`]: the BPF filesystem cannot be had, or another lbd has the pin path.
    pub fn pin_again(&mut self) -> Result<(), DatapathError> {
        bpffs::prepare(&self.pin, &mut self.mounted)?;
        // The lock was on a directory that nobody finds any more.
        if !self.lock.is_of(&self.pin) {
            self.lock = Arc::new(Lock::take(&self.pin)?);
        }
        for directory in [self.layout.maps(), self.layout.links(), self.layout.programs()] {
            bpffs::make_directory(&directory).map_err(|error| pins::broken(&directory, &error))?;
        }
        let maps = self.layout.maps();
        let maps = self.maps.pins(&maps).filter(|_| self.staged.is_none());
        for (path, object) in self.links.pins().chain(maps).filter(|(path, _)| !is_there(path)) {
            syscall::pin(object.as_fd(), &path).map_err(|error| pins::broken(&path, &error))?;
        }
        if self.staged.is_none() { self.programs.pin(&self.layout.programs()) } else { Ok(()) }
    }
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
