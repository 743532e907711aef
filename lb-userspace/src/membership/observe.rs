//! What checks, neighbours and the clock say, taken into the membership.
//!
//! In: one observation. Out: the [`Outcome`], and the membership changed in place. Invariant: an observation of something
//! that is gone, or that says nothing new, changes nothing.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::draft::{Draft, verdict_events};
use super::event::DomainEvent;
use super::pool::Pool;
use super::{
    Candidate, CheckId, MemberId, Membership, Millis, Outcome, StateOverride, Then, WayState, assemble,
    hidden, probes,
};
use crate::health::Health;
use crate::spec::Name;

impl Membership {
    pub(super) fn observe_health(
        &mut self,
        now: Millis,
        check: &CheckId,
        health: Health,
        detail: Arc<str>,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let id = &check.member;
        let Some(pool) = self.pools.get_mut(&id.pool) else { return outcome };
        let Some(member) = pool.members.get(&id.address) else { return outcome };
        // A result that was on its way when the check ended.
        let checked = member.check.is_some() && member.over.state != Some(StateOverride::Disabled);
        let Some(heard) = member.hears(check.through, health, detail).filter(|_| checked) else {
            return outcome;
        };
        if member.health != heard.health {
            outcome.events.push(DomainEvent::health(id, heard.health, &heard.detail));
        }
        if let Some(member) = Arc::make_mut(pool).members.get_mut(&id.address) {
            *member = heard;
        }
        self.settle_one(now, &id.pool, &mut outcome);
        outcome
    }

    pub(super) fn observe_way(&mut self, now: Millis, ip: IpAddr, state: WayState) -> Outcome {
        let mut outcome = Outcome::default();
        let pools: Vec<Name> = self
            .pools
            .iter()
            .filter(|(_, pool)| pool.has_address(ip))
            .map(|(name, _)| name.clone())
            .collect();
        if pools.is_empty() || !Arc::make_mut(&mut self.ways).report(ip, state) {
            return outcome;
        }
        let before = self.desired.next_hops.get(&ip).copied();
        if before != self.ways.next_hop(ip) {
            assemble::put_way(Arc::make_mut(&mut self.desired), ip, &self.ways);
            outcome.desired_changed = true;
        }
        for name in pools {
            self.settle_one(now, &name, &mut outcome);
            if let Some(pool) = self.pools.get(&name).filter(|pool| pool.asks_through()) {
                let desired = Arc::make_mut(&mut self.desired);
                let datapath = &self.definitions.file.datapath;
                outcome.desired_changed |= hidden::put(desired, pool, &self.probes, &self.ways, datapath);
            }
        }
        outcome
    }

    pub(super) fn observe_confirmation(&mut self, now: Millis, id: &CheckId, detail: Arc<str>) -> Outcome {
        let mut outcome = self.observe_health(now, id, Health::Healthy, detail);
        let Some(pool) = self.pools.get_mut(&id.member.pool) else { return outcome };
        let Some(listener) = &id.through else { return outcome };
        if Arc::make_mut(pool).confirm(id.member.address, listener) {
            self.settle_one(now, &id.member.pool, &mut outcome);
        }
        outcome
    }

    pub(super) fn observe_suspect(&mut self, now: Millis, id: &MemberId, why: Arc<str>) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(pool) = self.pools.get_mut(&id.pool) else { return outcome };
        if Arc::make_mut(pool).eject(id.address, now, why) {
            let checks = probes::checks(pool).filter(|check| check.member == *id);
            outcome.checks_doubted.extend(checks);
            self.settle_one(now, &id.pool, &mut outcome);
        }
        outcome
    }

    /// Judges one pool anew, and those that it stands in for; the desired state follows if anything is otherwise.
    pub(super) fn settle_one(&mut self, now: Millis, name: &Name, outcome: &mut Outcome) {
        let Some(pool) = self.pools.get_mut(name) else { return };
        let before = Arc::clone(pool);
        Arc::make_mut(pool).judge(now, &self.ways, &self.definitions.file.datapath);
        outcome.checks_put.extend(pool.newly_asked(&before, &self.probes));
        self.decide(now, name, Some(&before), outcome);
        let dependants = self.stood_in_for(name);
        for name in &dependants {
            let Some(pool) = self.pools.get_mut(name) else { continue };
            let before = Arc::clone(pool);
            // What time alone has changed by now counts: their timers are set anew, and look ahead only.
            Arc::make_mut(pool).judge(now, &self.ways, &self.definitions.file.datapath);
            self.decide(now, name, Some(&before), outcome);
        }
    }

    /// Decides who has the flows of a pool whose members are judged, says what is otherwise than `before`, and lets the desired
    /// state follow.
    fn decide(&mut self, now: Millis, name: &Name, before: Option<&Arc<Pool>>, outcome: &mut Outcome) {
        self.decide_one(now, name);
        let Some(pool) = self.pools.get(name) else { return };
        verdict_events(before.map(Arc::as_ref), pool, &mut outcome.events);
        let datapath = &self.definitions.file.datapath;
        // Sources depend on ways, so compare what the maps should hold, not verdicts.
        if assemble::differs(&self.desired, pool, &self.ways, datapath) {
            assemble::put_pool(Arc::make_mut(&mut self.desired), name, Some(pool), &self.ways, datapath);
            outcome.desired_changed = true;
        }
    }

    /// Decides who has the flows of a pool whose members are judged, and when to look again.
    pub(super) fn decide_one(&mut self, now: Millis, name: &Name) {
        let backup = self.pools.get(name).and_then(|pool| pool.backup.as_ref());
        let backup = backup.and_then(|backup| self.pools.get(&backup.pool)).cloned();
        self.timers.remove(name);
        let Some(pool) = self.pools.get_mut(name) else { return };
        let pool = Arc::make_mut(pool);
        pool.decide(now, backup.as_deref());
        if let Some(moment) = pool.timer(now) {
            self.timers.insert(name.clone(), moment);
        }
    }

    /// The pools that this one stands in for.
    pub(super) fn stood_in_for(&self, name: &Name) -> Vec<Name> {
        let is_behind = |pool: &&Arc<Pool>| pool.backup.as_ref().is_some_and(|backup| backup.pool == *name);
        self.pools.values().filter(is_behind).map(|pool| pool.name.clone()).collect()
    }

    /// Ends every drain whose deadline is over, and takes every step of a pool that is due.
    pub(super) fn observe_time(&mut self, now: Millis) -> Outcome {
        let mut all = Outcome::default();
        let due = self.timers.iter().filter(|(_, moment)| **moment <= now);
        for name in due.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.settle_one(now, &name, &mut all);
        }
        let due = |id: &&MemberId| {
            let state = self.member(id).and_then(|member| member.over.state);
            state.and_then(StateOverride::pending).is_some_and(|deadline| deadline <= now)
        };
        let due: Vec<MemberId> = self.overridden.iter().filter(due).cloned().collect();
        for id in due {
            let Candidate { membership, outcome } = self.end_drain(now, &id);
            *self = membership;
            all.absorb(outcome);
        }
        all
    }

    fn end_drain(&self, now: Millis, id: &MemberId) -> Candidate {
        let then = match self.member(id).and_then(|member| member.over.state) {
            Some(StateOverride::Draining { then, .. }) => then,
            _ => Then::Keep,
        };
        let mut draft = Draft::new(self, now, "the end of its drain");
        let removed = match then {
            Then::Remove => {
                draft.outcome.events.push(DomainEvent::drain_over(id, "it is removed"));
                draft.remove_claim(id);
                // Another origin still wants it: what can be done is to keep flows off it.
                draft.set_override(id, |over| over.state = Some(StateOverride::Disabled));
                draft.finish(true)
            }
            Then::Keep | Then::Disable => return self.after_drain(now, id, then),
        };
        // Without it the rest would contradict itself (a listener without a backend of its family).
        removed.unwrap_or_else(|_| self.after_drain(now, id, Then::Disable))
    }

    fn after_drain(&self, now: Millis, id: &MemberId, then: Then) -> Candidate {
        let mut draft = Draft::new(self, now, "the end of its drain");
        let what = if then == Then::Disable { "it is disabled" } else { "flows that are left are lost" };
        draft.outcome.events.push(DomainEvent::drain_over(id, what));
        draft.set_override(id, |over| match (&mut over.state, then) {
            (Some(StateOverride::Draining { expired, .. }), Then::Keep) => *expired = true,
            (state, _) => *state = Some(StateOverride::Disabled),
        });
        draft.finish_override()
    }
}

impl Outcome {
    /// Adds what another input did after this one.
    pub fn absorb(&mut self, later: Self) {
        self.revised |= later.revised;
        self.desired_changed |= later.desired_changed;
        self.members_changed |= later.members_changed;
        self.ways_forgotten.extend(later.ways_forgotten);
        // What is removed is removed before anything is put: who goes and comes again is asked anew, who comes and goes is not asked.
        let removed: BTreeSet<&CheckId> = later.checks_removed.iter().collect();
        self.checks_put.retain(|target| !removed.contains(&target.id));
        self.checks_put.extend(later.checks_put);
        self.checks_removed.extend(later.checks_removed);
        self.checks_doubted.extend(later.checks_doubted);
        self.events.extend(later.events);
        self.notes.extend(later.notes);
        self.warnings.extend(later.warnings);
    }
}
