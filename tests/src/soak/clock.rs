//! One clock for all processes of a soak, and how late each of them is.
//!
//! In: nothing. Out: [`now`], the kernel's monotonic clock, which every process of a host shares, counted from an epoch that is handed
//! on in [`EPOCH`], so that a time that was sent can be compared with the time of its arrival; [`Late`], the times in which a thread should have run and did not. Invariant: what a thread
//! did late is known before anything that it did late is judged.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::model::At;

/// Time between two looks of a thread at its own lateness.
const BEAT: Duration = Duration::from_millis(20);
/// Late by less than this is on time.
const LEAST: Duration = Duration::from_millis(50);

/// The variable with which a process tells those it starts what 0 is, in nanoseconds of the kernel's clock.
pub(super) const EPOCH: &str = "LBD_SOAK_EPOCH";

/// Time since the epoch.
pub(super) fn now() -> At {
    monotonic().saturating_sub(epoch())
}

/// What 0 is: what the parent said, else the first time that somebody asked.
pub(super) fn epoch() -> Duration {
    static FIRST: OnceLock<Duration> = OnceLock::new();
    *FIRST.get_or_init(|| {
        let told = std::env::var(EPOCH).ok().and_then(|text| text.parse().ok());
        told.map_or_else(monotonic, Duration::from_nanos)
    })
}

fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime writes one timespec, which is ours; CLOCK_MONOTONIC exists on every Linux.
    unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time);
    }
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The same clock at an instant of this process.
pub(super) fn at(instant: Instant) -> At {
    let (now, here) = (now(), Instant::now());
    if instant > here { now + (instant - here) } else { now.saturating_sub(here - instant) }
}

/// As it is told.
pub(super) fn seconds(at: At) -> String {
    format!("{:.3} s", at.as_secs_f64())
}

/// A stretch of time.
pub(super) type Stretch = (At, At);

/// Stretches in order that do not touch each other: what is asked thousands of times is asked quickly.
#[derive(Clone, Debug, Default)]
pub(super) struct Stretches(Vec<Stretch>);

impl Stretches {
    pub(super) fn new(mut all: Vec<Stretch>) -> Stretches {
        all.sort_unstable();
        let mut merged: Vec<Stretch> = Vec::new();
        for (from, to) in all {
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        Stretches(merged)
    }

    /// How much of `whole` lies in them; nothing, if it ends before it begins.
    pub(super) fn covered(&self, whole: Stretch) -> Duration {
        let first = self.0.partition_point(|(_, to)| *to <= whole.0);
        let inside = self.0[first..].iter().take_while(|(from, _)| *from < whole.1);
        inside.map(|(from, to)| (*to).min(whole.1).saturating_sub((*from).max(whole.0))).sum()
    }

    /// The end of the one that this lies in.
    pub(super) fn end(&self, at: At) -> Option<At> {
        let first = self.0.partition_point(|(_, to)| *to <= at);
        self.0.get(first).filter(|(from, _)| *from <= at).map(|(_, to)| *to)
    }

    /// The longest.
    pub(super) fn longest(&self) -> Duration {
        self.0.iter().map(|(from, to)| *to - *from).max().unwrap_or_default()
    }
}

/// When a thread was late; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Late(Arc<Mutex<Vec<Stretch>>>);

impl Late {
    /// Watches the thread of this runtime; tells each stretch to `tell`, too. Ends with its runtime.
    pub(super) async fn watch(self, tell: impl Fn(Stretch)) {
        loop {
            let due = now() + BEAT;
            tokio::time::sleep(BEAT).await;
            let ran = now();
            if ran > due + LEAST {
                self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((due, ran));
                tell((due, ran));
            }
        }
    }

    /// All stretches so far.
    pub(super) fn stretches(&self) -> Vec<Stretch> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps_is_counted_once() {
        let at = Duration::from_millis;
        let stretches = vec![(at(50), at(150)), (at(120), at(170)), (at(190), at(400)), (at(0), at(20))];
        let stretches = Stretches::new(stretches);
        assert_eq!(stretches.covered((at(100), at(200))), at(70 + 10));
        assert_eq!(stretches.covered((at(0), at(1000))), at(20 + 120 + 210));
        assert_eq!(stretches.covered((at(500), at(600))), Duration::ZERO);
        assert_eq!(stretches.covered((at(140), at(60))), Duration::ZERO);
        assert_eq!((stretches.end(at(160)), stretches.end(at(180))), (Some(at(170)), None));
        assert_eq!(stretches.longest(), at(210));
    }

    #[test]
    fn an_instant_is_a_time_of_the_shared_clock() {
        let (before, instant) = (now(), Instant::now());
        let told = at(instant);
        assert!(told >= before.saturating_sub(Duration::from_millis(1)) && told <= now());
    }
}
