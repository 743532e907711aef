//! What the numbers in the maps stand for: for counters, flows and explanations.
//!
//! In: an [`Image`], and the names before. Out: [`Names`], published for readers. Invariants: a number that stands for nothing any more
//! has no entry, so nothing is ever shown under somebody else's name; a pool that is as before is the very same value, so a change
//! costs by what it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::desired::{PoolKey, is_hidden};
use crate::image::{Image, Shape, TableSlots};
use crate::membership::MemberId;
use crate::spec::{BackendAddress, Listener, Name};

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

/// A backend's numbers in one pool of the datapath.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    /// Its index in flow entries and slots.
    local: u16,
    counter: u32,
    address: BackendAddress,
}

/// A pool id.
#[derive(Debug)]
pub struct PoolNames {
    /// The configured pool, and which of its backends.
    pub key: PoolKey,
    name: Name,
    /// By local index.
    backends: Vec<Numbers>,
    /// Who has how many slots.
    pub slots: TableSlots,
    /// What all this was made of.
    shape: Shape,
}

/// Every number in use.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// By service id.
    pub services: BTreeMap<u16, ServiceName>,
    /// By pool id.
    pub pools: BTreeMap<u16, Arc<PoolNames>>,
    /// Services of checks alone: they and their flows are shown to nobody.
    pub hidden: BTreeSet<u16>,
    /// Highest counter index in use.
    pub last_counter: u32,
}

impl Names {
    /// The numbers of an image; `before`: those of an earlier one.
    pub fn of(image: &Image, before: &Self) -> Self {
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
        for (id, shape) in image.shapes() {
            let known = before.pools.get(&id).filter(|known| known.shape.is_same(&shape));
            let pool = known.cloned().or_else(|| PoolNames::of(image, id, shape).map(Arc::new));
            names.pools.extend(pool.map(|pool| (id, pool)));
        }
        let counters = names.pools.values().flat_map(|pool| &pool.backends).map(|backend| backend.counter);
        names.last_counter = counters.max().unwrap_or_default();
        names
    }

    /// The backend with this local index.
    pub fn backend(&self, pool: u16, local: u16) -> Option<MemberId> {
        let pool = self.pools.get(&pool)?;
        let at = pool.backends.binary_search_by_key(&local, |backend| backend.local).ok()?;
        Some(MemberId { pool: pool.name.clone(), address: pool.backends.get(at)?.address })
    }

    /// The backend that a flow of this service with this local index has.
    pub fn backend_of(&self, service: u16, local: u16) -> Option<MemberId> {
        self.backend(self.services.get(&service)?.pool, local)
    }

    /// Counter indexes of each backend, over all tables of its pool.
    pub fn counters(&self) -> BTreeMap<MemberId, Vec<u32>> {
        let mut counters: BTreeMap<MemberId, Vec<u32>> = BTreeMap::new();
        for pool in self.pools.values() {
            for backend in &pool.backends {
                let id = MemberId { pool: pool.name.clone(), address: backend.address };
                let indexes = counters.entry(id).or_default();
                if !indexes.contains(&backend.counter) {
                    indexes.push(backend.counter);
                }
            }
        }
        counters
    }

    /// The tables of each configured pool: who has how many slots.
    pub fn slots(&self) -> BTreeMap<Name, Vec<TableSlots>> {
        let mut slots: BTreeMap<Name, Vec<_>> = BTreeMap::new();
        for pool in self.pools.values() {
            slots.entry(pool.name.clone()).or_default().push(Arc::clone(&pool.slots));
        }
        slots
    }
}

impl PoolNames {
    fn of(image: &Image, id: u16, shape: Shape) -> Option<Self> {
        let pool = image.pool(id)?;
        let key = pool.key?;
        let name = key.name.parse().ok()?;
        let mut slots: Vec<_> = pool.backends.iter().map(|backend| (backend.key, backend.slots)).collect();
        slots.sort_unstable();
        let numbers = pool.backends.iter();
        let numbers = numbers.map(|backend| Numbers {
            local: backend.local,
            counter: backend.counter,
            address: backend.key,
        });
        Some(Self { key, name, backends: numbers.collect(), slots: slots.into(), shape })
    }
}
