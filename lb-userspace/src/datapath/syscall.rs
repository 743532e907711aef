//! The bpf(2) commands that aya 0.14 does not offer, or offers only with a fall-back or an ownership that does not fit here.
//!
//! In: file descriptors, paths, plain numbers. Out: owned descriptors, what the kernel says of an object, `io::Error`.
//! Invariant: every attribute is a struct without padding, given to the kernel with its exact size (a kernel that knows
//! more fields takes the rest as 0).

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

// enum bpf_cmd, include/uapi/linux/bpf.h.
const BPF_MAP_UPDATE_ELEM: u32 = 2;
const BPF_MAP_DELETE_ELEM: u32 = 3;
const BPF_MAP_GET_NEXT_KEY: u32 = 4;
const BPF_OBJ_PIN: u32 = 6;
const BPF_OBJ_GET: u32 = 7;
const BPF_MAP_CREATE: u32 = 0;
const BPF_PROG_GET_FD_BY_ID: u32 = 13;
const BPF_OBJ_GET_INFO_BY_FD: u32 = 15;
const BPF_MAP_LOOKUP_BATCH: u32 = 24;
const BPF_LINK_CREATE: u32 = 28;
const BPF_LINK_UPDATE: u32 = 29;
const BPF_LINK_DETACH: u32 = 34;

/// `BPF_MAP_TYPE_ARRAY`.
const MAP_TYPE_ARRAY: u32 = 2;
/// `BPF_MAP_TYPE_ARRAY_OF_MAPS`.
const MAP_TYPE_ARRAY_OF_MAPS: u32 = 12;
/// `BPF_XDP`, the attach type of XDP programs.
const ATTACH_XDP: u32 = 37;
/// `BPF_LINK_TYPE_XDP`.
pub(super) const LINK_TYPE_XDP: u32 = 6;

/// `BPF_F_RDONLY_PROG`: the kernel adds it to device maps by itself.
pub(super) const MAP_READONLY_FOR_PROGRAMS: u32 = 1 << 7;
/// `XDP_FLAGS_SKB_MODE`.
pub(super) const XDP_GENERIC: u32 = 1 << 1;
/// `XDP_FLAGS_DRV_MODE`.
pub(super) const XDP_NATIVE: u32 = 1 << 2;

/// What a descriptor from a pin is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ObjectKind {
    /// A map.
    Map,
    /// A program.
    Program,
    /// A link.
    Link,
}

impl ObjectKind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Map => "a map",
            Self::Program => "a program",
            Self::Link => "a link",
        }
    }
}

/// The head of `struct bpf_map_info`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub(super) struct MapInfo {
    pub(super) kind: u32,
    pub(super) id: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) flags: u32,
    pub(super) name: [u8; 16],
}

/// The head of `struct bpf_link_info` of an XDP link.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub(super) struct LinkInfo {
    pub(super) kind: u32,
    pub(super) id: u32,
    pub(super) program_id: u32,
    padding: u32,
    /// 0 = the interface is gone.
    pub(super) interface: u32,
    padding_end: u32,
}

/// The head of `struct bpf_prog_info`, as far as the name.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub(super) struct ProgramInfo {
    pub(super) kind: u32,
    pub(super) id: u32,
    tag: [u8; 8],
    jited_len: u32,
    translated_len: u32,
    jited: u64,
    translated: u64,
    load_time_ns: u64,
    uid: u32,
    map_count: u32,
    map_ids: u64,
    name: [u8; 16],
}

impl ProgramInfo {
    /// The name given at load, up to fifteen characters.
    pub(super) fn name(&self) -> String {
        let end = self.name.iter().position(|byte| *byte == 0).unwrap_or(self.name.len());
        String::from_utf8_lossy(&self.name[..end]).into_owned()
    }
}

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

#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct PinAttribute {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Opens a pinned object.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    bpf_fd(BPF_OBJ_GET, &mut PinAttribute { path: path.as_ptr().expose_provenance() as u64, fd: 0, flags: 0 })
}

/// Pins an object at a path that does not exist yet.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let path = path.as_ptr().expose_provenance() as u64;
    bpf(BPF_OBJ_PIN, &mut PinAttribute { path, fd: number(object), flags: 0 }).map(drop)
}

/// What kind of BPF object a descriptor is; `None`: none that lbd pins.
pub(super) fn kind(object: BorrowedFd<'_>) -> io::Result<Option<ObjectKind>> {
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

fn info<T: FromZeros + IntoBytes>(object: BorrowedFd<'_>) -> io::Result<T> {
    let mut found = T::new_zeroed();
    let len = u32::try_from(size_of::<T>()).unwrap_or(u32::MAX);
    let info = address_mut(&mut found);
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut InfoAttribute { fd: number(object), len, info })?;
    Ok(found)
}

/// What the kernel says of a map.
pub(super) fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    info(map)
}

/// What the kernel says of a link.
pub(super) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    info(link)
}

/// What the kernel says of a program.
pub(super) fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    info(program)
}

#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct ByIdAttribute {
    id: u32,
    next: u32,
    flags: u32,
}

/// Opens a program by its id; needs CAP_SYS_ADMIN.
pub(super) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    bpf_fd(BPF_PROG_GET_FD_BY_ID, &mut ByIdAttribute { id, next: 0, flags: 0 })
}

#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct LinkCreateAttribute {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches an XDP program to an interface; `flags` is [`XDP_GENERIC`] or [`XDP_NATIVE`].
pub(super) fn link_create(program: BorrowedFd<'_>, interface: u32, flags: u32) -> io::Result<OwnedFd> {
    let program = number(program);
    bpf_fd(BPF_LINK_CREATE, &mut LinkCreateAttribute { program, interface, attach_type: ATTACH_XDP, flags })
}

#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct LinkUpdateAttribute {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// Replaces the program of a link; no packet sees neither.
pub(super) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let (link, program) = (number(link), number(program));
    bpf(BPF_LINK_UPDATE, &mut LinkUpdateAttribute { link, program, flags: 0, old_program: 0 }).map(drop)
}

/// Takes a link off its interface, whoever else holds it.
pub(super) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    #[derive(FromBytes, IntoBytes)]
    struct Attribute {
        link: u32,
    }
    bpf(BPF_LINK_DETACH, &mut Attribute { link: number(link) }).map(drop)
}

#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct ElementAttribute {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Writes one element; `value` has at least the map's value size, times the possible CPUs for a per-CPU map.
pub(super) fn update(map: BorrowedFd<'_>, key: u32, value: &[u8]) -> io::Result<()> {
    let attribute = &mut ElementAttribute {
        map: number(map),
        padding: 0,
        key: address(&key),
        value: address(value),
        flags: 0,
    };
    bpf(BPF_MAP_UPDATE_ELEM, attribute).map(drop)
}

/// Removes one element of a hash.
pub(super) fn delete(map: BorrowedFd<'_>, key: u32) -> io::Result<()> {
    let attribute =
        &mut ElementAttribute { map: number(map), padding: 0, key: address(&key), value: 0, flags: 0 };
    bpf(BPF_MAP_DELETE_ELEM, attribute).map(drop)
}

/// Every key of a hash with four-byte keys.
pub(super) fn keys(map: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut keys: Vec<u32> = Vec::new();
    loop {
        let mut next = 0_u32;
        let previous = keys.last().map_or(0, address);
        let attribute = &mut ElementAttribute {
            map: number(map),
            padding: 0,
            key: previous,
            value: address_mut(&mut next),
            flags: 0,
        };
        match bpf(BPF_MAP_GET_NEXT_KEY, attribute) {
            Ok(_) => keys.push(next),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(keys),
            Err(error) => return Err(error),
        }
    }
}

#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct BatchAttribute {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// Reads `keys.len()` elements of an array from index `first` on in one call; `values` holds as many whole elements.
/// The answer is the number read, fewer at the end of the map.
pub(super) fn lookup_batch(
    map: BorrowedFd<'_>,
    first: u32,
    keys: &mut [u32],
    values: &mut [u8],
) -> io::Result<usize> {
    let mut next = 0_u32;
    // The token of a batch over an array is the last key read; none stands for the beginning.
    let previous = first.wrapping_sub(1);
    let mut attribute = BatchAttribute {
        in_batch: if first == 0 { 0 } else { address(&previous) },
        out_batch: address_mut(&mut next),
        keys: address_mut(keys),
        values: address_mut(values),
        count: u32::try_from(keys.len()).unwrap_or(u32::MAX),
        map: number(map),
        element_flags: 0,
        flags: 0,
    };
    match bpf(BPF_MAP_LOOKUP_BATCH, &mut attribute) {
        Ok(_) => Ok(attribute.count as usize),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(attribute.count as usize),
        Err(error) => Err(error),
    }
}

#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct MapCreateAttribute {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map: u32,
}

fn map_create(kind: u32, inner_map: u32) -> io::Result<OwnedFd> {
    let attribute =
        &mut MapCreateAttribute { kind, key_size: 4, value_size: 4, max_entries: 1, flags: 0, inner_map };
    bpf_fd(BPF_MAP_CREATE, attribute)
}

/// An array of maps with one place, and a map to put into it.
pub(super) fn map_in_map() -> io::Result<(OwnedFd, OwnedFd)> {
    let inner = map_create(MAP_TYPE_ARRAY, 0)?;
    let outer = map_create(MAP_TYPE_ARRAY_OF_MAPS, number(inner.as_fd()))?;
    Ok((outer, inner))
}
