//! Which numbers are free: ids of services and pools, backend indexes, blocks of backends, arena regions.
//!
//! In: what is in use, as the maps say. Out: numbers nobody uses. Invariants: the same maps give the same numbers; what a
//! packet under way may still refer to comes back only after a grace period ([`Space`], and the ids, which one plan
//! never gives twice); what an entry of the flow table may hold (service ids, backend indexes) rests until a scan of
//! the flow table has met nobody holding it ([`Rest`]).

use std::collections::{BTreeMap, BTreeSet};

use crate::store::FlowScan;

/// Numbers `first..end`, given in ascending order, each at most once.
#[derive(Debug)]
pub struct Ids {
    next: u32,
    end: u32,
}

impl Ids {
    /// Numbers from `first` up to (not including) `end`.
    pub const fn new(first: u32, end: u32) -> Self {
        Self { next: first, end }
    }

    /// The next number that is not in use.
    pub fn take(&mut self, in_use: impl Fn(u32) -> bool) -> Option<u32> {
        let found = (self.next..self.end).find(|id| !in_use(*id));
        self.next = found.map_or(self.end, |id| id + 1);
        found
    }
}

/// Free stretches of an array.
#[derive(Debug)]
pub struct Space {
    /// Start and length, never touching each other.
    free: BTreeMap<u32, u32>,
    /// Given back, but packets under way may still read there.
    unsettled: Vec<(u32, u32)>,
}

impl Space {
    /// An array of `len` entries of which the stretches `used` (start, length) are taken.
    pub fn new(len: u32, used: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut used: Vec<(u32, u32)> = used.into_iter().filter(|(_, len)| *len > 0).collect();
        used.sort_unstable();
        let mut free = BTreeMap::new();
        let mut start = 0;
        for (at, taken) in used {
            if at > start {
                free.insert(start, at - start);
            }
            start = start.max(at.saturating_add(taken));
        }
        if len > start {
            free.insert(start, len - start);
        }
        Self { free, unsettled: Vec::new() }
    }

    /// A stretch of `len` entries: the smallest free one that is large enough, the first of several.
    pub fn take(&mut self, len: u32) -> Option<u32> {
        let fits = self.free.iter().filter(|(_, free)| **free >= len);
        let (start, free) = fits.min_by_key(|(_, free)| **free).map(|(start, free)| (*start, *free))?;
        self.free.remove(&start);
        if free > len {
            self.free.insert(start + len, free - len);
        }
        Some(start)
    }

    /// Gives a stretch back; it can be taken again after [`Space::settle`].
    pub fn give_back(&mut self, start: u32, len: u32) {
        if len > 0 {
            self.unsettled.push((start, len));
        }
    }

    /// Whether a grace period would free something.
    pub const fn is_unsettled(&self) -> bool {
        !self.unsettled.is_empty()
    }

    /// A grace period has passed: what was given back is free.
    pub fn settle(&mut self) {
        for (start, len) in std::mem::take(&mut self.unsettled) {
            self.insert(start, len);
        }
    }

    fn insert(&mut self, start: u32, len: u32) {
        let (mut start, mut len) = (start, len);
        if let Some((&before, &free)) = self.free.range(..start).next_back()
            && before + free == start
        {
            self.free.remove(&before);
            (start, len) = (before, free + len);
        }
        if let Some(after) = self.free.remove(&(start + len)) {
            len += after;
        }
        self.free.insert(start, len);
    }

    /// Entries free in all, and in the longest stretch.
    pub fn room(&self) -> (u32, u32) {
        let longest = self.free.values().copied().max().unwrap_or_default();
        (self.free.values().sum(), longest)
    }
}

/// What entries of the flow table may still name although it is gone from everywhere else.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Rest {
    /// Service ids.
    pub services: BTreeSet<u16>,
    /// (pool id, backend index) of backends that are gone.
    pub backends: BTreeSet<(u16, u16)>,
    /// (pool id, backend index) of backends that take no new flow any more and that no flow holds.
    pub unheld: BTreeSet<(u16, u16)>,
}

impl Rest {
    /// Takes in a scan that began after everything in `then` was out of the tables: who of it is not held rests no longer. `then` is
    /// what rested when the scan began and ever since, and as `unheld` the backends in use that have taken no new flows ever since;
    /// `pool_of` names the pool of a service in use.
    pub fn note_scan(&mut self, scan: &FlowScan, pool_of: impl Fn(u16) -> Option<u16>, then: &Self) {
        let services: BTreeSet<u16> = scan.held.iter().map(|(service, _)| *service).collect();
        let backends: BTreeSet<(u16, u16)> =
            scan.held.iter().filter_map(|(service, local)| Some((pool_of(*service)?, *local))).collect();
        self.services.retain(|service| services.contains(service) || !then.services.contains(service));
        self.backends.retain(|backend| backends.contains(backend) || !then.backends.contains(backend));
        self.unheld = then.unheld.difference(&backends).copied().collect();
    }

    /// Leaves of this what is in the other as well.
    pub fn keep_common(&mut self, other: &Self) {
        self.services.retain(|service| other.services.contains(service));
        self.backends.retain(|backend| other.backends.contains(backend));
        self.unheld.retain(|backend| other.unheld.contains(backend));
    }

    /// Forgets the backends of a pool that no service names any more: a flow can name a backend through its service alone.
    pub fn forget_pool(&mut self, pool: u16) {
        self.backends.retain(|(of, _)| *of != pool);
        self.unheld.retain(|(of, _)| *of != pool);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_skip_what_is_in_use_and_end() {
        let mut ids = Ids::new(1, 6);
        assert_eq!(ids.take(|id| id < 3), Some(3));
        assert_eq!(ids.take(|id| id == 4), Some(5));
        assert_eq!(ids.take(|_| false), None);
    }

    #[test]
    fn what_is_given_back_waits_for_the_grace_period() {
        let mut space = Space::new(10, [(0, 4)]);
        assert_eq!(space.take(6), Some(4));
        space.give_back(4, 6);
        assert_eq!(space.take(1), None);
        assert!(space.is_unsettled());
        space.settle();
        assert_eq!(space.room(), (6, 6));
        assert_eq!(space.take(6), Some(4));
    }

    #[test]
    fn the_best_fit_is_taken() {
        let mut space = Space::new(100, [(10, 10), (25, 50)]);
        assert_eq!(space.take(5), Some(20));
        assert_eq!(space.take(5), Some(0));
        assert_eq!(space.take(20), Some(75));
        assert_eq!(space.room(), (10, 5));
        assert_eq!(space.take(6), None);
    }

    #[test]
    fn a_scan_frees_who_is_not_held() {
        let mut rest = Rest {
            services: [5, 6].into(),
            backends: [(1, 3), (1, 4), (2, 3)].into(),
            unheld: BTreeSet::new(),
        };
        let scan = FlowScan { held: [(6, 3), (9, 4)].into() };
        let pool_of = |service| (service == 9).then_some(1);
        let then = Rest { unheld: [(1, 4), (1, 7)].into(), ..rest.clone() };
        rest.note_scan(&scan, pool_of, &then);
        assert_eq!(rest.services, [6].into());
        assert_eq!(rest.backends, [(1, 4)].into());
        assert_eq!(rest.unheld, [(1, 7)].into());
        rest.forget_pool(1);
        assert_eq!(rest, Rest { services: [6].into(), ..Rest::default() });
    }

    #[test]
    fn what_came_to_rest_after_a_scan_began_is_not_freed_by_it() {
        let then = Rest { services: [5].into(), backends: [(1, 3)].into(), unheld: [(2, 1)].into() };
        let mut rest =
            Rest { services: [5, 6].into(), backends: [(1, 3), (1, 4)].into(), unheld: BTreeSet::new() };
        rest.note_scan(&FlowScan::default(), |_| None, &then);
        assert_eq!(rest, Rest { services: [6].into(), backends: [(1, 4)].into(), unheld: [(2, 1)].into() });
        let mut common = then;
        common.keep_common(&Rest { services: [5, 9].into(), ..Rest::default() });
        assert_eq!(common, Rest { services: [5].into(), ..Rest::default() });
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn stretches_never_overlap_and_all_come_back(steps in prop::collection::vec((1_u32..40, any::<bool>()), 1..60)) {
            let mut space = Space::new(500, []);
            let mut taken: Vec<(u32, u32)> = Vec::new();
            for (len, release) in steps {
                if release && !taken.is_empty() {
                    let (start, len) = taken.swap_remove(len as usize % taken.len());
                    space.give_back(start, len);
                    space.settle();
                } else if let Some(start) = space.take(len) {
                    prop_assert!(start + len <= 500);
                    for (other, other_len) in &taken {
                        prop_assert!(start + len <= *other || other + other_len <= start);
                    }
                    taken.push((start, len));
                }
            }
            taken.into_iter().for_each(|(start, len)| space.give_back(start, len));
            space.settle();
            prop_assert_eq!(space.room(), (500, 500));
        }
    }
}
