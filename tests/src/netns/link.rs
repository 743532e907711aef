//! Cables and switches: veth pairs and bridges between our namespaces.
//!
//! In: two namespaces, an interface name and a MAC for each end, an MTU. Out: a veth pair that behaves like a wire.
//! Invariant: transmit checksum offload (and with it segmentation offload) is off on both ends, so XDP sees whole frames with
//! whole checksums; GRO is off but where an end has a program, with which veth turns it on.

use std::fmt;
use std::net::IpAddr;

use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::os::fd::{AsRawFd, OwnedFd};

use super::{Namespace, output_of, xdp_pass};

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_STXCSUM: u32 = 0x17;
const ETHTOOL_SGRO: u32 = 0x2c;

/// A hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// A locally administered unicast address that shows in a capture whose it is.
    pub fn local(group: u8, member: u8) -> Mac {
        Mac([0x02, 0x1b, 0xd0, 0x00, group, member])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// How an end takes frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receive {
    /// By an XDP_PASS program of its own: it has a queue of its own then, whose sender waits when it is full (since Linux 6.16; before, 256
    /// frames), and it takes what the other end's XDP program sends. veth turns GRO on with it.
    XdpPass,
    /// As somebody else has it who attaches a program here (lbd, `lbd decap`). Until then by the queue that a CPU has for all namespaces of the
    /// host: 1,000 frames (net.core.netdev_max_backlog), and what comes on top is lost in silence, of whoever's test it was.
    Plain,
}

/// One end of a veth pair.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Where it lies.
    pub namespace: &'a Namespace,
    /// The interface's name there, at most 15 bytes.
    pub interface: &'a str,
    /// Its hardware address.
    pub mac: Mac,
    /// How it takes frames from XDP.
    pub receive: Receive,
}

/// Lays a cable between two ends and takes both up.
pub fn connect(left: End<'_>, right: End<'_>, mtu: u32) -> Result<()> {
    left.namespace.ip(&format!(
        "link add {} mtu {mtu} address {} type veth peer name {} mtu {mtu} address {} netns {}",
        left.interface,
        left.mac,
        right.interface,
        right.mac,
        right.namespace.name()
    ))?;
    for end in [left, right] {
        // The end may have been made before the namespace's defaults could apply to it.
        end.namespace.sysctl(&format!("net/ipv4/conf/{}/rp_filter", end.interface), "0")?;
        end.namespace.sysctl(&format!("net/ipv6/conf/{}/accept_dad", end.interface), "0")?;
        set_feature(end.namespace, end.interface, ETHTOOL_STXCSUM, false)?;
        set_feature(end.namespace, end.interface, ETHTOOL_SGRO, false)?;
        queue(end)?;
        end.namespace.ip(&format!("link set dev {} up", end.interface))?;
        if end.receive == Receive::XdpPass {
            xdp_pass::attach(end.namespace, end.interface)?;
        }
    }
    Ok(())
}

/// Gives an end a queue to send from, as a real card has. A veth whose peer runs XDP takes 256 frames and drops what comes in a
/// burst on top of that; since Linux 6.16 it stops such a queue instead.
fn queue(end: End<'_>) -> Result<()> {
    let mut command = end.namespace.command("tc");
    output_of(command.args(["qdisc", "replace", "dev", end.interface, "root", "pfifo", "limit", "10000"]))
        .map(drop)
}

/// A bridge in a namespace, up; its ports are interfaces given to [`join`].
pub fn bridge(namespace: &Namespace, interface: &str, mac: Mac) -> Result<()> {
    namespace.ip(&format!("link add {interface} address {mac} type bridge"))?;
    set_feature(namespace, interface, ETHTOOL_STXCSUM, false)?;
    namespace.ip(&format!("link set dev {interface} up")).map(drop)
}

/// Makes `port` a port of `bridge`.
pub fn join(namespace: &Namespace, bridge: &str, port: &str) -> Result<()> {
    namespace.ip(&format!("link set dev {port} master {bridge}")).map(drop)
}

/// Gives an interface an address, usable at once (no duplicate address detection).
pub fn address(namespace: &Namespace, interface: &str, address: IpAddr, prefix_len: u8) -> Result<()> {
    let nodad = if address.is_ipv6() { " nodad" } else { "" };
    namespace.ip(&format!("address add {address}/{prefix_len} dev {interface}{nodad}")).map(drop)
}

/// Switches GRO of an end on or off.
pub fn set_gro(namespace: &Namespace, interface: &str, on: bool) -> Result<()> {
    set_feature(namespace, interface, ETHTOOL_SGRO, on)
}

/// Takes an interface up or down: down is a cable pulled out.
pub fn set_up(namespace: &Namespace, interface: &str, up: bool) -> Result<()> {
    namespace.ip(&format!("link set dev {interface} {}", if up { "up" } else { "down" })).map(drop)
}

#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

fn set_feature(namespace: &Namespace, interface: &str, command: u32, on: bool) -> Result<()> {
    namespace
        .run(|| {
            let control: OwnedFd =
                socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
            ethtool(&control, interface, command, on)
        })?
        .with_context(|| {
            format!("cannot set ethtool feature {command:#x} of {interface} in {}", namespace.name())
        })
}

fn ethtool(control: &OwnedFd, interface: &str, command: u32, on: bool) -> Result<()> {
    let mut value = EthtoolValue { command, data: u32::from(on) };
    // SAFETY: ifreq is plain data for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().take(room).zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = std::ptr::from_mut(&mut value).cast();
    // SAFETY: SIOCETHTOOL reads the name and reads and writes `value`, both alive and of the layout linux/ethtool.h says.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), SIOCETHTOOL, &mut request) };
    if result < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(())
}
