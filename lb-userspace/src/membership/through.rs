//! A member's checks that go through services, and what is to be checked at all.
//!
//! In: the ways of such checks, what they find. Out: targets for the engine, and what they say together of their backend. Invariants: it is
//! as well as the worst of its checks; such a check is no target before the way to the backend was known once.

use std::net::SocketAddr;
use std::sync::Arc;

use super::pool::{Member, Pool};
use super::probes::Probes;
use super::{CheckId, MemberId};
use crate::health::{Health, Target, Through};
use crate::spec::{BackendAddress, CheckWay, Forward, Listener, Via};

/// A check that goes through a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// How the service forwards.
    pub(super) forward: Forward,
    /// The port of the listener.
    pub(super) port: u16,
    /// The backend's own address and port.
    pub(super) own: SocketAddr,
    pub(super) health: Health,
    pub(super) detail: Arc<str>,
}

impl Member {
    /// The member once a check of it has found this; `None`: there is no such check, or it says nothing new.
    pub(super) fn hears(&self, through: Option<Listener>, health: Health, detail: Arc<str>) -> Option<Self> {
        let mut heard = self.clone();
        match through {
            None if self.through.is_empty() => (heard.health, heard.detail) = (health, detail),
            None => return None,
            Some(listener) => {
                let asked = heard.through.get_mut(&listener)?;
                (asked.health, asked.detail) = (health, detail);
                heard.sum_up();
            }
        }
        let is_news =
            heard.health != self.health || heard.detail != self.detail || heard.through != self.through;
        is_news.then_some(heard)
    }

    /// What all of its checks through services say together: it is as well as the worst of them.
    fn sum_up(&mut self) {
        let badness = |asked: &&Asked| match asked.health {
            Health::Unhealthy => 0,
            Health::Unknown => 1,
            Health::Healthy => 2,
        };
        if let Some(worst) = self.through.values().min_by_key(badness) {
            (self.health, self.detail) = (worst.health, Arc::clone(&worst.detail));
        }
    }

    /// Takes the ways of its checks through services; what is known of those that it had stays, and of it as a whole.
    pub(super) fn ask_through(&mut self, ways: &[CheckWay<'_>], address: BackendAddress) {
        let known = std::mem::take(&mut self.through);
        for way in ways {
            let old = known.get(&way.listener);
            let (health, detail) = match old {
                Some(old) => (old.health, Arc::clone(&old.detail)),
                None => (self.health, Arc::clone(&self.detail)),
            };
            let own = SocketAddr::new(address.ip, way.backend_port(address));
            let asked = Asked { forward: way.service.forward, port: way.port, own, health, detail };
            self.through.insert(way.listener, asked);
        }
        self.sum_up();
    }
}

impl Pool {
    /// Its checks go through services.
    pub(super) fn asks_through(&self) -> bool {
        self.health.via == Via::Service && self.is_used()
    }

    /// What is to be checked.
    pub(super) fn targets(&self, probes: &Probes) -> impl Iterator<Item = Target<CheckId>> {
        self.members.iter().flat_map(|(address, member)| self.targets_of(*address, member, probes))
    }

    /// What is to be checked now that the way there is known, and was not before.
    pub(super) fn newly_asked(&self, before: &Self, probes: &Probes) -> Vec<Target<CheckId>> {
        if !self.asks_through() {
            return Vec::new();
        }
        let was_asked =
            |address: &BackendAddress| before.members.get(address).is_some_and(|member| member.is_asked);
        let new = self.members.iter().filter(|(address, member)| member.is_asked && !was_asked(address));
        new.flat_map(|(address, member)| self.targets_of(*address, member, probes)).collect()
    }

    /// Those of these new questions about members of this pool that an ejection waits for: their first success is to be told as what
    /// ends it.
    pub(super) fn doubted(&self, targets: &[Target<CheckId>]) -> Vec<CheckId> {
        let waits = |id: &&CheckId| {
            let member = self.members.get(&id.member.address);
            let ejection = member.and_then(|member| member.ejection.as_ref());
            ejection.is_some_and(|ejection| id.through.is_some_and(|listener| ejection.waits_for(&listener)))
        };
        targets.iter().map(|target| &target.id).filter(waits).cloned().collect()
    }

    fn targets_of(&self, address: BackendAddress, member: &Member, probes: &Probes) -> Vec<Target<CheckId>> {
        let Some(check) = member.check.filter(|_| member.is_checked()) else { return Vec::new() };
        let held = member.held.is_some_and(|held| held.takes_new);
        let initial = |health| match health {
            Health::Unknown if held => Health::Healthy,
            health => health,
        };
        let id = CheckId::direct(MemberId { pool: self.name.clone(), address });
        let spec = || self.health.clone();
        if member.through.is_empty() {
            let initial = initial(member.health);
            return vec![Target { id, address: check, through: None, spec: spec(), initial }];
        }
        let asked = member.through.iter().filter(|_| member.is_asked);
        let target = |(listener, asked): (&Listener, &Asked)| {
            let id = CheckId { through: Some(*listener), ..id.clone() };
            let through = Through {
                probe: SocketAddr::new(probes.get(&id)?, asked.port),
                vip: SocketAddr::new(listener.addr, asked.port),
                forward: asked.forward,
            };
            let initial = initial(asked.health);
            Some(Target { id, address: asked.own, through: Some(through), spec: spec(), initial })
        };
        asked.filter_map(target).collect()
    }
}
