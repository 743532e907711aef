//! The veth that checks through services come in by, with the rules, routes and neighbours that make it a way.
//!
//! In: [`ProbeWish`]. Out: all of it there, or nothing. Invariants: the main routing table is not touched; no packet of anybody else's takes
//! another way than before; what is there already is left as it is, so looking at it makes no noise.
//!
//! A socket bound to `lbd-probe0` sends to a probe address, whose route hands it to the other end, where it comes in as a client's packet
//! does. The prober's address is none of this host's to the program, which finds a way to it by `lbd-probe1`, but is one to what comes in
//! by `lbd-probe0`. Two tables and a rule for each: what comes in by `lbd-probe0`, and what goes to one of the addresses. What the program
//! lets pass at the other end is for nobody, a packet of a check that has just gone; a third rule ends it there, which would be sent to the
//! veth again and go round until its hop limit is over.

use std::net::IpAddr;

use futures_util::{StreamExt, TryStreamExt};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::neighbour::NeighbourState;
use netlink_packet_route::route::{RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{Handle, IpVersion, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::interface::Interface;
use super::neighbour::{self, NeighbourKey, OUR_PROTOCOL};
use super::route::{self, RouteTo, Way};
use super::{NetlinkError, offload};
use crate::reach::LinkKind;
use crate::spec::{PROBE_INNER as INNER, PROBE_OUTER as OUTER, ProbePrefix};

/// The smallest that IPv6 knows: in a tunnel these packets still fit everywhere.
const MTU: u32 = 1280;
/// Where what comes in at the prober's end is delivered, and the rule before all others that says so.
const INWARD: (u32, u32) = (19_018, 1);
/// Where what goes to the prober or a probe address leads.
const OUTWARD: (u32, u32) = (19_019, 2);
/// The rule that ends what the program lets pass.
const END: u32 = 1;

/// What the way has to carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProbeWish {
    /// The addresses.
    pub prefix: ProbePrefix,
    /// Whether there are IPv4 and IPv6 checks.
    pub families: [bool; 2],
}

impl ProbeWish {
    /// The families wanted: whether each is IPv4.
    fn wanted(&self) -> impl Iterator<Item = bool> {
        let [v4, v6] = self.families;
        [(v4, true), (v6, false)].into_iter().filter(|(wanted, _)| *wanted).map(|(_, is_v4)| is_v4)
    }
}

/// Both ends.
struct Pair {
    inner: Interface,
    outer: Interface,
}

/// Makes whatever of the way is not there. True: something was not.
///
/// # Errors
/// The kernel refuses, or somebody else has the names.
pub(super) async fn ensure(handle: &Handle, wish: &ProbeWish) -> Result<bool, NetlinkError> {
    if let Some(pair) = pair(handle).await?
        && is_whole(handle, &pair, wish).await?
    {
        return Ok(false);
    }
    let pair = make_pair(handle).await?;
    clear_rules(handle).await?;
    for is_v4 in wish.wanted() {
        make_family(handle, &pair, &wish.prefix, is_v4).await?;
    }
    match is_whole(handle, &pair, wish).await? {
        true => Ok(true),
        false => Err(NetlinkError::Probe {
            reason: "it is made, but does not lead where it should: a rule or a route of another program is in its way (ip rule)".into(),
        }),
    }
}

/// Removes all of it; whether there was anything.
///
/// # Errors
/// The kernel refuses.
pub(super) async fn remove(handle: &Handle) -> Result<bool, NetlinkError> {
    let mut was_there = false;
    for name in [INNER, OUTER] {
        if let Some((link, _)) = link(handle, name).await?.filter(|(link, _)| link.kind == LinkKind::Veth) {
            let gone = handle.link().del(link.index).execute().await;
            ignoring(gone, libc::ENODEV, name)?;
            was_there = true;
        }
    }
    clear_rules(handle).await?;
    Ok(was_there)
}

/// An interface by its name, and its peer's number.
async fn link(handle: &Handle, name: &str) -> Result<Option<(Interface, Option<u32>)>, NetlinkError> {
    let answers = handle.link().get().match_name(name).execute();
    let answer =
        std::pin::pin!(answers).try_next().await.map_err(NetlinkError::asking(format!("interface {name}")));
    let message: Option<LinkMessage> = match answer {
        Err(error) if error.errno() == Some(libc::ENODEV) => None,
        answer => answer?,
    };
    let described = |message: &LinkMessage| {
        let peer = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Link(index) => Some(*index),
            _ => None,
        });
        Some((Interface::from_message(message)?, peer))
    };
    Ok(message.as_ref().and_then(described))
}

/// Both ends, if each is the other's.
async fn pair(handle: &Handle) -> Result<Option<Pair>, NetlinkError> {
    let (Some((inner, peer)), Some((outer, _))) = (link(handle, INNER).await?, link(handle, OUTER).await?)
    else {
        return Ok(None);
    };
    let is_pair = inner.kind == LinkKind::Veth && outer.kind == LinkKind::Veth && peer == Some(outer.index);
    Ok(is_pair.then_some(Pair { inner, outer }))
}

async fn make_pair(handle: &Handle) -> Result<Pair, NetlinkError> {
    if pair(handle).await?.is_none() {
        for name in [INNER, OUTER] {
            let Some((link, _)) = link(handle, name).await? else { continue };
            if link.kind != LinkKind::Veth {
                return Err(NetlinkError::Probe {
                    reason: format!(
                        "there is an interface {name}, which is no veth of lbd's: remove or rename it"
                    ),
                });
            }
            // Half of a pair, or one that somebody has put together otherwise.
            ignoring(handle.link().del(link.index).execute().await, libc::ENODEV, name)?;
        }
        let made = handle.link().add(LinkVeth::new(INNER, OUTER).build()).execute().await;
        made.map_err(NetlinkError::asking(format!("the veth {INNER}")))?;
    }
    let Some(made) = pair(handle).await? else {
        return Err(NetlinkError::Probe { reason: format!("the veth {INNER} vanished while it was made") });
    };
    for link in [&made.inner, &made.outer] {
        // Up first: a veth takes other offloads at once only then.
        let wanted = LinkUnspec::new_with_index(link.index).mtu(MTU).up().build();
        let set = handle.link().set(wanted).execute().await;
        set.map_err(NetlinkError::asking(format!("{} switched on", link.name)))?;
        offload::set(&link.name).map_err(|error| NetlinkError::Probe {
            reason: format!("the offloads of {} cannot be set: {error}", link.name),
        })?;
    }
    let missing = || NetlinkError::Probe { reason: format!("the veth {INNER} vanished while it was made") };
    pair(handle).await?.ok_or_else(missing)
}

/// The neighbours of one family: everybody on the veth is at the other end.
fn neighbours(pair: &Pair, prefix: &ProbePrefix, is_v4: bool) -> [(NeighbourKey, Option<[u8; 6]>); 2] {
    let key = |link: &Interface, address| NeighbourKey { interface: link.index, address };
    [
        (key(&pair.outer, prefix.prober(is_v4)), pair.inner.mac),
        (key(&pair.inner, prefix.gateway(is_v4)), pair.outer.mac),
    ]
}

async fn make_family(
    handle: &Handle,
    pair: &Pair,
    prefix: &ProbePrefix,
    is_v4: bool,
) -> Result<(), NetlinkError> {
    for (key, mac) in neighbours(pair, prefix, is_v4) {
        let mac = mac.unwrap_or_default();
        let add = handle.neighbours().add(key.interface, key.address).state(NeighbourState::Permanent);
        let added = add.link_layer_address(&mac).replace().execute().await;
        added.map_err(NetlinkError::asking(format!("neighbour {} of the probes", key.address)))?;
    }
    let (prober, net) = (prefix.prober(is_v4), prefix.net(is_v4));
    let (inner, outer) = (pair.inner.index, pair.outer.index);
    let delivered = To { destination: prober, len: bits(is_v4), link: inner, gateway: None, table: INWARD.0 };
    let back = To { link: outer, table: OUTWARD.0, ..delivered };
    let there = To {
        destination: net.network(),
        len: net.prefix_len(),
        link: inner,
        gateway: Some(prefix.gateway(is_v4)),
        table: OUTWARD.0,
    };
    for to in [delivered, back, there] {
        to.make(handle).await?;
    }
    let mut inward = rule(is_v4, INWARD);
    inward.attributes.push(RuleAttribute::Iifname(INNER.to_owned()));
    let mut outward = rule(is_v4, OUTWARD);
    outward.header.dst_len = net.prefix_len();
    outward.attributes.push(RuleAttribute::Destination(net.network()));
    let mut end = rule(is_v4, (0, END));
    end.header.action = RuleAction::Blackhole;
    end.attributes.push(RuleAttribute::Iifname(OUTER.to_owned()));
    for wanted in [inward, end, outward] {
        let mut add = handle.rule().add();
        *add.message_mut() = wanted;
        ignoring(add.execute().await, libc::EEXIST, "a rule for the probes")?;
    }
    Ok(())
}

/// A route of the probes.
#[derive(Clone, Copy)]
struct To {
    destination: IpAddr,
    len: u8,
    link: u32,
    gateway: Option<IpAddr>,
    table: u32,
}

impl To {
    async fn make(&self, handle: &Handle) -> Result<(), NetlinkError> {
        let asking = NetlinkError::asking(format!("the route to {} of the probes", self.destination));
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(self.destination, self.len)
            .map_err(|error| NetlinkError::Probe { reason: error.to_string() })?
            .output_interface(self.link)
            .table_id(self.table)
            .protocol(RouteProtocol::from(OUR_PROTOCOL));
        let route = match self.gateway {
            Some(gateway) => {
                let route = route.gateway(gateway);
                route.map_err(|error| NetlinkError::Probe { reason: error.to_string() })?.onlink()
            }
            None if self.table == INWARD.0 => route.kind(RouteType::Local).scope(RouteScope::Host),
            None => route.scope(RouteScope::Link),
        };
        handle.route().add(route.build()).replace().execute().await.map_err(asking)
    }
}

const fn bits(is_v4: bool) -> u8 {
    if is_v4 { 32 } else { 128 }
}

fn rule(is_v4: bool, (table, priority): (u32, u32)) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = if is_v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.action = RuleAction::ToTable;
    if table > 0 {
        message.attributes.push(RuleAttribute::Table(table));
    }
    message.attributes.push(RuleAttribute::Priority(priority));
    message.attributes.push(RuleAttribute::Protocol(RouteProtocol::from(OUR_PROTOCOL)));
    message
}

/// Takes away the rules of this way, of whatever prefix they are.
async fn clear_rules(handle: &Handle) -> Result<(), NetlinkError> {
    for version in [IpVersion::V4, IpVersion::V6] {
        let answers = handle.rule().get(version).execute();
        let rules: Vec<RuleMessage> = std::pin::pin!(answers)
            .filter_map(|rule| std::future::ready(rule.ok().filter(is_ours)))
            .collect()
            .await;
        for rule in rules {
            ignoring(handle.rule().del(rule).execute().await, libc::ENOENT, "a rule of the probes")?;
        }
    }
    Ok(())
}

fn is_ours(rule: &RuleMessage) -> bool {
    rule.attributes.iter().any(|attribute| match attribute {
        RuleAttribute::Table(table) => [INWARD.0, OUTWARD.0].contains(table),
        RuleAttribute::Iifname(name) => name == OUTER,
        _ => false,
    })
}

/// Whether packets go where they should.
async fn is_whole(handle: &Handle, pair: &Pair, wish: &ProbeWish) -> Result<bool, NetlinkError> {
    let is_up = |link: &Interface| link.up && link.mtu == MTU && offload::is_set(&link.name);
    if !is_up(&pair.inner) || !is_up(&pair.outer) {
        return Ok(false);
    }
    for is_v4 in wish.wanted() {
        let (prober, gateway) = (wish.prefix.prober(is_v4), wish.prefix.gateway(is_v4));
        let probe = wish.prefix.probe(is_v4, 0);
        for (key, mac) in neighbours(pair, &wish.prefix, is_v4) {
            let seen = neighbour::get(handle, key).await?;
            if !seen.is_some_and(|seen| seen.fixed && seen.mac == mac) {
                return Ok(false);
            }
        }
        let via = |way: Way, link: &Interface, gateway: Option<IpAddr>| matches!(way, Way::Via(RouteTo { interface, gateway: by, .. }) if interface == link.index && by == gateway);
        let there = route::ask(handle, probe).await?;
        let back = route::ask(handle, prober).await?;
        let inward = route::ask_of(handle, prober, Some((pair.inner.index, probe))).await?;
        let passed = route::ask_of(handle, probe, Some((pair.outer.index, prober))).await?;
        let leads = via(there, &pair.inner, Some(gateway)) && via(back, &pair.outer, None);
        if !leads || inward != Way::Local || passed != Way::Refused {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The answer, but for this error, which says that it is so already.
fn ignoring(result: Result<(), rtnetlink::Error>, errno: i32, what: &str) -> Result<(), NetlinkError> {
    match result.map_err(NetlinkError::asking(what)) {
        Err(error) if error.errno() == Some(errno) => Ok(()),
        result => result,
    }
}
