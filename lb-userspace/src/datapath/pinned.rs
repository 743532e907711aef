//! The pins read without the daemon: what `lbctl status` shows when nobody answers.
//!
//! In: a pin path. Out: [`Pinned`]: the tables, the counters, the interfaces. Invariant: nothing is written, no lock is taken; what is
//! read may be in the midst of a change.

use std::io;
use std::path::Path;

use super::attach::InterfaceState;
use super::attach::Links;
use super::counters::Counters;
use super::maps::Maps;
use super::pins::Layout;
use super::{DatapathError, bpffs, syscall};
use crate::store::{CounterBlock, FlowScan, Store, StoreError, Table};

/// The pinned maps and links of an lbd that need not be running.
#[derive(Debug)]
pub struct Pinned {
    maps: Maps,
    layout: Layout,
}

impl Pinned {
    /// Opens what is pinned under a path; `None` if lbd left nothing there.
    ///
    /// # Errors
    /// [`DatapathError`] if the pins cannot be read (they belong to root) or are of another build.
    pub fn open(pin: &Path) -> Result<Option<Self>, DatapathError> {
        let layout = Layout::new(pin);
        if is_barred(&layout) {
            return Err(DatapathError::Barred { path: pin.to_path_buf() });
        }
        if !bpffs::is_prepared(pin) || !layout.maps().is_dir() {
            return Ok(None);
        }
        Ok(Some(Self { maps: Maps::open(&layout.maps())?, layout }))
    }

    /// The counters.
    pub fn counters(&self) -> Counters<'_> {
        Counters::new(&self.maps)
    }

    /// The interfaces that carry the program.
    ///
    /// # Errors
    /// [`DatapathError::Pin`].
    pub fn interfaces(&self) -> Result<Vec<InterfaceState>, DatapathError> {
        let links = Links::read(&self.layout)?;
        // That of checks through services is shown to nobody.
        let names: Vec<String> =
            links.names().into_iter().filter(|name| name != crate::spec::PROBE_OUTER).collect();
        Ok(links.states(&names, |index| self.counters().transmitted(index)))
    }
}

/// Whether this user lacks the right to look: on the way to the maps, or to open one (the kernel wants CAP_BPF).
fn is_barred(layout: &Layout) -> bool {
    let maps = layout.maps();
    let is_denied = |error: io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    std::fs::metadata(&maps).is_err_and(is_denied)
        || syscall::open_pin(&maps.join("control")).is_err_and(is_denied)
}

/// What a reader may not do.
fn read_only() -> StoreError {
    StoreError::Kernel {
        what: "the pins are open for reading only".into(),
        source: std::io::Error::from(std::io::ErrorKind::PermissionDenied),
    }
}

impl Store for Pinned {
    fn entries(&self, table: Table) -> u32 {
        self.maps.entries(table.name())
    }

    fn read(&self, table: Table, first: usize, words: &mut [u64]) -> Result<(), StoreError> {
        self.maps.read(table, first, words)
    }

    fn write(&mut self, _: Table, _: usize, _: &[u64]) -> Result<(), StoreError> {
        Err(read_only())
    }

    fn clear_counters(&mut self, _: CounterBlock) -> Result<(), StoreError> {
        Err(read_only())
    }

    fn grace(&mut self) -> Result<(), StoreError> {
        Err(read_only())
    }

    fn scan(&mut self) -> Result<FlowScan, StoreError> {
        Err(read_only())
    }
}
