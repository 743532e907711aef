//! The border between planning and the datapath's maps: which tables there are, and how they are read and written.
//!
//! In: word positions and words. Out: words. Two implementations: `datapath/memory.rs` (host memory, over which the packet
//! pipeline runs in tests) and `datapath/bpf.rs` (maps of the kernel, mapped). Invariants: a word is stored whole, in the
//! order given, and a store is visible before the next one (x86-64: plain stores; elsewhere a release fence between
//! two writes); [`Store::grace`] returns only when no packet is under way that began before the call.
//!
//! Every table is an array of entries of whole 64-bit words, so a position is an index of words from the table's start.

use std::collections::BTreeSet;

use lb_common::{
    Backend, Control, DirectoryBucket, FilterWord, MaglevWord, NameEntry, NextHop, Pool, Service, Source,
};

use crate::change::Change;

/// A map that the daemon writes; `docs/internals.md` has the list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Table {
    /// [`DirectoryBucket`] by hash bucket.
    Directory,
    /// [`Service`] by service id.
    Services,
    /// [`NameEntry`] by service id.
    ServiceNames,
    /// [`Pool`] by pool id.
    Pools,
    /// [`NameEntry`] by pool id.
    PoolNames,
    /// [`MaglevWord`] by arena word.
    Maglev,
    /// [`Backend`] by block base + local index.
    Backends,
    /// [`NextHop`] from 1.
    NextHops,
    /// [`Source`] from 0.
    Sources,
    /// [`FilterWord`] by hash.
    EndpointFilter,
    /// [`Control`], one.
    Control,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 11] = [
        Self::Directory,
        Self::Services,
        Self::ServiceNames,
        Self::Pools,
        Self::PoolNames,
        Self::Maglev,
        Self::Backends,
        Self::NextHops,
        Self::Sources,
        Self::EndpointFilter,
        Self::Control,
    ];

    /// The map's name in the object and among the pins.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Services => "services",
            Self::ServiceNames => "service_names",
            Self::Pools => "pools",
            Self::PoolNames => "pool_names",
            Self::Maglev => "maglev",
            Self::Backends => "backends",
            Self::NextHops => "next_hops",
            Self::Sources => "sources",
            Self::EndpointFilter => "endpoint_filter",
            Self::Control => "control",
        }
    }

    /// 64-bit words in one entry.
    pub const fn entry_words(self) -> usize {
        let bytes = match self {
            Self::Directory => size_of::<DirectoryBucket>(),
            Self::Services => size_of::<Service>(),
            Self::ServiceNames | Self::PoolNames => size_of::<NameEntry>(),
            Self::Pools => size_of::<Pool>(),
            Self::Maglev => size_of::<MaglevWord>(),
            Self::Backends => size_of::<Backend>(),
            Self::NextHops => size_of::<NextHop>(),
            Self::Sources => size_of::<Source>(),
            Self::EndpointFilter => size_of::<FilterWord>(),
            Self::Control => size_of::<Control>(),
        };
        assert!(bytes.is_multiple_of(8), "an array's elements lie eight bytes apart or a multiple of it");
        bytes / 8
    }
}

/// What a [`Store`] could not do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The position is outside the table: a fault of lbd.
    #[error(
        "{table}: words {first}..{end} are outside its {words} words; this is a fault of lbd, please report it",
        table = .table.name()
    )]
    OutOfRange {
        /// Where.
        table: Table,
        /// First word asked for.
        first: usize,
        /// One past the last.
        end: usize,
        /// Words the table has.
        words: usize,
    },
    /// The kernel refused.
    #[error("{what}: {source}")]
    Kernel {
        /// What was tried, on what, and what to do.
        what: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

/// Counters that start at 0 with a new owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CounterBlock {
    /// `service_counters[id]` and `reason_counters[id × 64 ..][.. 64]`.
    Service(u32),
    /// `backend_counters[index]`.
    Backend(u32),
}

/// What the flow tables hold: the result of [`Store::scan`].
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct FlowScan {
    /// (service id, backend index local to the service's pool) of every entry that is in use.
    pub held: BTreeSet<(u16, u16)>,
}

/// The datapath's maps as planning sees them.
pub trait Store {
    /// Entries of a table.
    fn entries(&self, table: Table) -> u32;

    /// Copies the words from `first` into `words`.
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`].
    fn read(&self, table: Table, first: usize, words: &mut [u64]) -> Result<(), StoreError>;

    /// Stores `words` from `first` on, in that order, each whole.
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`].
    fn write(&mut self, table: Table, first: usize, words: &[u64]) -> Result<(), StoreError>;

    /// Sets counters to 0 on every CPU; nothing counts there at the moment.
    ///
    /// # Errors
    /// [`StoreError`].
    fn clear_counters(&mut self, counters: CounterBlock) -> Result<(), StoreError>;

    /// Waits until no packet is under way that began before now.
    ///
    /// # Errors
    /// [`StoreError::Kernel`].
    fn grace(&mut self) -> Result<(), StoreError>;

    /// Waits for readers as [`Store::grace`] does, then frees the entries of the flow tables that are past their idle time and
    /// says whom the others hold. An entry counts from the moment it is written.
    ///
    /// # Errors
    /// [`StoreError`].
    fn scan(&mut self) -> Result<FlowScan, StoreError>;

    /// Carries out one change.
    ///
    /// # Errors
    /// [`StoreError`]; what was written before stays, and the next plan goes on from there.
    fn apply(&mut self, change: &Change) -> Result<(), StoreError> {
        crate::change::apply(self, change)
    }
}
