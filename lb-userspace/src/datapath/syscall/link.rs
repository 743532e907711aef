//! XDP links: a program's hold on an interface.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::object::info;
use super::{bpf, bpf_fd, number};

// enum bpf_cmd, include/uapi/linux/bpf.h.
const BPF_LINK_CREATE: u32 = 28;
const BPF_LINK_UPDATE: u32 = 29;
const BPF_LINK_DETACH: u32 = 34;

/// `BPF_XDP`, the attach type of XDP programs.
const ATTACH_XDP: u32 = 37;
/// `BPF_LINK_TYPE_XDP`.
pub(in crate::datapath) const LINK_TYPE_XDP: u32 = 6;
/// `XDP_FLAGS_SKB_MODE`.
pub(in crate::datapath) const XDP_GENERIC: u32 = 1 << 1;
/// `XDP_FLAGS_DRV_MODE`.
pub(in crate::datapath) const XDP_NATIVE: u32 = 1 << 2;

/// The head of `struct bpf_link_info` of an XDP link.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub(in crate::datapath) struct LinkInfo {
    pub(in crate::datapath) kind: u32,
    pub(in crate::datapath) id: u32,
    pub(in crate::datapath) program_id: u32,
    padding: u32,
    /// 0 = the interface is gone.
    pub(in crate::datapath) interface: u32,
    padding_end: u32,
}

/// What the kernel says of a link.
pub(in crate::datapath) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    info(link)
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
pub(in crate::datapath) fn link_create(
    program: BorrowedFd<'_>,
    interface: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
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
pub(in crate::datapath) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let (link, program) = (number(link), number(program));
    bpf(BPF_LINK_UPDATE, &mut LinkUpdateAttribute { link, program, flags: 0, old_program: 0 }).map(drop)
}

/// Takes a link off its interface, whoever else holds it.
pub(in crate::datapath) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    #[derive(FromBytes, IntoBytes)]
    struct Attribute {
        link: u32,
    }
    bpf(BPF_LINK_DETACH, &mut Attribute { link: number(link) }).map(drop)
}
