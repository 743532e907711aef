//! Ejections over a restart: what is kept of them, and what becomes of it.
//!
//! In: who is or was lately ejected; what an earlier run has kept of that. Out: the same backends, out as long as they would have been.
//! Invariants: nobody is out for longer after a restart than its ejection was long, whatever the clock says, for moments of another run
//! are compared with a clock that may have been set by days; whoever took new flows when this daemon started is not taken out by what
//! was kept, which may be old; no pool is left without anybody by it; how often in a row somebody was ejected goes on being counted.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Ejection, length};
use crate::membership::draft::Draft;
use crate::membership::eligibility::is_active;
use crate::membership::pool::{Member, Pool};
use crate::membership::{Membership, Millis};
use crate::spec::{BackendAddress, Listener, Name};

/// The last ejection of a backend, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ejected {
    /// The pool.
    pub pool: Name,
    /// The backend.
    pub address: BackendAddress,
    /// When it is over by time.
    pub until: Millis,
    /// How many there were in a row.
    pub times: u32,
    /// The checks through services that have not succeeded since; `None`: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<BTreeSet<Listener>>,
    /// What was seen, in words.
    pub why: String,
}

impl Ejection {
    /// A success of the check through this listener is one that it waits for.
    pub(in crate::membership) fn waits_for(&self, listener: &Listener) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.contains(listener))
    }

    /// A restart is to know of it.
    fn counts(&self, member: &Member, now: Millis) -> bool {
        self.until(member, now).is_some() || self.is_recent(now)
    }
}

impl Membership {
    /// Who is ejected, or was so short a time ago that the next ejection is longer by it: what a restart is to know.
    pub fn ejections(&self, now: Millis) -> Vec<Ejected> {
        self.pools.values().flat_map(|pool| pool.ejections(now)).collect()
    }
}

impl Pool {
    fn ejections(&self, now: Millis) -> impl Iterator<Item = Ejected> {
        self.members.iter().filter_map(move |(address, member)| {
            let ejection = member.ejection.as_ref().filter(|ejection| ejection.counts(member, now))?;
            let Ejection { until, times, waiting, why } = Ejection::clone(ejection);
            let pool = self.name.clone();
            Some(Ejected { pool, address: *address, until, times, waiting, why: why.to_string() })
        })
    }

    /// Takes back what an earlier run has kept of one of its members.
    fn eject_again(&mut self, now: Millis, kept: Ejected) {
        let Some(policy) = self.passive().copied() else { return };
        let Ejected { address, until, times, waiting, why, .. } = kept;
        let Some(member) = self.members.get(&address) else { return };
        let until = until.min(now.after(length(&policy, times)));
        let mut ejection = Ejection { until, times, waiting, why: Arc::from(why) };
        if !ejection.counts(member, now) {
            return;
        }
        let is_out = ejection.until(member, now).is_some();
        let had_flows = member.held.is_some_and(|held| held.takes_new);
        if is_out && (had_flows || !self.may_be_without(address, now)) {
            ejection.until = until.min(now);
            ejection.waiting = ejection.waiting.map(|_| BTreeSet::new());
        }
        if let Some(member) = self.members.get_mut(&address) {
            member.ejection = Some(Box::new(ejection));
        }
    }

    /// As [`may_lose`](Self::may_lose) for a start, when nobody is judged yet: whoever may serve counts.
    fn may_be_without(&self, address: BackendAddress, now: Millis) -> bool {
        let may_serve = |member: &Member| {
            is_active(member.commanded(), member.weight()) && self.ejection_of(member, now).is_none()
        };
        self.is_share(now) && self.is_in_each_table(address, may_serve)
    }
}

impl Draft<'_> {
    /// Takes back an ejection of an earlier run, once overrides and what the kernel's tables say are known.
    pub(in crate::membership) fn eject_again(&mut self, kept: Ejected) {
        if let Some(pool) = self.next.pools.get_mut(&kept.pool) {
            Arc::make_mut(pool).eject_again(self.now, kept);
        }
    }

    /// Somebody has gone of whose ejection a restart would know.
    pub(in crate::membership) fn forgets_ejections(&self) -> bool {
        let is_kept = |pool: &Pool, address: &BackendAddress| {
            let after = self.next.pools.get(&pool.name).and_then(|pool| pool.members.get(address));
            after.is_some_and(|member| member.ejection.is_some())
        };
        let forgets = |pool: &Pool| {
            let mut ejected = pool.members.iter().filter(|(_, member)| member.ejection.is_some());
            ejected.any(|(address, _)| !is_kept(pool, address))
        };
        self.touched_pools.iter().filter_map(|name| self.before.pools.get(name)).any(|pool| forgets(pool))
    }
}
