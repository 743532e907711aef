//! What the maps should hold: the output of [`crate::membership`] and the input of [`crate::plan`]. Types only.
//!
//! Invariant: nothing in here is an internal id. Two daemons with the same members have equal values, whatever their history.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::spec::{Affinity, BackendAddress, Forward, Listener, Protocol, WhenNone};

/// Identity of a listener: vip, port (or every port), protocol.
pub type ListenerKey = Listener;

/// Identity of a backend in its pool: address and port (`None`: the listener's).
pub type BackendKey = BackendAddress;

/// Which backends of a pool a table spreads over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Variant {
    /// The IPv4 ones.
    V4,
    /// The IPv6 ones.
    V6,
    /// All of them (ipip joins families).
    Any,
}

impl Variant {
    /// Whether a backend at `ip` belongs to this variant.
    pub const fn includes(self, ip: IpAddr) -> bool {
        match self {
            Self::V4 => ip.is_ipv4(),
            Self::V6 => ip.is_ipv6(),
            Self::Any => true,
        }
    }

    /// The suffix of the pool's name in the `pool_names` map.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
            Self::Any => "any",
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Identity of a pool of the datapath.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PoolKey {
    /// The configured pool.
    pub name: String,
    /// Its backends of this table.
    pub variant: Variant,
}

/// What the name of a hidden service and of its pool begins with: no name of the configuration can.
const HIDDEN: char = '~';

/// The name of the hidden service on this listener, and of its pool.
pub fn hidden_name(listener: &ListenerKey) -> String {
    format!("{HIDDEN}{listener}")
}

/// The service or pool of this name is one that only checks use; nobody is shown it.
pub fn is_hidden(name: &str) -> bool {
    name.starts_with(HIDDEN)
}

impl fmt::Display for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.variant)
    }
}

/// One listener of a configured service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DesiredService {
    /// The configured service.
    pub name: String,
    /// How packets reach the backends.
    pub forward: Forward,
    /// What meets the same backend again.
    pub affinity: Affinity,
    /// What becomes of a packet when the table is empty; `Spread` has been acted on already.
    pub when_none: WhenNone,
    /// On `lo`: translate and deliver to this host.
    pub loopback: bool,
    /// A TCP flow whose backend no longer takes it is reset.
    pub resets_lost: bool,
    /// Its pool.
    pub pool: PoolKey,
    /// What is sent after translation goes into this tunnel: of hidden services alone.
    pub tunnel: Option<Tunnel>,
}

/// An outer IP header; both ends are of one family.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Tunnel {
    /// Where it begins: an address of this host.
    pub source: IpAddr,
    /// Where it ends: a backend.
    pub destination: IpAddr,
}

/// One backend of a pool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DesiredBackend {
    /// Share of new flows.
    pub weight: u32,
    /// In the table (if `weight` > 0), and for SYNs of flows on probation there.
    pub takes_new: bool,
    /// Tracked flows stay; without it they are selected again.
    pub keeps: bool,
    /// Source addresses: of full-nat (several), or of the tunnel (the first). Of the backend's family.
    pub sources: Vec<IpAddr>,
    /// Its next hop is that of this address; `None`: of its own. A vip that is checked has one next hop for each backend.
    pub way: Option<IpAddr>,
}

impl DesiredBackend {
    /// The address whose next hop its packets take.
    pub fn way(&self, own: IpAddr) -> IpAddr {
        self.way.unwrap_or(own)
    }

    /// The weight it has in the Maglev table; 0 = not in it.
    pub const fn table_weight(&self) -> u32 {
        if self.takes_new { self.weight } else { 0 }
    }
}

/// A pool of the datapath.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DesiredPool {
    /// Slots of the Maglev table.
    pub table_len: u32,
    /// Its backends.
    pub backends: BTreeMap<BackendKey, DesiredBackend>,
}

/// The way to an address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct DesiredNextHop {
    /// Outgoing interface.
    pub interface: u32,
    /// Link address of the neighbour.
    pub destination_mac: [u8; 6],
    /// Link address of the interface.
    pub source_mac: [u8; 6],
    /// Largest IP packet, bytes.
    pub mtu: u16,
    /// This host itself (services on `lo`); the fields above are 0.
    pub local: bool,
}

/// Everything the maps should hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Desired {
    /// Listeners.
    pub services: BTreeMap<ListenerKey, DesiredService>,
    /// Pools of the datapath. One that stays as it is is the very same value, so that a change costs by what it changes.
    pub pools: BTreeMap<PoolKey, Arc<DesiredPool>>,
    /// Ways to backends, where known; a backend without one is unresolved.
    pub next_hops: Arc<BTreeMap<IpAddr, DesiredNextHop>>,
}

/// The number of a protocol in an IP header.
pub const fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

/// The protocol with this number in an IP header.
pub const fn protocol_of(number: u8) -> Option<Protocol> {
    match number {
        6 => Some(Protocol::Tcp),
        17 => Some(Protocol::Udp),
        _ => None,
    }
}

impl From<Forward> for lb_common::Forward {
    fn from(forward: Forward) -> Self {
        match forward {
            Forward::FullNat => Self::FullNat,
            Forward::Nat => Self::Nat,
            Forward::Dsr => Self::Dsr,
            Forward::Ipip => Self::Ipip,
        }
    }
}

impl From<Affinity> for lb_common::Affinity {
    fn from(affinity: Affinity) -> Self {
        match affinity {
            Affinity::Flow => Self::Flow,
            Affinity::Client => Self::Client,
            Affinity::None => Self::None,
        }
    }
}

impl From<WhenNone> for lb_common::WhenNone {
    /// `spread` has been acted on by membership, which puts every backend into the table; a pool without any backend is
    /// left to the datapath and answered as by `reset`.
    fn from(when_none: WhenNone) -> Self {
        match when_none {
            WhenNone::Reset | WhenNone::Spread => Self::Reset,
            WhenNone::Drop => Self::Drop,
        }
    }
}
