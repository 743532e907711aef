//! Times in numbers: a histogram that does not grow.
//!
//! In: durations. Out: their quantiles, at most a sixteenth too large, and the longest, exact. Invariant: the memory is the same for
//! one and for a thousand million of them.

use std::time::Duration;

/// Buckets in each doubling.
const PARTS: u32 = 16;
const BUCKETS: usize = 40 * PARTS as usize;

/// Counts of durations.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    pub(super) count: u64,
    pub(super) longest: Duration,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: vec![0; BUCKETS], count: 0, longest: Duration::ZERO }
    }
}

impl Histogram {
    pub(super) fn add(&mut self, time: Duration) {
        self.counts[bucket(time)] += 1;
        self.count += 1;
        self.longest = self.longest.max(time);
    }

    /// The time that this share of them does not exceed; 0 of none.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        let wanted = share * self.count as f64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if *count > 0 && seen as f64 >= wanted {
                return upper(index).min(self.longest);
            }
        }
        self.longest
    }
}

/// Microseconds below [`PARTS`] have buckets of their own; above that each doubling has as many.
fn bucket(time: Duration) -> usize {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let Some(log) = micros.checked_ilog2().filter(|log| *log >= PARTS.ilog2()) else {
        return usize::try_from(micros).unwrap_or(0);
    };
    let shift = log - PARTS.ilog2();
    let part = (micros >> shift) - u64::from(PARTS);
    let index = u64::from((shift + 1) * PARTS) + part;
    usize::try_from(index).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

/// The end of a bucket.
fn upper(index: usize) -> Duration {
    let parts = PARTS as usize;
    if index < parts {
        return Duration::from_micros(index as u64);
    }
    let (shift, part) = (index / parts - 1, index % parts);
    Duration::from_micros((((parts + part + 1) as u64) << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_at_most_a_sixteenth_too_large() {
        let mut histogram = Histogram::default();
        for micros in 1..=100_000 {
            histogram.add(Duration::from_micros(micros));
        }
        for (share, exact) in [(0.5, 50_000.0), (0.99, 99_000.0), (0.001, 100.0)] {
            let told = histogram.quantile(share).as_micros() as f64;
            assert!(told >= exact && told <= exact * 1.07, "{share}: {told} instead of {exact}");
        }
        assert_eq!(histogram.quantile(1.0), Duration::from_micros(100_000));
        assert_eq!(Histogram::default().quantile(0.5), Duration::ZERO);
    }
}
