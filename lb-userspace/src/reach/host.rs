//! This host's network as plain values.
//!
//! In: what netlink and /proc/net say, copied. Out: answers about addresses, links and routes. Invariant: a snapshot; it
//! follows the main and local routing tables, not policy rules.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Reach;
use crate::spec::{Listener, Protocol};

/// Links, addresses, routes and listening sockets of one network namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostNetwork {
    /// Every interface.
    pub links: Vec<Link>,
    /// Every address of every interface.
    pub addresses: Vec<HostAddress>,
    /// The main and the local routing table.
    pub routes: Routes,
    /// TCP sockets that listen and UDP sockets that are bound without a peer. Empty in a snapshot: who judges looks at them then, if
    /// [`super::needs_sockets`].
    pub sockets: Vec<LocalSocket>,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number in the kernel.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// The bridge or bond it is a port of.
    pub master: Option<u32>,
}

/// What an interface is, as far as it matters for where a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// `lo`.
    Loopback,
    /// A network card, real or the machine's virtual one.
    Physical,
    /// A software bridge.
    Bridge,
    /// One end of a veth pair.
    Veth,
    /// VLAN, bond, tunnel, …
    Other,
}

/// An address of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostAddress {
    /// The address with the length of its network's prefix.
    pub net: IpNet,
    /// The interface that has it.
    pub link: u32,
}

/// One way of a route; a multipath route is several of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where it leads to.
    pub destination: IpNet,
    /// What the kernel does with packets that take it.
    pub kind: RouteKind,
    /// The interface packets leave by; 0 for none.
    pub link: u32,
    /// The next router, where the destination is not on the link itself.
    pub gateway: Option<IpAddr>,
    /// Smaller is preferred among routes to one destination.
    pub metric: u32,
    /// This host's address that packets take it with, where the route says it.
    pub source: Option<IpAddr>,
}

/// What the kernel does with packets that take a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// Sends them on.
    Unicast,
    /// Delivers them to this host.
    Local,
    /// Drops or refuses them (blackhole, unreachable, prohibit).
    Refuse,
}

/// A socket of this host that takes packets from anyone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalSocket {
    /// Where it listens; 0.0.0.0 and :: are every address.
    pub addr: IpAddr,
    /// Its port.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The program that has it open, if that is known.
    pub program: Option<String>,
}

impl LocalSocket {
    /// A packet to this listener would have been this socket's. (A socket on `::` takes IPv4 too, unless it asked not to.)
    pub fn takes(&self, listener: &Listener) -> bool {
        let same_addr = self.addr == listener.addr
            || (self.addr.is_unspecified() && (self.addr.is_ipv6() || listener.addr.is_ipv4()));
        same_addr && self.protocol == listener.protocol && listener.port.is_none_or(|port| port == self.port)
    }
}

/// Routes by destination, so that a look-up takes time by the number of prefix lengths, not of routes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Routes {
    by_destination: HashMap<IpNet, Vec<Route>>,
    /// Lengths that occur, longest first.
    lengths_v4: Vec<u8>,
    lengths_v6: Vec<u8>,
}

impl FromIterator<Route> for Routes {
    fn from_iter<I: IntoIterator<Item = Route>>(routes: I) -> Self {
        let mut table = Self::default();
        for route in routes {
            let destination = route.destination.trunc();
            let lengths = match destination {
                IpNet::V4(_) => &mut table.lengths_v4,
                IpNet::V6(_) => &mut table.lengths_v6,
            };
            if let Err(position) = lengths.binary_search_by(|length| destination.prefix_len().cmp(length)) {
                lengths.insert(position, destination.prefix_len());
            }
            table.by_destination.entry(destination).or_default().push(route);
        }
        // Of those to one destination the preferred ones are first, as they came.
        table.by_destination.values_mut().for_each(|routes| routes.sort_by_key(|route| route.metric));
        table
    }
}

impl Routes {
    /// The routes to networks inside of this one.
    pub fn within(&self, net: &IpNet) -> impl Iterator<Item = &Route> {
        let inside = |destination: &&IpNet| net.contains(*destination);
        let found = self.by_destination.keys().filter(move |destination| inside(destination));
        found.filter_map(|destination| self.by_destination.get(destination)?.first())
    }

    /// The routes that packets to this address take: those of the longest prefix with the smallest metric, several if
    /// they share the load, none if there is no way.
    pub fn lookup(&self, addr: IpAddr) -> &[Route] {
        let lengths = if addr.is_ipv4() { &self.lengths_v4 } else { &self.lengths_v6 };
        let found = lengths.iter().find_map(|length| self.by_destination.get(&net(addr, *length)?));
        let routes = found.map_or(&[][..], Vec::as_slice);
        let best = routes.first().map(|route| route.metric);
        let end = routes.partition_point(|route| Some(route.metric) == best);
        routes.get(..end).unwrap_or_default()
    }
}

/// Where an address is, seen from a host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) reach: Reach,
    /// That packets to it take.
    pub(super) routes: &'a [Route],
}

/// Whether packets to `to` may be from this address: of its family, and not of one link alone.
fn is_choice(own: IpAddr, to: IpAddr) -> bool {
    match own {
        IpAddr::V4(_) => to.is_ipv4(),
        IpAddr::V6(own) => to.is_ipv6() && !own.is_unicast_link_local(),
    }
}

/// The network of this length that an address is in.
fn net(addr: IpAddr, length: u8) -> Option<IpNet> {
    match addr {
        IpAddr::V4(addr) => Ipv4Net::new(addr, length).ok().map(|net| IpNet::V4(net.trunc())),
        IpAddr::V6(addr) => Ipv6Net::new(addr, length).ok().map(|net| IpNet::V6(net.trunc())),
    }
}

impl HostNetwork {
    /// The interface of this name.
    pub fn link_named(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The interface of this number.
    pub fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// Packets to this address are delivered to this host.
    pub fn owns(&self, addr: IpAddr) -> bool {
        self.owns_by(addr, self.routes.lookup(addr))
    }

    fn owns_by(&self, addr: IpAddr, routes: &[Route]) -> bool {
        self.addresses.iter().any(|own| own.net.addr() == addr)
            || routes.iter().any(|route| route.kind == RouteKind::Local)
    }

    /// Where an address is, seen from here.
    pub fn locate(&self, addr: IpAddr, listed: &[String]) -> Reach {
        self.place(addr, listed).reach
    }

    /// Where an address is, and the routes that lead there.
    pub(super) fn place(&self, addr: IpAddr, listed: &[String]) -> Place<'_> {
        let routes = self.routes.lookup(addr);
        Place { reach: self.reach(addr, routes, listed), routes }
    }

    /// Whether packets that this host sends to an address are from `own`, by one of the routes there. Where a route does not say it, it is the
    /// first address of its interface in the next hop's network, else the first (`inet_select_addr` in net/ipv4/devinet.c). Which one of
    /// several IPv6 takes (RFC 6724 §5) depends on more than is known here: then it is none.
    pub(super) fn sends_from(&self, own: IpAddr, to: IpAddr) -> bool {
        self.routes.lookup(to).iter().any(|route| {
            let on_link = self.addresses.iter().filter(|address| address.link == route.link);
            let nets: Vec<IpNet> =
                on_link.map(|address| address.net).filter(|net| is_choice(net.addr(), to)).collect();
            let next = route.gateway.unwrap_or(to);
            let near = nets.iter().find(|net| net.contains(&next)).or(nets.first());
            let chosen = near.filter(|_| to.is_ipv4() || nets.len() == 1).map(IpNet::addr);
            route.source.or(chosen) == Some(own)
        })
    }

    fn reach(&self, addr: IpAddr, routes: &[Route], listed: &[String]) -> Reach {
        if addr.is_loopback() {
            return Reach::Loopback;
        }
        if self.owns_by(addr, routes) {
            return Reach::Local;
        }
        let behind_host = |route: &&Route| {
            let link = self.link(route.link);
            link.is_some_and(|link| {
                matches!(link.kind, LinkKind::Bridge | LinkKind::Veth)
                    && !listed.contains(&link.name)
                    && !self.leads_outside(link)
            })
        };
        // The default route never leads into a container.
        let mut routed = routes.iter().filter(|route| route.destination.prefix_len() > 0);
        match routed.any(|route| behind_host(&route)) {
            true => Reach::Container,
            false => Reach::Remote,
        }
    }

    /// A bridge with a network card among its ports continues the network outside (a hypervisor's br0).
    fn leads_outside(&self, bridge: &Link) -> bool {
        let port = |link: &&Link| link.master == Some(bridge.index);
        self.links.iter().filter(port).any(|link| matches!(link.kind, LinkKind::Physical | LinkKind::Other))
    }
}
