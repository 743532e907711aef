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
    Candidate, CheckId, Event, MemberId, Membership, Millis, Outcome, StateOverride, Then, WayState,
    assemble, hidden, probes,
};
use crate::health::Health;
use crate::spec::Name;

/// What observations have touched and is to be judged anew.
#[derive(Debug, Default)]
struct Touched {
    pools: BTreeSet<Name>,
    /// In the order they were reported in.
    ways: Vec<(IpAddr, WayState)>,
}

impl Membership {
    /// Takes observations of one moment. A pool is judged once, however many of them are about it.
    pub(super) fn observe_all(&mut self, now: Millis, events: Vec<Event>) -> Outcome {
        let (mut outcome, mut touched) = (Outcome::default(), Touched::default());
        for event in events {
            match event {
                Event::Health { id, health, detail } => {
                    if self.note_health(&id, health, detail, &mut outcome) {
                        touched.pools.insert(id.member.pool);
                    }
                }
                Event::Confirmed { id, detail } => {
                    let is_news = self.note_health(&id, Health::Healthy, detail, &mut outcome);
                    let may_return = self.confirm(&id);
                    outcome.ejections_changed |= may_return;
                    if may_return || is_news {
                        touched.pools.insert(id.member.pool);
                    }
                }
                Event::Way { ip, state } => touched.ways.push((ip, state)),
                // These judge by themselves, of what is known by then.
                Event::Suspect { id, why } => {
                    self.judge_touched(now, std::mem::take(&mut touched), &mut outcome);
                    self.observe_suspect(now, &id, why, &mut outcome);
                }
                Event::Discovered { id, backends } => {
                    self.judge_touched(now, std::mem::take(&mut touched), &mut outcome);
                    outcome.absorb(self.observe_answer(now, &id, backends));
                }
                Event::Tick => {
                    self.judge_touched(now, std::mem::take(&mut touched), &mut outcome);
                    outcome.absorb(self.observe_time(now));
                }
            }
        }
        self.judge_touched(now, touched, &mut outcome);
        outcome
    }

    /// True: it is news of a backend that is checked.
    fn note_health(
        &mut self,
        check: &CheckId,
        health: Health,
        detail: Arc<str>,
        outcome: &mut Outcome,
    ) -> bool {
        let id = &check.member;
        let Some(pool) = self.pools.get_mut(&id.pool) else { return false };
        let Some(member) = pool.members.get(&id.address) else { return false };
        // A result that was on its way when the check ended.
        let checked = member.check.is_some() && member.over.state != Some(StateOverride::Disabled);
        let Some(heard) = member.hears(check.through, health, detail).filter(|_| checked) else {
            return false;
        };
        if member.health != heard.health {
            outcome.events.push(DomainEvent::health(id, heard.health, &heard.detail));
        }
        if let Some(member) = Arc::make_mut(pool).members.get_mut(&id.address) {
            *member = heard;
        }
        true
    }

    /// True: an ejection may be over by what this check has found.
    fn confirm(&mut self, check: &CheckId) -> bool {
        let Some(pool) = self.pools.get_mut(&check.member.pool) else { return false };
        let Some(listener) = &check.through else { return false };
        Arc::make_mut(pool).confirm(check.member.address, listener)
    }

    /// Whether a backend may be ejected depends on how its neighbours are judged, so nothing may be left to judge.
    fn observe_suspect(&mut self, now: Millis, id: &MemberId, why: Arc<str>, outcome: &mut Outcome) {
        let Some(pool) = self.pools.get_mut(&id.pool) else { return };
        if Arc::make_mut(pool).eject(id.address, now, why) {
            outcome.checks_doubted.extend(probes::checks(pool).filter(|check| check.member == *id));
            outcome.ejections_changed = true;
            self.settle_one(now, &id.pool, outcome);
        }
    }

    fn judge_touched(&mut self, now: Millis, touched: Touched, outcome: &mut Outcome) {
        let Touched { mut pools, ways } = touched;
        let led = if ways.is_empty() { BTreeSet::new() } else { self.note_ways(ways, outcome) };
        pools.extend(led.iter().cloned());
        for name in pools {
            self.settle_one(now, &name, outcome);
        }
        self.put_hidden(&led, outcome);
    }

    /// Lets the services of checks follow the ways to the backends of these pools.
    fn put_hidden(&mut self, pools: &BTreeSet<Name>, outcome: &mut Outcome) {
        let pools = pools.iter().filter_map(|name| self.pools.get(name));
        for pool in pools.filter(|pool| pool.asks_through()) {
            let desired = Arc::make_mut(&mut self.desired);
            let datapath = &self.definitions.file.datapath;
            outcome.desired_changed |= hidden::put(desired, pool, &self.probes, &self.ways, datapath);
        }
    }

    /// Takes the ways to addresses that somebody wants. Returns the pools whose members they lead to.
    fn note_ways(&mut self, ways: Vec<(IpAddr, WayState)>, outcome: &mut Outcome) -> BTreeSet<Name> {
        let told: BTreeSet<IpAddr> = ways.iter().map(|(ip, _)| *ip).collect();
        let wanted: BTreeSet<IpAddr> =
            self.pools.values().flat_map(|pool| pool.addresses_among(&told)).collect();
        let news = self.ways.news(ways.into_iter().filter(|(ip, _)| wanted.contains(ip)).collect());
        if news.is_empty() {
            return BTreeSet::new();
        }
        let changed: BTreeSet<IpAddr> = news.keys().copied().collect();
        Arc::make_mut(&mut self.ways).take(news);
        if assemble::ways_differ(&self.desired, &changed, &self.ways) {
            assemble::put_ways(Arc::make_mut(&mut self.desired), &changed, &self.ways);
            outcome.desired_changed = true;
        }
        let leads_there = |pool: &Arc<Pool>| !pool.addresses_among(&changed).is_empty();
        self.pools.iter().filter(|(_, pool)| leads_there(pool)).map(|(name, _)| name.clone()).collect()
    }

    /// Judges one pool anew, and those that it stands in for; the desired state follows if anything is otherwise.
    pub(super) fn settle_one(&mut self, now: Millis, name: &Name, outcome: &mut Outcome) {
        let Some(pool) = self.pools.get_mut(name) else { return };
        let before = Arc::clone(pool);
        Arc::make_mut(pool).judge(now, &self.ways, &self.definitions.file.datapath);
        let asked = pool.newly_asked(&before, &self.probes);
        outcome.checks_doubted.extend(pool.doubted(&asked));
        outcome.checks_put.extend(asked);
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
        self.ejections_changed |= later.ejections_changed;
        self.events.extend(later.events);
        self.notes.extend(later.notes);
        self.warnings.extend(later.warnings);
    }
}
