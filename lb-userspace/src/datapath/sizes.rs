//! How large the maps are.
//!
//! In: [`Demand`], what the configuration asks for. Out: [`Sizes`], the entries of every map that has no fixed size, and
//! the memory they take. Invariant: sizes leave room to grow, so that an ordinary reload stays within them, and are
//! a function of the demand alone, so that a restart with the same configuration adopts the pinned maps.

use lb_common::{
    BackendCounters, DirectoryBucket, FlowBucket4, FlowBucket6, InterfaceCounters, MaglevWord, NameEntry,
    NextHop, Pool, REASON_COUNT, REPLY_WAYS, ReplyBucket, RouteEntry, SLOTS_PER_WORD, Service,
    ServiceCounters, WAYS,
};

use crate::desired::Desired;

/// Entries of the per-CPU interface counters; an interface counts at its index modulo this.
pub(super) const INTERFACE_SLOTS: u32 = 256;
/// Most services and most pools: their ids have 16 bits.
const MOST_IDS: u32 = 1 << 16;
/// Words in which the arena of tables is counted: 8 MiB.
const ARENA_STEP: u32 = 1 << 20;
/// Words of tables, 32 MiB, up to which there is room for twice of them.
const ARENA_TWICE: u32 = 1 << 22;
/// Entries of the route cache.
const ROUTE_CACHE: u64 = 4096;

/// What a configuration asks of the maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Demand {
    /// Listeners of all services.
    pub listeners: u32,
    /// Pools, each counted once per variant in use (v4, v6, any).
    pub pools: u32,
    /// Backends, counted in each pool and variant they are in.
    pub backends: u32,
    /// Slots of all Maglev tables together.
    pub maglev_slots: u64,
    /// Slots besides, because those that are free lie in pieces too short for a table.
    pub spare_slots: u64,
    /// Flows to hold per family.
    pub flows: u32,
}

impl Demand {
    /// What a desired state and the configured `flows` ask for.
    pub fn of(desired: &Desired, flows: u32) -> Self {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let backends: usize = desired.pools.values().map(|pool| block_len(pool.backends.len())).sum();
        Self {
            listeners: count(desired.services.len()),
            pools: count(desired.pools.len()),
            backends: count(backends),
            maglev_slots: desired.pools.values().map(|pool| u64::from(pool.table_len)).sum(),
            spare_slots: 0,
            flows,
        }
    }

    /// The same where the free slots lie in pieces too short: as much again in one piece, more than any table needs.
    #[must_use]
    pub const fn in_pieces(self) -> Self {
        Self { spare_slots: self.maglev_slots, ..self }
    }
}

/// Entries a pool's block may take: local index 0 is nobody's, and a block grows by doubling.
const fn block_len(backends: usize) -> usize {
    (backends + 1).next_power_of_two()
}

/// Entries of the maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// `directory`, buckets of eight words.
    pub directory_buckets: u32,
    /// `services`, `service_names`, `service_counters`; `reason_counters` has 64 times as many.
    pub services: u32,
    /// `pools`, `pool_names`.
    pub pools: u32,
    /// `maglev`, words of four slots.
    pub maglev_words: u32,
    /// `backends`, `backend_counters`.
    pub backends: u32,
    /// `next_hops`.
    pub next_hops: u32,
    /// `flows4` and `flows6`, each.
    pub flow_buckets: u32,
    /// `replies4` and `replies6`, each.
    pub reply_buckets: u32,
}

impl Sizes {
    /// Sizes for a demand; see the table in docs/internals.md.
    pub fn of(demand: &Demand) -> Self {
        let services = room(demand.listeners, 256).min(MOST_IDS);
        Self {
            // A listener takes a word, and so does its vip: at most a quarter of the words is in use.
            // A directory that grows is filled anew by a plan, so it begins large enough for most.
            directory_buckets: services.max(4096),
            services,
            pools: room(demand.pools, 256).min(MOST_IDS),
            maglev_words: arena(demand.maglev_slots.saturating_add(demand.spare_slots)),
            backends: room(demand.backends, 4096),
            // A backend has a next hop, and a changed next hop is written beside the old one.
            next_hops: room(demand.backends, 4096),
            flow_buckets: buckets(demand.flows, WAYS),
            reply_buckets: buckets(demand.flows, REPLY_WAYS),
        }
    }

    /// The entries of the map with this name; `None` for maps whose size is fixed in the object.
    pub(super) fn entries(&self, map: &str) -> Option<u32> {
        Some(match map {
            "directory" => self.directory_buckets,
            "services" | "service_names" | "service_counters" => self.services,
            "reason_counters" => self.services * REASON_COUNT,
            "pools" | "pool_names" => self.pools,
            "maglev" => self.maglev_words,
            "backends" | "backend_counters" => self.backends,
            "next_hops" => self.next_hops,
            "flows4" | "flows6" => self.flow_buckets,
            "replies4" | "replies6" => self.reply_buckets,
            "interface_counters" => INTERFACE_SLOTS,
            _ => return None,
        })
    }

    /// These sizes, or the present ones where they are larger: tables never shrink under a running configuration. The
    /// flow tables are as asked for: their size is the operator's word.
    pub(super) fn at_least(self, present: &Self) -> Self {
        Self {
            directory_buckets: self.directory_buckets.max(present.directory_buckets),
            services: self.services.max(present.services),
            pools: self.pools.max(present.pools),
            maglev_words: self.maglev_words.max(present.maglev_words),
            backends: self.backends.max(present.backends),
            next_hops: self.next_hops.max(present.next_hops),
            flow_buckets: self.flow_buckets,
            reply_buckets: self.reply_buckets,
        }
    }

    /// Kernel memory of all maps, bytes, on a machine with `cpus` possible CPUs.
    pub fn memory_bytes(&self, cpus: u32) -> u64 {
        let times = |count: u32, size: usize| u64::from(count) * size as u64;
        let shared = times(self.directory_buckets, size_of::<DirectoryBucket>())
            + times(self.services, size_of::<Service>() + size_of::<NameEntry>())
            + times(self.pools, size_of::<Pool>() + size_of::<NameEntry>())
            + times(self.maglev_words, size_of::<MaglevWord>())
            + times(self.backends, size_of::<lb_common::Backend>())
            + times(self.next_hops, size_of::<NextHop>())
            + times(self.flow_buckets, size_of::<FlowBucket4>() + size_of::<FlowBucket6>())
            + times(self.reply_buckets, 2 * size_of::<ReplyBucket>())
            + u64::from(lb_common::ENDPOINT_FILTER_WORDS) * 8;
        let per_cpu =
            times(self.services, size_of::<ServiceCounters>() + REASON_COUNT as usize * size_of::<u64>())
                + times(self.backends, size_of::<BackendCounters>())
                + times(INTERFACE_SLOTS, size_of::<InterfaceCounters>())
                + ROUTE_CACHE * size_of::<RouteEntry>() as u64;
        shared + per_cpu * u64::from(cpus)
    }
}

/// Twice the need, a power of two, at least `least`.
fn room(need: u32, least: u32) -> u32 {
    need.saturating_mul(2).max(least).checked_next_power_of_two().unwrap_or(1 << 31)
}

/// Words for so many slots. A table is swapped by writing the new one beside the old one, so there is room for twice of all; but where
/// that is much memory, for an eighth more, which is many tables at a time.
fn arena(slots: u64) -> u32 {
    let words = u32::try_from(slots.div_ceil(u64::from(SLOTS_PER_WORD))).unwrap_or(u32::MAX / 2);
    let some = words.saturating_add(words / 8).div_ceil(ARENA_STEP).saturating_mul(ARENA_STEP);
    room(words.min(ARENA_TWICE), ARENA_STEP).max(some)
}

/// Buckets of a table for `flows` flows with twice as many places (design.md §2).
fn buckets(flows: u32, ways: usize) -> u32 {
    let places = u64::from(flows.max(1)) * 2;
    u32::try_from(places.div_ceil(ways as u64)).unwrap_or(u32::MAX).max(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_configuration_gets_the_least_sizes_and_exactly_its_flows() {
        let sizes = Sizes::of(&Demand {
            listeners: 3,
            pools: 2,
            backends: 9,
            maglev_slots: 4_000,
            flows: 1 << 20,
            ..Demand::default()
        });
        assert_eq!(sizes.services, 256);
        assert_eq!(sizes.pools, 256);
        assert_eq!(sizes.backends, 4096);
        assert_eq!(sizes.maglev_words, 1 << 20);
        assert_eq!(sizes.flow_buckets, (1 << 21) / 4);
        assert_eq!(sizes.reply_buckets, (1 << 21) / 8);
        assert_eq!(sizes.entries("reason_counters"), Some(256 * 64));
        assert_eq!(sizes.entries("control"), None);
    }

    #[test]
    fn a_thousand_services_of_a_hundred_backends_fit() {
        let demand = Demand {
            listeners: 3_000,
            pools: 2_000,
            backends: 200_000,
            maglev_slots: 2_000 * 65_537,
            flows: 1_100_000,
            ..Demand::default()
        };
        let sizes = Sizes::of(&demand);
        assert!(sizes.services >= 6_000 && sizes.pools >= 4_000 && sizes.backends >= 400_000);
        // Room for more than two hundred of the tables beside all of them, in no more memory than that takes.
        let slots = u64::from(sizes.maglev_words) * 4;
        assert!(slots >= demand.maglev_slots + 200 * 65_537, "{slots}");
        assert!(slots < demand.maglev_slots / 8 * 9 + 4 * u64::from(ARENA_STEP), "{slots}");
        assert!(u64::from(sizes.flow_buckets) * 4 >= 2 * u64::from(demand.flows));
    }

    #[test]
    fn more_tables_never_get_less_room_and_pieces_get_twice_of_it() {
        let words = |tables: u64| Sizes::of(&demand(tables)).maglev_words;
        let mut before = 0;
        for tables in (0..2_000).step_by(3) {
            let now = words(tables);
            assert!(
                now >= before && u64::from(now) * 4 >= (tables + 16) * 65_537,
                "{tables}: {before} {now}"
            );
            before = now;
        }
        for tables in [1, 300, 1_000] {
            let [plain, pieces] =
                [demand(tables), demand(tables).in_pieces()].map(|demand| Sizes::of(&demand));
            let needed = u64::from(plain.maglev_words) * 4 + 65_537;
            assert!(
                tables == 1 || u64::from(pieces.maglev_words) * 4 >= needed,
                "{tables} {plain:?} {pieces:?}"
            );
        }
    }

    fn demand(tables: u64) -> Demand {
        Demand { maglev_slots: tables * 65_537, ..Demand::default() }
    }

    #[test]
    fn extreme_demands_neither_overflow_nor_pass_the_ids() {
        let demand = Demand {
            listeners: u32::MAX,
            pools: u32::MAX,
            backends: u32::MAX,
            maglev_slots: u64::MAX,
            spare_slots: u64::MAX,
            flows: u32::MAX,
        };
        let sizes = Sizes::of(&demand);
        assert_eq!((sizes.services, sizes.pools), (65_536, 65_536));
        assert_eq!(sizes.backends, 1 << 31);
        assert_eq!(sizes.entries("reason_counters"), Some(65_536 * 64));
        let none = Sizes::of(&Demand::default());
        assert!(none.flow_buckets > 0 && none.reply_buckets > 0);
    }

    #[test]
    fn tables_do_not_shrink_but_flows_follow_the_configuration() {
        let large = Sizes::of(&Demand { listeners: 5_000, flows: 1 << 20, ..Demand::default() });
        let small = Sizes::of(&Demand { listeners: 5, flows: 1 << 10, ..Demand::default() });
        let merged = small.at_least(&large);
        assert_eq!(merged.services, large.services);
        assert_eq!(merged.flow_buckets, small.flow_buckets);
    }

    #[test]
    fn memory_is_dominated_by_the_flow_tables_at_the_default() {
        let sizes = Sizes::of(&Demand {
            listeners: 10,
            pools: 5,
            backends: 50,
            maglev_slots: 5_000,
            flows: 1 << 20,
            ..Demand::default()
        });
        let flows = (1_u64 << 19) * (64 + 128) + (1_u64 << 18) * 128;
        let all = sizes.memory_bytes(2);
        assert!(all > flows && all < flows + (16 << 20), "{all}");
        assert!(sizes.memory_bytes(8) > all);
    }
}
