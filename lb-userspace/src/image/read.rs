//! The image from the maps alone: adoption after a restart or a crash.
//!
//! In: a [`Store`]. Out: an [`Image`]. Invariant: whatever state a crash left, every entry that something may refer to is in use or
//! rests: an id or index that is not in use but was ever used rests until a scan says that no flow holds it.

use std::collections::BTreeMap;
use std::sync::Arc;

use lb_common::{Address, NextHop, SLOTS_PER_WORD};
use lb_datapath::maglev::TableWord;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::apply::split;
use super::{Image, PoolImage, ServiceImage, Sizes, digest, slot_counts};
use crate::desired::BackendKey;
use crate::ids::Rest;
use crate::record::{BackendRecord, PoolReport, ServiceRecord, name_of_words, name_text};
use crate::store::{Store, StoreError, Table};

/// Words read at once from a long table.
const CHUNK_WORDS: usize = 8192;

impl Image {
    /// Reads everything that the maps hold.
    ///
    /// # Errors
    /// What the store says.
    pub fn read(store: &impl Store) -> Result<Self, StoreError> {
        let mut image = Self {
            sizes: Sizes {
                services: store.entries(Table::Services).min(u16::MAX.into()),
                pools: store.entries(Table::Pools).min(u16::MAX.into()),
                arena_words: store.entries(Table::Maglev),
                backends: store.entries(Table::Backends),
                next_hops: store.entries(Table::NextHops),
            },
            services: BTreeMap::new(),
            pools: BTreeMap::new(),
            next_hops: Arc::new(next_hops(store)?),
            sources: entries::<2, Address>(store, Table::Sources)?,
            directory: Arc::new(words(store, Table::Directory)?),
            filter: Arc::new(words(store, Table::EndpointFilter)?),
            rest: Rest::default(),
            ways: Arc::default(),
            unsettled: true,
            used_counters: 0,
            blocks: BTreeMap::new(),
            staged_blocks: BTreeMap::new(),
            staged_regions: BTreeMap::new(),
        };
        image.read_services(store)?;
        image.read_pools(store)?;
        // Only maps that were never used have counters that all stand at 0.
        if words(store, Table::Backends)?.iter().any(|word| *word != 0) {
            image.used_counters = image.sizes.backends;
        }
        Ok(image)
    }

    fn read_services(&mut self, store: &impl Store) -> Result<(), StoreError> {
        let records: Vec<[u64; 8]> = chunks(&words(store, Table::Services)?);
        let names: Vec<[u64; 9]> = chunks(&words(store, Table::ServiceNames)?);
        for ((id, record), name) in (0..=u16::MAX).zip(records).zip(names).skip(1) {
            let record = ServiceRecord::from_words(record);
            if record.policy != 0 {
                self.services.insert(id, ServiceImage { record, name: name_text(&name_of_words(name)) });
            } else if record.family != 0 {
                self.rest.services.insert(id);
            }
        }
        Ok(())
    }

    fn read_pools(&mut self, store: &impl Store) -> Result<(), StoreError> {
        let records: Vec<[u64; 4]> = chunks(&words(store, Table::Pools)?);
        let names: Vec<[u64; 9]> = chunks(&words(store, Table::PoolNames)?);
        for ((id, record), name) in (0..=u16::MAX).zip(records).zip(names).skip(1) {
            if record.iter().all(|word| *word == 0) && name.iter().all(|word| *word == 0) {
                continue;
            }
            let pool = read_pool(store, record, name_text(&name_of_words(name)))?;
            for (local, entry) in pool.entries() {
                if entry.family != 0 && !entry.is_live() {
                    self.rest.backends.insert((id, local));
                }
            }
            if !pool.records.is_empty() {
                self.blocks.insert(pool.base, id);
            }
            self.pools.insert(id, pool);
        }
        Ok(())
    }
}

fn read_pool(store: &impl Store, record: [u64; 4], name: String) -> Result<PoolImage, StoreError> {
    let [table, backends, generation, table_hash] = record;
    let (base, entries) = split(backends);
    let table = Some(TableWord::unpack(table)).filter(|_| table != 0);
    let mut arena = vec![0; table.map_or(0, |table| table.slots.div_ceil(SLOTS_PER_WORD)) as usize];
    store.read(Table::Maglev, table.map_or(0, |table| table.base) as usize, &mut arena)?;
    let width = Table::Backends.entry_words();
    let mut block = vec![0; entries as usize * width];
    store.read(Table::Backends, base as usize * width, &mut block)?;
    let records: Vec<BackendRecord> = chunks(&block).into_iter().map(BackendRecord::from_words).collect();
    let current = Arc::new(current(&records));
    Ok(PoolImage {
        name,
        table,
        slot_counts: slot_counts(&arena, table.map_or(0, |table| table.slots)),
        digest: digest(&arena),
        base,
        records: Arc::new(records),
        report: PoolReport { generation, table_hash },
        current,
        inputs: None,
        placed: None,
    })
}

/// Of each backend's entries the one that new flows go to, else the first that is in use.
fn current(records: &[BackendRecord]) -> BTreeMap<BackendKey, u16> {
    let mut current = BTreeMap::new();
    let live = (0..=u16::MAX).zip(records).skip(1).filter(|(_, record)| record.is_live());
    for (local, record) in live {
        let entry = current.entry(record.key()).or_insert((local, record.takes_new()));
        if !entry.1 && record.takes_new() {
            *entry = (local, true);
        }
    }
    current.into_iter().map(|(key, (local, _))| (key, local)).collect()
}

/// Those up to the last that was ever used.
fn next_hops(store: &impl Store) -> Result<Vec<NextHop>, StoreError> {
    let mut next_hops = entries::<4, NextHop>(store, Table::NextHops)?;
    let used = next_hops.iter().rposition(|hop| hop.kind != 0).map_or(0, |last| last + 1);
    next_hops.truncate(used);
    next_hops.shrink_to_fit();
    Ok(next_hops)
}

/// All words of a table.
fn words(store: &impl Store, table: Table) -> Result<Vec<u64>, StoreError> {
    let mut words = vec![0; store.entries(table) as usize * table.entry_words()];
    for (chunk, first) in words.chunks_mut(CHUNK_WORDS).zip((0..).step_by(CHUNK_WORDS)) {
        store.read(table, first, chunk)?;
    }
    Ok(words)
}

/// All entries of a table of plain values.
fn entries<const N: usize, T: FromBytes + Immutable>(
    store: &impl Store,
    table: Table,
) -> Result<Vec<T>, StoreError> {
    let entries = chunks::<N>(&words(store, table)?);
    Ok(entries.iter().filter_map(|words| T::read_from_bytes(words.as_bytes()).ok()).collect())
}

fn chunks<const N: usize>(words: &[u64]) -> Vec<[u64; N]> {
    words.as_chunks().0.to_vec()
}
