//! The bpf(2) commands that aya 0.14 does not offer, or offers only with a fall-back or an ownership that does not fit here.
//!
//! In: file descriptors, paths, plain numbers. Out: owned descriptors, what the kernel says of an object, `io::Error`.
//! Invariant: every attribute is a struct without padding, given to the kernel with its exact size (a kernel that knows
//! more fields takes the rest as 0).

mod link;
mod map;
mod object;
mod program;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use zerocopy::{FromBytes, IntoBytes};

pub(super) use link::{
    LINK_TYPE_XDP, LinkInfo, XDP_GENERIC, XDP_NATIVE, link_create, link_detach, link_info, link_update,
};
pub(super) use map::{
    MAP_READONLY_FOR_PROGRAMS, MapInfo, delete, keys, lookup_batch, map_in_map, map_info, update,
};
pub(super) use object::{ObjectKind, kind, open_pin, pin};
pub(super) use program::{program_by_id, program_info};

/// One call of bpf(2); the result is the kernel's return value, never negative.
fn bpf<A: IntoBytes + FromBytes>(command: u32, attribute: &mut A) -> io::Result<i32> {
    let bytes = attribute.as_mut_bytes();
    // SAFETY: the attribute is a plain struct that lives and stays writable during the call, its size goes with it, and
    // every pointer in it was made from a reference that outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, bytes.as_mut_ptr(), bytes.len()) };
    match i32::try_from(result) {
        Ok(value) if value >= 0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A call whose result is a new descriptor.
fn bpf_fd<A: IntoBytes + FromBytes>(command: u32, attribute: &mut A) -> io::Result<OwnedFd> {
    let fd = bpf(command, attribute)?;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    let raw: RawFd = fd.as_raw_fd();
    u32::try_from(raw).unwrap_or(u32::MAX)
}

fn address<T: ?Sized>(reference: &T) -> u64 {
    std::ptr::from_ref(reference).cast::<u8>().addr() as u64
}

fn address_mut<T: ?Sized>(reference: &mut T) -> u64 {
    std::ptr::from_mut(reference).cast::<u8>().expose_provenance() as u64
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}
