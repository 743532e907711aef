//! One network interface as the kernel describes it.
//!
//! In: RTM_NEWLINK messages. Out: [`Interface`]. Invariant: a message without a name is no description of an interface
//! (bridges send such about their ports) and gives none.

use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage};

use crate::reach::{Link, LinkKind};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    /// Its number in the kernel.
    pub(super) index: u32,
    /// Its name.
    pub(super) name: String,
    /// What it is.
    pub(super) kind: LinkKind,
    /// The bridge or bond it is a port of.
    pub(super) master: Option<u32>,
    /// Its Ethernet address, if it has one.
    pub(super) mac: Option<[u8; 6]>,
    /// Largest IP packet, bytes.
    pub(super) mtu: u32,
    /// Switched on, and with carrier.
    pub(super) up: bool,
}

impl Interface {
    /// The interface a message describes.
    pub(super) fn from_message(message: &LinkMessage) -> Option<Self> {
        let header = &message.header;
        if header.interface_family == AddressFamily::Bridge {
            return None;
        }
        let ethernet = matches!(header.link_layer_type, LinkLayerType::Ether | LinkLayerType::Loopback);
        let mut interface = Self {
            index: header.index,
            name: String::new(),
            kind: LinkKind::Other,
            master: None,
            mac: None,
            mtu: 0,
            up: header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        };
        let mut info = None;
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => interface.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
                LinkAttribute::Controller(master) => interface.master = Some(*master),
                LinkAttribute::Address(mac) if ethernet => interface.mac = mac.as_slice().try_into().ok(),
                LinkAttribute::LinkInfo(parts) => info = parts.iter().find_map(info_kind),
                _ => {}
            }
        }
        interface.kind = match (header.link_layer_type, info) {
            (LinkLayerType::Loopback, _) => LinkKind::Loopback,
            (_, Some(InfoKind::Bridge)) => LinkKind::Bridge,
            (_, Some(InfoKind::Veth)) => LinkKind::Veth,
            // Drivers of hardware (and of a machine's virtual cards) give no kind.
            (LinkLayerType::Ether, None) => LinkKind::Physical,
            _ => LinkKind::Other,
        };
        (!interface.name.is_empty()).then_some(interface)
    }

    /// As the rules of `reach` see it.
    pub(super) fn to_link(&self) -> Link {
        Link { index: self.index, name: self.name.clone(), kind: self.kind, master: self.master }
    }
}

fn info_kind(part: &LinkInfo) -> Option<&InfoKind> {
    match part {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    }
}
