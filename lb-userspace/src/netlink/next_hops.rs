//! From routes, interfaces and neighbours to next hops.
//!
//! In: the wanted addresses; the kernel's answers and events, as values. Out: what to ask the kernel for ([`Action`], the
//! addresses whose way is stale), and each change of a next hop. Invariants: an address is told only when its answer
//! differs from the one told last; a neighbour is asked for while somebody wants it and let go after. No clock, no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::interface::Interface;
use super::neighbour::{Neighbour, NeighbourKey};
use super::route::{RouteTo, Way};
use crate::desired::DesiredNextHop;
use crate::reach::LinkKind;
use crate::sorted;

/// The way of a packet to its next station.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Outgoing interface.
    pub interface: u32,
    /// Link address of the interface.
    pub source_mac: [u8; 6],
    /// Link address of the neighbour: the backend or the router towards it.
    pub destination_mac: [u8; 6],
    /// Largest IP packet, bytes: of the interface, or of the route where that is smaller.
    pub mtu: u16,
    /// The address this host would use as its own towards the backend.
    pub source: Option<IpAddr>,
    /// The router; `None`: the backend is on the link itself.
    pub gateway: Option<IpAddr>,
}

impl From<NextHop> for DesiredNextHop {
    fn from(hop: NextHop) -> Self {
        let NextHop { interface, source_mac, destination_mac, mtu, .. } = hop;
        Self { interface, destination_mac, source_mac, mtu, local: false }
    }
}

/// Why there is no next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// The kernel knows no way.
    NoRoute,
    /// A route says that nothing shall go there.
    Refused,
    /// The address is one of this host.
    Local,
    /// 127.0.0.0/8, ::1, or a route by `lo`.
    Loopback,
    /// The interface of this name is switched off or has no carrier.
    InterfaceDown(String),
    /// The interface of this name has no Ethernet address (a tunnel).
    NoLinkAddress(String),
    /// The neighbour has been asked for and may still answer.
    Resolving,
    /// This neighbour, on the interface of this name, does not answer ARP or ND.
    NotAnswering(IpAddr, String),
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoute => f.write_str("no route"),
            Self::Refused => f.write_str("a route refuses it (blackhole, unreachable or prohibit)"),
            Self::Local => f.write_str("route is local"),
            Self::Loopback => f.write_str("route is loopback"),
            Self::InterfaceDown(name) => write!(f, "interface {name} is down or has no carrier"),
            Self::NoLinkAddress(name) => write!(f, "interface {name} has no Ethernet address"),
            Self::Resolving => f.write_str("neighbour not known yet"),
            Self::NotAnswering(address, name) => write!(f, "neighbour {address} on {name} does not answer"),
        }
    }
}

/// A next hop, or why there is none.
pub(super) type Resolution = Result<NextHop, Unresolved>;

/// What the kernel is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Resolve this neighbour and keep it resolved.
    Ensure(NeighbourKey),
    /// Nobody here wants it any more.
    Release(NeighbourKey),
}

/// A wanted address.
#[derive(Debug, Default)]
struct Wanted {
    way: Option<Way>,
    told: Option<Resolution>,
}

/// A neighbour on the way to wanted addresses.
#[derive(Debug, Default)]
struct Tracked {
    users: BTreeSet<IpAddr>,
    seen: Option<Neighbour>,
    /// It failed and has not answered since: a new try (incomplete again) is no news.
    silent: bool,
}

/// The state behind the next hops.
#[derive(Debug, Default)]
pub(super) struct NextHops {
    interfaces: BTreeMap<u32, Interface>,
    wanted: BTreeMap<IpAddr, Wanted>,
    neighbours: BTreeMap<NeighbourKey, Tracked>,
    stale: BTreeSet<IpAddr>,
    actions: Vec<Action>,
    /// The addresses to tell of.
    news: BTreeSet<IpAddr>,
}

impl NextHops {
    /// From now on exactly these addresses are wanted.
    pub(super) fn set_wanted(&mut self, addresses: BTreeSet<IpAddr>) {
        let gone: Vec<IpAddr> =
            self.wanted.keys().filter(|address| !addresses.contains(address)).copied().collect();
        for address in gone {
            let wanted = self.wanted.remove(&address);
            self.stale.remove(&address);
            self.leave(address, wanted.and_then(|wanted| wanted.way));
        }
        let is_new = |address: &IpAddr| !self.wanted.contains_key(address);
        let new: BTreeMap<IpAddr, Wanted> =
            addresses.into_iter().filter(is_new).map(|address| (address, Wanted::default())).collect();
        self.stale.extend(new.keys());
        sorted::extend(&mut self.wanted, new);
    }

    /// An interface is new or has changed.
    pub(super) fn interface(&mut self, interface: Interface) {
        let index = interface.index;
        let before = self.interfaces.insert(index, interface.clone());
        if before.as_ref() == Some(&interface) {
            return;
        }
        // Routes by an interface that goes down vanish without a word (IPv4), and come back with it.
        if before.is_none_or(|before| before.up != interface.up) {
            self.stale_all();
            if interface.up {
                let on_it = self.neighbours.keys().filter(|key| key.interface == index);
                self.actions.extend(on_it.map(|key| Action::Ensure(*key)));
            }
        }
        self.review_interface(index);
    }

    /// An interface is gone, its number with it.
    pub(super) fn interface_gone(&mut self, index: u32) {
        if self.interfaces.remove(&index).is_some() {
            self.stale_all();
            self.review_interface(index);
        }
    }

    /// The numbers of the known interfaces.
    pub(super) fn interface_indexes(&self) -> BTreeSet<u32> {
        self.interfaces.keys().copied().collect()
    }

    /// What the kernel now knows of a neighbour; `None`: nothing any more.
    pub(super) fn neighbour(&mut self, key: NeighbourKey, seen: Option<Neighbour>) {
        let Some(tracked) = self.neighbours.get_mut(&key) else { return };
        tracked.seen = seen;
        match seen {
            Some(Neighbour { failed: true, .. }) => tracked.silent = true,
            Some(Neighbour { mac: Some(_), .. }) => tracked.silent = false,
            Some(_) => {}
            None if self.interfaces.get(&key.interface).is_some_and(|interface| interface.up) => {
                self.actions.push(Action::Ensure(key));
            }
            None => {}
        }
        let users: Vec<IpAddr> = tracked.users.iter().copied().collect();
        users.into_iter().for_each(|address| self.review(address));
    }

    /// Every way may be another now.
    pub(super) fn stale_all(&mut self) {
        self.stale.extend(self.wanted.keys());
    }

    /// The ways to the addresses of this network may be others now.
    pub(super) fn stale_within(&mut self, net: IpNet) {
        self.stale.extend(self.wanted.keys().filter(|address| net.contains(*address)));
    }

    /// Whether [`take_stale`](Self::take_stale) has something to give.
    pub(super) fn has_stale(&self) -> bool {
        !self.stale.is_empty()
    }

    /// Some addresses whose way is to be asked for now.
    pub(super) fn take_stale(&mut self, most: usize) -> Vec<IpAddr> {
        std::iter::from_fn(|| self.stale.pop_first()).take(most).collect()
    }

    /// The kernel's answer for an address.
    pub(super) fn answer(&mut self, address: IpAddr, way: Way) {
        let Some(wanted) = self.wanted.get_mut(&address) else { return };
        let before = wanted.way.replace(way);
        if let Some(key) = neighbour_of(address, way) {
            let tracked = self.neighbours.entry(key).or_default();
            if tracked.users.is_empty() {
                self.actions.push(Action::Ensure(key));
            }
            tracked.users.insert(address);
        }
        if before.is_some_and(|before| neighbour_of(address, before) != neighbour_of(address, way)) {
            self.leave(address, before);
        }
        self.review(address);
    }

    /// What the kernel is to be asked since the last call.
    pub(super) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// The addresses whose resolution is another than at the last call. What came and went between is not told: that a
    /// neighbour is looked for, when the kernel already knows it, least of all.
    pub(super) fn take_news(&mut self) -> Vec<(IpAddr, Resolution)> {
        let mut news = Vec::new();
        for address in std::mem::take(&mut self.news) {
            let Some(way) = self.wanted.get(&address).and_then(|wanted| wanted.way) else { continue };
            let resolution = self.resolve(address, way);
            if let Some(wanted) =
                self.wanted.get_mut(&address).filter(|w| w.told.as_ref() != Some(&resolution))
            {
                wanted.told = Some(resolution.clone());
                news.push((address, resolution));
            }
        }
        news
    }

    /// Neighbours that somebody wants.
    pub(super) fn tracked(&self) -> Vec<NeighbourKey> {
        self.neighbours.keys().copied().collect()
    }

    /// Whether the neighbour is wanted.
    pub(super) fn tracks(&self, key: NeighbourKey) -> bool {
        self.neighbours.contains_key(&key)
    }

    /// Neighbours without an answer, on interfaces that are up: to be asked for again.
    pub(super) fn unanswered(&self) -> Vec<NeighbourKey> {
        self.keys_on_live_interfaces(|tracked| tracked.seen.is_none_or(|seen| seen.mac.is_none()))
    }

    /// Neighbours that answer and that nothing but a timer keeps resolved (kernels before 5.16, or somebody took the
    /// managed flag away).
    pub(super) fn unmanaged(&self) -> Vec<NeighbourKey> {
        self.keys_on_live_interfaces(|tracked| {
            tracked.seen.is_some_and(|seen| seen.mac.is_some() && !seen.managed && !seen.fixed)
        })
    }

    fn keys_on_live_interfaces(&self, wanted: impl Fn(&Tracked) -> bool) -> Vec<NeighbourKey> {
        let live =
            |key: &NeighbourKey| self.interfaces.get(&key.interface).is_some_and(|interface| interface.up);
        let chosen = self.neighbours.iter().filter(|(key, tracked)| live(key) && wanted(tracked));
        chosen.map(|(key, _)| *key).collect()
    }

    /// The address no longer goes by the neighbour of this way.
    fn leave(&mut self, address: IpAddr, way: Option<Way>) {
        let Some(key) = way.and_then(|way| neighbour_of(address, way)) else { return };
        let Some(tracked) = self.neighbours.get_mut(&key) else { return };
        tracked.users.remove(&address);
        if tracked.users.is_empty() {
            self.neighbours.remove(&key);
            self.actions.push(Action::Release(key));
        }
    }

    fn review_interface(&mut self, index: u32) {
        let uses = |wanted: &Wanted| matches!(wanted.way, Some(Way::Via(to)) if to.interface == index);
        let users: Vec<IpAddr> =
            self.wanted.iter().filter(|(_, wanted)| uses(wanted)).map(|(address, _)| *address).collect();
        users.into_iter().for_each(|address| self.review(address));
    }

    /// The address's resolution may be another than the one told last.
    fn review(&mut self, address: IpAddr) {
        self.news.insert(address);
    }

    fn resolve(&self, address: IpAddr, way: Way) -> Resolution {
        match way {
            Way::Local if address.is_loopback() => Err(Unresolved::Loopback),
            Way::Local => Err(Unresolved::Local),
            Way::NoRoute => Err(Unresolved::NoRoute),
            Way::Refused => Err(Unresolved::Refused),
            Way::Via(to) => self.resolve_via(address, to),
        }
    }

    fn resolve_via(&self, address: IpAddr, to: RouteTo) -> Resolution {
        // A route can be known a moment before its interface, and a moment longer.
        let interface = self.interfaces.get(&to.interface).ok_or(Unresolved::Resolving)?;
        if interface.kind == LinkKind::Loopback {
            return Err(Unresolved::Loopback);
        }
        if !interface.up {
            return Err(Unresolved::InterfaceDown(interface.name.clone()));
        }
        let source_mac = interface.mac.ok_or_else(|| Unresolved::NoLinkAddress(interface.name.clone()))?;
        let neighbour = to.gateway.unwrap_or(address);
        let tracked = self.neighbours.get(&NeighbourKey { interface: to.interface, address: neighbour });
        let destination_mac = tracked.and_then(|tracked| tracked.seen?.mac).ok_or_else(|| {
            match tracked.is_some_and(|tracked| tracked.silent) {
                true => Unresolved::NotAnswering(neighbour, interface.name.clone()),
                false => Unresolved::Resolving,
            }
        })?;
        let mtu = to.mtu.map_or(interface.mtu, |mtu| mtu.min(interface.mtu));
        Ok(NextHop {
            interface: to.interface,
            source_mac,
            destination_mac,
            mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
            source: to.source,
            gateway: to.gateway,
        })
    }
}

/// The neighbour that packets to `address` are handed to on this way.
fn neighbour_of(address: IpAddr, way: Way) -> Option<NeighbourKey> {
    match way {
        Way::Via(to) => {
            Some(NeighbourKey { interface: to.interface, address: to.gateway.unwrap_or(address) })
        }
        Way::Local | Way::NoRoute | Way::Refused => None,
    }
}

#[cfg(test)]
mod tests;
