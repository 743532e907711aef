//! The endpoint filter: whose packets may be replies.
//!
//! In: the desired state. Out: the filter's words, and the changes to them. Invariant: while backends and services change, the
//! filter is a superset of what either state needs; a bit too many costs a look-up, a bit too few a connection.

use lb_common::{Address, ENDPOINT_FILTER_WORDS, Forward, Settings};
use lb_datapath::hash;

use super::Planner;
use crate::change::Change;
use crate::desired::{Desired, protocol_number};

/// The words of the filter for the replies of every backend of every service that translates.
pub(super) fn wanted(desired: &Desired, settings: &Settings) -> Vec<u64> {
    let mut words = vec![0_u64; ENDPOINT_FILTER_WORDS as usize];
    for (listener, service) in &desired.services {
        let translates = matches!(Forward::from(service.forward), Forward::FullNat | Forward::Nat);
        let Some(pool) = desired.pools.get(&service.pool).filter(|_| translates) else { continue };
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
    words
}

impl Planner<'_> {
    /// Sets the bits that will be needed.
    pub(super) fn widen_filter(&mut self, wanted: &[u64]) {
        self.store_filter(wanted, |stored, wanted| stored | wanted);
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
