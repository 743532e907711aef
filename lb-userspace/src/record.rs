//! Entries of the maps as plain values that can be copied and compared.
//!
//! In: words of a map. Out: the same words. Invariant: decoding and encoding are each other's inverse for every entry
//! whose unused bytes are 0; the layouts are those of `lb_common`, nothing is laid out here.

use lb_common::{Address, Backend, NameEntry, Service, Word, service_policy};
use zerocopy::{FromBytes, IntoBytes};

/// [`Backend`] without shared words.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct BackendRecord {
    /// As [`Backend::address`].
    pub address: Address,
    /// As [`Backend::state`].
    pub state: u64,
    /// As [`Backend::counter`].
    pub counter: u32,
    /// As [`Backend::source`].
    pub source: u16,
    /// As [`Backend::source_count`].
    pub source_count: u16,
    /// As [`Backend::pool`].
    pub pool: u16,
    /// As [`Backend::port_be`].
    pub port_be: u16,
    /// As [`Backend::family`]; 0 = the entry was never used.
    pub family: u8,
}

impl BackendRecord {
    /// The entry as words.
    pub fn words(&self) -> [u64; 8] {
        let Self { address, state, counter, source, source_count, pool, port_be, family } = *self;
        let state = Word::new(state);
        let reserved = [0; 27];
        let mut entry =
            Backend { address, state, counter, source, source_count, pool, port_be, family, reserved };
        let mut words = [0_u64; 8];
        words.as_mut_bytes().copy_from_slice(entry.as_mut_bytes());
        words
    }

    /// The entry in these words.
    pub fn from_words(words: [u64; 8]) -> Self {
        let mut words = words;
        let mut entry = Backend::default();
        entry.as_mut_bytes().copy_from_slice(words.as_mut_bytes());
        Self {
            address: entry.address,
            state: entry.state.load(),
            counter: entry.counter,
            source: entry.source,
            source_count: entry.source_count,
            pool: entry.pool,
            port_be: entry.port_be,
            family: entry.family,
        }
    }
}

/// [`Service`] without shared words.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct ServiceRecord {
    /// As [`Service::vip`].
    pub vip: Address,
    /// As [`Service::salt`].
    pub salt: u64,
    /// As [`Service::policy`].
    pub policy: u64,
    /// As [`Service::port_be`].
    pub port_be: u16,
    /// As [`Service::protocol`].
    pub protocol: u8,
    /// As [`Service::family`]; 0 = the entry was never used.
    pub family: u8,
    /// As [`Service::tunnel`].
    pub tunnel: Address,
    /// As [`Service::tunnel_source`].
    pub tunnel_source: u16,
}

impl ServiceRecord {
    /// What it sends goes into a tunnel.
    pub const fn wraps(&self) -> bool {
        (self.policy >> service_policy::FLAGS) & service_policy::FLAG_WRAP != 0
    }

    /// The entry as words.
    pub fn words(&self) -> [u64; 8] {
        let Self { vip, salt, policy, port_be, protocol, family, tunnel, tunnel_source } = *self;
        let mut entry = Service {
            vip,
            salt,
            policy: Word::new(policy),
            port_be,
            protocol,
            family,
            tunnel,
            tunnel_source,
            reserved: [0; 10],
        };
        let mut words = [0_u64; 8];
        words.as_mut_bytes().copy_from_slice(entry.as_mut_bytes());
        words
    }

    /// The entry in these words.
    pub fn from_words(words: [u64; 8]) -> Self {
        let mut words = words;
        let mut entry = Service::default();
        entry.as_mut_bytes().copy_from_slice(words.as_mut_bytes());
        Self {
            vip: entry.vip,
            salt: entry.salt,
            policy: entry.policy.load(),
            port_be: entry.port_be,
            protocol: entry.protocol,
            family: entry.family,
            tunnel: entry.tunnel,
            tunnel_source: entry.tunnel_source,
        }
    }
}

/// The words of [`lb_common::Pool`] that are for people.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct PoolReport {
    /// Generation of the table: how often it was swapped.
    pub generation: u64,
    /// Hash of its contents.
    pub table_hash: u64,
}

/// The text of a name, up to its padding.
pub fn name_text(entry: &NameEntry) -> String {
    let end = entry.bytes.iter().position(|byte| *byte == 0).unwrap_or(entry.bytes.len());
    String::from_utf8_lossy(entry.bytes.get(..end).unwrap_or_default()).into_owned()
}

/// A name from the words of a map.
pub fn name_of_words(words: [u64; 9]) -> NameEntry {
    NameEntry::read_from_bytes(words.as_bytes()).unwrap_or(NameEntry { bytes: [0; 72] })
}
