//! The kernel's maps as planning sees them.
//!
//! In: positions and words. Out: words of mapped memory. Invariant: as [`Store`] demands, each word is stored whole and in
//! order, by plain volatile stores behind a release fence (nothing on x86-64, a barrier elsewhere).

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{Ordering, fence};

use lb_common::{BackendCounters, REASON_COUNT, ServiceCounters, Word};

use super::maps::Maps;
use super::open::Datapath;
use super::{counters, syscall};
use crate::store::{CounterBlock, FlowScan, Store, StoreError, Table};

impl Maps {
    /// A table as words.
    fn words(&self, table: Table) -> &[Word] {
        match table {
            Table::Directory => self.directory.words(),
            Table::Services => self.services.words(),
            Table::ServiceNames => self.service_names.words(),
            Table::Pools => self.pools.words(),
            Table::PoolNames => self.pool_names.words(),
            Table::Maglev => self.maglev.words(),
            Table::Backends => self.backends.words(),
            Table::NextHops => self.next_hops.words(),
            Table::Sources => self.sources.words(),
            Table::EndpointFilter => self.endpoint_filter.words(),
            Table::Control => self.control.words(),
        }
    }

    fn range(&self, table: Table, first: usize, len: usize) -> Result<&[Word], StoreError> {
        let words = self.words(table);
        let end = first.saturating_add(len);
        words.get(first..end).ok_or(StoreError::OutOfRange { table, first, end, words: words.len() })
    }

    /// As [`Store::read`].
    pub(super) fn read(&self, table: Table, first: usize, words: &mut [u64]) -> Result<(), StoreError> {
        let stored = self.range(table, first, words.len())?;
        for (to, from) in words.iter_mut().zip(stored) {
            *to = from.load();
        }
        Ok(())
    }

    /// Sets an element of a per-CPU map to 0 on every CPU.
    fn clear(&self, map: &'static str, index: u32, value_size: usize) -> Result<(), StoreError> {
        let refused = |source: io::Error| StoreError::Kernel {
            what: format!("cannot set {map}[{index}] to 0; the counters of what was there before stay"),
            source,
        };
        let zeros = vec![0_u8; value_size * counters::possible_cpus().map_err(refused)?];
        let handle = self.handle(map, value_size).map_err(|error| refused(io::Error::other(error)))?;
        syscall::update(handle.as_fd(), index, &zeros).map_err(refused)
    }
}

impl Store for Datapath {
    fn entries(&self, table: Table) -> u32 {
        self.maps.entries(table.name())
    }

    fn read(&self, table: Table, first: usize, words: &mut [u64]) -> Result<(), StoreError> {
        self.maps.read(table, first, words)
    }

    fn write(&mut self, table: Table, first: usize, words: &[u64]) -> Result<(), StoreError> {
        for (to, from) in self.maps.range(table, first, words.len())?.iter().zip(words) {
            fence(Ordering::Release);
            to.store(*from);
        }
        Ok(())
    }

    fn clear_counters(&mut self, counters: CounterBlock) -> Result<(), StoreError> {
        match counters {
            CounterBlock::Backend(index) => {
                self.maps.clear("backend_counters", index, size_of::<BackendCounters>())
            }
            CounterBlock::Service(id) => {
                self.maps.clear("service_counters", id, size_of::<ServiceCounters>())?;
                (0..REASON_COUNT).try_for_each(|reason| {
                    self.maps.clear("reason_counters", id * REASON_COUNT + reason, size_of::<u64>())
                })
            }
        }
    }

    fn grace(&mut self) -> Result<(), StoreError> {
        self.grace.wait().map_err(|source| StoreError::Kernel {
            what: "cannot wait for running programs; the change stops here and is made whole by the next one"
                .into(),
            source,
        })
    }

    fn scan(&mut self) -> Result<FlowScan, StoreError> {
        let tables = self.flow_tables().map_err(|error| StoreError::Kernel {
            what: "cannot read the program's clock, so no flow is known to be over".into(),
            source: io::Error::other(error),
        })?;
        tables.scan().map_err(|source| StoreError::Kernel {
            what: "cannot wait for running programs, so nothing is freed".into(),
            source,
        })
    }
}
