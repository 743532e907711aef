//! The tables in vectors.

use std::sync::{Mutex, MutexGuard, PoisonError};

use lb_common::{
    ABI_VERSION, Address, Backend, BackendCounters, Control, DirectoryBucket, ENDPOINT_FILTER_WORDS,
    Explanation, FilterWord, FlowBucket4, FlowBucket6, FlowCounters, InterfaceCounters, MaglevWord, NextHop,
    Pool, REASON_COUNT, Reason, ReplyBucket, RouteEntry, Service, ServiceCounters, Settings, Source, Word,
};

use crate::{
    classify::same,
    constants::Constants,
    packet::Packet,
    pipeline::{Family, Verdict},
    rounds::{self, Notes, Round, Turn},
    tables::{FlowEvent, Progress, Tables, Traffic},
};

/// Every counter, as read at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counters {
    /// By interface index modulo `Settings::interface_slots`.
    pub interfaces: Vec<InterfaceCounters>,
    /// By service id.
    pub services: Vec<ServiceCounters>,
    /// By `Backend::counter`.
    pub backends: Vec<BackendCounters>,
    /// By service id × `REASON_COUNT` + reason.
    pub reasons: Vec<u64>,
    /// 0 = IPv4, 1 = wide.
    pub flows: [FlowCounters; 2],
}

/// The tables of the packet path in vectors, by the same indices as the maps. `OBSERVE` as [`Tables::OBSERVE`].
pub struct HostTables<const OBSERVE: bool = false> {
    /// Load-time constants.
    pub settings: Settings,
    /// The present tick.
    pub now: u16,
    /// What `random` gives.
    pub random: u32,
    /// The interface the frame came in by.
    pub ingress: u32,
    /// Map `directory`.
    pub directory: Vec<DirectoryBucket>,
    /// Map `services`.
    pub services: Vec<Service>,
    /// Map `pools`.
    pub pools: Vec<Pool>,
    /// Map `maglev`.
    pub maglev: Vec<MaglevWord>,
    /// Map `backends`.
    pub backends: Vec<Backend>,
    /// Map `next_hops`.
    pub next_hops: Vec<NextHop>,
    /// Map `sources`.
    pub sources: Vec<Source>,
    /// Map `endpoint_filter`.
    pub endpoint_filter: Vec<FilterWord>,
    /// Map `control`.
    pub control: Control,
    /// Map `flows4`.
    pub flows4: Vec<FlowBucket4>,
    /// Map `flows6`.
    pub flows6: Vec<FlowBucket6>,
    /// Map `replies4`.
    pub replies4: Vec<ReplyBucket>,
    /// Map `replies6`.
    pub replies6: Vec<ReplyBucket>,
    /// Interfaces lbd may send through (map `devices`).
    pub devices: Vec<u32>,
    /// What the kernel would answer for an address (`bpf_fib_lookup`).
    pub routes: Vec<(Address, RouteEntry)>,
    route_cache: Mutex<Vec<RouteEntry>>,
    counters: Mutex<Counters>,
    explanation: Mutex<Explanation>,
}

fn filled<T: Default>(count: usize) -> Vec<T> {
    core::iter::repeat_with(T::default).take(count).collect()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<const OBSERVE: bool> HostTables<OBSERVE> {
    /// Empty tables of the sizes the settings name, with room for `ids` services, pools, backends and next hops each.
    pub fn new(settings: Settings, ids: usize) -> Self {
        Self {
            settings: Settings { abi_version: ABI_VERSION, ..settings },
            now: 0,
            random: 0,
            ingress: 1,
            directory: filled(settings.directory_buckets as usize),
            services: filled(ids),
            pools: filled(ids),
            maglev: filled(4096),
            backends: filled(ids),
            next_hops: vec![NextHop::default(); ids],
            sources: vec![Source::default(); 256],
            endpoint_filter: filled(ENDPOINT_FILTER_WORDS as usize),
            control: Control::default(),
            flows4: filled(settings.flow4_buckets as usize),
            flows6: filled(settings.flow6_buckets as usize),
            replies4: filled(settings.reply4_buckets as usize),
            replies6: filled(settings.reply6_buckets as usize),
            devices: Vec::new(),
            routes: Vec::new(),
            route_cache: Mutex::new(vec![RouteEntry::default(); 4096]),
            counters: Mutex::new(Counters {
                interfaces: vec![InterfaceCounters::default(); settings.interface_slots as usize],
                services: vec![ServiceCounters::default(); ids],
                backends: vec![BackendCounters::default(); ids],
                reasons: vec![0; ids * REASON_COUNT as usize],
                flows: [FlowCounters::default(); 2],
            }),
            explanation: Mutex::new(Explanation { slot: u32::MAX, ..Explanation::default() }),
        }
    }

    /// The counters now.
    pub fn counters(&self) -> Counters {
        locked(&self.counters).clone()
    }

    /// The explanation now.
    pub fn explanation(&self) -> Explanation {
        *locked(&self.explanation)
    }
}

/// The settings by value.
#[derive(Clone, Copy)]
pub struct HostConstants(Settings);

macro_rules! forward {
    ($($field:ident: $kind:ty,)+) => {
        impl Constants for HostConstants {
            $(fn $field(self) -> $kind {
                self.0.$field
            })+

            fn seed(self, index: usize) -> u64 {
                self.0.seed[index & 3]
            }
        }
    };
}

forward! {
    features: u32,
    flow4_buckets: u32,
    flow6_buckets: u32,
    reply4_buckets: u32,
    reply6_buckets: u32,
    directory_buckets: u32,
    tick_shift: u32,
    tcp_syn_ticks: u16,
    tcp_ticks: u16,
    tcp_closing_ticks: u16,
    udp_ticks: u16,
    snat_port_base: u16,
    snat_port_count: u16,
    interface_slots: u32,
}

impl<const OBSERVE: bool> Tables for HostTables<OBSERVE> {
    const OBSERVE: bool = OBSERVE;

    type Constants = HostConstants;

    fn constants(&self) -> HostConstants {
        HostConstants(self.settings)
    }

    fn now(&self) -> u16 {
        self.now
    }

    fn random(&self) -> u32 {
        self.random
    }

    fn ingress(&self) -> u32 {
        self.ingress
    }

    fn directory(&self, bucket: u32) -> Option<&DirectoryBucket> {
        self.directory.get(bucket as usize)
    }

    fn service(&self, id: u32) -> Option<&Service> {
        self.services.get(id as usize)
    }

    fn pool(&self, id: u32) -> Option<&Pool> {
        self.pools.get(id as usize)
    }

    fn maglev(&self, word: u32) -> Option<&MaglevWord> {
        self.maglev.get(word as usize)
    }

    fn backend(&self, index: u32) -> Option<&Backend> {
        self.backends.get(index as usize)
    }

    fn next_hop(&self, index: u32) -> Option<&NextHop> {
        self.next_hops.get(index as usize)
    }

    fn source(&self, index: u32) -> Option<&Source> {
        self.sources.get(index as usize)
    }

    fn endpoint_filter(&self, word: u32) -> Option<u64> {
        self.endpoint_filter.get(word as usize).map(|filter| filter.word.load())
    }

    fn flow4(&self, bucket: u32) -> Option<&FlowBucket4> {
        self.flows4.get(bucket as usize)
    }

    fn flow6(&self, bucket: u32) -> Option<&FlowBucket6> {
        self.flows6.get(bucket as usize)
    }

    fn reply4(&self, bucket: u32) -> Option<&ReplyBucket> {
        self.replies4.get(bucket as usize)
    }

    fn reply6(&self, bucket: u32) -> Option<&ReplyBucket> {
        self.replies6.get(bucket as usize)
    }

    fn cached_route(&self, slot: u32, destination: &Address) -> Option<RouteEntry> {
        let route = locked(&self.route_cache)[slot as usize % 4096];
        same(&route.address, destination).then_some(route)
    }

    fn cache_route(&self, slot: u32, route: &RouteEntry) {
        locked(&self.route_cache)[slot as usize % 4096] = *route;
    }

    #[expect(clippy::cast_possible_truncation, reason = "the program compares the low half")]
    fn route_generation(&self) -> u32 {
        self.control.route_generation.load() as u32
    }

    fn flows_move(&self) -> Option<&Word> {
        Some(&self.control.flows_move)
    }

    fn look_up_route(&self, _source: &Address, destination: &Address) -> Option<RouteEntry> {
        self.routes.iter().find(|(address, _)| address == destination).map(|(_, route)| *route)
    }

    fn redirect(&self, interface: u32) -> bool {
        self.devices.contains(&interface)
    }

    fn count_verdict(&self, verdict: Verdict) {
        let index = (self.ingress & (self.settings.interface_slots - 1)) as usize;
        let counters = &mut locked(&self.counters).interfaces[index];
        match verdict {
            Verdict::Pass => counters.pass_packets += 1,
            Verdict::Drop => counters.drop_packets += 1,
            Verdict::Transmit => counters.transmit_packets += 1,
            Verdict::Redirect => counters.redirect_packets += 1,
        }
    }

    fn count_request(&self, traffic: Traffic, new_flow: bool) {
        let counters = &mut *locked(&self.counters);
        let service = &mut counters.services[traffic.service as usize];
        service.packets += 1;
        service.bytes += u64::from(traffic.bytes);
        service.new_flows += u64::from(new_flow);
        let backend = &mut counters.backends[traffic.backend_counter as usize];
        backend.packets += 1;
        backend.bytes += u64::from(traffic.bytes);
        backend.new_flows += u64::from(new_flow);
    }

    fn count_reply(&self, traffic: Traffic) {
        let counters = &mut *locked(&self.counters);
        let service = &mut counters.services[traffic.service as usize];
        service.reply_packets += 1;
        service.reply_bytes += u64::from(traffic.bytes);
        let backend = &mut counters.backends[traffic.backend_counter as usize];
        backend.reply_packets += 1;
        backend.reply_bytes += u64::from(traffic.bytes);
    }

    fn count_progress(&self, backend_counter: u32, progress: Progress) {
        let backend = &mut locked(&self.counters).backends[backend_counter as usize];
        match progress {
            Progress::Continued => backend.continued_flows += 1,
            Progress::Repeated => backend.repeated_syns += 1,
            Progress::Refused => backend.refused_flows += 1,
        }
    }

    fn count_reason(&self, service: u16, reason: Reason) {
        let index = u32::from(service) * REASON_COUNT + reason as u32;
        locked(&self.counters).reasons[index as usize] += 1;
    }

    fn count_flow(&self, table: u32, event: FlowEvent) {
        let counters = &mut locked(&self.counters).flows[table as usize];
        match event {
            FlowEvent::Inserted => counters.inserted += 1,
            FlowEvent::Evicted => counters.evicted += 1,
            FlowEvent::NotStored => counters.not_stored += 1,
            FlowEvent::Reselected => counters.reselected += 1,
        }
    }

    fn explain(&self, write: impl FnOnce(&mut Explanation)) {
        write(&mut locked(&self.explanation));
    }

    /// A function, as in the kernel: the whole pipeline once in each place that takes a round would be minutes of a compiler's time.
    #[inline(never)]
    fn round<H: Family, P: Packet>(
        &self,
        round: Round,
        packet: &mut P,
        turn: Turn,
        notes: Option<&mut Notes>,
    ) -> Turn {
        rounds::round::<H, P, Self>(round, packet, self, turn, notes)
    }
}
