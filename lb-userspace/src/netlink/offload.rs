//! Offloads of a veth that XDP cannot do with.
//!
//! In: an interface's name. Out: checksums made by this host before the peer's XDP program sees a packet, and packets taken in a way in
//! which a redirected one arrives. Invariant: asked and set by ethtool's oldest commands, which every kernel has.

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const SIOCETHTOOL: libc::Ioctl = 0x8946;
/// Ask for and set whether the sender's checksums are left to the card, and whether packets are merged when they come in.
const TRANSMIT_CHECKSUM: (u32, u32) = (0x16, 0x17);
const RECEIVE_MERGE: (u32, u32) = (0x2b, 0x2c);

/// `struct ethtool_value`, include/uapi/linux/ethtool.h.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ifreq` with a pointer in its union.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    data: *mut Value,
    rest: [u8; 16],
}

/// Whether an interface is as [`set`] leaves it.
pub(super) fn is_set(interface: &str) -> bool {
    let asked = |(ask, _): (u32, u32)| command(interface, ask, 0);
    matches!((asked(TRANSMIT_CHECKSUM), asked(RECEIVE_MERGE)), (Ok(0), Ok(1..)))
}

/// Whole checksums in what is sent, and frames taken that are redirected to it (a veth does so with an XDP program of its own, or while
/// it merges packets).
///
/// # Errors
/// The kernel's: no such interface, or no right.
pub(super) fn set(interface: &str) -> io::Result<()> {
    command(interface, TRANSMIT_CHECKSUM.1, 0)?;
    command(interface, RECEIVE_MERGE.1, 1).map(drop)
}

fn command(interface: &str, command: u32, data: u32) -> io::Result<u32> {
    let channel = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut value = Value { command, data };
    let mut request = Request { name: [0; libc::IFNAMSIZ], data: &raw mut value, rest: [0; 16] };
    let name = request.name.get_mut(..interface.len()).ok_or(io::ErrorKind::InvalidInput)?;
    name.copy_from_slice(interface.as_bytes());
    // SAFETY: the request is laid out as the kernel expects it, names a buffer of an ethtool_value's size, and both live during the call.
    let result = unsafe { libc::ioctl(channel.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value.data) }
}
