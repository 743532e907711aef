//! The maps as `Tables`.

use core::{mem::zeroed, ptr::null_mut};

use aya_ebpf::{
    bindings::{BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup, xdp_action, xdp_md},
    helpers::{bpf_fib_lookup as look_up, bpf_get_prandom_u32, bpf_jiffies64},
};
use lb_common::{
    Address, Backend, DirectoryBucket, Explanation, FlowBucket4, FlowBucket6, MaglevWord, NextHop, Pool,
    REASON_COUNT, Reason, ReplyBucket, RouteEntry, Service, Source, Word,
};
use lb_datapath::{
    cold,
    constants::Constants,
    flow_table::{Kind, Narrow, Wide},
    nat,
    packet::Packet,
    pipeline::{Family, Verdict},
    rounds::{Notes, Round, Turn},
    select::Wish,
    tables::{FlowEvent, Progress, Tables, Traffic},
};

use crate::{
    maps, rounds,
    settings::{Loaded, tick_shift},
};

/// AF_INET, AF_INET6.
const INET: u8 = 2;
const INET6: u8 = 10;

/// Index of `lo`, in every network namespace.
const LOOPBACK: u32 = 1;

/// The maps, seen by one run of a program.
pub struct Kernel<const OBSERVE: bool> {
    context: *mut xdp_md,
}

impl<const OBSERVE: bool> Kernel<OBSERVE> {
    /// For the frame of this context.
    #[inline(always)]
    pub fn new(context: *mut xdp_md) -> Self {
        Self { context }
    }
}

/// Adds to a counter of this CPU. Nothing else on this CPU runs the program meanwhile, so no atomic is needed.
macro_rules! count {
    ($counters:expr, $($field:ident += $by:expr),+) => {
        if let Some(counters) = $counters {
            // SAFETY: a valid entry of a per-CPU array, of this CPU.
            $(unsafe { (*counters).$field = (*counters).$field.wrapping_add($by as u64) };)+
        }
    };
}

/// Functions of their own to the verifier (global ones, over plain numbers): each is judged once, not on every path that calls it.
/// None of them looks at the context.
macro_rules! cold {
    ($($name:ident($a:ident, $b:ident) = $function:ident::<$kind:ident>($($argument:expr),+);)+) => {
        $(#[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name($a: u64, $b: u64) -> u64 {
            cold::$function::<$kind, _>(&Kernel::<true>::new(null_mut()), $($argument),+)
        })+
    };
}

cold! {
    cold_place4(hash, now) = place::<Narrow>(hash, now as u16);
    cold_place6(hash, now) = place::<Wide>(hash, now as u16);
    cold_hint4(hash, home) = hint::<Narrow>(hash, home != 0);
    cold_hint6(hash, home) = hint::<Wide>(hash, home != 0);
    cold_occupant4(number, now) = occupant::<Narrow>(number as u32, now as u16);
    cold_occupant6(number, now) = occupant::<Wide>(number as u32, now as u16);
    cold_rank4(number, now) = rank::<Narrow>(number as u32, now as u16);
    cold_rank6(number, now) = rank::<Wide>(number as u32, now as u16);
}

/// The same over a flow that begins.
macro_rules! cold_of_wish {
    ($($name:ident = $kind:ident;)+) => {
        $(#[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(wish: *const Wish, step: u64) -> u64 {
            // SAFETY: the caller's wish; the verifier demands that null is looked for.
            let Some(wish) = (unsafe { wish.as_ref() }) else { return 0 };
            nat::offer::<$kind, _>(&Kernel::<false>::new(null_mut()), wish, step as u32)
        })+
    };
}

cold_of_wish! {
    cold_offer4 = Narrow;
    cold_offer6 = Wide;
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn cold_listener(upper: u64, lower: u64, listener: u64) -> u64 {
    cold::listener(&Kernel::<true>::new(null_mut()), upper, lower, listener)
}

impl<const OBSERVE: bool> Tables for Kernel<OBSERVE> {
    const OBSERVE: bool = OBSERVE;

    type Constants = Loaded;

    #[inline(always)]
    fn constants(&self) -> Loaded {
        Loaded
    }

    #[inline(always)]
    fn now(&self) -> u16 {
        // SAFETY: the helper takes no arguments. The verifier replaces it by a load.
        (unsafe { bpf_jiffies64() } >> tick_shift()) as u16
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: the helper takes no arguments.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        // SAFETY: the kernel gives a valid context.
        unsafe { (*self.context).ingress_ifindex }
    }

    #[inline(always)]
    fn directory(&self, bucket: u32) -> Option<&DirectoryBucket> {
        maps::directory.get(bucket)
    }

    #[inline(always)]
    fn service(&self, id: u32) -> Option<&Service> {
        maps::services.get(id)
    }

    #[inline(always)]
    fn pool(&self, id: u32) -> Option<&Pool> {
        maps::pools.get(id)
    }

    #[inline(always)]
    fn maglev(&self, word: u32) -> Option<&MaglevWord> {
        maps::maglev.get(word)
    }

    #[inline(always)]
    fn backend(&self, index: u32) -> Option<&Backend> {
        maps::backends.get(index)
    }

    #[inline(always)]
    fn next_hop(&self, index: u32) -> Option<&NextHop> {
        maps::next_hops.get(index)
    }

    #[inline(always)]
    fn source(&self, index: u32) -> Option<&Source> {
        maps::sources.get(index)
    }

    #[inline(always)]
    fn endpoint_filter(&self, word: u32) -> Option<u64> {
        maps::endpoint_filter.get(word).map(|filter| filter.word.load())
    }

    #[inline(always)]
    fn flow4(&self, bucket: u32) -> Option<&FlowBucket4> {
        maps::flows4.get(bucket)
    }

    #[inline(always)]
    fn flow6(&self, bucket: u32) -> Option<&FlowBucket6> {
        maps::flows6.get(bucket)
    }

    #[inline(always)]
    fn reply4(&self, bucket: u32) -> Option<&ReplyBucket> {
        maps::replies4.get(bucket)
    }

    #[inline(always)]
    fn reply6(&self, bucket: u32) -> Option<&ReplyBucket> {
        maps::replies6.get(bucket)
    }

    #[inline(always)]
    fn cached_route(&self, slot: u32, destination: &Address) -> Option<RouteEntry> {
        let route = maps::route_cache.get(slot & (maps::ROUTES - 1))?;
        lb_datapath::classify::same(&route.address, destination).then_some(*route)
    }

    #[inline(always)]
    fn cache_route(&self, slot: u32, route: &RouteEntry) {
        if let Some(entry) = maps::route_cache.get_ptr_mut(slot & (maps::ROUTES - 1)) {
            // SAFETY: a valid entry of a per-CPU array, of this CPU.
            unsafe { *entry = *route };
        }
    }

    #[inline(always)]
    fn route_generation(&self) -> u32 {
        maps::control.get(0).map_or(0, |control| control.route_generation.load() as u32)
    }

    #[inline(always)]
    fn flows_move(&self) -> Option<&Word> {
        maps::control.get(0).map(|control| &control.flows_move)
    }

    #[inline(always)]
    fn look_up_route(&self, source: &Address, destination: &Address) -> Option<RouteEntry> {
        // In a map rather than on the stack, of which the rounds need every byte.
        let query = maps::fib_query.get_ptr_mut(u32::from(OBSERVE))?;
        // SAFETY: a valid entry of a per-CPU array, of this CPU; all zero is a valid value of the helper's plain parameters.
        let query = unsafe {
            *query = zeroed();
            &mut *query
        };
        // As `lo`, where the kernel's own packets start from: the ingress interface would be answered only if it forwards.
        query.ifindex = LOOPBACK;
        if destination.is_v4() {
            query.family = INET;
            query.__bindgen_anon_3.ipv4_src = source.words[3];
            query.__bindgen_anon_4.ipv4_dst = destination.words[3];
        } else {
            query.family = INET6;
            query.__bindgen_anon_3.ipv6_src = source.words;
            query.__bindgen_anon_4.ipv6_dst = destination.words;
        }
        // SAFETY: context and parameters are valid for the call.
        let answer =
            unsafe { look_up(self.context.cast(), &raw mut *query, size_of::<bpf_fib_lookup>() as i32, 0) };
        if answer != i64::from(BPF_FIB_LKUP_RET_SUCCESS) {
            return None;
        }
        let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (query.dmac, query.smac);
        Some(RouteEntry {
            ethernet: [
                u32::from_ne_bytes([a, b, c, d]),
                u32::from_ne_bytes([e, f, g, h]),
                u32::from_ne_bytes([i, j, k, l]),
            ],
            interface: query.ifindex,
            // SAFETY: the helper wrote the MTU into this field (5.12).
            mtu: unsafe { query.__bindgen_anon_1.mtu_result },
            ..RouteEntry::default()
        })
    }

    #[inline(always)]
    fn redirect(&self, interface: u32) -> bool {
        maps::devices.redirect(interface, u64::from(xdp_action::XDP_ABORTED)).is_ok()
    }

    #[inline(always)]
    fn count_verdict(&self, verdict: Verdict) {
        let index = self.ingress() & (Loaded.interface_slots().wrapping_sub(1));
        let counters = maps::interface_counters.get_ptr_mut(index);
        // VERIFIER: "tried to add from different maps, paths or scalars": a field chosen by the verdict's number takes CAP_PERFMON.
        match verdict {
            Verdict::Pass => count!(counters, pass_packets += 1),
            Verdict::Drop => count!(counters, drop_packets += 1),
            Verdict::Transmit => count!(counters, transmit_packets += 1),
            Verdict::Redirect => count!(counters, redirect_packets += 1),
        }
    }

    #[inline(always)]
    fn count_request(&self, traffic: Traffic, new_flow: bool) {
        let service = maps::service_counters.get_ptr_mut(u32::from(traffic.service));
        count!(service, packets += 1, bytes += traffic.bytes, new_flows += new_flow);
        let backend = maps::backend_counters.get_ptr_mut(traffic.backend_counter);
        count!(backend, packets += 1, bytes += traffic.bytes, new_flows += new_flow);
    }

    #[inline(always)]
    fn count_reply(&self, traffic: Traffic) {
        let service = maps::service_counters.get_ptr_mut(u32::from(traffic.service));
        count!(service, reply_packets += 1, reply_bytes += traffic.bytes);
        let backend = maps::backend_counters.get_ptr_mut(traffic.backend_counter);
        count!(backend, reply_packets += 1, reply_bytes += traffic.bytes);
    }

    #[inline(always)]
    fn count_progress(&self, backend_counter: u32, progress: Progress) {
        let backend = maps::backend_counters.get_ptr_mut(backend_counter);
        // VERIFIER: as in `count_verdict`; here the compiler would choose the field by its offset in any case.
        let [continued, repeated, refused] =
            [Progress::Continued, Progress::Repeated, Progress::Refused].map(|one| one == progress);
        count!(backend, continued_flows += continued, repeated_syns += repeated, refused_flows += refused);
    }

    #[inline(always)]
    fn count_reason(&self, service: u16, reason: Reason) {
        let index = u32::from(service) * REASON_COUNT + reason as u32;
        if let Some(counter) = maps::reason_counters.get_ptr_mut(index) {
            // SAFETY: a valid entry of a per-CPU array, of this CPU.
            unsafe { *counter = (*counter).wrapping_add(1) };
        }
    }

    #[inline(always)]
    fn count_flow(&self, table: u32, event: FlowEvent) {
        let counters = maps::flow_counters.get_ptr_mut(table);
        match event {
            FlowEvent::Inserted => count!(counters, inserted += 1),
            FlowEvent::Evicted => count!(counters, evicted += 1),
            FlowEvent::NotStored => count!(counters, not_stored += 1),
            FlowEvent::Reselected => count!(counters, reselected += 1),
        }
    }

    #[inline(always)]
    fn with_notes<R>(&self, action: impl FnOnce(&mut Notes) -> R) -> Option<R> {
        let notes = maps::notes.get_ptr_mut(u32::from(OBSERVE))?;
        // SAFETY: a valid entry of a per-CPU array, of this CPU and this program, which nothing interrupts for another packet.
        let notes = unsafe { &mut *notes };
        *notes = Notes::default();
        Some(action(notes))
    }

    #[inline(always)]
    fn round<H: Family, P: Packet>(
        &self,
        round: Round,
        _packet: &mut P,
        turn: Turn,
        notes: Option<&mut Notes>,
    ) -> Turn {
        rounds::call((OBSERVE, H::VERSION == 4, round), self.context, turn, notes)
    }

    #[inline(always)]
    fn listener(&self, destination: &Address, port_be: u16, protocol: u8) -> u64 {
        let [upper, lower, listener] = cold::listener_words(destination, port_be, protocol);
        cold_listener(upper, lower, listener)
    }

    #[inline(always)]
    fn place<K: Kind>(&self, hash: u64, now: u16) -> u64 {
        let now = u64::from(now);
        if K::INDEX == Narrow::INDEX { cold_place4(hash, now) } else { cold_place6(hash, now) }
    }

    #[inline(always)]
    fn hint<K: Kind>(&self, hash: u64, home: bool) -> u64 {
        let home = u64::from(home);
        if K::INDEX == Narrow::INDEX { cold_hint4(hash, home) } else { cold_hint6(hash, home) }
    }

    #[inline(always)]
    fn occupant<K: Kind>(&self, number: u32, now: u16) -> u64 {
        let (number, now) = (u64::from(number), u64::from(now));
        if K::INDEX == Narrow::INDEX { cold_occupant4(number, now) } else { cold_occupant6(number, now) }
    }

    #[inline(always)]
    fn rank<K: Kind>(&self, number: u32, now: u16) -> u64 {
        let (number, now) = (u64::from(number), u64::from(now));
        if K::INDEX == Narrow::INDEX { cold_rank4(number, now) } else { cold_rank6(number, now) }
    }

    #[inline(always)]
    fn offer<K: Kind>(&self, wish: &Wish, step: u32) -> u64 {
        let step = u64::from(step);
        if K::INDEX == Narrow::INDEX { cold_offer4(wish, step) } else { cold_offer6(wish, step) }
    }

    #[inline(always)]
    fn explain(&self, write: impl FnOnce(&mut Explanation)) {
        if let Some(explanation) = maps::explanation.get_ptr_mut(0) {
            // SAFETY: a valid entry; the daemon runs one explaining program at a time and reads when it has returned.
            write(unsafe { &mut *explanation });
        }
    }
}
