//! Entries of the neighbour tables (ARP, ND): read, asked for, let go.
//!
//! In: RTM_NEWNEIGH messages, a connection. Out: [`Neighbour`]; the requests that make the kernel keep an entry resolved.
//! Invariant: an entry that an operator or another daemon fixed (permanent, noarp, learnt from a routing daemon) is never
//! touched: asking for it would take its permanence away.

use std::net::IpAddr;

use futures_util::StreamExt;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::Handle;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};

use super::NetlinkError;

/// Marks the entries lbd asked for, so that a later lbd knows them as its own: a number that no routing daemon of
/// /etc/iproute2/rt_protos uses.
pub(super) const OUR_PROTOCOL: u8 = 190;

/// Which entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NeighbourKey {
    /// On this interface.
    pub(super) interface: u32,
    /// The neighbour's address.
    pub(super) address: IpAddr,
}

/// What the kernel knows of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// Its Ethernet address, if the kernel would use it.
    pub(super) mac: Option<[u8; 6]>,
    /// It was asked and did not answer.
    pub(super) failed: bool,
    /// Made to stay by somebody else.
    pub(super) fixed: bool,
    /// Kept resolved by the kernel (5.16).
    pub(super) managed: bool,
    /// Asked for by an lbd.
    pub(super) ours: bool,
}

impl Neighbour {
    /// An lbd asked for it and has the kernel keep it resolved; nobody has fixed it since.
    pub(super) const fn is_kept_by_lbd(&self) -> bool {
        self.ours && self.managed && !self.fixed
    }
}

/// The entry a message describes; `None`: of another family, or a proxy entry.
pub(super) fn from_message(message: &NeighbourMessage) -> Option<(NeighbourKey, Neighbour)> {
    let header = &message.header;
    if header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let (mut address, mut link_address, mut ext, mut ours) = (None, None, NeighbourExtFlags::empty(), false);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address = Some(IpAddr::V4(*ip)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => address = Some(IpAddr::V6(*ip)),
            NeighbourAttribute::LinkLayerAddress(mac) => link_address = mac.as_slice().try_into().ok(),
            NeighbourAttribute::ExtFlags(flags) => ext = *flags,
            NeighbourAttribute::Protocol(protocol) => ours = u8::from(*protocol) == OUR_PROTOCOL,
            _ => {}
        }
    }
    use NeighbourState as S;
    let usable =
        matches!(header.state, S::Reachable | S::Stale | S::Delay | S::Probe | S::Permanent | S::Noarp);
    let neighbour = Neighbour {
        mac: link_address.filter(|_| usable),
        failed: header.state == S::Failed,
        fixed: matches!(header.state, S::Permanent | S::Noarp)
            || header.flags.contains(NeighbourFlags::ExtLearned),
        managed: ext.contains(NeighbourExtFlags::Managed),
        ours,
    };
    Some((NeighbourKey { interface: header.ifindex, address: address? }, neighbour))
}

/// Every entry of both tables.
///
/// # Errors
/// The kernel does not answer.
pub(super) async fn all(handle: &Handle) -> Result<Vec<(NeighbourKey, Neighbour)>, NetlinkError> {
    let mut answers = std::pin::pin!(handle.neighbours().get().execute());
    let mut entries = Vec::new();
    while let Some(answer) = answers.next().await {
        entries.extend(from_message(&answer.map_err(NetlinkError::asking("the neighbours"))?));
    }
    Ok(entries)
}

/// The entry as it is now; `None`: there is none.
///
/// # Errors
/// The kernel does not answer.
pub(super) async fn get(handle: &Handle, key: NeighbourKey) -> Result<Option<Neighbour>, NetlinkError> {
    let question = RouteNetlinkMessage::GetNeighbour(message(key));
    match request(handle, question, NLM_F_REQUEST, key).await {
        Ok(Some(answer)) => Ok(from_message(&answer).map(|(_, neighbour)| neighbour)),
        Ok(None) => Ok(None),
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the kernel resolve the neighbour now and keep it resolved. A kernel before 5.16 does the first only: it overlooks
/// the flag, and the entry is asked for again by a timer.
///
/// # Errors
/// The kernel refuses (without CAP_NET_ADMIN; the interface is gone).
pub(super) async fn ensure(handle: &Handle, key: NeighbourKey) -> Result<(), NetlinkError> {
    let mut entry = message(key);
    entry.header.flags = NeighbourFlags::Use;
    entry.attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
    entry.attributes.push(NeighbourAttribute::Protocol(RouteProtocol::from(OUR_PROTOCOL)));
    put(handle, entry, key).await
}

/// Leaves the entry to the kernel's ordinary ageing. It is not deleted: the host's own connections may be using it.
///
/// # Errors
/// As [`ensure`].
pub(super) async fn release(handle: &Handle, key: NeighbourKey) -> Result<(), NetlinkError> {
    // An update without the managed flag takes it away; NTF_USE leaves state and address alone.
    resolve(handle, key).await
}

/// Makes the kernel resolve the neighbour now, and leaves it to ordinary ageing.
///
/// # Errors
/// As [`ensure`].
pub(super) async fn resolve(handle: &Handle, key: NeighbourKey) -> Result<(), NetlinkError> {
    let mut entry = message(key);
    entry.header.flags = NeighbourFlags::Use;
    put(handle, entry, key).await
}

async fn put(handle: &Handle, entry: NeighbourMessage, key: NeighbourKey) -> Result<(), NetlinkError> {
    let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
    request(handle, RouteNetlinkMessage::NewNeighbour(entry), flags, key).await.map(|_acknowledged| ())
}

fn message(key: NeighbourKey) -> NeighbourMessage {
    let (family, address) = match key.address {
        IpAddr::V4(ip) => (AddressFamily::Inet, NeighbourAddress::Inet(ip)),
        IpAddr::V6(ip) => (AddressFamily::Inet6, NeighbourAddress::Inet6(ip)),
    };
    let mut message = NeighbourMessage::default();
    message.header.family = family;
    message.header.ifindex = key.interface;
    message.header.state = NeighbourState::None;
    message.attributes.push(NeighbourAttribute::Destination(address));
    message
}

/// Sends one request; the entry in the answer, if there is one.
async fn request(
    handle: &Handle,
    message: RouteNetlinkMessage,
    flags: u16,
    key: NeighbourKey,
) -> Result<Option<NeighbourMessage>, NetlinkError> {
    let asking = || NetlinkError::asking(format!("neighbour {} on interface {}", key.address, key.interface));
    let mut message = NetlinkMessage::from(message);
    message.header.flags = flags;
    let mut answers = handle.clone().request(message).map_err(asking())?;
    let mut entry = None;
    while let Some(answer) = answers.next().await {
        match answer.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(found)) => entry = Some(found),
            NetlinkPayload::Error(error) if error.code.is_some() => {
                return Err(asking()(rtnetlink::Error::NetlinkError(error)));
            }
            _ => {}
        }
    }
    Ok(entry)
}
