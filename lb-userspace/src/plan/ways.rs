//! Next hops: entries that are shared by content and never changed while a backend refers to them.
//!
//! In: the way desired to an address. Out: the index of an entry that says so, written if need be. Invariant: an entry that
//! was in use when the plan began is not overwritten by it, so a packet that read a backend's state before sees the way
//! it read.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::iter::Peekable;
use std::net::IpAddr;
use std::sync::Arc;

use lb_common::{NextHop, next_hop_kind};
use zerocopy::{FromZeros, IntoBytes};

use super::{PlanError, Planner};
use crate::change::Change;
use crate::desired::DesiredNextHop;
use crate::ids::Ids;
use crate::image::Image;
use crate::store::Table;

/// Finds and gives out entries.
pub(super) struct Ways {
    by_content: BTreeMap<[u8; 32], u32>,
    in_use: Vec<bool>,
    ids: Ids,
}

impl Ways {
    fn new(image: &Image) -> Self {
        let entries = image.next_hops.iter().zip(0_u32..).skip(1);
        let used = entries.filter(|(hop, _)| hop.kind != 0);
        let mut in_use = vec![false; image.sizes.next_hops as usize];
        for record in image.pools.values().flat_map(|pool| pool.records.iter()) {
            mark(&mut in_use, record.next_hop());
        }
        Self {
            by_content: used.map(|(hop, index)| (content(hop), index)).collect(),
            in_use,
            ids: Ids::new(1, image.sizes.next_hops),
        }
    }
}

fn mark(in_use: &mut [bool], index: u32) {
    if let Some(used) = in_use.get_mut(index as usize) {
        *used = true;
    }
}

fn content(hop: &NextHop) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hop.as_bytes());
    bytes
}

/// The entry for a desired way.
pub(super) fn entry(way: &DesiredNextHop) -> NextHop {
    let mut ethernet = [0_u32; 3];
    let [a, b, c, d, e, f] = way.destination_mac;
    let [g, h, i, j, k, l] = way.source_mac;
    ethernet.as_mut_bytes().copy_from_slice(&[a, b, c, d, e, f, g, h, i, j, k, l]);
    let kind = if way.local { next_hop_kind::LOCAL } else { next_hop_kind::NEIGHBOUR };
    NextHop { ethernet, interface: way.interface, mtu: way.mtu, kind, ..NextHop::new_zeroed() }
}

impl Planner<'_> {
    /// The index of the way to a backend whose entry now names `current`; 0 = unresolved.
    pub(super) fn next_hop(&mut self, way: Option<&DesiredNextHop>, current: u32) -> Result<u32, PlanError> {
        let Some(hop) = way.map(entry) else { return Ok(0) };
        if current != 0 && self.image.next_hops.get(current as usize) == Some(&hop) {
            return Ok(current);
        }
        // As it was: what a backend has lost in this plan, packets under way may still read.
        let ways = self.ways.get_or_insert_with(|| Ways::new(self.before));
        if let Some(index) = ways.by_content.get(&content(&hop)) {
            mark(&mut ways.in_use, *index);
            return Ok(*index);
        }
        let in_use = &ways.in_use;
        let is_used = |index: u32| in_use.get(index as usize).copied().unwrap_or(true);
        let Some(index) = ways.ids.take(is_used) else {
            let free = in_use.iter().skip(1).filter(|used| !**used).count() as u64;
            let needed = free + 1;
            let entries = self.image.sizes.next_hops;
            return Err(PlanError::full(Table::NextHops, "next hops", needed, free, entries));
        };
        if let Some(old) = self.image.next_hops.get(index as usize) {
            ways.by_content.remove(&content(old));
        }
        ways.by_content.insert(content(&hop), index);
        mark(&mut ways.in_use, index);
        self.emit(Change::NextHop { index, hop });
        Ok(index)
    }
}

/// The addresses to which the ways differ.
pub(super) fn changed(
    old: &Arc<BTreeMap<IpAddr, DesiredNextHop>>,
    new: &Arc<BTreeMap<IpAddr, DesiredNextHop>>,
) -> BTreeSet<IpAddr> {
    if Arc::ptr_eq(old, new) {
        return BTreeSet::new();
    }
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    let mut changed = BTreeSet::new();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return changed,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((old, _)), Some((new, _))) => old.cmp(new),
        };
        let before = if order.is_le() { old.next() } else { None };
        let after = if order.is_ge() { new.next() } else { None };
        if before != after {
            changed.extend(before.or(after).map(|(ip, _)| *ip));
        }
    }
}

/// Looks up ascending addresses: as a rule the next one asked for is the next one there is.
pub(super) struct WayFinder<'a> {
    ways: &'a BTreeMap<IpAddr, DesiredNextHop>,
    ahead: Peekable<btree_map::Range<'a, IpAddr, DesiredNextHop>>,
}

impl<'a> WayFinder<'a> {
    pub(super) fn new(ways: &'a BTreeMap<IpAddr, DesiredNextHop>) -> Self {
        Self { ways, ahead: ways.range(..).peekable() }
    }

    pub(super) fn find(&mut self, ip: IpAddr) -> Option<&'a DesiredNextHop> {
        for _ in 0..2 {
            match self.ahead.peek() {
                Some((key, way)) if **key == ip => return Some(way),
                Some((key, _)) if **key < ip => drop(self.ahead.next()),
                _ => break,
            }
        }
        self.ahead = self.ways.range(ip..).peekable();
        self.ahead.peek().filter(|(key, _)| **key == ip).map(|(_, way)| *way)
    }
}
