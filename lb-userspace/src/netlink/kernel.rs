//! The connection to the kernel's network tables.
//!
//! In: nothing. Out: a socket for requests and a stream of every change of links, addresses, routes, rules and neighbours.
//! Invariant: the stream is open before the first request, so what changes after a request is told.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::{Handle, MulticastGroup};

use super::NetlinkError;

/// What changes are told of.
const GROUPS: [MulticastGroup; 8] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

/// The two sockets: one for events, so that a flood of them holds up no answer, one for requests.
pub(super) struct Kernel {
    /// For requests.
    pub(super) handle: Handle,
    /// What the kernel tells unasked.
    pub(super) events: BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>,
}

impl Kernel {
    /// Opens both in the network namespace of the calling thread, on the current tokio runtime.
    ///
    /// # Errors
    /// No netlink socket can be opened.
    pub(super) fn open() -> Result<Self, NetlinkError> {
        let (connection, _unused, events) =
            rtnetlink::new_multicast_connection(&GROUPS).map_err(NetlinkError::Open)?;
        tokio::spawn(connection);
        let (connection, handle, _none) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
        tokio::spawn(connection);
        Ok(Self { handle, events: events.map(|(message, _sender)| message).boxed() })
    }
}
