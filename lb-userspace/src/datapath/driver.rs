//! The driver of an interface, for sentences that name it.
//!
//! In: an interface's name. Out: its driver's name, by ethtool (works in every network namespace, unlike /sys).

use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GDRVINFO: u32 = 3;

/// `struct ethtool_drvinfo`, include/uapi/linux/ethtool.h.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    version: [u8; 32],
    rest: [u8; 128],
}

/// `struct ifreq` with a pointer in its union.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    data: *mut DriverInfo,
    rest: [u8; 16],
}

/// The driver's name; `None` where the interface has none or does not say.
pub(super) fn name(interface: &str) -> Option<String> {
    let channel = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok()?;
    let mut info =
        DriverInfo { command: ETHTOOL_GDRVINFO, driver: [0; 32], version: [0; 32], rest: [0; 128] };
    let mut request = Request { name: [0; libc::IFNAMSIZ], data: &raw mut info, rest: [0; 16] };
    request.name.get_mut(..interface.len())?.copy_from_slice(interface.as_bytes());
    // SAFETY: the request is laid out as the kernel expects it, names a buffer of a drvinfo's size, and both live during
    // the call.
    let result = unsafe { libc::ioctl(channel.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        return None;
    }
    let end = info.driver.iter().position(|byte| *byte == 0)?;
    let name = String::from_utf8_lossy(info.driver.get(..end)?).into_owned();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_interface_has_no_driver() {
        assert_eq!(name("no-such-if"), None);
        assert_eq!(name("a-name-too-long-for-an-interface"), None);
    }
}
