//! A pool at run time: its members with their claims, overrides, health and verdicts.
//!
//! In: the pool's definition of all origins, the services that use it, observations. Out: health targets, and what `settle.rs` makes
//! its verdicts of. Invariant: a member exists exactly as long as one origin claims it; its override and health live and end with it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::ejection::Ejection;
use super::eligibility::{Held, Verdict};
use super::ramp::{Ramp, WHOLE};
use super::standby::Mode;
use super::through::Asked;
use super::{Commanded, Override, StateOverride};
use crate::desired::Variant;
use crate::health::Health;
use crate::spec::{
    BackendAddress, BackupSpec, Forward, HealthKind, HealthSpec, Listener, Name, Origin, PassiveSpec,
    Percent, PoolSpec, ServiceSpec, Spec, Via,
};

/// One origin's word that a backend belongs to a pool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// Whose.
    pub origin: Origin,
    /// The weight it defines.
    pub weight: u16,
}

/// A backend of a pool, with all that is known of it.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Never empty; the first one's weight counts: the file's before lbctl's.
    pub(super) claims: Vec<Claim>,
    /// One that says nothing is the same for all.
    pub(super) over: Arc<Override>,
    /// Where its checks go, those through services besides; `None`: it is not checked.
    pub(super) check: Option<SocketAddr>,
    /// Its checks that go through services, by the listener that is asked.
    pub(super) through: BTreeMap<Listener, Asked>,
    /// Such checks may leave: the way to it was known once. Before, they would find out no more than that.
    pub(super) is_asked: bool,
    pub(super) health: Health,
    pub(super) detail: Arc<str>,
    pub(super) held: Option<Held>,
    pub(super) verdict: Verdict,
    /// The way to it is known, and an address to send from.
    pub(super) is_reachable: bool,
    /// It is ejected now.
    pub(super) is_ejected: bool,
    /// It was ejected, perhaps long ago.
    pub(super) ejection: Option<Box<Ejection>>,
    /// Its weight is still growing.
    pub(super) ramp: Option<Ramp>,
    /// Tenths of its weight that count now.
    pub(super) tenths: u8,
}

/// What is held against the definition of nearly every backend.
pub(super) fn no_override() -> Arc<Override> {
    static NONE: LazyLock<Arc<Override>> = LazyLock::new(Arc::default);
    Arc::clone(&NONE)
}

impl Member {
    fn new() -> Self {
        Self {
            claims: Vec::new(),
            over: no_override(),
            check: None,
            through: BTreeMap::new(),
            is_asked: false,
            health: Health::Unknown,
            detail: Arc::default(),
            held: None,
            verdict: Verdict::default(),
            is_reachable: false,
            is_ejected: false,
            ejection: None,
            ramp: None,
            tenths: WHOLE,
        }
    }

    pub(super) fn defined_weight(&self) -> u16 {
        self.claims.first().map_or(0, |claim| claim.weight)
    }

    pub(super) fn weight(&self) -> u16 {
        self.over.weight.unwrap_or_else(|| self.defined_weight())
    }

    pub(super) fn commanded(&self) -> Commanded {
        match self.over.state {
            None => Commanded::Active,
            Some(StateOverride::Draining { .. }) => Commanded::Draining,
            Some(StateOverride::Disabled) => Commanded::Disabled,
        }
    }

    /// Forgets what is known of its health: nobody has looked in the meantime.
    pub(super) fn forget(&mut self) {
        self.health = Health::Unknown;
        self.detail = Arc::default();
        self.held = None;
        for asked in self.through.values_mut() {
            (asked.health, asked.detail) = (Health::Unknown, Arc::default());
        }
    }

    /// This check of it, by its own address or through this listener, has said something since it came.
    pub(super) fn has_spoken(&self, through: Option<Listener>) -> bool {
        let (health, detail) = match through {
            None => (self.health, &self.detail),
            Some(listener) => match self.through.get(&listener) {
                Some(asked) => (asked.health, &asked.detail),
                None => return false,
            },
        };
        health != Health::Unknown || !detail.is_empty()
    }

    pub(super) fn is_checked(&self) -> bool {
        self.check.is_some() && self.commanded() != Commanded::Disabled
    }
}

/// A pool with its members.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    pub(super) name: Name,
    pub(super) origin: Origin,
    pub(super) inline: bool,
    /// The check that runs.
    pub(super) health: HealthSpec,
    pub(super) maglev: Option<u32>,
    pub(super) panic_below: Percent,
    pub(super) slow_start: Duration,
    pub(super) backup: Option<BackupSpec>,
    pub(super) passive: Option<PassiveSpec>,
    pub(super) services: Vec<Arc<ServiceSpec>>,
    /// The services of the pools that it stands in for.
    pub(super) behind: Vec<Arc<ServiceSpec>>,
    pub(super) members: BTreeMap<BackendAddress, Member>,
    /// How its tables are doing.
    pub(super) modes: BTreeMap<Variant, Mode>,
    /// The backup pool's members, in its tables.
    pub(super) stand_ins: BTreeMap<BackendAddress, StandIn>,
}

/// A member of the backup pool in a table of the pool that it stands in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StandIn {
    pub(super) weight: u16,
    pub(super) tenths: u8,
    /// It could take new flows.
    pub(super) is_usable: bool,
    /// Flows that it has stay.
    pub(super) keeps: bool,
}

/// The services of a pool.
#[derive(Clone, Debug, Default)]
pub(super) struct Users {
    /// Those that name it.
    pub(super) services: Vec<Arc<ServiceSpec>>,
    /// Those of the pools that it stands in for.
    pub(super) behind: Vec<Arc<ServiceSpec>>,
}

/// What a new definition did to a pool's members.
#[derive(Debug, Default)]
pub(super) struct MemberChanges {
    pub(super) added: Vec<(BackendAddress, Origin)>,
    /// With the override that ended.
    pub(super) removed: Vec<(BackendAddress, Arc<Override>)>,
}

impl Pool {
    /// The pool as now defined; members that `old` had keep what is known of them.
    pub(super) fn define(spec: &PoolSpec, users: Users, old: Option<&Self>) -> (Self, MemberChanges) {
        let Users { services, behind } = users;
        // As if all used it directly: their listeners say what is checked.
        let of_all = services.iter().chain(&behind);
        let context = Spec {
            pools: vec![PoolSpec { backends: Vec::new(), ..spec.clone() }],
            services: of_all
                .map(|service| ServiceSpec { pool: spec.name.clone(), ..ServiceSpec::clone(service) })
                .collect(),
            ..Spec::default()
        };
        let health = context.health_of(spec);
        let checked = health.kind != HealthKind::None && !context.services.is_empty();
        let of_family = context.pools.first().map(|pool| {
            ["0.0.0.0", "::"].map(|ip| ip.parse().map(|ip| context.check_ways(pool, ip)).unwrap_or_default())
        });
        let of_family = of_family.unwrap_or_default();
        let mut changes = MemberChanges::default();
        let mut members: BTreeMap<BackendAddress, Member> = BTreeMap::new();
        for backend in &spec.backends {
            let member = members.entry(backend.address).or_insert_with(|| {
                let known = old.and_then(|old| old.members.get(&backend.address));
                if known.is_none() {
                    changes.added.push((backend.address, backend.origin.clone()));
                }
                let mut member =
                    known.map_or_else(Member::new, |known| Member { claims: Vec::new(), ..known.clone() });
                let [v4, v6] = &of_family;
                let ways = if backend.address.ip.is_ipv4() { v4 } else { v6 };
                let check = match health.via {
                    Via::Service => ways.first().map(|way| way.backend_port(backend.address)),
                    Via::Direct => context.check_port(spec, backend.address),
                };
                let check = check.filter(|_| checked).map(|port| SocketAddr::new(backend.address.ip, port));
                member.ask_through(if checked { ways } else { &[] }, backend.address);
                if check.is_some() && member.check.is_none() && member.verdict.takes_new {
                    // It served without a check; it goes on until its first checks have spoken.
                    member.held = Some(Held { takes_new: true, keeps: true });
                }
                if check.is_none() {
                    // Nobody looks any more; what was found ages.
                    member.health = Health::Unknown;
                    member.detail = Arc::default();
                }
                member.check = check;
                member
            });
            let claim = Claim { origin: backend.origin.clone(), weight: backend.weight };
            if member.claims.is_empty() {
                // Without room for more: as a rule there is one.
                member.claims = vec![claim];
            } else {
                member.claims.push(claim);
                member.claims.sort();
            }
        }
        for (address, member) in old.iter().flat_map(|old| &old.members) {
            if !members.contains_key(address) {
                changes.removed.push((*address, member.over.clone()));
            }
        }
        let pool = Self {
            name: spec.name.clone(),
            origin: spec.origin.clone(),
            inline: spec.inline,
            health,
            maglev: spec.maglev,
            panic_below: spec.panic_below,
            slow_start: spec.slow_start,
            backup: spec.backup.clone(),
            passive: spec.passive,
            services,
            behind,
            // Collected anew, as a tree whose nodes are full.
            members: members.into_iter().collect(),
            modes: old.map(|old| old.modes.clone()).unwrap_or_default(),
            stand_ins: old.map(|old| old.stand_ins.clone()).unwrap_or_default(),
        };
        (pool, changes)
    }

    /// The tables that its services need.
    pub(super) fn variants(&self) -> BTreeSet<Variant> {
        self.services.iter().flat_map(|service| variants_of(service)).collect()
    }

    /// Some service of this table puts an address of this host into the packet.
    pub(super) fn needs_source(&self, variant: Variant) -> bool {
        self.services.iter().any(|service| puts_source(service, variant))
    }

    /// Some service sends flows to it, or would if the pools it stands in for were down.
    pub(super) fn is_used(&self) -> bool {
        !self.services.is_empty() || !self.behind.is_empty()
    }

    /// The addresses whose ways must be known: its members', if any service uses it.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let used = self.is_used();
        self.members.keys().map(|address| address.ip).filter(move |_| used)
    }

    /// One of [`Self::addresses`] is this one.
    pub(super) fn has_address(&self, ip: IpAddr) -> bool {
        let ports = BackendAddress { ip, port: None }..=BackendAddress { ip, port: Some(u16::MAX) };
        self.is_used() && self.members.range(ports).next().is_some()
    }

    /// Those of [`Self::addresses`] that are among these.
    pub(super) fn addresses_among(&self, some: &BTreeSet<IpAddr>) -> Vec<IpAddr> {
        match some.len() < self.members.len() {
            true => some.iter().copied().filter(|ip| self.has_address(*ip)).collect(),
            false => self.addresses().filter(|ip| some.contains(ip)).collect(),
        }
    }
}

/// This service puts an address of this host into packets of this table.
pub(super) fn puts_source(service: &ServiceSpec, variant: Variant) -> bool {
    matches!(service.forward, Forward::FullNat | Forward::Ipip)
        && variants_of(service).any(|wanted| wanted == variant)
}

/// The table that a listener of this service needs: a tunnel joins families, the others keep the vip's.
pub(super) fn variant_of(service: &ServiceSpec, vip: IpAddr) -> Variant {
    match (service.forward, vip) {
        (Forward::Ipip, _) => Variant::Any,
        (_, IpAddr::V4(_)) => Variant::V4,
        (_, IpAddr::V6(_)) => Variant::V6,
    }
}

pub(super) fn variants_of(service: &ServiceSpec) -> impl Iterator<Item = Variant> {
    service.listen.iter().map(|listener| variant_of(service, listener.addr))
}
