//! A change on its way: what it has touched so far, and the judgement at its end.
//!
//! In: a copy of the membership, changed step by step. Out: a [`Candidate`], or a [`Refusal`]. Invariant: [`Draft::finish`]
//! leaves no member unjudged whose facts may have changed, and the desired state follows.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::event::DomainEvent;
use super::pool::{Pool, Users, variants_of};
use super::probes::Probes;
use super::{Candidate, CheckId, EventKind, Level, MemberId, Membership, Millis, Outcome, Override, Refusal};
use super::{RefusalCode, assemble, hidden};
use crate::spec::{
    Gaps, Listener, Name, Problem, ServiceSpec, Spec, claimed_probes, claimed_sources, shared_endpoints,
    validate, validate_part,
};

pub(super) struct Draft<'a> {
    pub(super) before: &'a Membership,
    pub(super) next: Membership,
    pub(super) now: Millis,
    pub(super) who: &'a str,
    pub(super) touched_pools: BTreeSet<Name>,
    pub(super) touched_services: BTreeSet<Name>,
    /// Services, pools or members are defined otherwise: the whole must be validated.
    pub(super) redefined: bool,
    /// There is something to write down.
    pub(super) revised: bool,
    pub(super) members_changed: bool,
    /// Backends that operations of this change have asked for.
    pub(super) added: BTreeSet<MemberId>,
    /// The file was replaced as a whole, and validated with everything else.
    pub(super) validated: bool,
    pub(super) outcome: Outcome,
}

impl<'a> Draft<'a> {
    pub(super) fn new(before: &'a Membership, now: Millis, who: &'a str) -> Self {
        Self {
            before,
            next: before.clone(),
            now,
            who,
            touched_pools: BTreeSet::new(),
            touched_services: BTreeSet::new(),
            redefined: false,
            revised: false,
            members_changed: false,
            added: BTreeSet::new(),
            validated: false,
            outcome: Outcome::default(),
        }
    }

    /// Takes the service as the definitions now have it.
    pub(super) fn sync_service(&mut self, name: &Name) {
        let defined = self.next.definitions.service(name).cloned().map(Arc::new);
        let old = match &defined {
            Some(service) => self.next.services.insert(name.clone(), Arc::clone(service)),
            None => self.next.services.remove(name),
        };
        let (kind, what) = match (&old, &defined) {
            (None, None) => return,
            (Some(old), Some(new)) if old == new => return,
            (None, Some(new)) => {
                (EventKind::ServiceAdded, format!("service {name} is added by {}", new.origin))
            }
            (Some(_), Some(_)) => (EventKind::ServiceChanged, format!("service {name} is changed")),
            (Some(_), None) => (EventKind::ServiceRemoved, format!("service {name} is removed")),
        };
        self.outcome.events.push(DomainEvent::service(kind, name, what));
        self.touched_services.insert(name.clone());
        self.redefined = true;
        for service in [old, defined].into_iter().flatten() {
            self.sync_pool(&service.pool.clone());
        }
    }

    /// Takes the pool as the definitions now have it, and the pools that stand or stood in for it; members keep what is known of them.
    pub(super) fn sync_pool(&mut self, name: &Name) {
        let backup = |draft: &Self| Some(draft.next.pools.get(name)?.backup.as_ref()?.pool.clone());
        let before = backup(self);
        self.sync_one(name);
        let behind: BTreeSet<Name> = [before, backup(self)].into_iter().flatten().collect();
        for backup in behind.iter().filter(|backup| *backup != name) {
            self.sync_one(backup);
        }
    }

    fn sync_one(&mut self, name: &Name) {
        self.touched_pools.insert(name.clone());
        self.redefined = true;
        let old = self.next.pools.get(name).cloned();
        let Some(spec) = self.next.definitions.pool(name) else {
            for (address, member) in old.iter().flat_map(|old| &old.members) {
                let id = MemberId { pool: name.clone(), address: *address };
                self.member_removed(&id, &member.over);
            }
            self.next.pools.remove(name);
            return;
        };
        let (pool, changes) = Pool::define(&spec, self.users_of(name), old.as_deref());
        self.next.pools.insert(name.clone(), Arc::new(pool));
        for (address, over) in changes.removed {
            self.member_removed(&MemberId { pool: name.clone(), address }, &over);
        }
        for (address, origin) in changes.added {
            let id = MemberId { pool: name.clone(), address };
            self.outcome.events.push(DomainEvent::added(&id, &origin));
            self.members_changed = true;
        }
    }

    /// Who uses a pool now.
    fn users_of(&self, name: &Name) -> Users {
        let services = |pool: &Name| {
            let services = self.next.services.values().filter(|service| service.pool == *pool);
            services.cloned().collect::<Vec<_>>()
        };
        let stood_in_for = self.next.definitions.stood_in_for(name).filter(|other| *other != name);
        Users { services: services(name), behind: stood_in_for.flat_map(services).collect() }
    }

    fn member_removed(&mut self, id: &MemberId, over: &Override) {
        self.members_changed = true;
        if self.next.overridden.remove(id) && !over.is_empty() {
            self.outcome.events.push(DomainEvent::override_ended(id));
        }
        self.outcome.events.push(DomainEvent::removed(id));
    }

    /// Judges what was touched and brings the desired state up to it.
    pub(super) fn finish(mut self, force: bool) -> Result<Candidate, Refusal> {
        if self.redefined && !self.validated {
            self.validate()?;
        }
        self.forget_ways();
        self.settle();
        if !force {
            self.last_backend()?;
        }
        Ok(self.conclude())
    }

    /// Forgets the ways to addresses that were somebody's and are nobody's now: what is known of them ages unseen.
    fn forget_ways(&mut self) {
        let gone = |name: &Name| {
            let after = self.next.pools.get(name);
            let mut before = self.before.pools.get(name).into_iter().flat_map(|pool| pool.addresses());
            before.any(|ip| !after.is_some_and(|after| after.has_address(ip)))
        };
        if self.touched_pools.iter().any(gone) {
            let wanted = self.next.next_hop_targets();
            self.outcome.ways_forgotten = Arc::make_mut(&mut self.next.ways).retain(&wanted);
            let desired = Arc::make_mut(&mut self.next.desired);
            if desired.next_hops.keys().any(|ip| !wanted.contains(ip)) {
                Arc::make_mut(&mut desired.next_hops).retain(|ip, _| wanted.contains(ip));
            }
        }
    }

    /// As [`Self::finish`] for a change of overrides alone by the clock, which no rule can refuse.
    pub(super) fn finish_override(mut self) -> Candidate {
        self.settle();
        self.conclude()
    }

    fn conclude(mut self) -> Candidate {
        self.assign_probes();
        self.assemble();
        self.checks();
        self.outcome.ejections_changed |= self.forgets_ejections();
        if self.revised {
            self.next.revision += 1;
        }
        if self.redefined || self.validated {
            self.next.defined += 1;
        }
        let touched = !self.touched_pools.is_empty() || !self.touched_services.is_empty();
        self.outcome.revised = self.revised;
        self.outcome.desired_changed = touched && self.next.desired != self.before.desired;
        self.outcome.members_changed = self.members_changed || self.redefined;
        Candidate { membership: self.next, outcome: self.outcome }
    }

    /// Validates the touched pools and services with everything that they could contradict.
    fn validate(&mut self) -> Result<(), Refusal> {
        let known: HashSet<Problem> = validate_part(&self.touched_part(self.before)).into_iter().collect();
        let problems = validate_part(&self.touched_part(&self.next));
        // What was so before is no news: the one who makes this change has nothing to do with it.
        self.take(
            problems.into_iter().filter(|problem| problem.is_error() || !known.contains(problem)).collect(),
        )?;
        // These speak of any two services.
        let snat = &self.next.definitions.file.datapath.snat;
        let any = |met: &dyn Fn(&Listener) -> bool| {
            self.next.services.values().any(|service| service.listen.iter().any(met))
        };
        let asks = self.next.pools.values().any(|pool| pool.asks_through());
        if !asks && !any(&|listener| listener.port.is_none() || snat.contains(&listener.addr)) {
            return Ok(());
        }
        let whole = self.next.definitions.merged();
        self.take(claimed_probes(&whole, &Gaps::default()))?;
        self.take(shared_endpoints(&whole))?;
        self.take(claimed_sources(&whole, &Gaps::default()))
    }

    /// The touched pools and services as this membership has them, with those that share a listener with them.
    fn touched_part(&self, membership: &Membership) -> Spec {
        let backup = |pool: &Name| Some(&membership.pools.get(pool)?.backup.as_ref()?.pool);
        let touched = |service: &ServiceSpec| {
            self.touched_services.contains(&service.name)
                || self.touched_pools.contains(&service.pool)
                || backup(&service.pool).is_some_and(|backup| self.touched_pools.contains(backup))
        };
        let services = || membership.services.values();
        let touched_ones = services().filter(|service| touched(service));
        let listeners: BTreeSet<Listener> = touched_ones.flat_map(|service| service.listen.clone()).collect();
        let wanted = |service: &ServiceSpec| {
            touched(service) || service.listen.iter().any(|listener| listeners.contains(listener))
        };
        let services: Vec<ServiceSpec> =
            services().filter(|service| wanted(service)).map(|service| ServiceSpec::clone(service)).collect();
        let mut pools: BTreeSet<&Name> = services.iter().map(|service| &service.pool).collect();
        pools.extend(&self.touched_pools);
        pools.extend(pools.clone().into_iter().filter_map(backup));
        let pools = pools.into_iter().filter_map(|name| membership.definitions.pool(name)).collect();
        let datapath = membership.definitions.file.datapath.clone();
        Spec { pools, services, datapath, ..Spec::default() }
    }

    /// Refuses what `validate` refuses, and keeps its warnings.
    pub(super) fn judge(&mut self, spec: &Spec) -> Result<(), Refusal> {
        self.take(validate(spec))
    }

    fn take(&mut self, problems: Vec<Problem>) -> Result<(), Refusal> {
        self.outcome.warnings.extend(problems.iter().filter(|problem| !problem.is_error()).cloned());
        Refusal::of_problems(problems).map_or(Ok(()), Err)
    }

    fn settle(&mut self) {
        let dependants: Vec<Name> =
            self.touched_pools.iter().flat_map(|name| self.next.stood_in_for(name)).collect();
        self.touched_pools.extend(dependants);
        for name in &self.touched_pools {
            if let Some(pool) = self.next.pools.get_mut(name) {
                Arc::make_mut(pool).judge(self.now, &self.next.ways, &self.next.definitions.file.datapath);
            }
        }
        for name in &self.touched_pools {
            self.next.decide_one(self.now, name);
            if let Some(pool) = self.next.pools.get(name) {
                let before = self.before.pools.get(name).map(Arc::as_ref);
                verdict_events(before, pool, &mut self.outcome.events);
            }
        }
    }

    /// A service that had usable backends must not lose the last.
    fn last_backend(&self) -> Result<(), Refusal> {
        for (name, old) in &self.before.services {
            let Some(new) = self.next.services.get(name) else { continue };
            if !self.touched_pools.contains(&old.pool) && !self.touched_pools.contains(&new.pool) {
                continue;
            }
            let usable = |membership: &Membership, service: &ServiceSpec| -> BTreeMap<_, usize> {
                let pool = membership.pools.get(&service.pool);
                let count = |variant| pool.map_or(0, |pool| pool.usable(variant));
                variants_of(service).map(|variant| (variant, count(variant))).collect()
            };
            let (before, after) = (usable(self.before, old), usable(&self.next, new));
            let lost = after.iter().find(|(variant, count)| {
                **count == 0 && before.get(variant).is_some_and(|before| *before > 0)
            });
            if lost.is_some() {
                return Err(Refusal::new(
                    RefusalCode::LastBackend,
                    format!("service {:?} would be left without a usable backend", name.as_str()),
                    "add another backend and wait until it is healthy, or repeat with --force",
                ));
            }
        }
        Ok(())
    }

    fn assemble(&mut self) {
        if self.touched_pools.is_empty() && self.touched_services.is_empty() {
            return;
        }
        let desired = Arc::make_mut(&mut self.next.desired);
        let datapath = &self.next.definitions.file.datapath;
        for name in &self.touched_services {
            if let Some(old) = self.before.services.get(name) {
                assemble::remove_service(desired, old);
            }
        }
        for name in &self.touched_services {
            if let Some(new) = self.next.services.get(name) {
                assemble::put_service(desired, new, datapath);
            }
        }
        // An address may go from one backend to another, so all go before any comes.
        for pool in self.touched_pools.iter().filter_map(|name| self.before.pools.get(name)) {
            hidden::remove(desired, pool, &self.before.probes);
        }
        for name in &self.touched_pools {
            let pool = self.next.pools.get(name).map(Arc::as_ref);
            assemble::put_pool(desired, name, pool, &self.next.ways, datapath);
            if let Some(pool) = pool {
                hidden::put(desired, pool, &self.next.probes, &self.next.ways, datapath);
            }
        }
    }

    /// Gives every check through a service its address. Pools whose checks have others than before are touched.
    fn assign_probes(&mut self) {
        let asks = |membership: &Membership| membership.pools.values().any(|pool| pool.asks_through());
        if !self.redefined || !(asks(self.before) || asks(&self.next)) {
            return;
        }
        let probes = Probes::of(&self.next.pools, &self.next.definitions.file.datapath.probe_prefix);
        self.touched_pools.extend(probes.differing(&self.before.probes));
        self.next.probes = Arc::new(probes);
    }

    /// What is to be checked otherwise than before.
    fn checks(&mut self) {
        for name in &self.touched_pools {
            let targets = |membership: &Membership| -> BTreeMap<_, _> {
                let pool = membership.pools.get(name);
                let targets = pool.into_iter().flat_map(|pool| pool.targets(&membership.probes));
                targets.map(|target| (target.id.clone(), target)).collect()
            };
            let (before, after) = (targets(self.before), targets(&self.next));
            // Of a question that goes on only news would come, and what it said before is forgotten.
            let is_forgotten = |id: &CheckId| {
                let is_known = |membership: &Membership| {
                    membership.member(&id.member).is_some_and(|member| member.has_spoken(id.through))
                };
                is_known(self.before) && !is_known(&self.next)
            };
            let gone = before.keys().filter(|id| !after.contains_key(id) || is_forgotten(id));
            self.outcome.checks_removed.extend(gone.cloned());
            let same = |id: &CheckId, target: &crate::health::Target<CheckId>| {
                before.get(id).is_some_and(|old| {
                    old.address == target.address && old.through == target.through && old.spec == target.spec
                })
            };
            let is_new = |(id, target): &(CheckId, _)| !same(id, target) || is_forgotten(id);
            let new: Vec<_> = after.into_iter().filter(is_new).map(|(_, target)| target).collect();
            let pool = self.next.pools.get(name);
            self.outcome.checks_doubted.extend(pool.into_iter().flat_map(|pool| pool.doubted(&new)));
            self.outcome.checks_put.extend(new);
        }
    }
}

/// Says which members became eligible or ceased to be, whether the pool went up or down by it, and what its tables do about it.
pub(super) fn verdict_events(before: Option<&Pool>, after: &Pool, events: &mut Vec<DomainEvent>) {
    let usable = |pool: &Pool| pool.members.values().any(|member| member.verdict.takes_new);
    for (address, member) in &after.members {
        let old = before.and_then(|before| before.members.get(address));
        let was = old.is_some_and(|old| old.verdict.takes_new);
        let id = MemberId { pool: after.name.clone(), address: *address };
        match (was, member.verdict.takes_new) {
            (false, true) => events.push(DomainEvent::eligible(&id)),
            (true, false) => {
                let commanded = member.over.state.is_some() || member.weight() == 0;
                let level = if commanded { Level::Info } else { Level::Warning };
                events.push(DomainEvent::ineligible(&id, &member.verdict.reason, level));
            }
            _ => {}
        }
    }
    match (before.is_some_and(usable), usable(after)) {
        (true, false) => events.push(DomainEvent::pool(&after.name, false)),
        (false, true) if before.is_some() => events.push(DomainEvent::pool(&after.name, true)),
        _ => {}
    }
    let backup = after.backup.as_ref().map(|backup| backup.pool.as_str()).unwrap_or_default();
    for (variant, mode) in &after.modes {
        let old = before.and_then(|before| before.modes.get(variant)).copied().unwrap_or_default();
        events.extend(DomainEvent::mode(&after.name, *variant, &old, mode, backup));
    }
}
