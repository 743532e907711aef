//! The image for readers: status, lists, metrics.
//!
//! In: an [`Image`]. Out: what each id stands for, with the numbers by which counters are found.

use std::net::IpAddr;
use std::sync::Arc;

use lb_common::Address;

use super::{Image, PoolImage};
use crate::desired::{BackendKey, ListenerKey, PoolKey, Variant, protocol_of};
use crate::record::{BackendRecord, PoolReport};

/// A service in use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceView {
    /// Its id: index of its counters.
    pub id: u16,
    /// The configured service.
    pub name: String,
    /// The listener.
    pub listener: ListenerKey,
    /// Its pool.
    pub pool: u16,
}

/// A pool in use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolView {
    /// Its id.
    pub id: u16,
    /// Which configured pool, and which of its backends; `None` if a fault left a name that means nothing.
    pub key: Option<PoolKey>,
    /// How often its table was swapped.
    pub generation: u64,
    /// Hash of its table.
    pub table_hash: u64,
    /// Slots of its table.
    pub slots: u32,
    /// Its backends. One with other sources than before has two entries (and one counter) until its older flows have ended.
    pub backends: Vec<BackendView>,
}

/// Slots of a table's backends, by address; one with two entries is there twice.
pub type TableSlots = Arc<[(BackendKey, u32)]>;

/// An entry of a backend in use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BackendView {
    /// Which backend.
    pub key: BackendKey,
    /// Its index in flow entries and slots.
    pub local: u16,
    /// Index of its counters.
    pub counter: u32,
    /// Slots it has.
    pub slots: u32,
    /// New flows may go to it.
    pub takes_new: bool,
    /// Its flows stay.
    pub keeps: bool,
    /// Index of its next hop; 0 = unresolved.
    pub next_hop: u32,
    /// The first address that packets to it may come from, if this host puts one into them.
    pub source: Option<IpAddr>,
}

impl Image {
    /// The services in use, by id.
    pub fn services(&self) -> impl Iterator<Item = ServiceView> {
        self.services.iter().filter_map(|(id, service)| {
            let record = &service.record;
            let protocol = protocol_of(record.protocol)?;
            let port = (record.port_be != 0).then(|| u16::from_be(record.port_be));
            let listener = ListenerKey { addr: record.vip.into(), port, protocol };
            Some(ServiceView { id: *id, name: service.name.clone(), listener, pool: record.pool() })
        })
    }

    /// The pool whose backend with this local index keeps the flows that this service has with it; `None`: nobody does.
    pub(crate) fn keeper(&self, service: u16, local: u16) -> Option<u16> {
        let pool = self.services.get(&service)?.record.pool();
        let record = self.pools.get(&pool)?.record(local);
        let keeps = record.is_live() && record.state & lb_common::backend_state::KEEPS != 0;
        keeps.then_some(pool)
    }

    /// The entry with this local index is the same backend's in both.
    pub(crate) fn is_same_backend(&self, other: &Self, pool: u16, local: u16) -> bool {
        let key = |image: &Self| image.pools.get(&pool).map(|pool| pool.record(local).key());
        key(self) == key(other)
    }

    /// The configured pool behind an id.
    pub(crate) fn pool_name(&self, pool: u16) -> String {
        self.pools.get(&pool).and_then(PoolImage::key).map(|key| key.name).unwrap_or_default()
    }

    /// The pools in use, by id.
    pub fn pools(&self) -> impl Iterator<Item = PoolView> {
        self.pools.iter().map(|(id, pool)| pool.view(*id, &self.sources))
    }
}

/// By which a pool that is as it was is known without looking at each of its backends.
#[derive(Clone, Debug)]
pub struct Shape {
    name: String,
    records: Arc<Vec<BackendRecord>>,
    slot_counts: Arc<[u32]>,
}

impl Shape {
    /// Nothing has changed between the two. (Something may have, and changed back.)
    pub fn is_same(&self, other: &Self) -> bool {
        self.name == other.name
            && Arc::ptr_eq(&self.records, &other.records)
            && Arc::ptr_eq(&self.slot_counts, &other.slot_counts)
    }
}

impl Image {
    /// The shape of each pool in use, by id.
    pub fn shapes(&self) -> impl Iterator<Item = (u16, Shape)> {
        let shape = |pool: &PoolImage| Shape {
            name: pool.name.clone(),
            records: Arc::clone(&pool.records),
            slot_counts: Arc::clone(&pool.slot_counts),
        };
        self.pools.iter().map(move |(id, pool)| (*id, shape(pool)))
    }

    /// The pool with this id.
    pub fn pool(&self, id: u16) -> Option<PoolView> {
        self.pools.get(&id).map(|pool| pool.view(id, &self.sources))
    }

    /// Every pool's table: whose it is, generation, hash and slots.
    pub fn tables(&self) -> impl Iterator<Item = (Option<PoolKey>, PoolReport, u32)> {
        self.pools.values().map(|pool| (pool.key(), pool.report, pool.slots()))
    }
}

impl PoolImage {
    /// Backends that have slots in its table.
    pub(crate) fn backends_with_slots(&self) -> usize {
        let slots = |local: u16| self.slot_counts.get(usize::from(local)).copied().unwrap_or_default();
        self.entries().filter(|(local, record)| record.is_live() && slots(*local) > 0).count()
    }

    /// Index of the counters of each entry in use.
    pub(crate) fn counters(&self) -> impl Iterator<Item = u32> {
        self.entries().filter(|(_, record)| record.is_live()).map(|(_, record)| record.counter)
    }

    fn view(&self, id: u16, sources: &[Address]) -> PoolView {
        let live = self.entries().filter(|(_, record)| record.is_live());
        let backends = live.map(|(local, record)| BackendView {
            key: record.key(),
            local,
            counter: record.counter,
            slots: self.slot_counts.get(usize::from(local)).copied().unwrap_or_default(),
            takes_new: record.takes_new(),
            keeps: record.state & lb_common::backend_state::KEEPS != 0,
            next_hop: record.next_hop(),
            source: sources
                .get(usize::from(record.source))
                .filter(|_| record.source_count > 0)
                .map(|source| (*source).into()),
        });
        PoolView {
            id,
            key: self.key(),
            generation: self.report.generation,
            table_hash: self.report.table_hash,
            slots: self.slots(),
            backends: backends.collect(),
        }
    }

    /// Which pool its name says it is.
    pub(crate) fn key(&self) -> Option<PoolKey> {
        let (name, variant) = self.name.rsplit_once('/')?;
        let variant = [Variant::V4, Variant::V6, Variant::Any].into_iter().find(|v| v.as_str() == variant)?;
        Some(PoolKey { name: name.to_owned(), variant })
    }
}
