//! Maps of our own: for the programs of tests and bench, and to stand where lbd expects one of its own.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::{address, bpf, owned, raw};

// enum bpf_cmd, include/uapi/linux/bpf.h.
const MAP_CREATE: i32 = 0;
const MAP_LOOKUP_ELEM: i32 = 1;
const MAP_UPDATE_ELEM: i32 = 2;
const OBJ_PIN: i32 = 6;

/// Kinds of maps in use here (enum bpf_map_type).
#[derive(Clone, Copy, Debug)]
pub enum MapKind {
    /// Values by key.
    Hash = 1,
    /// Values by index.
    Array = 2,
    /// Programs by index, for tail calls.
    Programs = 3,
    /// A value for each CPU by index.
    PerCpuArray = 6,
}

/// A map of our own.
#[derive(Debug)]
pub struct Map(OwnedFd);

impl Map {
    /// Makes a map; lengths in bytes.
    pub fn new(kind: MapKind, key_len: u32, value_len: u32, entries: u32) -> Result<Self> {
        let mut attribute = [kind as u32, key_len, value_len, entries, 0];
        Ok(Self(owned(bpf(MAP_CREATE, &mut attribute).context("cannot make a map")?)))
    }

    /// Pins it where nothing is yet.
    pub fn pin(&self, path: &Path) -> Result<()> {
        let name = CString::new(path.as_os_str().as_bytes())?;
        let mut attribute = [address(name.as_ptr()), u64::from(raw(&self.0))];
        let pinned = bpf(OBJ_PIN, &mut attribute);
        pinned.map(drop).with_context(|| format!("cannot pin a map at {}", path.display()))
    }

    /// For an instruction that refers to it.
    pub(in crate::program) fn descriptor(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Stores a value in a map with 32-bit keys; of a per-CPU map, one after the other for every possible CPU.
    pub fn set<T>(&self, key: u32, value: &T) -> Result<()> {
        let mut attribute = [u64::from(raw(&self.0)), address(&raw const key), address(value), 0];
        bpf(MAP_UPDATE_ELEM, &mut attribute).map(drop).context("cannot store in a map")
    }

    /// The value of two words at a 32-bit key.
    pub(in crate::program) fn get(&self, key: u32) -> Result<[u64; 2]> {
        let mut value = [0; 2];
        let mut attribute =
            [u64::from(raw(&self.0)), address(&raw const key), address(value.as_mut_ptr()), 0];
        bpf(MAP_LOOKUP_ELEM, &mut attribute).context("cannot read a map")?;
        Ok(value)
    }
}
