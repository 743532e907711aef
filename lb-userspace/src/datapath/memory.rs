//! The maps in ordinary memory: what planning writes can be read, and run, without a kernel.
//!
//! In: the sizes of the tables; then changes, as a [`Store`]. Out: the words. Invariant: the same words at the same places as
//! in the kernel's maps.

use std::collections::BTreeMap;

use lb_common::Settings;
use lb_datapath::testing::HostTables;
use zerocopy::{FromBytes, IntoBytes};

use crate::store::{CounterBlock, FlowScan, Store, StoreError, Table};

/// See the module.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    tables: BTreeMap<Table, Vec<u64>>,
    /// Grace periods so far.
    pub graces: usize,
    /// What a scan finds.
    pub held: FlowScan,
}

impl MemoryStore {
    /// Empty tables; `entries` says how many entries each has.
    pub fn new(entries: impl Fn(Table) -> u32) -> Self {
        let words = |table: Table| vec![0; entries(table) as usize * table.entry_words()];
        let tables = Table::ALL.into_iter().map(|table| (table, words(table))).collect();
        Self { tables, graces: 0, held: FlowScan::default() }
    }

    /// The tables as the packet path takes them on the host, without flows.
    pub fn host_tables<const OBSERVE: bool>(&self, settings: Settings) -> HostTables<OBSERVE> {
        let ids = self.entries(Table::Backends).max(self.entries(Table::Services)) as usize;
        let mut tables = HostTables::new(settings, ids);
        tables.directory = self.typed(Table::Directory);
        tables.services = self.typed(Table::Services);
        tables.pools = self.typed(Table::Pools);
        tables.maglev = self.typed(Table::Maglev);
        tables.backends = self.typed(Table::Backends);
        tables.next_hops = self.typed(Table::NextHops);
        tables.sources = self.typed(Table::Sources);
        tables.endpoint_filter = self.typed(Table::EndpointFilter);
        tables
    }

    fn typed<T: Default + FromBytes + IntoBytes>(&self, table: Table) -> Vec<T> {
        let words = self.tables.get(&table).map(Vec::as_slice).unwrap_or_default();
        let count = words.len() * 8 / size_of::<T>();
        let mut entries: Vec<T> = std::iter::repeat_with(T::default).take(count).collect();
        entries.as_mut_slice().as_mut_bytes().copy_from_slice(words.as_bytes());
        entries
    }

    fn range(&self, table: Table, first: usize, len: usize) -> Result<std::ops::Range<usize>, StoreError> {
        let words = self.tables.get(&table).map_or(0, Vec::len);
        let end = first.saturating_add(len);
        if end > words {
            return Err(StoreError::OutOfRange { table, first, end, words });
        }
        Ok(first..end)
    }
}

impl Store for MemoryStore {
    fn entries(&self, table: Table) -> u32 {
        let words = self.tables.get(&table).map_or(0, Vec::len);
        u32::try_from(words / table.entry_words()).unwrap_or(u32::MAX)
    }

    fn read(&self, table: Table, first: usize, words: &mut [u64]) -> Result<(), StoreError> {
        let range = self.range(table, first, words.len())?;
        let stored = self.tables.get(&table).and_then(|stored| stored.get(range)).unwrap_or_default();
        words.copy_from_slice(stored);
        Ok(())
    }

    fn write(&mut self, table: Table, first: usize, words: &[u64]) -> Result<(), StoreError> {
        let range = self.range(table, first, words.len())?;
        if let Some(stored) = self.tables.get_mut(&table).and_then(|stored| stored.get_mut(range)) {
            stored.copy_from_slice(words);
        }
        Ok(())
    }

    fn clear_counters(&mut self, _counters: CounterBlock) -> Result<(), StoreError> {
        Ok(())
    }

    fn grace(&mut self) -> Result<(), StoreError> {
        self.graces += 1;
        Ok(())
    }

    fn scan(&mut self) -> Result<FlowScan, StoreError> {
        Ok(self.held.clone())
    }
}
