//! What the maps hold, as values that can be compared with what is desired.
//!
//! In: the maps alone ([`Image::read`]), then each [`Change`](crate::change::Change). Out: the same facts by id, for planning and for readers.
//! Invariants: `Image::read` after any change equals the image that took in that change, but for what only a running
//! daemon knows (the inputs of tables, where they place whom, the ways, which ids have been scanned clean): a daemon that starts anew takes the careful side
//! of each, so a crash loses nothing.

mod apply;
mod live;
mod read;
mod view;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use lb_common::{Address, NextHop, backend_state};
use lb_datapath::maglev::TableWord;

use crate::desired::{BackendKey, DesiredNextHop, DesiredPool};
use crate::ids::Rest;
use crate::maglev;
use crate::record::{BackendRecord, PoolReport, ServiceRecord};
use crate::store::FlowScan;

pub use live::LiveImage;
pub use view::{BackendView, PoolView, ServiceView, Shape, TableSlots};

/// Entries of the tables that planning allocates in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sizes {
    pub(crate) services: u32,
    pub(crate) pools: u32,
    pub(crate) arena_words: u32,
    pub(crate) backends: u32,
    pub(crate) next_hops: u32,
}

/// A service in use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ServiceImage {
    pub(crate) record: ServiceRecord,
    pub(crate) name: String,
}

/// What a Maglev table was built of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TableInputs {
    pub(crate) len: u32,
    /// Backends with a weight, by key: weight and backend index.
    pub(crate) members: Vec<(BackendKey, u16, u16)>,
}

/// A pool in use.
#[derive(Clone, Default, Debug)]
pub(crate) struct PoolImage {
    /// As stored: name and variant.
    pub(crate) name: String,
    pub(crate) table: Option<TableWord>,
    /// Of the table's arena words, by which a table is known again: the words themselves lie in the maps and nowhere else.
    pub(crate) digest: u64,
    /// Slots of the table by local index.
    pub(crate) slot_counts: Arc<[u32]>,
    /// Where the block of backends begins.
    pub(crate) base: u32,
    /// The block, from local index 0.
    pub(crate) records: Arc<Vec<BackendRecord>>,
    pub(crate) report: PoolReport,
    /// The entry of each backend: what new flows go to. A backend may have older entries that only keep flows.
    pub(crate) current: Arc<BTreeMap<BackendKey, u16>>,
    /// `None`: not known, compare the table itself.
    pub(crate) inputs: Option<Arc<TableInputs>>,
    /// What its entries were made of, each backend having one: asked for the same again by the same ways, it stays as it is. `None`: not
    /// known, look at each.
    pub(crate) placed: Option<Arc<DesiredPool>>,
}

/// What the maps hold.
#[derive(Clone, Debug)]
pub struct Image {
    pub(crate) sizes: Sizes,
    /// By id; the policy is not 0 (but for one that is being written).
    pub(crate) services: BTreeMap<u16, ServiceImage>,
    pub(crate) pools: BTreeMap<u16, PoolImage>,
    /// Those up to the last that was ever used.
    pub(crate) next_hops: Arc<Vec<NextHop>>,
    pub(crate) sources: Vec<Address>,
    /// Eight words a bucket.
    pub(crate) directory: Arc<Vec<u64>>,
    pub(crate) filter: Arc<Vec<u64>>,
    pub(crate) rest: Rest,
    /// The ways that the entries of all pools were made with.
    pub(crate) ways: Arc<BTreeMap<IpAddr, DesiredNextHop>>,
    /// Packets under way may still read what nothing refers to any more.
    pub(crate) unsettled: bool,
    /// Backend counters below this one may have counted for somebody else.
    pub(crate) used_counters: u32,
    /// Pool by base of its block.
    blocks: BTreeMap<u32, u16>,
    /// Written, but not yet referred to.
    staged_blocks: BTreeMap<u32, Arc<Vec<BackendRecord>>>,
    staged_regions: BTreeMap<u32, Arc<[u64]>>,
}

impl Image {
    /// The same contents in maps of other sizes, which have not been made yet. A directory of another length is empty: where its
    /// words lie depends on the length.
    pub(crate) fn grown(&self, sizes: &crate::datapath::Sizes) -> Self {
        let mut grown = self.clone();
        grown.sizes = Sizes {
            services: sizes.services,
            pools: sizes.pools,
            arena_words: sizes.maglev_words,
            backends: sizes.backends,
            next_hops: sizes.next_hops,
        };
        let words = sizes.directory_buckets as usize * lb_common::DIRECTORY_WAYS;
        if words != grown.directory.len() {
            grown.directory = Arc::new(vec![0; words]);
        }
        grown
    }
}

/// A table's words as one. Two tables of which one is to take the other's place have the same by one chance in 2^64.
pub(crate) fn digest(words: &[u64]) -> u64 {
    words.iter().fold(0, |digest: u64, word| {
        let product = (digest ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25);
        product ^ product >> 32
    })
}

/// How many slots of a table each local index has.
fn slot_counts(words: &[u64], slots: u32) -> Arc<[u32]> {
    let mut counts: Vec<u32> = Vec::new();
    for local in maglev::unpack(words, slots).map(usize::from) {
        if local >= counts.len() {
            counts.resize(local + 1, 0);
        }
        if let Some(count) = counts.get_mut(local) {
            *count += 1;
        }
    }
    counts.into()
}

impl PoolImage {
    /// Slots of its table.
    pub(crate) fn slots(&self) -> u32 {
        self.table.map_or(0, |table| table.slots)
    }

    /// Arena words of its table: start and length.
    pub(crate) fn region(&self) -> (u32, u32) {
        let words = self.slots().div_ceil(lb_common::SLOTS_PER_WORD);
        (self.table.map_or(0, |table| table.base), words)
    }

    /// Its block: start and entries.
    pub(crate) fn block(&self) -> (u32, u32) {
        (self.base, u32::try_from(self.records.len()).unwrap_or(u32::MAX))
    }

    /// The entry with this local index.
    pub(crate) fn record(&self, local: u16) -> BackendRecord {
        self.records.get(usize::from(local)).copied().unwrap_or_default()
    }

    /// Entries by local index, without index 0.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u16, &BackendRecord)> {
        (0..=u16::MAX).zip(self.records.iter()).skip(1)
    }
}

impl BackendRecord {
    /// Whose entry it is.
    pub(crate) fn key(&self) -> BackendKey {
        let port = (self.port_be != 0).then(|| u16::from_be(self.port_be));
        BackendKey { ip: self.address.into(), port }
    }

    pub(crate) const fn is_live(&self) -> bool {
        self.state & backend_state::LIVE != 0
    }

    pub(crate) const fn takes_new(&self) -> bool {
        self.state & backend_state::TAKES_NEW != 0
    }

    /// Its next hop's index; 0 = unresolved.
    #[expect(clippy::cast_possible_truncation, reason = "the low half of the word")]
    pub(crate) const fn next_hop(&self) -> u32 {
        self.state as u32
    }
}

impl Image {
    /// What rests now, and as `unheld` the backends in use that take no new flows: what a walk that begins now can speak of.
    fn resting(&self) -> Rest {
        let idle = self.pools.iter().flat_map(|(id, pool)| {
            let idle = pool.entries().filter(|(_, record)| record.is_live() && !record.takes_new());
            idle.map(|(local, _)| (*id, local))
        });
        Rest { unheld: idle.collect(), ..self.rest.clone() }
    }

    /// Takes in what a walk over the flow table has found: ids and backends that no flow holds can be used again. `then` is what rested when
    /// it began and in every image since.
    fn note_scan(&mut self, scan: &FlowScan, then: &Rest) {
        let services = &self.services;
        let pool_of = |service| services.get(&service).map(|service| service.record.pool());
        self.rest.note_scan(scan, pool_of, then);
    }

    /// Whether packets under way may still read what nothing refers to any more.
    pub const fn is_unsettled(&self) -> bool {
        self.unsettled
    }

    /// Whether a scan of the flow table could free something: ids that rest, or backends replaced by an entry with other
    /// sources that only keep their flows.
    pub fn wants_scan(&self) -> bool {
        !self.rest.services.is_empty()
            || !self.rest.backends.is_empty()
            || self.pools.values().any(|pool| {
                // More entries in use than backends: some only keep the flows they have.
                pool.entries().filter(|(_, record)| record.is_live()).count() > pool.current.len()
            })
    }
}

impl ServiceRecord {
    /// The pool its policy names.
    #[expect(clippy::cast_possible_truncation, reason = "one of the policy's fields is cut out")]
    pub(crate) const fn pool(&self) -> u16 {
        (self.policy >> lb_common::service_policy::POOL) as u16
    }
}
