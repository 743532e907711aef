//! Where the kernel sends packets.
//!
//! In: an address, a connection. Out: [`Way`], the kernel's own answer (RTM_GETROUTE), policy rules and multipath included;
//! and the routes of the tables that `reach` looks at. Invariant: read only.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHop, RouteType, RouteVia,
};
use rtnetlink::Handle;

use super::NetlinkError;
use crate::reach::{Route, RouteKind};

/// What becomes of a packet to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It is delivered to this host.
    Local,
    /// It leaves.
    Via(RouteTo),
    /// Nothing leads there.
    NoRoute,
    /// A route says that nothing shall go there (blackhole, unreachable, prohibit).
    Refused,
}

/// How it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RouteTo {
    /// By this interface.
    pub(super) interface: u32,
    /// To this router; `None`: the address is on the link itself.
    pub(super) gateway: Option<IpAddr>,
    /// The address this host would use as its own.
    pub(super) source: Option<IpAddr>,
    /// The route's own MTU, bytes, where it has one (or the path's has been learnt).
    pub(super) mtu: Option<u32>,
}

/// Asks the kernel for the way to an address.
///
/// # Errors
/// The kernel answers with something else than a way or its absence.
pub(super) async fn ask(handle: &Handle, address: IpAddr) -> Result<Way, NetlinkError> {
    ask_of(handle, address, None).await
}

/// As [`ask`], of what comes in by an interface from an address.
pub(super) async fn ask_of(
    handle: &Handle,
    address: IpAddr,
    from: Option<(u32, IpAddr)>,
) -> Result<Way, NetlinkError> {
    let mut question = RouteMessage::default();
    let (family, length) = family_of(address);
    question.header.address_family = family;
    question.header.destination_prefix_length = length;
    question.attributes.push(RouteAttribute::Destination(address.into()));
    if let Some((interface, source)) = from {
        question.header.source_prefix_length = length;
        question.attributes.push(RouteAttribute::Source(source.into()));
        question.attributes.push(RouteAttribute::Iif(interface));
    }
    let answers = handle.route().get(question).execute();
    let answer = std::pin::pin!(answers).try_next().await;
    match answer.map_err(NetlinkError::asking(format!("the route to {address}"))) {
        Ok(Some(message)) => Ok(way(&message)),
        Ok(None) => Ok(Way::NoRoute),
        Err(error) => match error.errno() {
            Some(libc::ENETUNREACH) => Ok(Way::NoRoute),
            Some(libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL) => Ok(Way::Refused),
            _ => Err(error),
        },
    }
}

fn family_of(address: IpAddr) -> (AddressFamily, u8) {
    match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    }
}

fn way(message: &RouteMessage) -> Way {
    match message.header.kind {
        RouteType::Local => return Way::Local,
        RouteType::Unicast => {}
        // Among them broadcast, multicast and anycast: no place for a backend.
        _ => return Way::Refused,
    }
    let mut to = RouteTo { interface: 0, gateway: None, source: None, mtu: None };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => to.interface = *index,
            RouteAttribute::PrefSource(source) => to.source = ip(source),
            RouteAttribute::Metrics(metrics) => to.mtu = metrics.iter().find_map(mtu),
            other => to.gateway = gateway(other).or(to.gateway),
        }
    }
    Way::Via(to)
}

/// The router an attribute names; an IPv4 route may lead over an IPv6 one (RFC 5549).
fn gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(gateway) => ip(gateway),
        RouteAttribute::Via(RouteVia::Inet(gateway)) => Some(IpAddr::V4(*gateway)),
        RouteAttribute::Via(RouteVia::Inet6(gateway)) => Some(IpAddr::V6(*gateway)),
        _ => None,
    }
}

fn mtu(metric: &RouteMetric) -> Option<u32> {
    match metric {
        RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
        _ => None,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

/// The destination of a route; `None`: of another family than IP.
pub(super) fn destination(message: &RouteMessage) -> Option<IpNet> {
    let header = &message.header;
    let named = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(destination) => ip(destination),
        _ => None,
    });
    // A default route names none.
    let address = match (named, header.address_family) {
        (Some(address), _) => address,
        (None, AddressFamily::Inet) => IpAddr::from([0; 4]),
        (None, AddressFamily::Inet6) => IpAddr::from([0; 16]),
        (None, _) => return None,
    };
    IpNet::new(address, header.destination_prefix_length).ok().map(|net| net.trunc())
}

/// The ways of one route of the main or the local table; none for a route of another table, or a cached one.
pub(super) fn table_routes(message: &RouteMessage) -> Vec<Route> {
    let header = &message.header;
    let table = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    let table = table.unwrap_or_else(|| u32::from(header.table));
    let known = [libc::RT_TABLE_MAIN, libc::RT_TABLE_LOCAL].map(u32::from);
    if !known.contains(&table) || header.flags.contains(RouteFlags::Cloned) {
        return Vec::new();
    }
    let kind = match header.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Local => RouteKind::Local,
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit => RouteKind::Refuse,
        _ => return Vec::new(),
    };
    let Some(destination) = destination(message) else { return Vec::new() };
    let mut route = Route { destination, kind, link: 0, gateway: None, metric: 0, source: None };
    let mut hops: &[RouteNextHop] = &[];
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => route.link = *index,
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::PrefSource(source) => route.source = ip(source),
            RouteAttribute::MultiPath(several) => hops = several,
            other => route.gateway = gateway(other).or(route.gateway),
        }
    }
    if hops.is_empty() {
        return vec![route];
    }
    let way = |hop: &RouteNextHop| Route {
        link: hop.interface_index,
        gateway: hop.attributes.iter().find_map(gateway),
        ..route
    };
    hops.iter().map(way).collect()
}
