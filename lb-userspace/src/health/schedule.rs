//! When a backend is asked next.
//!
//! In: the time, a random number, the interval. Out: the time of the next probe. Invariant: from the start of one probe
//! to the start of the next never passes more than the interval, whatever the probe does: jitter only shortens, a probe that times out moves nothing. So the `fall`-th failure of a lost backend is known after
//! interval × fall + timeout at the latest. No clock, no I/O.

use std::time::{Duration, Instant};

use crate::spec::{MAX_JITTER, Percent};

/// No interval below this one is followed, whatever was asked for.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// So many targets may be asked at once when they arrive together; more are spread over [`SPREAD`].
pub const BURST_TARGETS: usize = 200;

/// The longest time over which the first probes of many new targets are spread.
const SPREAD: Duration = Duration::from_secs(1);

/// When target `index` of `count` that arrived together is asked first: at once, or, if they are more than
/// [`BURST_TARGETS`], evenly over the shorter of its interval and one second.
pub fn first_probe(now: Instant, interval: Duration, index: usize, count: usize) -> Instant {
    if count <= BURST_TARGETS {
        return now;
    }
    let part = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    now + interval.min(SPREAD).saturating_mul(part(index)) / part(count)
}

/// The probe after the one that was planned for `planned` and started at `now`. `random` is any 64-bit number.
///
/// A start that came late is followed by one on the old beat, unless that is past already: missed probes are not made up
/// for in a burst.
pub fn next_probe(
    planned: Instant,
    now: Instant,
    interval: Duration,
    jitter: Percent,
    random: u64,
) -> Instant {
    let step = step(interval, jitter, random);
    let next = planned + step;
    if next > now { next } else { now + step }
}

/// An interval shortened by a random part of at most `jitter`, so that checks of many daemons and backends do not march in step.
pub fn step(interval: Duration, jitter: Percent, random: u64) -> Duration {
    let interval = interval.max(SHORTEST_INTERVAL);
    interval - part(jitter.min(MAX_JITTER).of_time(interval), random)
}

/// A part of `most`, from none of it to nearly all, as `random` goes from 0 to `u64::MAX`.
fn part(most: Duration, random: u64) -> Duration {
    let nanos = (most.as_nanos() * u128::from(random)) >> u64::BITS;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However late the probes start, the next never starts more than one interval after the one before.
        #[test]
        fn never_later_than_the_interval(
            interval_ms in 10_u64..100_000,
            percent in 0_u8..=100,
            steps in prop::collection::vec((any::<u64>(), 0_u64..300_000), 1..50),
        ) {
            let interval = Duration::from_millis(interval_ms);
            let jitter = Percent::new(percent);
            let mut planned = Instant::now();
            for (random, late_ms) in steps {
                let started = planned + Duration::from_millis(late_ms);
                let next = next_probe(planned, started, interval, jitter, random);
                prop_assert!(next > started);
                prop_assert!(next <= started + interval);
                // On time: not earlier than the jitter says, and never in half the time.
                if late_ms == 0 {
                    prop_assert!(next >= started + interval - jitter.of_time(interval).min(interval / 2));
                }
                planned = next;
            }
        }

        /// A probe that times out holds nothing up: planned on time, `fall` probes begin within fall × interval.
        #[test]
        fn the_last_failure_is_known_in_time(
            interval_ms in 10_u64..10_000, fall in 1_u32..10, randoms in prop::collection::vec(any::<u64>(), 10),
        ) {
            let interval = Duration::from_millis(interval_ms);
            let lost = Instant::now();
            let mut start = lost;
            for random in &randoms[..fall as usize] {
                start = next_probe(start, start, interval, Percent::new(10), *random);
            }
            prop_assert!(start <= lost + interval * fall);
        }

        #[test]
        fn a_large_arrival_is_spread_in_order(count in 201_usize..20_000, interval_ms in 1_u64..5000) {
            let now = Instant::now();
            let interval = Duration::from_millis(interval_ms);
            let at = |index| first_probe(now, interval, index, count);
            prop_assert_eq!(at(0), now);
            prop_assert!(at(count - 1) < now + interval.min(Duration::from_secs(1)));
            prop_assert!(at(count / 2) <= at(count / 2 + 1));
        }
    }

    #[test]
    fn a_small_arrival_is_asked_at_once() {
        let now = Instant::now();
        assert_eq!(first_probe(now, Duration::from_secs(2), 199, 200), now);
    }

    #[test]
    fn jitter_reaches_from_nothing_to_its_share() {
        let (interval, ten) = (Duration::from_secs(2), Percent::new(10));
        assert_eq!(step(interval, ten, 0), interval);
        let shortest = step(interval, ten, u64::MAX);
        assert!(
            (Duration::from_millis(1800)..Duration::from_millis(1801)).contains(&shortest),
            "{shortest:?}"
        );
        assert_eq!(step(interval, Percent::ZERO, u64::MAX), interval);
        assert!(step(interval, Percent::ALL, u64::MAX) >= interval / 2);
    }
}
