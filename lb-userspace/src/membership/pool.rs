//! A pool at run time: its members with their claims, overrides, health and verdicts.
//!
//! In: the pool's definition of all origins, the services that use it, observations. Out: verdicts, health targets.
//! Invariants: a member exists exactly as long as one origin claims it; its override and health live and end with it;
//! after [`Pool::settle`] every verdict is what [`super::eligibility::judge`] says of the present facts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::eligibility::{Facts, Held, Verdict, Way, is_active, judge};
use super::ways::{Ways, sources};
use super::{Commanded, MemberId, Override, StateOverride};
use crate::desired::Variant;
use crate::health::{Health, Target};
use crate::spec::{
    BackendAddress, DatapathSpec, Forward, HealthKind, HealthSpec, Name, OnLoss, Origin, PoolSpec,
    ServiceSpec, Spec, WhenNone,
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
    pub(super) over: Override,
    /// Where its checks go; `None`: it is not checked.
    pub(super) check: Option<SocketAddr>,
    pub(super) health: Health,
    pub(super) detail: Arc<str>,
    pub(super) held: Option<Held>,
    pub(super) verdict: Verdict,
    /// It takes new flows although nobody is well, because of `when_none = "spread"`.
    pub(super) spread: bool,
}

impl Member {
    fn new() -> Self {
        Self {
            claims: Vec::new(),
            over: Override::default(),
            check: None,
            health: Health::Unknown,
            detail: Arc::from(""),
            held: None,
            verdict: Verdict::default(),
            spread: false,
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
        self.detail = Arc::from("");
        self.held = None;
    }

    fn is_checked(&self) -> bool {
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
    pub(super) services: Vec<Arc<ServiceSpec>>,
    pub(super) members: BTreeMap<BackendAddress, Member>,
}

/// What a new definition did to a pool's members.
#[derive(Debug, Default)]
pub(super) struct MemberChanges {
    pub(super) added: Vec<(BackendAddress, Origin)>,
    /// With the override that ended.
    pub(super) removed: Vec<(BackendAddress, Override)>,
}

impl Pool {
    /// The pool as now defined; members that `old` had keep what is known of them.
    pub(super) fn define(
        spec: &PoolSpec,
        services: Vec<Arc<ServiceSpec>>,
        old: Option<&Self>,
    ) -> (Self, MemberChanges) {
        let context = Spec {
            pools: vec![PoolSpec { backends: Vec::new(), ..spec.clone() }],
            services: services.iter().map(|service| ServiceSpec::clone(service)).collect(),
            ..Spec::default()
        };
        let health = context.health_of(spec);
        let checked = health.kind != HealthKind::None && !services.is_empty();
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
                let port = context.check_port(spec, backend.address).filter(|_| checked);
                let check = port.map(|port| SocketAddr::new(backend.address.ip, port));
                if check.is_some() && member.check.is_none() && member.verdict.takes_new {
                    // It served without a check; it goes on until its first checks have spoken.
                    member.held = Some(Held { takes_new: true, keeps: true });
                }
                if check.is_none() {
                    // Nobody looks any more; what was found ages.
                    member.health = Health::Unknown;
                    member.detail = Arc::from("");
                }
                member.check = check;
                member
            });
            member.claims.push(Claim { origin: backend.origin.clone(), weight: backend.weight });
            member.claims.sort();
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
            services,
            members,
        };
        (pool, changes)
    }

    /// The tables that its services need.
    pub(super) fn variants(&self) -> BTreeSet<Variant> {
        self.services.iter().flat_map(|service| variants_of(service)).collect()
    }

    /// Its services all say so. One table serves them all, so where they differ the safer word counts: flows of a lost
    /// backend are selected again, and nobody unhealthy takes new ones.
    fn all_say(&self, says: impl Fn(&ServiceSpec) -> bool) -> bool {
        !self.services.is_empty() && self.services.iter().all(|service| says(service))
    }

    /// The services of this table want `spread`, all of them.
    fn spreads(&self, variant: Variant) -> bool {
        let mut services =
            self.services.iter().filter(|service| variants_of(service).any(|v| v == variant)).peekable();
        services.peek().is_some() && services.all(|service| service.when_none == WhenNone::Spread)
    }

    /// Judges every member anew.
    pub(super) fn settle(&mut self, ways: &Ways, datapath: &DatapathSpec) {
        let hold = self.all_say(|service| service.on_loss == OnLoss::Hold);
        let verdicts: Vec<(Verdict, bool)> = self
            .members
            .iter()
            .map(|(address, member)| {
                let facts = self.facts(*address, member, ways, datapath, hold);
                let reachable = matches!(facts.way, Way::Known);
                (judge(&facts), is_active(&facts) && reachable)
            })
            .collect();
        for (member, (verdict, _)) in self.members.values_mut().zip(&verdicts) {
            member.verdict = verdict.clone();
            member.spread = false;
        }
        for variant in self.variants() {
            let of_variant = |address: &BackendAddress| variant.includes(address.ip);
            let mut members = self.members.iter().filter(|(address, _)| of_variant(address));
            if !self.spreads(variant) || members.any(|(_, member)| member.verdict.takes_new) {
                continue;
            }
            for ((address, member), (_, active)) in self.members.iter_mut().zip(&verdicts) {
                member.spread |= of_variant(address) && *active;
            }
        }
    }

    fn facts<'a>(
        &self,
        address: BackendAddress,
        member: &'a Member,
        ways: &'a Ways,
        datapath: &DatapathSpec,
        hold: bool,
    ) -> Facts<'a> {
        let (deadline, expired) = match member.over.state {
            Some(StateOverride::Draining { deadline, expired, .. }) => (deadline, expired),
            _ => (None, false),
        };
        let has_source = || {
            let variants = self.variants().into_iter().filter(|variant| variant.includes(address.ip));
            variants.into_iter().all(|variant| {
                !self.needs_source(variant) || !sources(variant, address.ip, ways, datapath).is_empty()
            })
        };
        let way = match ways.of(address.ip) {
            Way::Known if !has_source() => Way::NoSource,
            way => way,
        };
        Facts {
            commanded: member.commanded(),
            deadline,
            expired,
            weight: member.weight(),
            weight_overridden: member.over.weight.is_some(),
            used: !self.services.is_empty(),
            checked: member.check.is_some(),
            health: member.health,
            detail: &member.detail,
            held: member.held,
            way,
            hold,
        }
    }

    /// Some service of this table puts an address of this host into the packet.
    pub(super) fn needs_source(&self, variant: Variant) -> bool {
        self.services.iter().any(|service| {
            matches!(service.forward, Forward::FullNat | Forward::Ipip)
                && variants_of(service).any(|wanted| wanted == variant)
        })
    }

    /// Members of this table that are eligible by themselves, not by `spread`.
    pub(super) fn usable(&self, variant: Variant) -> usize {
        let members = self.members.iter().filter(|(address, _)| variant.includes(address.ip));
        members.filter(|(_, member)| member.verdict.takes_new).count()
    }

    /// The addresses whose ways must be known: its members', if any service uses it.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let used = !self.services.is_empty();
        self.members.keys().map(|address| address.ip).filter(move |_| used)
    }

    /// One of [`Self::addresses`] is this one.
    pub(super) fn has_address(&self, ip: IpAddr) -> bool {
        let ports = BackendAddress { ip, port: None }..=BackendAddress { ip, port: Some(u16::MAX) };
        !self.services.is_empty() && self.members.range(ports).next().is_some()
    }

    /// What is to be checked.
    pub(super) fn targets(&self) -> impl Iterator<Item = Target<MemberId>> {
        self.members.iter().filter(|(_, member)| member.is_checked()).filter_map(|(address, member)| {
            let held = member.held.is_some_and(|held| held.takes_new);
            let initial = match member.health {
                Health::Unknown if held => Health::Healthy,
                health => health,
            };
            Some(Target {
                id: MemberId { pool: self.name.clone(), address: *address },
                address: member.check?,
                spec: self.health.clone(),
                initial,
            })
        })
    }
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
