//! Ejection: a backend whose new connections do not go on gets none for a while.
//!
//! In: a suspicion (`health/passive.rs`), the pool's policy, the time, the word of checks that go through the service. Out: until when it is
//! out. Invariants: never more of a pool than `max_ejected`, but one may always go if another is left in each of its tables; tracked flows stay;
//! each time is twice as long as the one before, until it has been well for as long as the longest.
//!
//! A check through the service sees what clients see, so where there is one its next success ends the ejection, and until then nothing
//! does. If connections fail again soon after, it does not see all that clients see: then the time has to be over as well.

mod kept;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use kept::Ejected;

use super::Millis;
use super::pool::{Member, Pool};
use crate::desired::Variant;
use crate::spec::{Affinity, BackendAddress, LONGEST_EJECTION, Listener, PassiveSpec, Protocol};

/// The last ejection of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ejection {
    /// When it is over.
    pub(super) until: Millis,
    /// How many there were in a row.
    times: u32,
    /// The checks through services that have not succeeded since; `None`: it has none.
    waiting: Option<BTreeSet<Listener>>,
    /// What was seen.
    pub(super) why: Arc<str>,
}

impl Ejection {
    /// The one that follows `before`.
    fn next(member: &Member, policy: &PassiveSpec, now: Millis, why: Arc<str>) -> Self {
        let before = member.ejection.as_ref();
        let recent = before.filter(|before| before.is_recent(now));
        let times = recent.map_or(0, |before| before.times).saturating_add(1);
        let waiting = (!member.through.is_empty()).then(|| member.through.keys().copied().collect());
        Self { until: now.after(length(policy, times)), times, waiting, why }
    }

    /// So short a time ago that the next one is longer than the first.
    fn is_recent(&self, now: Millis) -> bool {
        now.since(self.until) < LONGEST_EJECTION
    }

    /// What it waits for; `None`: it is over.
    fn until(&self, member: &Member, now: Millis) -> Option<Until> {
        let time = (self.until > now).then_some(Until::Time(self.until));
        match self.waiting.as_ref().filter(|_| !member.through.is_empty()) {
            None => time,
            Some(waiting) if waiting.iter().any(|listener| member.through.contains_key(listener)) => {
                Some(Until::Check)
            }
            Some(_) => time.filter(|_| self.times > 1),
        }
    }
}

/// What ends an ejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// This moment.
    Time(Millis),
    /// A check through the service that succeeds.
    Check,
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(until) => until.fmt(f),
            Self::Check => f.write_str("a check through the service succeeds"),
        }
    }
}

fn length(policy: &PassiveSpec, times: u32) -> Duration {
    let doubled = policy.eject.saturating_mul(2_u32.saturating_pow(times.saturating_sub(1)));
    doubled.min(LONGEST_EJECTION.max(policy.eject))
}

impl Pool {
    /// How its connections are watched; `None`: they are not. A client's affinity sends all of its connections to one backend, so those
    /// that fail there need not be that backend's fault; and datagrams tell nothing.
    pub(super) fn passive(&self) -> Option<&PassiveSpec> {
        let by_flow = self.services.iter().all(|service| service.affinity == Affinity::Flow);
        let mut listeners = self.services.iter().flat_map(|service| &service.listen);
        let is_tcp = listeners.any(|listener| listener.protocol == Protocol::Tcp);
        self.passive.as_ref().filter(|_| by_flow && is_tcp)
    }

    /// The ejection of a member, if it is in force: what it waits for, and why it is.
    pub(super) fn ejection_of<'a>(&self, member: &'a Member, now: Millis) -> Option<(Until, &'a str)> {
        let ejection = member.ejection.as_ref().filter(|_| self.passive().is_some())?;
        Some((ejection.until(member, now)?, &*ejection.why))
    }

    /// A check through a service has succeeded that began after the ejection. True: the ejection may be over.
    pub(super) fn confirm(&mut self, address: BackendAddress, listener: &Listener) -> bool {
        let member = self.members.get_mut(&address);
        let waiting = member.and_then(|member| member.ejection.as_mut()?.waiting.as_mut());
        waiting.is_some_and(|waiting| waiting.remove(listener))
    }

    /// Ejects a backend, if that may be. False: everything stays as it is.
    pub(super) fn eject(&mut self, address: BackendAddress, now: Millis, why: Arc<str>) -> bool {
        let Some(policy) = self.passive().copied() else { return false };
        let Some(member) = self.members.get(&address) else { return false };
        if !member.verdict.takes_new
            || !self.takes_new(address, member)
            || self.modes_of(address).any(|mode| Self::is_spread(mode, member))
            || !self.may_lose(address, now)
        {
            return false;
        }
        let ejection = Ejection::next(member, &policy, now, why);
        if let Some(member) = self.members.get_mut(&address) {
            member.ejection = Some(Box::new(ejection));
        }
        true
    }

    fn may_lose(&self, address: BackendAddress, now: Millis) -> bool {
        self.is_share(now) && self.is_in_each_table(address, |member| member.verdict.takes_new)
    }

    /// With one more, no more of it is ejected than may be.
    fn is_share(&self, now: Millis) -> bool {
        let out = self.members.values().filter(|member| self.ejection_of(member, now).is_some()).count();
        let (with_it, all) = (out as u64 + 1, self.members.len() as u64);
        let most = self.passive().map(|policy| policy.max_ejected);
        out == 0 || most.is_some_and(|most| !most.is_exceeded(with_it, all))
    }

    /// In each of its tables there is another for whom this holds.
    fn is_in_each_table(&self, address: BackendAddress, holds: impl Fn(&Member) -> bool) -> bool {
        let variants = self.variants().into_iter().filter(|variant| variant.includes(address.ip));
        let is_left = |variant: Variant| {
            let mut others = self.members.iter().filter(|(other, _)| **other != address);
            others.any(|(other, member)| variant.includes(other.ip) && holds(member))
        };
        { variants }.all(is_left)
    }
}
