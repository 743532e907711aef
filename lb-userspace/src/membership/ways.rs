//! What is known of the ways to backends, by address.
//!
//! In: reports of whoever follows routes and neighbours. Out: next hops for the maps, source addresses for packets.
//! Invariant: an address nobody has reported on has no way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::eligibility::Way;
use crate::desired::{DesiredNextHop, Variant};
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

    /// True: it is another than before.
    pub(super) fn report(&mut self, ip: IpAddr, state: WayState) -> bool {
        let is_known = matches!(self.of(ip), Way::Known);
        if is_known && state == WayState::Resolving {
            return false;
        }
        self.states.insert(ip, state.clone()).as_ref() != Some(&state)
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
        match self.states.get(&ip) {
            Some(WayState::Resolved { source, .. } | WayState::Unneeded { source }) => *source,
            _ => None,
        }
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
