//! The world of a case: services, pools, backends and ways.
//!
//! In: what a case needs. Out: a [`World`] in words; `fill.rs` puts it into tables. Invariant: ids follow from the order alone (service
//! and pool number `n` of the list has the id `n + 1`, a backend's counter is [`counter`]), and who is in a slot is written
//! down, not computed, so that a case knows where its packet must go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_common::{
    Affinity, FEATURE_ANY_PORT, FEATURE_DSR, FEATURE_FULL_NAT, FEATURE_IPIP, FEATURE_LOOPBACK, FEATURE_NAT,
    FEATURE_V4, FEATURE_V6, FEATURE_WRAP, Forward, Settings, WhenNone,
};

/// Link address of the interface that frames come in by.
pub const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Link address of every backend behind it.
pub const BACKEND_MAC: [u8; 6] = [2, 0, 0, 0, 0, 8];
/// Link address of the gateway to the clients behind it.
pub const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
/// Link address of the other interface that lbd may send through.
pub const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
/// Link address of whoever is behind it.
pub const FAR_MAC: [u8; 6] = [2, 0, 0, 0, 1, 9];
/// An interface that lbd may not send through.
pub const GONE: u32 = 65_000;
/// Largest packet of either interface.
pub const MTU: u16 = 1500;

/// Port of listeners.
pub const PORT: u16 = 80;
/// Port of backends where the mode rewrites ports.
pub const BACKEND_PORT: u16 = 8080;

/// An IP family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    fn pick(self, v4: [u8; 4], v6: (u16, u16)) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::from(v4).into(),
            Self::V6 => Ipv6Addr::new(0x2001, 0xdb8, v6.0, 0, 0, 0, 0, v6.1).into(),
        }
    }

    /// The vip.
    pub fn vip(self) -> IpAddr {
        self.pick([198, 51, 100, 1], (0xf, 1))
    }

    /// An address of nobody here.
    pub fn elsewhere(self) -> IpAddr {
        self.pick([198, 51, 100, 77], (0xf, 77))
    }

    /// A client to whom there is a way out of the interface that frames come in by.
    pub fn client(self) -> IpAddr {
        self.pick([10, 1, 2, 3], (0xc, 3))
    }

    /// A client behind the other interface.
    pub fn far_client(self) -> IpAddr {
        self.pick([172, 16, 0, 1], (0xd, 1))
    }

    /// A client to whom there is no way.
    pub fn stranger(self) -> IpAddr {
        self.pick([100, 64, 0, 1], (0xdead, 1))
    }

    /// Backend number `number`.
    pub fn backend(self, number: u8) -> IpAddr {
        self.pick([192, 0, 2, 100 + number], (0xb, 100 + u16::from(number)))
    }

    /// The source address of full-nat and of tunnels.
    pub fn source(self) -> IpAddr {
        self.pick([203, 0, 113, 1], (0xa, 1))
    }

    /// The table that flows of services with a fixed port lie in.
    pub const fn flow_table(self) -> usize {
        match self {
            Self::V4 => 0,
            Self::V6 => 1,
        }
    }

    /// "v4" or "v6".
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        }
    }
}

/// A listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The vip and its port; 0 = every port.
    pub at: SocketAddr,
    /// 6 or 17.
    pub protocol: u8,
    /// How packets reach the backends.
    pub forward: Forward,
    /// What meets the same backend again.
    pub affinity: Affinity,
    /// What becomes of a packet without a backend.
    pub when_none: WhenNone,
    /// On lo.
    pub loopback: bool,
    /// A TCP flow whose backend no longer takes it is reset.
    pub resets_lost: bool,
    /// What is sent goes into a tunnel that ends here, after translation.
    pub tunnel: Option<IpAddr>,
    /// Number of its pool.
    pub pool: usize,
}

/// A backend.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its address.
    pub ip: IpAddr,
    /// Its port; 0 = the listener's.
    pub port: u16,
    /// The entry is in use.
    pub live: bool,
    /// New flows may go there.
    pub takes_new: bool,
    /// Its flows stay.
    pub keeps: bool,
    /// Source addresses.
    pub sources: u16,
    /// The way to it.
    pub way: Way,
}

/// The way to a backend.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// Out of the interface that frames come in by, for packets of at most so many bytes.
    Back(u16),
    /// Out of the other interface.
    Other,
    /// Out of an interface that is gone.
    Gone,
    /// Not known, nor to the kernel.
    Unknown,
    /// This host.
    Local,
}

/// A pool: its backends, and who is in the slots, by number from 0, over and over. Nobody: an empty table.
#[derive(Clone, Debug)]
pub struct Members {
    /// The backends.
    pub members: Vec<Member>,
    /// Their slots; `None` is a slot of nobody.
    pub slots: Vec<Option<usize>>,
}

/// The world of a case.
#[derive(Clone, Debug)]
pub struct World {
    /// The listeners.
    pub listeners: Vec<Listener>,
    /// The pools.
    pub pools: Vec<Members>,
    /// `FEATURE_*` besides those that the listeners need.
    pub features: u32,
    /// Flows that the tables are made for.
    pub flows: u32,
    /// Flows are on their way into the tables.
    pub flows_move: bool,
}

/// The interfaces as the kernel numbers them.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Frames come in by this one.
    pub ingress: u32,
    /// The other one.
    pub other: u32,
}

/// Entries that a block of backends takes; index 0 is nobody's.
pub(super) const BLOCK: usize = 8;
/// Arena words that a table takes.
pub(super) const TABLE_WORDS: usize = 8;
/// Slots of a table: a prime, as in life.
pub(super) const SLOTS: usize = 31;
/// Ids that the tables need room for.
pub const IDS: usize = 64;

/// Index in the backend counters of a pool's backend, both counted from 0.
pub const fn counter(pool: usize, member: usize) -> usize {
    (pool + 1) * BLOCK + member + 1
}

impl Member {
    /// One that takes packets, out of the interface they came in by.
    pub fn at(ip: IpAddr, port: u16) -> Self {
        Self { ip, port, live: true, takes_new: true, keeps: true, sources: 1, way: Way::Back(MTU) }
    }
}

impl World {
    /// One listener on [`PORT`] over one backend of its family.
    pub fn simple(forward: Forward, family: Family, protocol: u8) -> Self {
        Self::joining(forward, family, family, protocol)
    }

    /// As [`Self::simple`], over a backend of another family.
    pub fn joining(forward: Forward, family: Family, of_backend: Family, protocol: u8) -> Self {
        let port = if translates(forward) { BACKEND_PORT } else { 0 };
        let listener = Listener {
            at: SocketAddr::new(family.vip(), PORT),
            protocol,
            forward,
            affinity: Affinity::Flow,
            when_none: WhenNone::Drop,
            loopback: false,
            resets_lost: false,
            tunnel: None,
            pool: 0,
        };
        let members = vec![Member::at(of_backend.backend(0), port)];
        let pool = Members { members, slots: vec![Some(0)] };
        Self { listeners: vec![listener], pools: vec![pool], features: 0, flows: 1 << 10, flows_move: false }
    }

    /// As given, changed by `change`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// With a second backend, which is in no slot.
    #[must_use]
    pub fn and_a_second(mut self) -> Self {
        let first = &self.pools[0].members[0];
        let family = if first.ip.is_ipv4() { Family::V4 } else { Family::V6 };
        let second = Member { ip: family.backend(1), ..first.clone() };
        self.pools[0].members.push(second);
        self
    }

    /// The first backend of the first pool.
    pub fn member(&mut self) -> &mut Member {
        &mut self.pools[0].members[0]
    }

    /// The first listener.
    pub fn listener(&mut self) -> &mut Listener {
        &mut self.listeners[0]
    }

    /// The `FEATURE_*` of a program for this world.
    pub fn features(&self) -> u32 {
        self.listeners.iter().fold(self.features, |features, listener| {
            let mode = match listener.forward {
                Forward::FullNat => FEATURE_FULL_NAT,
                Forward::Nat => FEATURE_NAT,
                Forward::Dsr => FEATURE_DSR,
                Forward::Ipip => FEATURE_IPIP,
            };
            let family = if listener.at.is_ipv4() { FEATURE_V4 } else { FEATURE_V6 };
            let any_port = if listener.at.port() == 0 { FEATURE_ANY_PORT } else { 0 };
            let loopback = if listener.loopback { FEATURE_LOOPBACK } else { 0 };
            let wrap = if listener.tunnel.is_some() { FEATURE_WRAP } else { 0 };
            features | mode | family | any_port | loopback | wrap
        })
    }

    /// Load-time constants for this world on the host, the sizes as the daemon would choose them.
    pub fn settings(&self) -> Settings {
        Settings {
            features: self.features(),
            flow4_buckets: (self.flows / 2).max(16),
            flow6_buckets: (self.flows / 2).max(16),
            reply4_buckets: (self.flows / 4).max(16),
            reply6_buckets: (self.flows / 4).max(16),
            snat_port_count: 4_536,
            ..crate::testing::world::settings()
        }
    }
}

pub(super) const fn translates(forward: Forward) -> bool {
    matches!(forward, Forward::Nat | Forward::FullNat)
}
