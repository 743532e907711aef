//! What looks at every backend cost, so that many backends do not keep the controller's task busy.
//!
//! In: the begin and the end of a look. Out: when there may be another. Invariant: what counts is the CPU time of the look itself: not what is
//! done about what it has found, and not the time in which this thread waits or is kept waiting, which would blind lbd on a busy machine.

use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// So many times as long as a look takes, there is none.
const REST: u32 = 20;

/// A look that is under way.
#[derive(Debug)]
pub(super) struct Effort {
    begun: Instant,
    before: Duration,
}

impl Effort {
    pub(super) fn begin() -> Self {
        Self { begun: Instant::now(), before: of_this_thread() }
    }

    pub(super) const fn begun(&self) -> Instant {
        self.begun
    }

    /// The look is over: when the next may begin, `least` after this one at the soonest.
    pub(super) fn again(&self, least: Duration) -> Instant {
        self.begun + least.max(of_this_thread().saturating_sub(self.before) * REST)
    }
}

/// CPU time of this thread so far. The system tells that to everybody; would it not, looks would be taken for free.
fn of_this_thread() -> Duration {
    let part = |time: TimeVal| {
        let (seconds, micros) = (u64::try_from(time.tv_sec()), u64::try_from(time.tv_usec()));
        Duration::from_secs(seconds.unwrap_or(0)) + Duration::from_micros(micros.unwrap_or(0))
    };
    getrusage(UsageWho::RUSAGE_THREAD)
        .map_or(Duration::ZERO, |usage| part(usage.user_time()) + part(usage.system_time()))
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn work_counts_and_waiting_does_not() {
        let waiting = Effort::begin();
        let (_silent, inbox) = mpsc::channel::<()>();
        // Of a time that passes, this is how long.
        assert!(inbox.recv_timeout(Duration::from_millis(500)).is_err());
        let rest = waiting.again(Duration::ZERO) - waiting.begun();
        assert!(rest < Duration::from_millis(500), "{rest:?} after a look that did nothing");
        assert_eq!(waiting.again(Duration::from_secs(9)) - waiting.begun(), Duration::from_secs(9));

        let working = Effort::begin();
        let mut sum = 0_u64;
        while of_this_thread() < working.before + Duration::from_millis(20) {
            sum = black_box(sum.wrapping_add(1));
        }
        assert!(working.again(Duration::ZERO) - working.begun() >= Duration::from_millis(20) * REST);
    }
}
