//! What the numbers in the maps stand for: for counters, flows and explanations.
//!
//! In: an [`Image`]. Out: [`Names`], published for readers. Invariant: a number that stands for nothing any more has no entry,
//! so nothing is ever shown under somebody else's name.

use std::collections::{BTreeMap, BTreeSet};

use crate::desired::{PoolKey, is_hidden};
use crate::image::{Image, PoolView};
use crate::membership::MemberId;
use crate::spec::{Listener, Name};

/// A service id.
#[derive(Clone, Debug)]
pub struct ServiceName {
    /// The configured service.
    pub name: Name,
    /// The listener.
    pub listener: Listener,
    /// Its pool's id.
    pub pool: u16,
}

/// Every number in use.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// By service id.
    pub services: BTreeMap<u16, ServiceName>,
    /// By pool id.
    pub pools: BTreeMap<u16, PoolKey>,
    /// By pool id and index local to the pool.
    pub backends: BTreeMap<(u16, u16), MemberId>,
    /// Counter indexes of each backend, over all tables of its pool.
    pub counters: BTreeMap<MemberId, Vec<u32>>,
    /// Services of checks alone: they and their flows are shown to nobody.
    pub hidden: BTreeSet<u16>,
    /// Highest counter index in use.
    pub last_counter: u32,
}

impl Names {
    /// The numbers of an image.
    pub fn of(image: &Image) -> Self {
        let mut names = Self::default();
        for service in image.services() {
            if is_hidden(&service.name) {
                names.hidden.insert(service.id);
                continue;
            }
            if let Ok(name) = service.name.parse() {
                let entry = ServiceName { name, listener: service.listener, pool: service.pool };
                names.services.insert(service.id, entry);
            }
        }
        for pool in image.pools() {
            names.add_pool(pool);
        }
        names
    }

    fn add_pool(&mut self, pool: PoolView) {
        let Some(key) = pool.key else { return };
        let Ok(name) = key.name.parse::<Name>() else { return };
        for backend in pool.backends {
            let id = MemberId { pool: name.clone(), address: backend.key };
            self.backends.insert((pool.id, backend.local), id.clone());
            let counters = self.counters.entry(id).or_default();
            if !counters.contains(&backend.counter) {
                counters.push(backend.counter);
            }
            self.last_counter = self.last_counter.max(backend.counter);
        }
        self.pools.insert(pool.id, key);
    }

    /// The backend that a flow of this service with this local index has.
    pub fn backend_of(&self, service: u16, local: u16) -> Option<&MemberId> {
        self.backends.get(&(self.services.get(&service)?.pool, local))
    }
}
