//! Maps: made, described, and the elements of those that cannot be mapped into memory.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::object::info;
use super::{address, address_mut, bpf, bpf_fd, number};

// enum bpf_cmd, include/uapi/linux/bpf.h.
const BPF_MAP_CREATE: u32 = 0;
const BPF_MAP_UPDATE_ELEM: u32 = 2;
const BPF_MAP_DELETE_ELEM: u32 = 3;
const BPF_MAP_GET_NEXT_KEY: u32 = 4;
const BPF_MAP_LOOKUP_BATCH: u32 = 24;

/// `BPF_MAP_TYPE_ARRAY`.
const MAP_TYPE_ARRAY: u32 = 2;
/// `BPF_MAP_TYPE_ARRAY_OF_MAPS`.
const MAP_TYPE_ARRAY_OF_MAPS: u32 = 12;
/// `BPF_F_RDONLY_PROG`: the kernel adds it to device maps by itself.
pub(in crate::datapath) const MAP_READONLY_FOR_PROGRAMS: u32 = 1 << 7;

/// The head of `struct bpf_map_info`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub(in crate::datapath) struct MapInfo {
    pub(in crate::datapath) kind: u32,
    pub(in crate::datapath) id: u32,
    pub(in crate::datapath) key_size: u32,
    pub(in crate::datapath) value_size: u32,
    pub(in crate::datapath) max_entries: u32,
    pub(in crate::datapath) flags: u32,
    pub(in crate::datapath) name: [u8; 16],
}

/// What the kernel says of a map.
pub(in crate::datapath) fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    info(map)
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
pub(in crate::datapath) fn update(map: BorrowedFd<'_>, key: u32, value: &[u8]) -> io::Result<()> {
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
pub(in crate::datapath) fn delete(map: BorrowedFd<'_>, key: u32) -> io::Result<()> {
    let attribute =
        &mut ElementAttribute { map: number(map), padding: 0, key: address(&key), value: 0, flags: 0 };
    bpf(BPF_MAP_DELETE_ELEM, attribute).map(drop)
}

/// Every key of a hash with four-byte keys.
pub(in crate::datapath) fn keys(map: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
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
pub(in crate::datapath) fn lookup_batch(
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
pub(in crate::datapath) fn map_in_map() -> io::Result<(OwnedFd, OwnedFd)> {
    let inner = map_create(MAP_TYPE_ARRAY, 0)?;
    let outer = map_create(MAP_TYPE_ARRAY_OF_MAPS, number(inner.as_fd()))?;
    Ok((outer, inner))
}
