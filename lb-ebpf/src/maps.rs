//! The maps; docs/internals.md says what each holds. The numbers of entries here are what a bare load gives: the daemon sets its own.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, bpf_fib_lookup},
    btf_maps::{Array, DevMapHash, LpmTrie, PerCpuArray},
    macros::btf_map,
};
use lb_common::{
    Backend, BackendCounters, Control, DirectoryBucket, ENDPOINT_FILTER_WORDS, Explanation, FilterWord,
    FlowBucket4, FlowBucket6, FlowCounters, InterfaceCounters, MaglevWord, NameEntry, NextHop, Pool,
    REASON_COUNT, ReplyBucket, RouteEntry, Service, ServiceCounters, Source,
};
use lb_datapath::rounds::Notes;

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;

/// Entries of the route cache, a power of two.
pub const ROUTES: u32 = 4096;

macro_rules! maps {
    ($($name:ident: $kind:ty;)+) => {
        $(#[btf_map]
        #[expect(non_upper_case_globals, reason = "the static's name is the map's")]
        pub static $name: $kind = <$kind>::new();)+
    };
}

maps! {
    directory: Array<DirectoryBucket, 64, MMAPABLE>;
    services: Array<Service, 256, MMAPABLE>;
    service_names: Array<NameEntry, 256, MMAPABLE>;
    pools: Array<Pool, 256, MMAPABLE>;
    pool_names: Array<NameEntry, 256, MMAPABLE>;
    maglev: Array<MaglevWord, 1024, MMAPABLE>;
    backends: Array<Backend, 4096, MMAPABLE>;
    next_hops: Array<NextHop, 4096, MMAPABLE>;
    sources: Array<Source, 256, MMAPABLE>;
    endpoint_filter: Array<FilterWord, { ENDPOINT_FILTER_WORDS as usize }, MMAPABLE>;
    control: Array<Control, 1, MMAPABLE>;
    flows4: Array<FlowBucket4, 1024, MMAPABLE>;
    flows6: Array<FlowBucket6, 1024, MMAPABLE>;
    replies4: Array<ReplyBucket, 512, MMAPABLE>;
    replies6: Array<ReplyBucket, 512, MMAPABLE>;
    route_cache: PerCpuArray<RouteEntry, { ROUTES as usize }>;
    interface_counters: PerCpuArray<InterfaceCounters, 256>;
    service_counters: PerCpuArray<ServiceCounters, 256>;
    backend_counters: PerCpuArray<BackendCounters, 4096>;
    reason_counters: PerCpuArray<u64, { 256 * REASON_COUNT as usize }>;
    flow_counters: PerCpuArray<FlowCounters, 2>;
    devices: DevMapHash<64>;
    explanation: Array<Explanation, 1, MMAPABLE>;
    fib_query: PerCpuArray<bpf_fib_lookup, 2>;
    notes: PerCpuArray<Notes, 2>;
    decap_sources: LpmTrie<[u8; 16], u32, 256>;
}
