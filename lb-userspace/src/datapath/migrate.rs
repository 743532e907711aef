//! What a map made anew takes over from the one in its place.
//!
//! In: the pinned maps that do not fit, the new set. Out: their contents in the new maps, by index. Invariant: says truly whether
//! packets find in the new set all they found in the old one; if not, the first plan fills it before it is used.

mod flows;
mod replies;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::maps::MapType;
use lb_common::{ReplyBucket, Settings};
use zerocopy::FromBytes;

use super::counters::possible_cpus;
use super::mapped::Mapped;
use super::maps::Maps;
use super::pins::{Shape, Staged};
use super::{DatapathError, syscall};
use crate::store::Table;

/// Elements of a per-CPU map copied in one call.
const BATCH: u32 = 1024;

/// Whether an index of the old map means the same in the new one. The hash tables' places depend on their size.
fn is_by_index(map: &str) -> bool {
    !matches!(map, "directory" | "flows4" | "flows6" | "replies4" | "replies6" | "devices" | "route_cache")
}

/// Whether it holds counters, of which a later version may have more: they are added at the end (`lb_common::counters`).
fn is_counter(map: &str) -> bool {
    map.ends_with("_counters")
}

/// Fills the new maps from those in `staged.replaced`; whether the new set is as good for packets as the old one.
pub(super) fn carry_over(
    staged: &Staged,
    wanted: &BTreeMap<&'static str, Shape>,
    maps: &Maps,
) -> Result<bool, DatapathError> {
    let mut is_whole = !staged.missing.iter().any(|name| is_planned(name));
    for (&name, (old, found)) in &staged.replaced {
        let wanted = wanted.get(name);
        let fits = wanted.is_some_and(|shape| shape.has_layout_of(found));
        let has_grown = is_counter(name) && wanted.is_some_and(|shape| shape.has_grown_from(found));
        if (fits || has_grown) && is_by_index(name) {
            copy(old, found, maps, name)?;
        } else if is_planned(name) {
            is_whole = false;
        }
    }
    Ok(is_whole)
}

/// Carries the live flows of the tables in `staged.replaced` into the new ones. To be called once before the program moves
/// to the new maps, and once after it, for what changed in between.
pub(super) fn carry_flows(
    staged: &Staged,
    maps: &Maps,
    settings: &Settings,
    now: u16,
) -> Result<flows::Carried, DatapathError> {
    let target = flows::Target { maps, settings, now };
    let mut carried = carry(staged, target, FLOWS[0], (&maps.flows4, &maps.replies4))?;
    carried += carry(staged, target, FLOWS[1], (&maps.flows6, &maps.replies6))?;
    Ok(carried)
}

/// The flow tables, each with its reply index.
const FLOWS: [[&str; 2]; 2] = [["flows4", "replies4"], ["flows6", "replies6"]];

fn carry<B: flows::Bucket + FromBytes>(
    staged: &Staged,
    target: flows::Target<'_>,
    [flows, replies]: [&'static str; 2],
    (new, words): (&[B], &[ReplyBucket]),
) -> Result<flows::Carried, DatapathError> {
    if let Some(old) = old_table(staged, flows)? {
        return Ok(target.carry(&old, new, words));
    }
    // The flows are where they were, and have to be found by their replies again.
    let is_index_alone = staged.makes(replies) && !staged.makes(flows);
    Ok(if is_index_alone { target.carry_index(new, words) } else { flows::Carried::default() })
}

/// Whether flow tables of an earlier run are to be carried over, or their reply index made again.
pub(super) fn has_flows(staged: &Staged) -> bool {
    FLOWS.iter().any(|[flows, replies]| {
        staged.replaced.contains_key(flows) || (staged.makes(replies) && !staged.makes(flows))
    })
}

fn old_table<T: FromBytes>(staged: &Staged, name: &'static str) -> Result<Option<Mapped<T>>, DatapathError> {
    let Some((old, found)) = staged.replaced.get(name) else { return Ok(None) };
    if found.value_size as usize != size_of::<T>() {
        return Ok(None);
    }
    Mapped::new(old.as_fd(), found.max_entries).map(Some).map_err(|error| DatapathError::Map {
        map: name,
        action: "read the flows of the old table",
        reason: error.to_string(),
    })
}

/// Whether plans write this map.
fn is_planned(map: &str) -> bool {
    Table::ALL.iter().any(|table| table.name() == map)
}

fn copy(old: &OwnedFd, found: &Shape, maps: &Maps, name: &'static str) -> Result<(), DatapathError> {
    let value_size = maps.value_size(name).unwrap_or(found.value_size);
    let new = maps.handle(name, value_size as usize)?;
    let entries = found.max_entries.min(maps.entries(name));
    let copied = if found.kind == MapType::PerCpuArray as u32 {
        copy_per_cpu(old.as_fd(), new, entries, [found.value_size, value_size])
    } else {
        copy_words(old.as_fd(), new, entries, found.value_size)
    };
    copied.map_err(|error| DatapathError::Map {
        map: name,
        action: "copy its contents into a map of another size",
        reason: error.to_string(),
    })
}

fn copy_words(old: BorrowedFd<'_>, new: BorrowedFd<'_>, entries: u32, value_size: u32) -> io::Result<()> {
    // Array elements lie a multiple of eight bytes apart (kernel: array_map_alloc).
    let words = entries.saturating_mul(value_size.div_ceil(8));
    let (old, new) = (Mapped::<u64>::new(old, words)?, Mapped::<u64>::new(new, words)?);
    for (from, to) in old.words().iter().zip(new.words()) {
        let word = from.load();
        if word != 0 {
            to.store(word);
        }
    }
    Ok(())
}

/// Copies values that are as long as the new ones or shorter; the rest of a longer one is 0.
fn copy_per_cpu(
    old: BorrowedFd<'_>,
    new: BorrowedFd<'_>,
    entries: u32,
    value_sizes: [u32; 2],
) -> io::Result<()> {
    let [from, to] = value_sizes.map(|size| size.next_multiple_of(8) as usize);
    let element = possible_cpus()? * from;
    let mut first = 0;
    while first < entries {
        let count = BATCH.min(entries - first) as usize;
        let mut keys = vec![0; count];
        let mut values = vec![0; count * element];
        let read = syscall::lookup_batch(old, first, &mut keys, &mut values)?;
        for (key, value) in keys.iter().zip(values.chunks_exact(element)).take(read) {
            if value.iter().any(|byte| *byte != 0) {
                let of_cpu = |value: &[u8]| [value, &vec![0; to.saturating_sub(from)]].concat();
                let grown: Vec<u8> = value.chunks_exact(from).flat_map(of_cpu).collect();
                syscall::update(new, *key, &grown)?;
            }
        }
        if read == 0 {
            break;
        }
        first += u32::try_from(read).unwrap_or(u32::MAX);
    }
    Ok(())
}
