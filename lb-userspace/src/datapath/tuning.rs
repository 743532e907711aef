//! What is fixed in the program at load: features in use, idle times, sizes, seed.
//!
//! In: [`Tuning`] (from the configuration), sizes, seed, the kernel's tick. Out: [`Settings`], the bytes of `SETTINGS`.
//! Invariant: a timeout never rounds down to nothing and never reaches half the range of a flow's 16-bit last-seen field.

use std::time::Duration;

use lb_common::{
    ABI_VERSION, FEATURE_ANY_PORT, FEATURE_DSR, FEATURE_FULL_NAT, FEATURE_IPIP, FEATURE_LOOPBACK,
};
use lb_common::{
    FEATURE_NAT, FEATURE_V4, FEATURE_V6, FEATURE_WRAP, Forward, Service, Settings, service_policy,
};

use super::privilege;
use super::seed::Seed;
use super::sizes::{INTERFACE_SLOTS, Sizes};
use crate::desired::Desired;
use crate::spec::{self, SNAT_PORTS, TimeoutSpec};

/// Most ticks of an idle time: half the range of the last-seen field, so that an old entry does not look young.
const MOST_TICKS: u64 = 1 << 15;

/// What a reload may change in the program without touching the maps.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Tuning {
    /// The `FEATURE_*` that services need; [`lb_common::FEATURE_GENERIC`] is added where an interface needs it.
    pub features: u32,
    /// Idle times of flows.
    pub timeouts: TimeoutSpec,
}

impl Tuning {
    /// What the desired state needs.
    pub fn of(desired: &Desired, timeouts: &TimeoutSpec) -> Self {
        let features = desired.services.iter().fold(0, |features, (listener, service)| {
            let family = if listener.addr.is_ipv6() { FEATURE_V6 } else { FEATURE_V4 };
            let any_port = if listener.port.is_none() { FEATURE_ANY_PORT } else { 0 };
            let loopback = if service.loopback { FEATURE_LOOPBACK } else { 0 };
            let wrap = if service.tunnel.is_some() { FEATURE_WRAP } else { 0 };
            features | feature_of(service.forward) | family | any_port | loopback | wrap
        });
        Self { features, timeouts: timeouts.clone() }
    }

    /// This and what another needs: for the time in which both a state and the next one are served.
    pub fn and(&self, other: &Self) -> Self {
        Self { features: self.features | other.features, timeouts: self.timeouts.clone() }
    }
}

const fn feature_of(forward: spec::Forward) -> u32 {
    match forward {
        spec::Forward::FullNat => FEATURE_FULL_NAT,
        spec::Forward::Nat => FEATURE_NAT,
        spec::Forward::Dsr => FEATURE_DSR,
        spec::Forward::Ipip => FEATURE_IPIP,
    }
}

/// The kernel's time as the program counts it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tick {
    /// A tick is `1 << shift` jiffies.
    pub(super) shift: u32,
    /// Its length.
    pub(super) length_ns: u64,
}

impl Tick {
    /// The tick nearest to a second for jiffies of this length.
    fn of_jiffies(jiffy_ns: u64) -> Self {
        let jiffy_ns = jiffy_ns.max(1);
        let per_second = 1_000_000_000 / jiffy_ns;
        let below = per_second.max(1).ilog2();
        // Above 1.41 of a power of two the next power is nearer: 1.41² = 2.
        let shift = if per_second * per_second > 2 << (2 * below) { below + 1 } else { below };
        Self { shift, length_ns: jiffy_ns << shift }
    }

    /// The tick of the running kernel. The resolution of the coarse clock is one jiffy (kernel/time/posix-timers.c).
    pub(super) fn of_kernel() -> Self {
        let mut resolution = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a timespec that lives during the call.
        let result = unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &raw mut resolution) };
        let known = result == 0 && resolution.tv_sec == 0 && resolution.tv_nsec > 0;
        Self::of_jiffies(if known {
            u64::try_from(resolution.tv_nsec).unwrap_or(4_000_000)
        } else {
            4_000_000
        })
    }

    /// A duration in ticks, rounded up, 1 to half the range of the last-seen field.
    pub(super) fn ticks(&self, duration: Duration) -> u16 {
        let ticks = duration.as_nanos().div_ceil(u128::from(self.length_ns));
        let bounded = u64::try_from(ticks).unwrap_or(MOST_TICKS).clamp(1, MOST_TICKS);
        u16::try_from(bounded).unwrap_or(u16::MAX)
    }
}

/// The load-time constants.
pub(super) fn settings(tuning: &Tuning, generic: bool, sizes: &Sizes, seed: &Seed, tick: Tick) -> Settings {
    let timeouts = &tuning.timeouts;
    let generic = if generic { lb_common::FEATURE_GENERIC } else { 0 };
    let perfmon = if privilege::has_perfmon() { lb_common::FEATURE_PERFMON } else { 0 };
    Settings {
        abi_version: ABI_VERSION,
        features: tuning.features | generic | perfmon,
        seed: seed.words(),
        flow4_buckets: sizes.flow_buckets,
        flow6_buckets: sizes.flow_buckets,
        reply4_buckets: sizes.reply_buckets,
        reply6_buckets: sizes.reply_buckets,
        directory_buckets: sizes.directory_buckets,
        tick_shift: tick.shift,
        tcp_syn_ticks: tick.ticks(timeouts.tcp_syn),
        tcp_ticks: tick.ticks(timeouts.tcp),
        tcp_closing_ticks: tick.ticks(timeouts.tcp_closing),
        udp_ticks: tick.ticks(timeouts.udp),
        snat_port_base: *SNAT_PORTS.start(),
        snat_port_count: SNAT_PORTS.end() - SNAT_PORTS.start() + 1,
        interface_slots: INTERFACE_SLOTS,
    }
}

/// The features that the services in the maps need.
pub(super) fn features_of(services: &[Service]) -> u32 {
    services.iter().fold(0, |features, service| features | features_of_service(service))
}

fn features_of_service(service: &Service) -> u32 {
    let policy = service.policy.load();
    if policy == 0 {
        return 0;
    }
    let forward = (policy >> service_policy::FORWARD) & 0xff;
    let mode = [
        (Forward::FullNat, FEATURE_FULL_NAT),
        (Forward::Nat, FEATURE_NAT),
        (Forward::Dsr, FEATURE_DSR),
        (Forward::Ipip, FEATURE_IPIP),
    ]
    .into_iter()
    .find(|(mode, _)| forward == *mode as u64)
    .map_or(0, |(_, feature)| feature);
    let family = if service.family == 6 { FEATURE_V6 } else { FEATURE_V4 };
    let any_port = if service.port_be == 0 { FEATURE_ANY_PORT } else { 0 };
    let is_loopback = (policy >> service_policy::FLAGS) & service_policy::FLAG_LOOPBACK != 0;
    let is_wrapped = (policy >> service_policy::FLAGS) & service_policy::FLAG_WRAP != 0;
    let wrap = if is_wrapped { FEATURE_WRAP } else { 0 };
    mode | family | any_port | wrap | if is_loopback { FEATURE_LOOPBACK } else { 0 }
}

#[cfg(test)]
mod tests {
    use lb_common::Word;

    use super::*;

    #[test]
    fn a_tick_is_the_power_of_two_of_jiffies_nearest_to_a_second() {
        for (hz, shift) in [(100, 7), (250, 8), (300, 8), (1000, 10)] {
            let tick = Tick::of_jiffies(1_000_000_000 / hz);
            assert_eq!(tick.shift, shift, "HZ {hz}");
            assert!((700_000_000..1_450_000_000).contains(&tick.length_ns), "HZ {hz}");
        }
        let here = Tick::of_kernel();
        assert!((700_000_000..1_450_000_000).contains(&here.length_ns));
    }

    #[test]
    fn timeouts_round_up_and_stay_within_the_field() {
        let tick = Tick { shift: 8, length_ns: 1_024_000_000 };
        assert_eq!(tick.ticks(Duration::from_secs(60)), 59);
        assert_eq!(tick.ticks(Duration::from_millis(1)), 1);
        assert_eq!(tick.ticks(Duration::ZERO), 1);
        assert_eq!(tick.ticks(Duration::from_secs(1 << 40)), 1 << 15);
    }

    #[test]
    fn features_follow_the_services_in_the_maps() {
        let service = |forward: Forward, port_be, family, flags: u64| Service {
            policy: Word::new(
                (forward as u64) << service_policy::FORWARD | flags << service_policy::FLAGS | 1,
            ),
            port_be,
            family,
            ..Service::default()
        };
        assert_eq!(features_of(&[Service::default()]), 0);
        let services = [service(Forward::Nat, 80, 4, 0), service(Forward::Ipip, 0, 6, 0)];
        let expected = FEATURE_NAT | FEATURE_IPIP | FEATURE_V4 | FEATURE_V6 | FEATURE_ANY_PORT;
        assert_eq!(features_of(&services), expected);
        let loopback = service(Forward::FullNat, 80, 4, service_policy::FLAG_LOOPBACK);
        assert_eq!(features_of(&[loopback]), FEATURE_FULL_NAT | FEATURE_V4 | FEATURE_LOOPBACK);
    }
}
