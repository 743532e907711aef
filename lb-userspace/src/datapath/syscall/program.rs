//! Programs: what the kernel says of one.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::bpf_fd;
use super::object::info;

// enum bpf_cmd, include/uapi/linux/bpf.h.
const BPF_PROG_GET_FD_BY_ID: u32 = 13;

/// The head of `struct bpf_prog_info`, as far as the name.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub(in crate::datapath) struct ProgramInfo {
    pub(in crate::datapath) kind: u32,
    pub(in crate::datapath) id: u32,
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
    pub(in crate::datapath) fn name(&self) -> String {
        let end = self.name.iter().position(|byte| *byte == 0).unwrap_or(self.name.len());
        String::from_utf8_lossy(&self.name[..end]).into_owned()
    }
}

/// What the kernel says of a program.
pub(in crate::datapath) fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
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
pub(in crate::datapath) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    bpf_fd(BPF_PROG_GET_FD_BY_ID, &mut ByIdAttribute { id, next: 0, flags: 0 })
}
