//! What a change will have come to once the backends it lets in take flows.
//!
//! In: a membership in which a change is done, and the one before. Out: the same as if checks and neighbours had spoken for every
//! backend that came with it. Invariant: never put in force; a plan would otherwise say that a new backend moves no slot, because
//! in the very moment of the change it has none.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::eligibility::{Way, is_active};
use super::pool::{Member, Pool};
use super::{Membership, Millis, Outcome, WayState};
use crate::health::Health;
use crate::spec::{BackendAddress, Name};

impl Membership {
    /// This membership when all that `before` had not let in is well, reachable and past its slow start; `None`: nothing is waited for.
    pub fn once_admitted(&self, before: &Self, now: Millis) -> Option<Self> {
        let waiting: Vec<(Name, Vec<BackendAddress>)> = self
            .pools
            .iter()
            .filter_map(|(name, pool)| Some((name.clone(), waiting(pool, before.pools.get(name))?)))
            .collect();
        if waiting.is_empty() {
            return None;
        }
        let mut next = self.clone();
        let addresses = waiting.iter().flat_map(|(_, addresses)| addresses);
        let unknown = addresses.filter(|address| !matches!(next.ways.of(address.ip), Way::Known));
        // Counted, never put in force. One for all, as a host has one: each its own would be more than the tables hold.
        let sources = [true, false].map(|is_v4| (is_v4, next.ways.some_own_address(is_v4)));
        let source =
            |ip: IpAddr| sources.iter().find(|(is_v4, _)| *is_v4 == ip.is_ipv4()).map(|found| found.1);
        let known =
            |address: &BackendAddress| (address.ip, WayState::Unneeded { source: source(address.ip) });
        let known = unknown.map(known).collect();
        Arc::make_mut(&mut next.ways).take(known);
        for (name, addresses) in waiting {
            if let Some(pool) = next.pools.get_mut(&name) {
                let pool = Arc::make_mut(pool);
                pool.slow_start = Duration::ZERO;
                for address in addresses {
                    if let Some(member) = pool.members.get_mut(&address) {
                        member.health = Health::Healthy;
                    }
                }
            }
            next.settle_one(now, &name, &mut Outcome::default());
        }
        Some(next)
    }
}

/// The members of a pool that are to take flows and were not before, and of which nothing bad is known; `None`: there are none.
fn waiting(pool: &Arc<Pool>, before: Option<&Arc<Pool>>) -> Option<Vec<BackendAddress>> {
    if before.is_some_and(|before| Arc::ptr_eq(before, pool)) || !pool.is_used() {
        return None;
    }
    let wanted = |member: &Member| is_active(member.commanded(), member.weight());
    let was_wanted = |address: &BackendAddress| {
        before.is_some_and(|before| before.is_used() && before.members.get(address).is_some_and(wanted))
    };
    let is_waiting = |address: &BackendAddress, member: &Member| {
        wanted(member)
            && !member.verdict.takes_new
            && member.health != Health::Unhealthy
            && !was_wanted(address)
    };
    let members = pool.members.iter().filter(|(address, member)| is_waiting(address, member));
    let waiting: Vec<BackendAddress> = members.map(|(address, _)| *address).collect();
    (!waiting.is_empty()).then_some(waiting)
}
