//! Checks by the way they go, and the addresses of those that go through services.
//!
//! In: pools, the prefixes. Out: a probe address for each backend and listener. Invariant: a function of the set of checks alone, whatever
//! the order in which they came, and an address stays with its check while others come and go, but for the rare two that want the same.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::MemberId;
use super::pool::Pool;
use crate::health::TargetId;
use crate::spec::{Listener, Name, ProbePrefix};

/// A check of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CheckId {
    /// The backend.
    pub member: MemberId,
    /// The listener that is asked; `None`: the backend's own address is.
    pub through: Option<Listener>,
}

impl CheckId {
    /// The check of a backend at its own address.
    pub const fn direct(member: MemberId) -> Self {
        Self { member, through: None }
    }
}

impl TargetId for CheckId {
    fn pool(&self) -> &str {
        self.member.pool()
    }
}

impl fmt::Display for CheckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.through {
            None => self.member.fmt(f),
            Some(listener) => write!(f, "{} through {listener}", self.member),
        }
    }
}

/// The probe addresses in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Probes(BTreeMap<CheckId, IpAddr>);

impl Probes {
    /// Those of all checks that go through services. Checks for which there is no room have none; `validate` has refused them.
    pub(super) fn of(pools: &BTreeMap<Name, Arc<Pool>>, prefix: &ProbePrefix) -> Self {
        let mut probes = BTreeMap::new();
        let mut taken = [HashSet::new(), HashSet::new()];
        for id in pools.values().flat_map(|pool| checks(pool)) {
            let Some(is_v4) = id.through.map(|listener| listener.addr.is_ipv4()) else { continue };
            let taken = &mut taken[usize::from(is_v4)];
            let places = prefix.places(is_v4);
            if taken.len() >= prefix.capacity(is_v4) as usize {
                continue;
            }
            let mut place = u32::try_from(hash(&id.to_string()) % u64::from(places)).unwrap_or_default();
            while !taken.insert(place) {
                place = (place + 1) % places;
            }
            probes.insert(id, prefix.probe(is_v4, place));
        }
        Self(probes)
    }

    /// The address of a check.
    pub(super) fn get(&self, id: &CheckId) -> Option<IpAddr> {
        self.0.get(id).copied()
    }

    /// Whether there are IPv4 and IPv6 ones.
    pub(super) fn families(&self) -> [bool; 2] {
        [true, false].map(|is_v4| self.0.values().any(|ip| ip.is_ipv4() == is_v4))
    }

    /// The pools with a check that has another address in the other.
    pub(super) fn differing(&self, other: &Self) -> BTreeSet<Name> {
        let one_way = |a: &Self, b: &Self| -> BTreeSet<Name> {
            let changed = a.0.iter().filter(|(id, ip)| b.0.get(*id) != Some(*ip));
            changed.map(|(id, _)| id.member.pool.clone()).collect()
        };
        &one_way(self, other) | &one_way(other, self)
    }
}

/// The checks of a pool that go through services.
pub(super) fn checks(pool: &Pool) -> impl Iterator<Item = CheckId> {
    pool.members.iter().flat_map(|(address, member)| {
        let member_id = MemberId { pool: pool.name.clone(), address: *address };
        member
            .through
            .keys()
            .map(move |listener| CheckId { member: member_id.clone(), through: Some(*listener) })
    })
}

/// FNV-1a: the same on every start and every version, so that a restart finds the hidden services it left.
fn hash(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    // Its low bits hang on the last bytes alone.
    hash ^ (hash >> 32)
}
