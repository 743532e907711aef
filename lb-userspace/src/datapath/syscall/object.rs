//! What maps, programs and links have in common: pins, and what the kernel says of them.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::{address_mut, bpf, bpf_fd, c_path, number};

// enum bpf_cmd, include/uapi/linux/bpf.h.
const BPF_OBJ_PIN: u32 = 6;
const BPF_OBJ_GET: u32 = 7;
const BPF_OBJ_GET_INFO_BY_FD: u32 = 15;

/// What a descriptor from a pin is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::datapath) enum ObjectKind {
    /// A map.
    Map,
    /// A program.
    Program,
    /// A link.
    Link,
}

impl ObjectKind {
    pub(in crate::datapath) const fn as_str(self) -> &'static str {
        match self {
            Self::Map => "a map",
            Self::Program => "a program",
            Self::Link => "a link",
        }
    }
}

#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct PinAttribute {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Opens a pinned object.
pub(in crate::datapath) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    bpf_fd(BPF_OBJ_GET, &mut PinAttribute { path: path.as_ptr().expose_provenance() as u64, fd: 0, flags: 0 })
}

/// Pins an object at a path that does not exist yet.
pub(in crate::datapath) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let path = path.as_ptr().expose_provenance() as u64;
    bpf(BPF_OBJ_PIN, &mut PinAttribute { path, fd: number(object), flags: 0 }).map(drop)
}

/// What kind of BPF object a descriptor is; `None`: none that lbd pins.
pub(in crate::datapath) fn kind(object: BorrowedFd<'_>) -> io::Result<Option<ObjectKind>> {
    let target = fs::read_link(format!("/proc/self/fd/{}", object.as_raw_fd()))?;
    Ok(match target.as_os_str().as_bytes() {
        b"anon_inode:bpf-map" => Some(ObjectKind::Map),
        b"anon_inode:bpf-prog" => Some(ObjectKind::Program),
        b"anon_inode:bpf_link" | b"anon_inode:bpf-link" => Some(ObjectKind::Link),
        _ => None,
    })
}

#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct InfoAttribute {
    fd: u32,
    len: u32,
    info: u64,
}

pub(super) fn info<T: FromZeros + IntoBytes>(object: BorrowedFd<'_>) -> io::Result<T> {
    let mut found = T::new_zeroed();
    let len = u32::try_from(size_of::<T>()).unwrap_or(u32::MAX);
    let info = address_mut(&mut found);
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut InfoAttribute { fd: number(object), len, info })?;
    Ok(found)
}
