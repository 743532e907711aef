//! A balancer without a wire: the daemon's loader and planner over a pin directory of ours, in a namespace with a route to every client.
//!
//! In: mode, family, number of flows. Out: the loaded program over filled maps. Everything a packet needs is there: next hops of the
//! backends and a neighbour in front of the clients, all behind the interface that packets come in by, so requests and replies
//! are transmitted (XDP_TX). Invariant: the constants are those of this one mode and family, unless more was asked for.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use lb_userspace::datapath::{Datapath, Demand, Tuning, detach};
use lb_userspace::desired::{
    BackendKey, Desired, DesiredBackend, DesiredNextHop, DesiredPool, DesiredService, ListenerKey, PoolKey,
    Variant,
};
use lb_userspace::image::Image;
use lb_userspace::plan::plan;
use lb_userspace::spec::{Affinity, DatapathSpec, Forward, Protocol, TimeoutSpec, WhenNone};

use super::bpf::{Program, Ran};
use super::frame::{Frame, Payload};
use crate::capability::{Capability, keep_only};
use crate::netns::Namespace;
use crate::run_dir::pins;

/// The interface that packets come in by.
const INTERFACE: &str = "lb0";
/// Rigs made so far.
static RIGS: AtomicU32 = AtomicU32::new(0);
/// Four digits of the seed: the same in every run, so that the same flows lie in the same places.
pub(super) const SEED: &str = "5eed";
/// Link address of every backend and of the gateway in front of the clients, and of the interface that packets come in by.
pub const BACKEND_MAC: [u8; 6] = [2, 0, 0, 0, 0, 8];
/// See [`BACKEND_MAC`].
pub const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
/// See [`BACKEND_MAC`].
pub const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Backends of the pool: enough that full-nat has source ports for four million flows.
pub const BACKENDS: u16 = 64;
/// Source addresses of full-nat and of the tunnel.
pub const SOURCES: u16 = 16;
/// Slots of the Maglev table.
const TABLE_LEN: u32 = 16_381;
/// The return code of a packet left to the kernel.
pub const XDP_PASS: u32 = 2;
/// The return code of a packet sent back out of the interface it came in by.
pub const XDP_TX: u32 = 3;

pub use lb_userspace::spec::Forward as Mode;

/// An address family of clients, vip and backends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The vip; TCP and UDP services listen on port 80.
    pub fn vip(self) -> SocketAddr {
        let ip = match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1)),
        };
        SocketAddr::new(ip, 80)
    }

    /// A client address whose last four bytes are these.
    pub fn client(self, last: Ipv4Addr) -> IpAddr {
        match self {
            Self::V4 => last.into(),
            Self::V6 => with_last(0x0c, u32::from(last)).into(),
        }
    }

    /// Backend number `index`.
    pub fn backend(self, index: u16) -> IpAddr {
        let [high, low] = index.to_be_bytes();
        match self {
            Self::V4 => Ipv4Addr::new(192, 0, 2 + high, 100 + low).into(),
            Self::V6 => with_last(0x0b, 100 + u32::from(index)).into(),
        }
    }

    /// Source address number `index` of full-nat and of the tunnel.
    pub fn source(self, index: u16) -> IpAddr {
        let [_, low] = index.to_be_bytes();
        match self {
            Self::V4 => Ipv4Addr::new(203, 0, 113, 1 + low).into(),
            Self::V6 => with_last(0x0a, 1 + u32::from(index)).into(),
        }
    }

    const fn variant(self) -> Variant {
        match self {
            Self::V4 => Variant::V4,
            Self::V6 => Variant::V6,
        }
    }
}

/// An address in 2001:db8:NET::/96.
fn with_last(net: u16, last: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(u128::from(0x2001_0db8_u32) << 96 | u128::from(net) << 80 | u128::from(last))
}

/// What a rig shall be.
#[derive(Clone, Debug)]
pub struct Wish {
    /// How packets reach the backends.
    pub mode: Mode,
    /// Of clients, vip and backends.
    pub family: Family,
    /// Flows to hold.
    pub flows: u32,
    /// Idle times.
    pub timeouts: TimeoutSpec,
    /// `FEATURE_*` that the program shall have besides.
    pub features: u32,
    /// The capabilities to load it with; all that the test has if there is nothing here.
    pub capabilities: Option<&'static [Capability]>,
}

impl Wish {
    /// With the default idle times and the features of this mode and family alone.
    pub fn new(mode: Mode, family: Family, flows: u32) -> Self {
        Self { mode, family, flows, timeouts: TimeoutSpec::default(), features: 0, capabilities: None }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Rig {
    /// The namespace packets are run in.
    pub namespace: Namespace,
    /// The daemon's view.
    pub datapath: Datapath,
    /// The balancer as it was loaded.
    pub program: Program,
    /// Index of the interface that packets come in by.
    pub interface: u32,
    /// What was asked for.
    pub wish: Wish,
    image: Image,
    spec: DatapathSpec,
    desired: Desired,
    _files: tempfile::TempDir,
}

impl Rig {
    /// Loads the program and fills its maps.
    pub fn new(label: &str, wish: Wish) -> Result<Self> {
        let namespace = namespace(label)?;
        let interface = cable(&namespace)?;
        let files = tempfile::tempdir()?;
        let spec = DatapathSpec {
            flows: wish.flows,
            pin: namespace.run_dir().new_pin_dir()?,
            seed_file: files.path().join("seed"),
            timeouts: wish.timeouts.clone(),
            ..DatapathSpec::default()
        };
        std::fs::write(&spec.seed_file, SEED.repeat(16))?;
        let desired = desired(&wish, interface);
        let mut tuning = Tuning::of(&desired, &wish.timeouts);
        tuning.features |= wish.features;
        let demand = Demand::of(&desired, wish.flows);
        let mut datapath = open(&namespace, &spec, tuning, &demand, wish.capabilities)?;
        let image = Image::read(&datapath)?;
        let image = plan(&image, &desired, datapath.settings())?.carry_out(&mut datapath)?;
        let program = Program::from_pin(&pins(&spec.pin).join("programs/lbd"))?;
        Ok(Self { namespace, datapath, program, interface, wish, image, spec, desired, _files: files })
    }

    /// Goes over to what `change` makes of the desired state, as the daemon would.
    pub fn change(&mut self, change: impl FnOnce(&mut Desired)) -> Result<()> {
        change(&mut self.desired);
        let plan = plan(&self.image, &self.desired, self.datapath.settings())?;
        self.image = plan.carry_out(&mut self.datapath)?;
        Ok(())
    }

    /// Where program and maps are pinned.
    pub fn pin(&self) -> &Path {
        &self.spec.pin
    }

    /// A request of the client whose address ends in `last`.
    pub fn request(&self, last: Ipv4Addr, port: u16, payload: Payload) -> Result<Frame> {
        let family = self.wish.family;
        Frame::new(SocketAddr::new(family.client(last), port), family.vip(), payload)
    }

    /// The reply of the backend to a request as it was sent on (nat, full-nat).
    pub fn reply(&self, sent_on: &Ran, payload: Payload) -> Result<Frame> {
        let (source, destination) = ends(&sent_on.frame).context("not a packet of one family")?;
        Frame::new(destination, source, payload)
    }

    /// Takes a frame through the program once.
    pub fn run(&self, frame: &Frame) -> Result<Ran> {
        self.program.run(frame.bytes(), self.interface)
    }
}

/// Source and destination of a TCP or UDP packet without IP options.
pub fn ends(frame: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let port = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
    let v4 = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).ok()?));
    let v6 = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(frame.get(at..at + 16)?).ok()?));
    let (source, destination, ports) = match frame.get(12..14)? {
        [0x08, 0x00] => (v4(26)?, v4(30)?, 34),
        [0x86, 0xdd] => (v6(22)?, v6(38)?, 54),
        _ => return None,
    };
    Some((SocketAddr::new(source, port(ports)?), SocketAddr::new(destination, port(ports + 2)?)))
}

impl Drop for Rig {
    fn drop(&mut self) {
        // The lock is this process's own, so the pins go while the datapath is open.
        let _ = self.datapath.close(lb_userspace::spec::OnExit::Detach);
        let _ = detach(&self.spec.pin);
    }
}

/// The daemon's loader in a namespace, with these capabilities if they are given.
pub(super) fn open(
    namespace: &Namespace,
    spec: &DatapathSpec,
    tuning: Tuning,
    demand: &Demand,
    capabilities: Option<&[Capability]>,
) -> Result<Datapath> {
    namespace.run(|| {
        if let Some(capabilities) = capabilities {
            keep_only(capabilities)?;
        }
        Ok(Datapath::open(spec, tuning, demand)?)
    })?
}

/// A namespace of this process's own: its tests run side by side.
pub(super) fn namespace(label: &str) -> Result<Namespace> {
    Namespace::new(&format!("{label}-{}", RIGS.fetch_add(1, Ordering::Relaxed)))
}

/// Another veth pair, and behind it the way to some other clients (`cases::world::Family::far_client`).
pub(super) fn second_cable(namespace: &Namespace) -> Result<u32> {
    namespace.ip("link add lb1 address 02:00:00:00:01:01 type veth peer name peer1")?;
    for name in ["lb1", "peer1"] {
        namespace.ip(&format!("link set dev {name} up"))?;
    }
    for (own, gateway, clients) in [
        ("192.0.3.1/24", "192.0.3.9", "172.16.0.0/12"),
        ("2001:db8:8::1/64", "2001:db8:8::9", "2001:db8:d::/48"),
    ] {
        let nodad = if own.contains(':') { " nodad" } else { "" };
        namespace.ip(&format!("address add {own} dev lb1{nodad}"))?;
        namespace.ip(&format!("neighbour add {gateway} lladdr 02:00:00:00:01:09 dev lb1 nud permanent"))?;
        namespace.ip(&format!("route add {clients} via {gateway} dev lb1"))?;
    }
    let index = namespace.run(|| nix::net::if_::if_nametoindex("lb1"))?;
    index.context("the interface has no index")
}

/// A veth pair, and behind it the way to every client.
pub(super) fn cable(namespace: &Namespace) -> Result<u32> {
    let mac = "02:00:00:00:00:09";
    let own_mac = "02:00:00:00:00:01";
    namespace.ip(&format!("link add {INTERFACE} address {own_mac} type veth peer name peer0"))?;
    for name in [INTERFACE, "peer0"] {
        namespace.ip(&format!("link set dev {name} up"))?;
    }
    namespace.sysctl("net/ipv4/ip_forward", "1")?;
    namespace.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    for (own, gateway, clients) in [
        ("192.0.2.1/24", "192.0.2.9", "10.0.0.0/8"),
        ("2001:db8:9::1/64", "2001:db8:9::9", "2001:db8:c::/48"),
    ] {
        let nodad = if own.contains(':') { " nodad" } else { "" };
        namespace.ip(&format!("address add {own} dev {INTERFACE}{nodad}"))?;
        namespace.ip(&format!("neighbour add {gateway} lladdr {mac} dev {INTERFACE} nud permanent"))?;
        namespace.ip(&format!("route add {clients} via {gateway} dev {INTERFACE}"))?;
    }
    let index = namespace.run(|| nix::net::if_::if_nametoindex(INTERFACE))?;
    index.context("the interface has no index")
}

fn desired(wish: &Wish, interface: u32) -> Desired {
    let family = wish.family;
    let pool = PoolKey { name: "web".into(), variant: family.variant() };
    let vip = family.vip();
    let service = |protocol| {
        let key = ListenerKey { addr: vip.ip(), port: Some(vip.port()), protocol };
        let service = DesiredService {
            name: "web".into(),
            forward: wish.mode,
            affinity: Affinity::Flow,
            when_none: WhenNone::Drop,
            loopback: false,
            resets_lost: false,
            pool: pool.clone(),
            tunnel: None,
        };
        (key, service)
    };
    let keeps_port = matches!(wish.mode, Forward::Dsr | Forward::Ipip);
    let backends: BTreeMap<_, _> = (0..BACKENDS)
        .map(|index| {
            let key = BackendKey { ip: family.backend(index), port: (!keeps_port).then_some(8080) };
            let sources = if wish.mode == Forward::Ipip { 1 } else { SOURCES };
            let sources = (0..sources).map(|index| family.source(index)).collect();
            (key, DesiredBackend { weight: 1, takes_new: true, keeps: true, sources, way: None })
        })
        .collect();
    let way = DesiredNextHop {
        interface,
        destination_mac: BACKEND_MAC,
        source_mac: OWN_MAC,
        mtu: 1500,
        local: false,
    };
    Desired {
        services: [Protocol::Tcp, Protocol::Udp].map(service).into(),
        next_hops: Arc::new(backends.keys().map(|key| (key.ip, way)).collect()),
        pools: [(pool.clone(), Arc::new(DesiredPool { table_len: TABLE_LEN, backends }))].into(),
    }
}
