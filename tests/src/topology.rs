//! The standard networks: a client, a balancer, backends, and what lies between them.
//!
//! In: a forwarding mode and the family of the vip. Out: namespaces cabled and routed as that mode needs them, with both
//! families everywhere. Invariant: the only way from the client to the vip leads through the balancer, which does not own it.
//!
//! Two arms (full-nat, nat): `client ─ front[balancer]back ─ switch ─ backends`. The backends' default route is the balancer,
//! and no client shares an L2 with them.
//!
//! One arm (dsr, ipip): `client ─ [router and switch] ─ front[balancer]`, the backends on the same switch. The router sends
//! the vip to the balancer; backends carry the vip on `lo` and answer through the router, past the balancer.

mod addresses;
mod config;
mod lbd;

use std::net::IpAddr;
use std::ops::Range;

use anyhow::{Context, Result, ensure};

pub use addresses::Pair;
pub use config::Settings;
pub use lbd::{Binaries, Lbd};

use crate::netns::Namespace;
use crate::netns::link::{self, End, Mac, Receive};
use crate::process::Process;

/// How packets reach a backend; `forward` in lbd.toml.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Source and destination rewritten.
    FullNat,
    /// Destination rewritten, the client's address kept.
    Nat,
    /// Destination MAC rewritten, the backend answers the client itself.
    Dsr,
    /// Carried in an outer IP header, the backend answers the client itself.
    Ipip,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 4] = [Mode::FullNat, Mode::Nat, Mode::Dsr, Mode::Ipip];

    /// As lbd.toml and the command line write it.
    pub fn name(self) -> &'static str {
        match self {
            Mode::FullNat => "full-nat",
            Mode::Nat => "nat",
            Mode::Dsr => "dsr",
            Mode::Ipip => "ipip",
        }
    }

    /// Whether backends answer the client past the balancer.
    pub fn is_direct_return(self) -> bool {
        matches!(self, Mode::Dsr | Mode::Ipip)
    }
}

impl std::str::FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Mode, String> {
        let found = Mode::ALL.into_iter().find(|mode| mode.name() == text);
        found.ok_or_else(|| format!("no mode `{text}`: full-nat, nat, dsr or ipip"))
    }
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What to build; see the module's text.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Distinguishes this network's namespaces from others of the process; at most 20 bytes.
    pub name: String,
    /// The forwarding mode that decides between one arm and two.
    pub mode: Mode,
    /// The vip's family.
    pub family: Family,
    /// The family in which the balancer reaches the backends; another than `family` only with ipip.
    pub backend_family: Family,
    /// How many backends there are at first.
    pub backends: u8,
    /// MTU of every link, bytes.
    pub mtu: u32,
}

impl Plan {
    /// Three backends, MTU 1500, one family.
    pub fn new(name: &str, mode: Mode, family: Family) -> Plan {
        Plan { name: name.to_owned(), mode, family, backend_family: family, backends: 3, mtu: 1500 }
    }
}

impl Plan {
    fn vip(&self) -> IpAddr {
        addresses::VIP.of(self.family)
    }

    fn backend_address(&self, index: usize) -> IpAddr {
        addresses::backend(u8::try_from(index).unwrap_or(u8::MAX)).of(self.backend_family)
    }

    /// The first so many of those that it can have.
    fn balancer_addresses(&self, count: u8) -> Vec<IpAddr> {
        (0..count).map(|number| addresses::balancer(number).of(self.backend_family)).collect()
    }

    fn interfaces(&self) -> &'static [&'static str] {
        if self.mode.is_direct_return() { &["front"] } else { &["front", "back"] }
    }
}

/// A backend's host.
#[derive(Debug)]
pub struct Backend {
    /// `b1`, `b2` …
    pub name: String,
    /// Where its servers run; its interface is `eth0`.
    pub namespace: Namespace,
    /// Its addresses.
    pub addresses: Pair,
    /// `lbd decap`, in ipip.
    decap: Option<Process>,
}

/// A network that stands until it is dropped.
#[derive(Debug)]
pub struct Topology {
    /// What was asked for.
    pub plan: Plan,
    /// The backends, in the order they were added.
    pub backends: Vec<Backend>,
    /// Where lbd runs; its interfaces are `front` and, in two arms, `back`.
    pub balancer: Namespace,
    /// The backends' switch; in one arm also the router.
    pub switch: Namespace,
    /// The client; its interface is `eth0`.
    pub client: Namespace,
}

impl Topology {
    /// Builds the network. In ipip the backends run `lbd decap` (see [`Binaries::find`]).
    pub fn build(plan: Plan) -> Result<Topology> {
        let namespace = |role: &str| Namespace::new(&format!("{}-{role}", plan.name));
        let (client, switch, balancer) = (namespace("client")?, namespace("switch")?, namespace("balancer")?);
        let mut topology = Topology { plan, backends: Vec::new(), balancer, switch, client };
        let bridge_mac = Mac::local(1, 1);
        link::bridge(&topology.switch, "br0", bridge_mac)?;
        if topology.plan.mode.is_direct_return() {
            topology.cable_one_arm()?
        } else {
            topology.cable_two_arms()?
        }
        for _ in 0..topology.plan.backends {
            topology.add_backend()?;
        }
        Ok(topology)
    }

    /// The vip in the plan's family.
    pub fn vip(&self) -> IpAddr {
        self.plan.vip()
    }

    /// The client's address in the plan's family.
    pub fn client_address(&self) -> IpAddr {
        addresses::CLIENT.of(self.plan.family)
    }

    /// The address at which the balancer reaches backend `index`.
    pub fn backend_address(&self, index: usize) -> IpAddr {
        self.plan.backend_address(index)
    }

    /// The balancer's addresses towards the backends: its own, then more for full-nat's `snat`.
    pub fn balancer_addresses(&self) -> Vec<IpAddr> {
        self.plan.balancer_addresses(addresses::BALANCER_SOURCES)
    }

    /// Gives the balancer so many addresses in all towards the backends, which are behind an interface of their own (nat, full-nat). For
    /// [`Settings::snat_sources`].
    pub fn add_sources(&self, count: u8) -> Result<()> {
        ensure!(count <= addresses::MOST_SOURCES, "{count} sources, more than {}", addresses::MOST_SOURCES);
        self.assign_balancer("back", addresses::BALANCER_SOURCES..count)
    }

    /// The balancer's interfaces, for `interfaces` in lbd.toml.
    pub fn interfaces(&self) -> &'static [&'static str] {
        self.plan.interfaces()
    }

    /// One more backend on the switch.
    pub fn add_backend(&mut self) -> Result<&Backend> {
        let index = u8::try_from(self.backends.len()).context("more backends than addresses")?;
        let name = format!("b{}", index + 1);
        let namespace = Namespace::new(&format!("{}-{name}", self.plan.name))?;
        let addresses = addresses::backend(index);
        let receive = if self.plan.mode == Mode::Ipip { Receive::Plain } else { Receive::XdpPass };
        let end = end(&namespace, "eth0", Mac::local(3, index + 1), receive);
        self.cable_to_switch(&name, end)?;
        assign(&namespace, "eth0", addresses.with_prefix_lens())?;
        let gateway =
            if self.plan.mode.is_direct_return() { addresses::ROUTER } else { addresses::balancer(0) };
        default_route(&namespace, gateway)?;
        if self.plan.mode.is_direct_return() {
            // The vip is the balancer's to be asked for: backends have it but neither answer for it nor announce it.
            namespace.sysctl("net/ipv4/conf/all/arp_ignore", "1")?;
            namespace.sysctl("net/ipv4/conf/all/arp_announce", "2")?;
            assign(&namespace, "lo", addresses::VIP.as_hosts())?;
        }
        let decap = match self.plan.mode {
            Mode::Ipip => Some(lbd::start_decap(&name, &namespace, addresses::balancer(0))?),
            _ => None,
        };
        self.backends.push(Backend { name, namespace, addresses, decap });
        self.backends.last().context("a backend was just added")
    }

    /// Pulls the cable of backend `index` out, or puts it back: a host that is gone without a word.
    pub fn set_backend_up(&self, index: usize, up: bool) -> Result<()> {
        let backend = &self.backends[index];
        link::set_up(&self.switch, &backend.name, up)
    }

    /// Ends `lbd decap` at backend `index`, or starts it again.
    pub fn set_decapsulating(&mut self, index: usize, on: bool) -> Result<()> {
        let backend = &mut self.backends[index];
        // Dropped first: its program leaves the interface with it.
        backend.decap = None;
        if on {
            backend.decap =
                Some(lbd::start_decap(&backend.name, &backend.namespace, addresses::balancer(0))?);
        }
        Ok(())
    }

    /// Every namespace with its name, for counters and captures.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        [&self.client, &self.switch, &self.balancer]
            .into_iter()
            .chain(self.backends.iter().map(|backend| &backend.namespace))
    }

    fn cable_two_arms(&self) -> Result<()> {
        let client = end(&self.client, "eth0", Mac::local(2, 1), Receive::XdpPass);
        link::connect(client, end(&self.balancer, "front", Mac::local(2, 2), Receive::Plain), self.plan.mtu)?;
        let back = end(&self.balancer, "back", Mac::local(1, 2), Receive::Plain);
        self.cable_to_switch("balancer", back)?;
        assign(&self.client, "eth0", addresses::CLIENT.with_prefix_lens())?;
        assign(&self.balancer, "front", addresses::CLIENT_GATEWAY.with_prefix_lens())?;
        self.assign_balancer("back", 0..addresses::BALANCER_SOURCES)?;
        default_route(&self.client, addresses::CLIENT_GATEWAY)?;
        forward(&self.balancer)
    }

    fn cable_one_arm(&self) -> Result<()> {
        let client = end(&self.client, "eth0", Mac::local(2, 1), Receive::XdpPass);
        link::connect(client, end(&self.switch, "up", Mac::local(2, 2), Receive::XdpPass), self.plan.mtu)?;
        let front = end(&self.balancer, "front", Mac::local(1, 2), Receive::Plain);
        self.cable_to_switch("balancer", front)?;
        assign(&self.client, "eth0", addresses::CLIENT.with_prefix_lens())?;
        assign(&self.switch, "up", addresses::CLIENT_GATEWAY.with_prefix_lens())?;
        assign(&self.switch, "br0", addresses::ROUTER.with_prefix_lens())?;
        self.assign_balancer("front", 0..addresses::BALANCER_SOURCES)?;
        default_route(&self.client, addresses::CLIENT_GATEWAY)?;
        default_route(&self.balancer, addresses::ROUTER)?;
        for (vip, prefix_len) in addresses::VIP.as_hosts() {
            let via = addresses::balancer(0).of(if vip.is_ipv4() { Family::V4 } else { Family::V6 });
            self.switch.ip(&format!("route add {vip}/{prefix_len} via {via}"))?;
        }
        forward(&self.switch)
    }

    fn cable_to_switch(&self, port: &str, far: End<'_>) -> Result<()> {
        let Mac([.., group, member]) = far.mac;
        link::connect(
            far,
            end(&self.switch, port, Mac::local(0x80 | group, member), Receive::XdpPass),
            self.plan.mtu,
        )?;
        link::join(&self.switch, "br0", port)
    }

    fn assign_balancer(&self, interface: &str, mut numbers: Range<u8>) -> Result<()> {
        numbers.try_for_each(|number| {
            assign(&self.balancer, interface, addresses::balancer(number).with_prefix_lens())
        })
    }
}

fn end<'a>(namespace: &'a Namespace, interface: &'a str, mac: Mac, receive: Receive) -> End<'a> {
    End { namespace, interface, mac, receive }
}

fn assign(namespace: &Namespace, interface: &str, addresses: [(IpAddr, u8); 2]) -> Result<()> {
    addresses.into_iter().try_for_each(|(address, len)| link::address(namespace, interface, address, len))
}

fn default_route(namespace: &Namespace, gateway: Pair) -> Result<()> {
    namespace.ip(&format!("route add default via {}", gateway.v4))?;
    namespace.ip(&format!("-6 route add default via {}", gateway.v6)).map(drop)
}

fn forward(namespace: &Namespace) -> Result<()> {
    namespace.sysctl("net/ipv4/ip_forward", "1")?;
    namespace.sysctl("net/ipv6/conf/all/forwarding", "1")
}
