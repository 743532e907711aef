//! What is known of the ways to backends, by address.
//!
//! In: reports of whoever follows routes and neighbours. Out: next hops for the maps, source addresses for packets.
//! Invariant: an address nobody has reported on has no way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::eligibility::Way;
use crate::desired::{DesiredNextHop, Variant};
use crate::sorted;
use crate::spec::DatapathSpec;

/// What is known of the way to one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WayState {
    /// Packets leave by this next hop.
    Resolved {
        /// The next hop.
        hop: DesiredNextHop,
        /// This host's address towards the backend, for full-nat and tunnels without configured sources.
        source: Option<IpAddr>,
    },
    /// The datapath needs none.
    Unneeded {
        /// As in `Resolved`.
        source: Option<IpAddr>,
    },
    /// It is being looked for. A way that was known before stands meanwhile: the kernel says soon that there is none.
    Resolving,
    /// There is none, or it does not answer.
    Unresolved {
        /// In words, such as `neighbour 10.0.0.1 on eth0 does not answer`.
        reason: String,
    },
}

impl WayState {
    fn source(&self) -> Option<IpAddr> {
        match self {
            Self::Resolved { source, .. } | Self::Unneeded { source } => *source,
            Self::Resolving | Self::Unresolved { .. } => None,
        }
    }
}

/// The ways to every address that was reported on.
#[derive(Clone, Debug, Default)]
pub(super) struct Ways {
    states: BTreeMap<IpAddr, WayState>,
}

impl Ways {
    pub(super) fn of(&self, ip: IpAddr) -> Way<'_> {
        match self.states.get(&ip) {
            None => Way::Unreported,
            Some(WayState::Resolved { .. } | WayState::Unneeded { .. }) => Way::Known,
            Some(WayState::Resolving) => Way::Unresolved("neighbour not known yet"),
            Some(WayState::Unresolved { reason }) => Way::Unresolved(reason),
        }
    }

    /// Of these reports, in the order they came in, those that make something another than it was, as it is in the end.
    pub(super) fn news(&self, reports: Vec<(IpAddr, WayState)>) -> BTreeMap<IpAddr, WayState> {
        let mut news: BTreeMap<IpAddr, WayState> = BTreeMap::new();
        for (ip, state) in reports {
            let before = news.get(&ip).or_else(|| self.states.get(&ip));
            let is_known = matches!(before, Some(WayState::Resolved { .. } | WayState::Unneeded { .. }));
            if before != Some(&state) && !(is_known && state == WayState::Resolving) {
                news.insert(ip, state);
            }
        }
        news
    }

    /// Takes what is new.
    pub(super) fn take(&mut self, news: BTreeMap<IpAddr, WayState>) {
        sorted::extend(&mut self.states, news);
    }

    /// Forgets every address that is nobody's, and says which those are.
    pub(super) fn retain(&mut self, wanted: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
        self.states.extract_if(.., |ip, _| !wanted.contains(ip)).map(|(ip, _)| ip).collect()
    }

    pub(super) fn next_hop(&self, ip: IpAddr) -> Option<DesiredNextHop> {
        match self.states.get(&ip) {
            Some(WayState::Resolved { hop, .. }) => Some(*hop),
            _ => None,
        }
    }

    fn own_address(&self, ip: IpAddr) -> Option<IpAddr> {
        self.states.get(&ip).and_then(WayState::source)
    }

    /// An address of this host towards some backend; while none is known, one that nobody has (RFC 5737, RFC 3849).
    pub(super) fn some_own_address(&self, is_v4: bool) -> IpAddr {
        let nobodys: IpAddr = match is_v4 {
            true => Ipv4Addr::new(192, 0, 2, 1).into(),
            false => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        };
        let mut known = self.states.values().filter_map(WayState::source);
        known.find(|source| source.is_ipv4() == is_v4).unwrap_or(nobodys)
    }
}

/// The addresses of one family by which this host may be answered by the backend at `ip`, inside of a tunnel perhaps.
pub(super) fn sources_of(is_v4: bool, ip: IpAddr, ways: &Ways, datapath: &DatapathSpec) -> Vec<IpAddr> {
    let configured: Vec<IpAddr> =
        datapath.snat.iter().filter(|source| source.is_ipv4() == is_v4).copied().collect();
    match configured.is_empty() {
        true => ways.own_address(ip).filter(|own| own.is_ipv4() == is_v4).into_iter().collect(),
        false => configured,
    }
}

/// The addresses that packets to `ip` may carry as their source: the configured ones of its family, else this host's own.
/// The table over all families is the tunnels', the others are full-nat's.
pub(super) fn sources(variant: Variant, ip: IpAddr, ways: &Ways, datapath: &DatapathSpec) -> Vec<IpAddr> {
    let configured = match variant {
        Variant::Any => &datapath.tunnel_source,
        Variant::V4 | Variant::V6 => &datapath.snat,
    };
    let same_family = |source: &&IpAddr| source.is_ipv4() == ip.is_ipv4();
    let sources: Vec<IpAddr> = configured.iter().filter(same_family).copied().collect();
    match sources.is_empty() {
        true => ways.own_address(ip).into_iter().collect(),
        false => sources,
    }
}
