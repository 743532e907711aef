//! The directory: from (vip, port, protocol) to a service id, changed word by word under traffic.
//!
//! In: the ids of the desired listeners. Out: words. Invariants: a word never moves, so a search under way never misses it; a
//! word that goes becomes a tombstone, over which a search goes on, and a new word may take its place; tombstones at
//! the end of a bucket become the end again, unless a word of that bucket lies in the next one.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::{Address, DIRECTORY_WAYS};
use lb_datapath::hash::{self, DirectoryPosition};

use super::services::ServiceIds;
use super::{PlanError, Planner};
use crate::change::Change;
use crate::desired::{ListenerKey, protocol_number};
use crate::image::ServiceView;
use crate::record::ServiceRecord;
use crate::store::Table;

/// A word that once named a service.
const TOMBSTONE: u64 = 0xffff_ffff;

/// What a word stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Key {
    /// A listener.
    Listener { vip: [u8; 16], port_be: u16, protocol: u8 },
    /// "This address is a vip".
    Vip([u8; 16]),
}

impl Key {
    fn of(record: &ServiceRecord) -> Self {
        Self::Listener { vip: record.vip.octets(), port_be: record.port_be, protocol: record.protocol }
    }

    fn of_listener(listener: &ListenerKey) -> Self {
        let vip = Address::from(listener.addr).octets();
        let port_be = listener.port.unwrap_or_default().to_be();
        Self::Listener { vip, port_be, protocol: protocol_number(listener.protocol) }
    }

    fn vip_of(record: &ServiceRecord) -> Self {
        Self::Vip(record.vip.octets())
    }

    /// Whether a word for this key may name that service: what the packet path compares.
    fn accepts(self, record: &ServiceRecord) -> bool {
        self == Self::of(record) || self == Self::vip_of(record)
    }
}

const fn low(word: u64) -> u64 {
    word & 0xffff_ffff
}

impl Planner<'_> {
    fn position(&self, key: Key) -> DirectoryPosition {
        match key {
            Key::Listener { vip, port_be, protocol } => {
                hash::directory(self.settings, &Address::from_octets(vip), port_be, protocol)
            }
            Key::Vip(vip) => hash::directory(self.settings, &Address::from_octets(vip), 0, 0),
        }
    }

    /// Positions of the words of a bucket and of the next one, in the order of a search.
    fn search_path(&self, home: u32) -> impl Iterator<Item = usize> + use<> {
        let buckets = self.settings.directory_buckets;
        let next = if home + 1 < buckets { home + 1 } else { 0 };
        [home, next].into_iter().flat_map(|bucket| {
            let first = bucket as usize * DIRECTORY_WAYS;
            first..first + DIRECTORY_WAYS
        })
    }

    fn word(&self, at: usize) -> u64 {
        self.image.directory.get(at).copied().unwrap_or_default()
    }

    /// The service that a word names.
    fn named(&self, word: u64) -> Option<(u16, &ServiceRecord)> {
        let id = u16::try_from(low(word).checked_sub(1)?).ok()?;
        self.image.services.get(&id).map(|service| (id, &service.record))
    }

    /// Where a search for `key` ends successfully, and whom it names.
    fn find(&self, key: Key) -> Option<(usize, u16)> {
        let DirectoryPosition { bucket, tag } = self.position(key);
        for at in self.search_path(bucket) {
            let word = self.word(at);
            if word == 0 {
                return None;
            }
            if word >> 32 == u64::from(tag)
                && let Some((id, _)) = self.named(word).filter(|(_, record)| key.accepts(record))
            {
                return Some((at, id));
            }
        }
        None
    }

    /// Whether a search for a service's own listener finds this id.
    pub(super) fn is_in_directory(&self, service: u16) -> bool {
        let record = self.image.services.get(&service).map(|service| service.record);
        record.and_then(|record| self.find(Key::of(&record))).is_some_and(|(_, id)| id == service)
    }

    /// Makes the directory name `id` for a listener.
    pub(super) fn point_listener(&mut self, listener: &ListenerKey, id: u16) -> Result<(), PlanError> {
        self.point(Key::of_listener(listener), id)
    }

    /// Takes the words of listeners that are no longer desired away; returns the pools they led to.
    pub(super) fn withdraw_listeners(&mut self) -> BTreeSet<u16> {
        let gone = |service: &ServiceView| !self.desired.services.contains_key(&service.listener);
        let services: Vec<ServiceView> = self.image.services().filter(gone).collect();
        let mut pools = BTreeSet::new();
        for service in services {
            if let Some((at, _)) = self.find(Key::of_listener(&service.listener)) {
                self.store_word(at, TOMBSTONE);
                pools.insert(service.pool);
            }
        }
        pools
    }

    /// Makes each vip's own word name a service of it, and takes away every word that is left over.
    pub(super) fn point_vips(&mut self, services: &ServiceIds) -> Result<(), PlanError> {
        let mut vips: BTreeMap<Key, Vec<u16>> = BTreeMap::new();
        for (listener, id) in services {
            vips.entry(Key::Vip(Address::from(listener.addr).octets())).or_default().push(*id);
        }
        for (key, ids) in &vips {
            let named = self.find(*key).map(|(_, id)| id).filter(|id| ids.contains(id));
            if let Some(id) = named.or_else(|| ids.first().copied()) {
                self.point(*key, id)?;
            }
        }
        let keys = services.keys().map(Key::of_listener).chain(vips.into_keys());
        let used: BTreeSet<usize> = keys.filter_map(|key| self.find(key)).map(|(at, _)| at).collect();
        let is_left = |at: &usize| !matches!(low(self.word(*at)), 0 | TOMBSTONE) && !used.contains(at);
        let left: Vec<usize> = (0..self.image.directory.len()).filter(is_left).collect();
        left.into_iter().for_each(|at| self.store_word(at, TOMBSTONE));
        Ok(())
    }

    fn point(&mut self, key: Key, id: u16) -> Result<(), PlanError> {
        let position = self.position(key);
        let word = u64::from(position.tag) << 32 | (u64::from(id) + 1);
        if let Some((at, named)) = self.find(key) {
            if named != id {
                self.store_word(at, word);
            }
            return Ok(());
        }
        let mut path = self.search_path(position.bucket);
        let free = path.find(|at| matches!(low(self.word(*at)), 0 | TOMBSTONE));
        let Some(at) = free else {
            let entries = self.settings.directory_buckets;
            return Err(PlanError::full(Table::Directory, "words in a bucket and the next", 1, 0, entries));
        };
        self.store_word(at, word);
        Ok(())
    }

    fn store_word(&mut self, at: usize, word: u64) {
        let place = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (bucket, way) = (place(at / DIRECTORY_WAYS), place(at % DIRECTORY_WAYS));
        self.emit(Change::Directory { bucket, way, word });
    }

    /// Turns tombstones at the end of a bucket into its end, so that searches do not grow longer with the years.
    pub(super) fn tidy_directory(&mut self) {
        for bucket in 0..self.settings.directory_buckets {
            let first = bucket as usize * DIRECTORY_WAYS;
            let end = (first..first + DIRECTORY_WAYS)
                .rev()
                .find(|at| !matches!(low(self.word(*at)), 0 | TOMBSTONE));
            let tail = end.map_or(first, |at| at + 1)..first + DIRECTORY_WAYS;
            let dead: Vec<usize> = tail.filter(|at| low(self.word(*at)) == TOMBSTONE).collect();
            if dead.is_empty() || self.continues(bucket) {
                continue;
            }
            dead.into_iter().rev().for_each(|at| self.store_word(at, 0));
        }
    }

    /// Whether a word whose home is `bucket` lies in the next one.
    fn continues(&self, bucket: u32) -> bool {
        let is_of = |word: u64| {
            let Some((_, record)) = self.named(word) else { return false };
            let keys = [Key::of(record), Key::vip_of(record)];
            keys.into_iter().any(|key| {
                let position = self.position(key);
                position.bucket == bucket && u64::from(position.tag) == word >> 32
            })
        };
        self.search_path(bucket).skip(DIRECTORY_WAYS).map(|at| self.word(at)).any(is_of)
    }
}
