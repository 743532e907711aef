//! This host's network, read at once.
//!
//! In: the network namespace of the calling thread. Out: [`HostNetwork`] for the rules of [`crate::reach`]. Invariant: read
//! only; links and addresses first, so a route never names a link that is younger than the snapshot of links by more
//! than the time of the reading.

use futures_util::{Stream, TryStreamExt};
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::route::RouteMessage;
use rtnetlink::Handle;

use super::interface::Interface;
use super::{NetlinkError, route};
use crate::reach::{HostAddress, HostNetwork, Routes};

/// Reads links, addresses and routes; not the sockets, of which there can be very many ([`super::local_listening_sockets`]).
///
/// # Errors
/// The kernel does not answer.
pub async fn read_host_network() -> Result<HostNetwork, NetlinkError> {
    let (connection, handle, _events) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
    // The connection ends with its last handle, at the end of this function.
    tokio::spawn(connection);
    let links = interfaces(&handle).await?.iter().map(Interface::to_link).collect();
    let addresses = addresses(&handle).await?;
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut all = RouteMessage::default();
        all.header.address_family = family;
        let messages = collect("the routes", handle.route().get(all).execute()).await?;
        routes.extend(messages.iter().flat_map(route::table_routes));
    }
    Ok(HostNetwork { links, addresses, routes: Routes::from_iter(routes), sockets: Vec::new() })
}

/// Every interface.
pub(super) async fn interfaces(handle: &Handle) -> Result<Vec<Interface>, NetlinkError> {
    let messages = collect("the interfaces", handle.link().get().execute()).await?;
    Ok(messages.iter().filter_map(Interface::from_message).collect())
}

async fn addresses(handle: &Handle) -> Result<Vec<HostAddress>, NetlinkError> {
    let messages = collect("the addresses", handle.address().get().execute()).await?;
    Ok(messages.iter().filter_map(host_address).collect())
}

async fn collect<T>(
    what: &str,
    answers: impl Stream<Item = Result<T, rtnetlink::Error>>,
) -> Result<Vec<T>, NetlinkError> {
    answers.try_collect().await.map_err(NetlinkError::asking(what))
}

/// The address a message names. On a point-to-point link `Address` is the peer's and `Local` this host's.
fn host_address(message: &AddressMessage) -> Option<HostAddress> {
    let attributes = &message.attributes;
    let local = attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let only = attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    let net = IpNet::new(local.or(only)?, message.header.prefix_len).ok()?;
    Some(HostAddress { net, link: message.header.index })
}
