//! The per-CPU counters, summed.
//!
//! In: the counter maps. Out: sums over all CPUs. Invariants: a counter only counts up, and survives the daemon; a read of
//! many entries is a few calls (BPF_MAP_LOOKUP_BATCH, 5.13 for per-CPU arrays), not one for each.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use lb_common::{BackendCounters, FlowCounters, InterfaceCounters, REASON_COUNT, Reason, ServiceCounters};
use zerocopy::{FromBytes, IntoBytes};

use super::maps::Maps;
use super::sizes::INTERFACE_SLOTS;
use super::{Datapath, DatapathError, syscall};

/// Elements read in one call: 64 KiB of values for small counters on a small machine.
const BATCH: usize = 1024;

/// Reads the counters of a datapath.
#[derive(Clone, Copy, Debug)]
pub struct Counters<'a> {
    maps: &'a Maps,
}

/// Packets of one service by reason; the position is the reason's number.
pub type ReasonCounts = [u64; REASON_COUNT as usize];

impl Datapath {
    /// The counters.
    pub fn counters(&self) -> Counters<'_> {
        Counters::new(&self.maps)
    }
}

impl<'a> Counters<'a> {
    pub(super) const fn new(maps: &'a Maps) -> Self {
        Self { maps }
    }

    /// One interface, by index. Interfaces whose indexes are equal modulo 256 share a counter.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn interface(&self, index: u32) -> Result<InterfaceCounters, DatapathError> {
        Ok(self.sums("interface_counters", index % INTERFACE_SLOTS, 1)?.pop().unwrap_or_default())
    }

    /// Every interface, by index modulo 256.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn interfaces(&self) -> Result<Vec<InterfaceCounters>, DatapathError> {
        self.sums("interface_counters", 0, INTERFACE_SLOTS)
    }

    /// How many packets have ever gone back out of an interface; what cannot be read has not happened.
    pub(super) fn transmitted(&self, index: u32) -> u64 {
        self.interface(index).map_or(0, |counters| counters.transmit_packets)
    }

    /// Services with ids from `first` on, at most `count`, fewer at the end of the map.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn services(&self, first: u32, count: u32) -> Result<Vec<ServiceCounters>, DatapathError> {
        self.sums("service_counters", first, count)
    }

    /// Backends with counter indexes from `first` on, as [`Self::services`].
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn backends(&self, first: u32, count: u32) -> Result<Vec<BackendCounters>, DatapathError> {
        self.sums("backend_counters", first, count)
    }

    /// What was dropped, answered or passed for a service, by reason number; service 0 = packets to a vip that no service
    /// could be told for.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn reasons(&self, service: u32) -> Result<ReasonCounts, DatapathError> {
        let sums = self.sums("reason_counters", service.saturating_mul(REASON_COUNT), REASON_COUNT)?;
        let mut counts = [0; REASON_COUNT as usize];
        for (to, sum) in counts.iter_mut().zip(sums) {
            *to = sum;
        }
        Ok(counts)
    }

    /// The reasons of services from `first` on, each with its counts, as [`Self::services`].
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn reasons_of(&self, first: u32, count: u32) -> Result<Vec<ReasonCounts>, DatapathError> {
        let sums: Vec<u64> = self.sums(
            "reason_counters",
            first.saturating_mul(REASON_COUNT),
            count.saturating_mul(REASON_COUNT),
        )?;
        let (blocks, _) = sums.as_chunks::<{ REASON_COUNT as usize }>();
        Ok(blocks.to_vec())
    }

    /// The IPv4 and the wide flow table.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn flows(&self) -> Result<[FlowCounters; 2], DatapathError> {
        let mut sums = self.sums("flow_counters", 0, 2)?.into_iter();
        Ok([sums.next().unwrap_or_default(), sums.next().unwrap_or_default()])
    }

    fn sums<T: Sum>(&self, map: &'static str, first: u32, count: u32) -> Result<Vec<T>, DatapathError> {
        let count = count.min(self.maps.entries(map).saturating_sub(first));
        let handle = self.maps.handle(map, size_of::<T>())?;
        read_sums(handle, first, count).map_err(|error| DatapathError::Map {
            map,
            action: "read",
            reason: error.to_string(),
        })
    }
}

/// The counts of a service that are not 0, with their reasons; numbers that this lbd does not know are left out.
pub fn named(counts: &ReasonCounts) -> impl Iterator<Item = (Reason, u64)> + '_ {
    Reason::ALL.iter().filter_map(|reason| {
        let count = counts.get(*reason as usize).copied().unwrap_or_default();
        (count > 0).then_some((*reason, count))
    })
}

/// CPUs that may ever be there: a per-CPU map has a value for each.
pub(super) fn possible_cpus() -> io::Result<usize> {
    aya::util::nr_cpus().map_err(|(path, error)| io::Error::new(error.kind(), format!("{path}: {error}")))
}

/// A value made of counters.
trait Sum: FromBytes + IntoBytes + Default {
    /// Adds each counter of `other` to the one of `self`.
    fn add(&mut self, other: &[u8]) {
        let counters = self.as_mut_bytes().chunks_exact_mut(8).zip(other.chunks_exact(8));
        for (to, from) in counters {
            let (Ok(a), Ok(b)) = (u64::read_from_bytes(to), u64::read_from_bytes(from)) else { continue };
            to.copy_from_slice(&a.wrapping_add(b).to_ne_bytes());
        }
    }
}

impl Sum for u64 {}
impl Sum for InterfaceCounters {}
impl Sum for ServiceCounters {}
impl Sum for BackendCounters {}
impl Sum for FlowCounters {}

fn read_sums<T: Sum>(map: BorrowedFd<'_>, first: u32, count: u32) -> io::Result<Vec<T>> {
    let element = possible_cpus()? * size_of::<T>();
    let mut sums = Vec::with_capacity(count as usize);
    let mut next = first;
    let end = first.saturating_add(count);
    // For all batches: so large a piece comes from the system each time.
    let most = BATCH.min(count as usize);
    let (mut keys, mut values) = (vec![0_u32; most], vec![0_u8; most * element]);
    while next < end {
        let wanted = BATCH.min((end - next) as usize);
        let (keys, values) = (&mut keys[..wanted], &mut values[..wanted * element]);
        let read = syscall::lookup_batch(map.as_fd(), next, keys, values)?;
        if read == 0 {
            break;
        }
        sums.extend(values.chunks_exact(element).take(read).map(sum_of_cpus));
        next = next.saturating_add(u32::try_from(read).unwrap_or(u32::MAX));
    }
    Ok(sums)
}

fn sum_of_cpus<T: Sum>(element: &[u8]) -> T {
    let mut sum = T::new_zeroed();
    for value in element.chunks_exact(size_of::<T>()) {
        sum.add(value);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_is_summed_over_the_cpus() {
        let values = [
            FlowCounters { inserted: 1, evicted: 2, not_stored: 3, reselected: 4 },
            FlowCounters { inserted: 10, evicted: 20, not_stored: 30, reselected: u64::MAX },
        ];
        let sum: FlowCounters = sum_of_cpus(values.as_bytes());
        assert_eq!(sum, FlowCounters { inserted: 11, evicted: 22, not_stored: 33, reselected: 3 });
    }

    #[test]
    fn reasons_are_named_and_zeros_left_out() {
        let mut counts = [0; 64];
        counts[Reason::NoBackend as usize] = 7;
        counts[63] = 9;
        assert_eq!(named(&counts).collect::<Vec<_>>(), [(Reason::NoBackend, 7)]);
    }
}
