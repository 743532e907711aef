//! One step of a plan, and how it becomes words in the maps.
//!
//! In: changes made by [`plan`](crate::plan::plan). Out: writes to a [`Store`]. Invariant: after any change, and in the midst
//! of any change, every packet sees either the old or the new state of whatever it looks at: a change either writes
//! what nothing refers to yet, or stores exactly one word.

use std::sync::Arc;

use lb_common::{NAME_LEN, NameEntry, NextHop, Source};
use zerocopy::{Immutable, IntoBytes};

use crate::record::{BackendRecord, PoolReport, ServiceRecord};
use crate::store::{CounterBlock, Store, StoreError, Table};

/// One step of a plan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Waits until no packet is under way that began before.
    Grace,
    /// Writes a next hop that nothing refers to.
    NextHop {
        /// Position, from 1.
        index: u32,
        /// The entry.
        hop: NextHop,
    },
    /// Writes a source address that nothing refers to.
    Source {
        /// Position.
        index: u32,
        /// The entry.
        source: Source,
    },
    /// Writes a whole block of backends that no pool refers to.
    Block {
        /// Position of local index 0.
        base: u32,
        /// The entries, from local index 0.
        records: Vec<BackendRecord>,
    },
    /// Writes a backend entry that is not in use and that no flow holds; its state is 0 until [`Change::BackendState`].
    Backend {
        /// Position: block base + local index.
        index: u32,
        /// The entry; its `state` is not written.
        record: BackendRecord,
    },
    /// Stores a backend's state: next hop and flags.
    BackendState {
        /// Position: block base + local index.
        index: u32,
        /// The word, see `lb_common::backend_state`.
        state: u64,
    },
    /// Stores a word of the endpoint filter.
    Filter {
        /// Position.
        index: u32,
        /// The bits.
        bits: u64,
    },
    /// Writes a pool's name.
    PoolName {
        /// Pool id.
        pool: u16,
        /// The name with its variant, or all 0.
        name: NameEntry,
    },
    /// Stores where a pool's block of backends lies.
    PoolBackends {
        /// Pool id.
        pool: u16,
        /// The word `Pool::backends`.
        word: u64,
    },
    /// Writes a Maglev table into arena words that no pool refers to.
    Region {
        /// First arena word.
        base: u32,
        /// The words, four slots each.
        words: Arc<[u64]>,
    },
    /// Stores which Maglev table a pool uses: the swap.
    PoolTable {
        /// Pool id.
        pool: u16,
        /// The word `Pool::table`.
        word: u64,
    },
    /// Writes what people read of a pool's table; the program does not read it.
    PoolReport {
        /// Pool id.
        pool: u16,
        /// Generation and hash.
        report: PoolReport,
    },
    /// Writes a service entry that nothing refers to; its policy is 0 until [`Change::ServicePolicy`].
    Service {
        /// Service id.
        service: u16,
        /// The entry; its `policy` is not written.
        record: ServiceRecord,
    },
    /// Writes a service's name.
    ServiceName {
        /// Service id.
        service: u16,
        /// The name, or all 0.
        name: NameEntry,
    },
    /// Stores what happens to a service's packets.
    ServicePolicy {
        /// Service id.
        service: u16,
        /// The word, see `lb_common::service_policy`; 0 = no such service.
        policy: u64,
    },
    /// Stores a word of the directory.
    Directory {
        /// Bucket.
        bucket: u32,
        /// Word in the bucket.
        way: u32,
        /// The word, see `lb_common::DirectoryBucket`.
        word: u64,
    },
    /// Sets counters that a new owner is about to use to 0.
    ClearCounters(CounterBlock),
}

/// Position of `state` in a backend entry and of `policy` in a service entry, in words.
const STATE_WORD: usize = 2;
const POLICY_WORD: usize = 3;
const _: () = assert!(std::mem::offset_of!(lb_common::Backend, state) == STATE_WORD * 8);
const _: () = assert!(std::mem::offset_of!(lb_common::Service, policy) == POLICY_WORD * 8);

/// Carries out a change on a store.
///
/// # Errors
/// What the store says.
pub fn apply<S: Store + ?Sized>(store: &mut S, change: &Change) -> Result<(), StoreError> {
    match change {
        Change::Grace => store.grace(),
        Change::NextHop { index, hop } => entry(store, Table::NextHops, *index, &words_of::<4>(*hop)),
        Change::Source { index, source } => entry(store, Table::Sources, *index, &words_of::<2>(*source)),
        Change::Block { base, records } => {
            let words: Vec<u64> = records.iter().flat_map(BackendRecord::words).collect();
            entry(store, Table::Backends, *base, &words)
        }
        Change::Backend { index, record } => {
            let words = BackendRecord { state: 0, ..*record }.words();
            guarded(store, Table::Backends, *index, STATE_WORD, &words)
        }
        Change::BackendState { index, state } => word(store, Table::Backends, *index, STATE_WORD, *state),
        Change::Filter { index, bits } => word(store, Table::EndpointFilter, *index, 0, *bits),
        Change::PoolName { pool, name } => {
            entry(store, Table::PoolNames, (*pool).into(), &words_of::<9>(*name))
        }
        Change::PoolTable { pool, word: table } => word(store, Table::Pools, (*pool).into(), 0, *table),
        Change::PoolBackends { pool, word: block } => word(store, Table::Pools, (*pool).into(), 1, *block),
        Change::PoolReport { pool, report } => {
            word(store, Table::Pools, (*pool).into(), 2, report.generation)?;
            word(store, Table::Pools, (*pool).into(), 3, report.table_hash)
        }
        Change::Region { base, words } => entry(store, Table::Maglev, *base, words),
        Change::Service { service, record } => {
            let words = ServiceRecord { policy: 0, ..*record }.words();
            guarded(store, Table::Services, (*service).into(), POLICY_WORD, &words)
        }
        Change::ServiceName { service, name } => {
            entry(store, Table::ServiceNames, (*service).into(), &words_of::<9>(*name))
        }
        Change::ServicePolicy { service, policy } => {
            word(store, Table::Services, (*service).into(), POLICY_WORD, *policy)
        }
        Change::Directory { bucket, way, word: value } => {
            word(store, Table::Directory, *bucket, *way as usize, *value)
        }
        Change::ClearCounters(counters) => store.clear_counters(*counters),
    }
}

/// Writes whole entries from `index` on.
fn entry<S: Store + ?Sized>(
    store: &mut S,
    table: Table,
    index: u32,
    words: &[u64],
) -> Result<(), StoreError> {
    store.write(table, index as usize * table.entry_words(), words)
}

/// Stores word `at` of an entry.
fn word<S: Store + ?Sized>(
    store: &mut S,
    table: Table,
    index: u32,
    at: usize,
    value: u64,
) -> Result<(), StoreError> {
    store.write(table, index as usize * table.entry_words() + at, &[value])
}

/// Writes a whole entry whose word `at` says that it is not in use: that word first, so that a daemon that dies in the
/// midst of it leaves an unused entry.
fn guarded<S: Store + ?Sized>(
    store: &mut S,
    table: Table,
    index: u32,
    at: usize,
    words: &[u64],
) -> Result<(), StoreError> {
    word(store, table, index, at, 0)?;
    entry(store, table, index, words)
}

/// An entry as words in memory order.
fn words_of<const N: usize>(entry: impl IntoBytes + Immutable) -> [u64; N] {
    let mut words = [0_u64; N];
    words.as_mut_bytes().copy_from_slice(entry.as_bytes());
    words
}

/// A name as the maps hold it; `None` if it is longer than they hold.
pub fn name_entry(name: &str) -> Option<NameEntry> {
    let mut bytes = [0; NAME_LEN + 8];
    bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
    Some(NameEntry { bytes })
}
