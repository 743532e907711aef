//! Source addresses of full-nat and tunnels: runs of entries, shared by content.
//!
//! In: the list of addresses desired for a backend. Out: the start of a run that holds them, written if need be. Invariant:
//! an entry that was in use when the plan began is not overwritten by it.

use std::collections::HashMap;
use std::net::IpAddr;

use lb_common::{Address, Source};

use super::{PlanError, Planner};
use crate::change::Change;
use crate::image::Image;
use crate::record::BackendRecord;
use crate::store::Table;

/// Runs found so far, and what is in use.
pub(super) struct Sources {
    runs: HashMap<Vec<IpAddr>, u16>,
    in_use: Vec<bool>,
}

impl Sources {
    fn new(image: &Image) -> Self {
        let mut in_use = vec![false; image.sources.len()];
        let records = image.pools.values().flat_map(|pool| pool.records.iter());
        for record in records.filter(|record| record.is_live()) {
            mark(&mut in_use, record.source, record.source_count);
        }
        for service in image.services.values().filter(|service| service.record.wraps()) {
            mark(&mut in_use, service.record.tunnel_source, 1);
        }
        Self { runs: HashMap::new(), in_use }
    }
}

fn mark(in_use: &mut [bool], start: u16, count: u16) {
    in_use.iter_mut().skip(start.into()).take(count.into()).for_each(|used| *used = true);
}

impl Planner<'_> {
    /// Whether an entry's sources are these.
    pub(super) fn has_sources(&self, record: &BackendRecord, sources: &[IpAddr]) -> bool {
        let stored = self.image.sources.iter().skip(record.source.into()).take(record.source_count.into());
        usize::from(record.source_count) == sources.len()
            && stored.zip(sources).all(|(stored, wanted)| *stored == Address::from(*wanted))
    }

    /// Start and length of a run that holds `sources`.
    pub(super) fn source_run(&mut self, sources: &[IpAddr]) -> Result<(u16, u16), PlanError> {
        let count = u16::try_from(sources.len()).unwrap_or(u16::MAX);
        if count == 0 {
            return Ok((0, 0));
        }
        let state = self.sources.get_or_insert_with(|| Sources::new(&self.image));
        if let Some(start) = state.runs.get(sources) {
            return Ok((*start, count));
        }
        let wanted: Vec<Address> = sources.iter().map(|source| Address::from(*source)).collect();
        let there = self.image.sources.windows(wanted.len()).position(|run| run == wanted);
        let free = || state.in_use.windows(wanted.len()).position(|run| run.iter().all(|used| !used));
        let Some(start) = there.or_else(free).and_then(|start| u16::try_from(start).ok()) else {
            let free = state.in_use.iter().filter(|used| !**used).count() as u64;
            let entries = u32::try_from(self.image.sources.len()).unwrap_or(u32::MAX);
            return Err(PlanError::full(Table::Sources, "sources", count.into(), free, entries));
        };
        mark(&mut state.in_use, start, count);
        state.runs.insert(sources.to_vec(), start);
        for (address, index) in wanted.into_iter().zip(u32::from(start)..) {
            if self.image.sources.get(index as usize) != Some(&address) {
                self.emit(Change::Source { index, source: Source { address } });
            }
        }
        Ok((start, count))
    }
}
