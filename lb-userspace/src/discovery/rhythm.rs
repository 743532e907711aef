//! When a source is asked again.
//!
//! In: what it came to, how long an answer stands. Out: a pause. Invariants: a source that fails is asked again soon, and ever
//! more rarely, down to its ordinary rhythm; no two sources march in step.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::spec::SourceKind;

/// The first repetition of a failed question comes after about this time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// A file is read again after this time although nobody has said that it changed: not every filesystem does.
pub(super) const FILE_INTERVAL: Duration = Duration::from_secs(30);
/// A pause is longer or shorter at random by at most this part of it.
const JITTER_DIVISOR: u32 = 10;

/// The rhythm of one source.
#[derive(Debug)]
pub(super) struct Rhythm {
    /// No pause is shorter, whatever the answer says.
    least: Duration,
    /// Nor longer.
    most: Duration,
    failures: u32,
}

impl Rhythm {
    pub(super) fn of(kind: &SourceKind) -> Self {
        let (least, most) = match kind {
            SourceKind::Dns(dns) => (dns.min_interval, dns.max_interval),
            SourceKind::File(_) => (FILE_INTERVAL, FILE_INTERVAL),
            SourceKind::Http(http) => (http.interval, http.interval),
        };
        Self { least, most, failures: 0 }
    }

    /// The pause after an answer that stands for this time.
    pub(super) fn after_answer(&mut self, stands: Duration) -> Duration {
        self.failures = 0;
        jittered(stands.clamp(self.least, self.most), random())
    }

    /// The pause after a failure: twice as long after each, up to the ordinary one.
    pub(super) fn after_failure(&mut self) -> Duration {
        let pause = FIRST_RETRY.saturating_mul(1 << self.failures.min(16));
        self.failures += 1;
        jittered(pause.min(self.most), random())
    }
}

fn random() -> u64 {
    RandomState::new().hash_one(0)
}

/// The pause, up to a tenth shorter as `random` goes from 0 to `u64::MAX`.
fn jittered(pause: Duration, random: u64) -> Duration {
    let most = (pause / JITTER_DIVISOR).as_nanos();
    let nanos = (most * u128::from(random)) >> u64::BITS;
    pause - Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{DnsSource, HttpSource};

    fn dns() -> Rhythm {
        Rhythm::of(&SourceKind::Dns(DnsSource::new("a")))
    }

    /// Nine tenths of the pause to the whole of it.
    fn is_about(pause: Duration, wanted: Duration) -> bool {
        (wanted * 9 / 10..=wanted).contains(&pause)
    }

    #[test]
    fn a_ttl_is_respected_within_its_bounds() {
        let mut rhythm = dns();
        for (ttl, wanted) in [(0, 1), (5, 5), (60, 60), (86_400, 60)] {
            let pause = rhythm.after_answer(Duration::from_secs(ttl));
            assert!(is_about(pause, Duration::from_secs(wanted)), "{ttl}: {pause:?}");
        }
    }

    #[test]
    fn failures_are_repeated_ever_more_rarely_down_to_the_ordinary_rhythm() {
        let mut rhythm = dns();
        for wanted in [1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = rhythm.after_failure();
            assert!(is_about(pause, Duration::from_secs(wanted)), "{pause:?}");
        }
        rhythm.after_answer(Duration::from_secs(5));
        assert!(is_about(rhythm.after_failure(), Duration::from_secs(1)));
        let mut often = HttpSource::new("http://a/");
        often.interval = Duration::from_millis(200);
        let mut rhythm = Rhythm::of(&SourceKind::Http(often));
        assert!(
            is_about(rhythm.after_failure(), Duration::from_millis(200)),
            "never rarer than what is configured"
        );
    }

    #[test]
    fn any_number_of_failures_has_a_pause() {
        let mut rhythm = dns();
        for _ in 0..100 {
            rhythm.after_failure();
        }
        assert!(is_about(rhythm.after_failure(), Duration::from_secs(60)));
        assert_eq!(jittered(Duration::from_secs(10), 0), Duration::from_secs(10));
        assert!(
            jittered(Duration::from_secs(10), u64::MAX) > Duration::from_secs(9) - Duration::from_millis(1)
        );
    }
}
