//! Questions to the kernel about interfaces, by route netlink and the `netdev` family of generic netlink.
//!
//! In: an interface's name or index. Out: index, XDP programs in place and their mode; the XDP features of its driver.
//! Invariant: one question, one answer, synchronous; used at start and reload, never per packet. Following changes is
//! the business of the `net` module.

use std::ffi::CString;
use std::io;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};
use std::os::fd::{AsRawFd, OwnedFd};

const HEADER_LEN: usize = 16;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const RTM_GETLINK: u16 = 18;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_XDP: u16 = 43;
const IFLA_TARGET_NETNSID: u16 = 46;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const GENL_CONTROLLER: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;

/// `NETDEV_XDP_ACT_NDO_XMIT`: packets redirected to the interface are sent.
pub(super) const FEATURE_REDIRECT_TARGET: u64 = 1 << 2;

/// How an XDP program sits on an interface (`XDP_ATTACHED_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Attached {
    None,
    Native,
    Generic,
    Hardware,
    /// Several at once, in different modes.
    Several,
}

/// What the kernel says of an interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) attached: Attached,
    /// The program; 0 = none, or several.
    pub(super) program_id: u32,
    /// The interface it is tied to: a veth's peer.
    other: Option<Other>,
}

/// An interface that another one is tied to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Other {
    index: u32,
    /// This namespace's number for the one it is in; `None`: it is in this one.
    namespace: Option<i32>,
}

/// The index of an interface; `None`: there is none of this name.
pub(super) fn index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: the name is a C string that lives during the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// Asks for an interface by index.
pub(super) fn link(index: u32) -> io::Result<Link> {
    link_in(None, index)
}

/// The other end of a veth pair, wherever it is; `None`: there is none, or its namespace may not be asked.
pub(super) fn peer(link: &Link) -> Option<Link> {
    let Other { index, namespace } = link.other?;
    link_in(namespace, index).ok()
}

fn link_in(namespace: Option<i32>, index: u32) -> io::Result<Link> {
    let mut body = vec![0_u8; 16];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    if let Some(namespace) = namespace {
        push_attribute(&mut body, IFLA_TARGET_NETNSID, &namespace.to_ne_bytes());
    }
    let answer = ask(SockProtocol::NetlinkRoute, RTM_GETLINK, &body)?;
    parse_link(&answer).ok_or_else(|| io::Error::other("an answer of route netlink is cut short"))
}

/// The XDP features of an interface's driver (`NETDEV_XDP_ACT_*`); `None`: the kernel does not say (before 6.3).
pub(super) fn xdp_features(index: u32) -> Option<u64> {
    let mut body = generic_header(CTRL_CMD_GETFAMILY);
    push_attribute(&mut body, CTRL_ATTR_FAMILY_NAME, b"netdev\0");
    let answer = ask(SockProtocol::NetlinkGeneric, GENL_CONTROLLER, &body).ok()?;
    let family = attribute(answer.get(4..)?, CTRL_ATTR_FAMILY_ID)?;
    let family = u16::from_ne_bytes(family.get(..2)?.try_into().ok()?);

    let mut body = generic_header(NETDEV_CMD_DEV_GET);
    push_attribute(&mut body, NETDEV_A_DEV_IFINDEX, &index.to_ne_bytes());
    let answer = ask(SockProtocol::NetlinkGeneric, family, &body).ok()?;
    let features = attribute(answer.get(4..)?, NETDEV_A_DEV_XDP_FEATURES)?;
    Some(u64::from_ne_bytes(features.get(..8)?.try_into().ok()?))
}

fn parse_link(answer: &[u8]) -> Option<Link> {
    let index = u32::from_ne_bytes(answer.get(4..8)?.try_into().ok()?);
    let attributes = answer.get(16..)?;
    let name = attribute(attributes, IFLA_IFNAME)?;
    let name = String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(name)).into_owned();
    let xdp = attribute(attributes, IFLA_XDP).unwrap_or(&[]);
    let attached = match attribute(xdp, IFLA_XDP_ATTACHED).and_then(|value| value.first()) {
        Some(1) => Attached::Native,
        Some(2) => Attached::Generic,
        Some(3) => Attached::Hardware,
        Some(4) => Attached::Several,
        _ => Attached::None,
    };
    let program_id = attribute(xdp, IFLA_XDP_PROG_ID)
        .and_then(|value| value.get(..4)?.try_into().ok())
        .map_or(0, u32::from_ne_bytes);
    let number = |kind| <[u8; 4]>::try_from(attribute(attributes, kind)?.get(..4)?).ok();
    let namespace = number(IFLA_LINK_NETNSID).map(i32::from_ne_bytes);
    let other = number(IFLA_LINK).map(|index| Other { index: u32::from_ne_bytes(index), namespace });
    Some(Link { index, name, attached, program_id, other })
}

fn generic_header(command: u8) -> Vec<u8> {
    vec![command, 1, 0, 0]
}

fn push_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    body.extend_from_slice(&len.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// The value of the first attribute of this kind.
fn attribute(mut bytes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let len = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let found = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & 0x3fff;
        let value = bytes.get(4..len)?;
        if found == kind {
            return Some(value);
        }
        bytes = bytes.get(len.next_multiple_of(4)..)?;
    }
}

/// Sends one request and returns the payload of the one answer.
fn ask(protocol: SockProtocol, kind: u16, body: &[u8]) -> io::Result<Vec<u8>> {
    let channel: OwnedFd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    bind(channel.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    let len = u32::try_from(HEADER_LEN + body.len()).map_err(io::Error::other)?;
    let mut request = Vec::with_capacity(HEADER_LEN + body.len());
    request.extend_from_slice(&len.to_ne_bytes());
    request.extend_from_slice(&kind.to_ne_bytes());
    request.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    request.extend_from_slice(&1_u32.to_ne_bytes());
    request.extend_from_slice(&0_u32.to_ne_bytes());
    request.extend_from_slice(body);
    send(channel.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut answer = vec![0_u8; 64 * 1024];
    let received = recv(channel.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    answer.truncate(received);
    payload(&answer)
}

fn payload(message: &[u8]) -> io::Result<Vec<u8>> {
    let cut = || io::Error::other("an answer of netlink is cut short");
    let kind: [u8; 2] = message.get(4..6).and_then(|bytes| bytes.try_into().ok()).ok_or_else(cut)?;
    let body = message.get(HEADER_LEN..).ok_or_else(cut)?;
    if u16::from_ne_bytes(kind) == NLMSG_ERROR {
        let code: [u8; 4] = body.get(..4).and_then(|bytes| bytes.try_into().ok()).ok_or_else(cut)?;
        return Err(io::Error::from_raw_os_error(-i32::from_ne_bytes(code)));
    }
    Ok(body.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_found_by_name_and_index() {
        let lo = index("lo").unwrap();
        let link = link(lo).unwrap();
        assert_eq!((link.name.as_str(), link.index), ("lo", lo));
        assert_eq!(index("no-such-if"), None);
        assert_eq!(super::link(0x7fff_fff0).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn attributes_are_found_behind_padded_ones_and_cut_ones_are_none() {
        let mut bytes = Vec::new();
        push_attribute(&mut bytes, 7, b"abc");
        push_attribute(&mut bytes, 9, &5_u32.to_ne_bytes());
        assert_eq!(attribute(&bytes, 9), Some(&5_u32.to_ne_bytes()[..]));
        assert_eq!(attribute(&bytes, 8), None);
        assert_eq!(attribute(&bytes[..10], 9), None);
        assert_eq!(attribute(&[3, 0, 1, 0], 1), None);
    }

    #[test]
    fn an_xdp_program_and_its_mode_are_read() {
        let mut xdp = Vec::new();
        push_attribute(&mut xdp, IFLA_XDP_ATTACHED, &[2]);
        push_attribute(&mut xdp, IFLA_XDP_PROG_ID, &77_u32.to_ne_bytes());
        let mut answer = vec![0_u8; 16];
        answer[4] = 3;
        push_attribute(&mut answer, IFLA_IFNAME, b"eth9\0");
        push_attribute(&mut answer, IFLA_LINK, &9_u32.to_ne_bytes());
        push_attribute(&mut answer, IFLA_LINK_NETNSID, &2_i32.to_ne_bytes());
        push_attribute(&mut answer, IFLA_XDP | 0x8000, &xdp);
        let (attached, other) = (Attached::Generic, Some(Other { index: 9, namespace: Some(2) }));
        let expected = Link { index: 3, name: "eth9".into(), attached, program_id: 77, other };
        assert_eq!(parse_link(&answer).unwrap(), expected);
    }
}
