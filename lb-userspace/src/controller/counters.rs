//! The kernel's counters under the names people know.
//!
//! In: the datapath's per-CPU counters, the last count of the flow tables, and [`Names`]. Out: what the API and
//! the metrics show. Invariant: read when asked; a counter that cannot be read is logged and shown as nothing, never as 0 of
//! another.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use lb_common::{BackendCounters, Reason, ServiceCounters};

use super::names::Names;
use crate::api;
use crate::api::types::{FlowTable, FlowTables, Totals};
use crate::clock::Clock;
use crate::datapath::counters::named;
use crate::datapath::flows::{FlowCounts, WalkedTables};
use crate::datapath::{Datapath, DatapathError};
use crate::membership::MemberId;
use crate::moment::Millis;
use crate::spec::Name;

/// The datapath as several readers and one writer hold it.
pub type Shared = Arc<RwLock<Datapath>>;

/// Counters of a running datapath.
pub struct Counters {
    /// Read for each answer; written while a change is carried out.
    pub datapath: Shared,
    /// Stored by the controller with each plan.
    pub names: Arc<ArcSwap<Names>>,
    /// Stored by the controller after each walk over the flow tables, and by whoever counts them in between.
    pub flows: Arc<FlowCount>,
    /// The daemon's.
    pub clock: Clock,
}

/// The flows as last counted, by one at a time.
#[derive(Default)]
pub struct FlowCount {
    last: ArcSwap<Counted>,
    counting: Mutex<()>,
}

impl FlowCount {
    /// As last counted.
    pub fn last(&self) -> Guard<Arc<Counted>> {
        self.last.load()
    }
}

/// A count of the flows.
#[derive(Default)]
pub struct Counted {
    /// What was counted.
    pub counts: FlowCounts,
    /// Until when it stands for another count: four times as long as it took. Whoever asks again and again costs a fifth of a CPU at
    /// most, however many flows there are.
    good_until: Option<Instant>,
    /// When it began.
    time: Millis,
}

impl Counted {
    fn count(tables: &WalkedTables, time: Millis) -> Self {
        let begun = Instant::now();
        let counts = tables.count();
        Self { counts, good_until: Some(Instant::now() + begun.elapsed() * 4), time }
    }

    fn is_good(&self) -> bool {
        self.good_until.is_some_and(|until| Instant::now() < until)
    }
}

impl Counters {
    fn read<T>(&self, what: impl FnOnce(&Datapath) -> Result<T, DatapathError>) -> Option<T> {
        // A panic while the lock was held cannot leave counters in a state that reading them would worsen.
        let datapath = self.datapath.read().unwrap_or_else(PoisonError::into_inner);
        what(&datapath).inspect_err(|error| tracing::warn!("cannot read counters: {error}")).ok()
    }

    fn service_counters(&self, names: &Names) -> Vec<(Name, ServiceCounters)> {
        let last = names.services.keys().next_back().copied().unwrap_or(0);
        let all =
            self.read(|datapath| datapath.counters().services(0, u32::from(last) + 1)).unwrap_or_default();
        let named = |(id, service): (&u16, &super::names::ServiceName)| {
            Some((service.name.clone(), *all.get(usize::from(*id))?))
        };
        names.services.iter().filter_map(named).collect()
    }
}

impl api::Counters for Counters {
    fn services(&self) -> BTreeMap<Name, Totals> {
        let names = self.names.load();
        let mut totals: BTreeMap<Name, Totals> = BTreeMap::new();
        for (name, counters) in self.service_counters(&names) {
            let total = totals.entry(name).or_default();
            let ServiceCounters { packets, bytes, new_flows, reply_packets, reply_bytes } = counters;
            add(total, Totals { packets, bytes, new_flows, reply_packets, reply_bytes });
        }
        totals
    }

    fn backends(&self) -> BTreeMap<MemberId, Totals> {
        let names = self.names.load();
        let all =
            self.read(|datapath| datapath.counters().backends(0, names.last_counter + 1)).unwrap_or_default();
        let total = |indexes: &Vec<u32>| {
            indexes.iter().filter_map(|index| all.get(*index as usize)).fold(
                Totals::default(),
                |mut sum, one| {
                    let BackendCounters { packets, bytes, new_flows, reply_packets, reply_bytes, .. } = *one;
                    add(&mut sum, Totals { packets, bytes, new_flows, reply_packets, reply_bytes });
                    sum
                },
            )
        };
        names.counters().into_iter().map(|(id, indexes)| (id, total(&indexes))).collect()
    }

    fn count_flows(&self) {
        // Nothing is guarded that a panic could leave half-done. Whoever waited finds the count that it waited for.
        let _one_at_a_time = self.flows.counting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.flows.last().is_good() {
            return;
        }
        let time = self.clock.now();
        // Without holding on to the datapath: changes do not wait for a count.
        if let Some(tables) = self.read(Datapath::flow_tables) {
            self.flows.last.store(Arc::new(Counted::count(&tables, time)));
        }
    }

    fn flows_counted(&self) -> Millis {
        self.flows.last().time
    }

    fn backend_flows(&self) -> BTreeMap<MemberId, u64> {
        let (names, counted) = (self.names.load(), self.flows.last());
        let mut flows = BTreeMap::new();
        for ((service, local), count) in &counted.counts.by_backend {
            if let Some(id) = names.backend_of(*service, *local) {
                *flows.entry(id).or_default() += count.total();
            }
        }
        flows
    }

    fn reasons(&self) -> Vec<(Option<Name>, Reason, u64)> {
        let names = self.names.load();
        let mut sums: BTreeMap<(Option<Name>, Reason), u64> = BTreeMap::new();
        let ids = std::iter::once((0, None))
            .chain(names.services.iter().map(|(id, s)| (*id, Some(s.name.clone()))));
        let last = names.services.keys().next_back().copied().unwrap_or(0);
        let all =
            self.read(|datapath| datapath.counters().reasons_of(0, u32::from(last) + 1)).unwrap_or_default();
        for (id, name) in ids {
            let Some(counts) = all.get(usize::from(id)) else { continue };
            for (reason, count) in named(counts).filter(|(_, count)| *count > 0) {
                *sums.entry((name.clone(), reason)).or_default() += count;
            }
        }
        sums.into_iter().map(|((name, reason), count)| (name, reason, count)).collect()
    }

    fn flow_tables(&self) -> FlowTables {
        let counted = self.flows.last();
        let counts = &counted.counts;
        let events = self.read(|datapath| datapath.counters().flows()).unwrap_or_default();
        let capacity = self.read(|datapath| Ok(datapath.flows().places())).unwrap_or_default();
        let table = |used, index: usize| {
            let event = events.get(index).copied().unwrap_or_default();
            FlowTable { used, capacity, not_stored: event.not_stored, evicted: event.evicted }
        };
        FlowTables { v4: table(counts.v4, 0), v6: table(counts.wide, 1) }
    }

    fn interface(&self, name: &str) -> BTreeMap<String, u64> {
        let counters = self.read(|datapath| datapath.interface_counters(name));
        let Some(Some(counters)) = counters else { return BTreeMap::new() };
        [
            ("pass", counters.pass_packets),
            ("drop", counters.drop_packets),
            ("transmit", counters.transmit_packets),
            ("redirect", counters.redirect_packets),
        ]
        .map(|(verdict, packets)| (verdict.to_owned(), packets))
        .into()
    }
}

fn add(sum: &mut Totals, one: Totals) {
    sum.packets += one.packets;
    sum.bytes += one.bytes;
    sum.new_flows += one.new_flows;
    sum.reply_packets += one.reply_packets;
    sum.reply_bytes += one.reply_bytes;
}
