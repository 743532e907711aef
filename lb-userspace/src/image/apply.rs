//! What a change makes of the image.
//!
//! In: changes in the order they are written to the maps. Out: the image as [`Image::read`] would see it, and whether
//! something stopped being referred to since the last grace period.

use std::sync::Arc;

use lb_common::NextHop;
use lb_common::backend_state::LIVE;
use lb_datapath::maglev::TableWord;
use zerocopy::FromZeros as _;

use super::{Image, PoolImage, ServiceImage, digest, slot_counts};
use crate::change::Change;
use crate::record::{BackendRecord, name_text};

impl Image {
    /// Takes in a change.
    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Grace => self.unsettled = false,
            Change::NextHop { index, hop } => {
                let next_hops = Arc::make_mut(&mut self.next_hops);
                if next_hops.len() <= *index as usize && *index < self.sizes.next_hops {
                    next_hops.resize(*index as usize + 1, NextHop::new_zeroed());
                }
                set(next_hops.as_mut_slice(), *index, *hop);
            }
            Change::Source { index, source } => set(&mut self.sources, *index, source.address),
            Change::Filter { index, bits } => {
                set(Arc::make_mut(&mut self.filter).as_mut_slice(), *index, *bits)
            }
            Change::Directory { bucket, way, word } => self.set_directory(*bucket, *way, *word),
            Change::Service { .. } | Change::ServiceName { .. } | Change::ServicePolicy { .. } => {
                self.apply_to_service(change);
            }
            Change::Block { base, records } => {
                self.staged_blocks.insert(*base, Arc::new(records.clone()));
            }
            Change::Region { base, words } => {
                self.staged_regions.insert(*base, Arc::clone(words));
            }
            Change::Backend { index, record } => {
                self.on_backend(*index, |entry| *entry = BackendRecord { state: 0, ..*record });
            }
            Change::BackendState { index, state } => self.set_state(*index, *state),
            Change::PoolName { .. }
            | Change::PoolBackends { .. }
            | Change::PoolTable { .. }
            | Change::PoolReport { .. } => self.apply_to_pool(change),
            Change::ClearCounters(_) => {}
        }
    }

    fn set_directory(&mut self, bucket: u32, way: u32, word: u64) {
        let at = bucket as usize * lb_common::DIRECTORY_WAYS + way as usize;
        if let Some(stored) = Arc::make_mut(&mut self.directory).get_mut(at) {
            self.unsettled |= *stored != 0;
            *stored = word;
        }
    }

    fn apply_to_service(&mut self, change: &Change) {
        match change {
            Change::Service { service, record } => {
                let name = String::new();
                self.services.insert(*service, ServiceImage { record: *record, name });
            }
            Change::ServiceName { service, name } => {
                if let Some(service) = self.services.get_mut(service) {
                    service.name = name_text(name);
                }
            }
            Change::ServicePolicy { service, policy: 0 } => {
                self.services.remove(service);
                self.rest.services.insert(*service);
                self.unsettled = true;
            }
            Change::ServicePolicy { service, policy } => {
                if let Some(service) = self.services.get_mut(service) {
                    service.record.policy = *policy;
                }
            }
            _ => {}
        }
    }

    fn apply_to_pool(&mut self, change: &Change) {
        match change {
            Change::PoolName { pool, name } if name.bytes.iter().all(|byte| *byte == 0) => {
                self.pools.remove(pool);
                self.rest.forget_pool(*pool);
            }
            Change::PoolName { pool, name } => self.pools.entry(*pool).or_default().name = name_text(name),
            Change::PoolBackends { pool: id, word } => self.move_block(*id, *word),
            Change::PoolTable { pool, word } => {
                let table = Some(TableWord::unpack(*word)).filter(|_| *word != 0);
                let words =
                    table.and_then(|table| self.staged_regions.remove(&table.base)).unwrap_or_default();
                let counts = slot_counts(&words, table.map_or(0, |table| table.slots));
                if let Some(pool) = self.pools.get_mut(pool) {
                    self.unsettled |= pool.slots() > 0;
                    (pool.table, pool.digest, pool.slot_counts) = (table, digest(&words), counts);
                }
            }
            Change::PoolReport { pool, report } => {
                if let Some(pool) = self.pools.get_mut(pool) {
                    pool.report = *report;
                }
            }
            _ => {}
        }
    }

    fn move_block(&mut self, id: u16, word: u64) {
        let (base, entries) = split(word);
        let records = self.staged_blocks.remove(&base).filter(|_| entries > 0).unwrap_or_default();
        let Some(pool) = self.pools.get_mut(&id) else { return };
        if !pool.records.is_empty() {
            self.unsettled = true;
            self.blocks.remove(&pool.base);
        }
        (pool.base, pool.records) = (base, records);
        if entries > 0 {
            self.blocks.insert(base, id);
        }
    }

    /// The pool whose block holds this entry, and the entry's index in it.
    fn place(&self, index: u32) -> Option<(u16, u16)> {
        let (base, pool) = self.blocks.range(..=index).next_back()?;
        Some((*pool, u16::try_from(index - base).ok()?))
    }

    fn on_backend(&mut self, index: u32, change: impl FnOnce(&mut BackendRecord)) -> Option<(u16, u16)> {
        let (id, local) = self.place(index)?;
        let pool: &mut PoolImage = self.pools.get_mut(&id)?;
        change(Arc::make_mut(&mut pool.records).get_mut(usize::from(local))?);
        Some((id, local))
    }

    fn set_state(&mut self, index: u32, state: u64) {
        let mut before = BackendRecord::default();
        let place = self.on_backend(index, |entry| {
            before = *entry;
            entry.state = state;
        });
        let Some(place) = place else { return };
        let after = BackendRecord { state, ..before };
        self.unsettled |= before.next_hop() != 0 && before.next_hop() != after.next_hop();
        if after.takes_new() {
            self.rest.unheld.remove(&place);
        }
        if before.is_live() && state & LIVE == 0 {
            self.rest.backends.insert(place);
            self.rest.unheld.remove(&place);
            self.unsettled = true;
        } else if state & LIVE != 0 {
            self.rest.backends.remove(&place);
        }
    }
}

fn set<T>(entries: &mut [T], index: u32, value: T) {
    if let Some(entry) = entries.get_mut(index as usize) {
        *entry = value;
    }
}

/// The halves of `Pool::backends`: base and entries.
#[expect(clippy::cast_possible_truncation, reason = "a word is cut into its halves")]
pub(super) const fn split(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}
