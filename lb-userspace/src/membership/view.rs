//! The membership as people and programs look at it.
//!
//! In: a [`Membership`]. Out: plain values that outlive it: snapshots, lists, metrics. Invariant: what is shown is what
//! decides; nothing is computed here that the datapath sees otherwise.

use super::{Claim, Commanded, MemberId, Membership, Override};
use crate::desired::Variant;
use crate::health::Health;
use crate::membership::pool::Pool;
use crate::spec::{BackendAddress, HealthSpec, Name, Origin, ServiceSpec};

/// One backend of one pool.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendView {
    /// Which.
    pub id: MemberId,
    /// Who defines it, with which weight; the first counts.
    pub claims: Vec<Claim>,
    /// The weight that counts.
    pub weight: u16,
    /// What is commanded.
    pub state: Commanded,
    /// What was observed.
    pub health: Health,
    /// What the last check found, in words.
    pub detail: String,
    /// New flows may come to it.
    pub eligible: bool,
    /// Why not, or what is worth knowing; may be empty.
    pub reason: String,
    /// The operator's hand on it; empty when there is none.
    pub over: Override,
    /// It is checked.
    pub checked: bool,
}

/// One pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolView {
    /// Its name.
    pub name: Name,
    /// Who defines it.
    pub origin: Origin,
    /// Written inside the service of the same name.
    pub inline: bool,
    /// The check that runs.
    pub health: HealthSpec,
    /// The services that use it.
    pub services: Vec<Name>,
    /// The tables it has in the datapath.
    pub variants: Vec<Variant>,
    /// Its backends, by address.
    pub backends: Vec<BackendView>,
}

/// One service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceView {
    /// As defined.
    pub spec: ServiceSpec,
    /// Backends of its pool that its listeners can reach.
    pub backends: usize,
    /// Those of them that take new flows.
    pub eligible: usize,
}

impl Membership {
    /// Every pool, by name.
    pub fn pool_views(&self) -> Vec<PoolView> {
        self.pools.values().map(|pool| pool.view()).collect()
    }

    /// The pool of this name, or that of the service of this name.
    pub fn pool_view(&self, name: &Name) -> Option<PoolView> {
        let pool = self.pools.get(name).or_else(|| self.pools.get(&self.services.get(name)?.pool));
        pool.map(|pool| pool.view())
    }

    /// Every service, by name.
    pub fn service_views(&self) -> Vec<ServiceView> {
        let view = |service: &ServiceSpec| {
            let pool = self.pools.get(&service.pool);
            let variants: Vec<Variant> = super::pool::variants_of(service).collect();
            let reached =
                |address: &BackendAddress| variants.iter().any(|variant| variant.includes(address.ip));
            let members = || {
                let members = pool.into_iter().flat_map(|pool| &pool.members);
                members.filter(|(address, _)| reached(address))
            };
            ServiceView {
                spec: service.clone(),
                backends: members().count(),
                eligible: members().filter(|(_, member)| member.verdict.takes_new || member.spread).count(),
            }
        };
        self.services.values().map(|service| view(service)).collect()
    }
}

impl Pool {
    fn view(&self) -> PoolView {
        let backends = self.members.iter().map(|(address, member)| BackendView {
            id: MemberId { pool: self.name.clone(), address: *address },
            claims: member.claims.clone(),
            weight: member.weight(),
            state: member.commanded(),
            // Without a check it counts as healthy.
            health: if member.check.is_some() { member.health } else { Health::Healthy },
            detail: member.detail.to_string(),
            eligible: member.verdict.takes_new || member.spread,
            reason: match member.spread {
                true => format!(
                    "{}; takes flows because nobody is well (when_none = \"spread\")",
                    member.verdict.reason
                ),
                false => member.verdict.reason.clone(),
            },
            over: member.over.clone(),
            checked: member.check.is_some() && member.commanded() != Commanded::Disabled,
        });
        PoolView {
            name: self.name.clone(),
            origin: self.origin.clone(),
            inline: self.inline,
            health: self.health.clone(),
            services: self.services.iter().map(|service| service.name.clone()).collect(),
            variants: self.variants().into_iter().collect(),
            backends: backends.collect(),
        }
    }
}
