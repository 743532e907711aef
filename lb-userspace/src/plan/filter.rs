//! The endpoint filter: whose packets may be replies.
//!
//! In: the desired state. Out: the filter's words, and the changes to them. Invariant: while backends and services change, the
//! filter is a superset of what either state needs, and of what listeners that are about to leave a pool need to meet the backends that come
//! to it; a bit too many costs a look-up, a bit too few a connection.

use std::sync::Arc;

use lb_common::{Address, ENDPOINT_FILTER_WORDS, Forward, Settings, service_policy};
use lb_datapath::hash;

use super::Planner;
use crate::change::Change;
use crate::desired::{Desired, DesiredPool, ListenerKey, protocol_number};

/// The words of the filter for the replies of every backend of every service that translates.
pub(super) fn wanted(desired: &Desired, settings: &Settings) -> Vec<u64> {
    let mut words = vec![0_u64; ENDPOINT_FILTER_WORDS as usize];
    for (listener, service) in &desired.services {
        let translates = matches!(Forward::from(service.forward), Forward::FullNat | Forward::Nat);
        if let Some(pool) = desired.pools.get(&service.pool).filter(|_| translates) {
            admit(&mut words, listener, pool, settings);
        }
    }
    words
}

/// Sets the bits for the replies of a pool's backends to a listener.
fn admit(words: &mut [u64], listener: &ListenerKey, pool: &DesiredPool, settings: &Settings) {
    let protocol = protocol_number(listener.protocol);
    for backend in pool.backends.keys() {
        // A backend without a port behind a listener of every port answers from any: the filter takes port 0 for it.
        let port = backend.port.or(listener.port).unwrap_or_default();
        let position = hash::endpoint(settings, &Address::from(backend.ip), port.to_be(), protocol);
        if let Some(word) = words.get_mut(position.word as usize) {
            *word |= position.bits;
        }
    }
}

impl Planner<'_> {
    /// Sets the bits that will be needed, and those that are needed until listeners have left their pools.
    pub(super) fn widen_filter(&mut self, wanted: &[u64]) {
        let mut bits = wanted.to_vec();
        for (listener, pool) in self.leaving() {
            admit(&mut bits, &listener, pool, self.settings);
        }
        self.store_filter(&bits, |stored, wanted| stored | wanted);
    }

    /// Listeners whose replies are translated and that are to lead elsewhere or nowhere, with the pools as those are to be that they lead to.
    fn leaving(&self) -> impl Iterator<Item = (ListenerKey, &Arc<DesiredPool>)> {
        self.image.services().filter_map(|service| {
            let policy = self.image.services.get(&service.id)?.record.policy;
            let forward = policy >> service_policy::FORWARD & 0xff;
            let translates = [Forward::FullNat, Forward::Nat].iter().any(|one| *one as u64 == forward);
            let key = self.image.pools.get(&service.pool)?.key().filter(|_| translates)?;
            let stays = self
                .desired
                .services
                .get(&service.listener)
                .is_some_and(|wanted| wanted.pool == key && wanted.forward.translates());
            self.desired.pools.get(&key).filter(|_| !stays).map(|pool| (service.listener, pool))
        })
    }

    /// Clears the bits that nobody needs any more.
    pub(super) fn narrow_filter(&mut self, wanted: &[u64]) {
        self.store_filter(wanted, |_, wanted| wanted);
    }

    fn store_filter(&mut self, wanted: &[u64], word: impl Fn(u64, u64) -> u64) {
        let stored = self.image.filter.iter().zip(wanted).zip(0..);
        let differing: Vec<(u32, u64)> = stored
            .filter_map(|((stored, wanted), index)| {
                let bits = word(*stored, *wanted);
                (bits != *stored).then_some((index, bits))
            })
            .collect();
        for (index, bits) in differing {
            self.emit(Change::Filter { index, bits });
        }
    }
}
