//! Slow start: the weight of a backend that was added or has come back grows to what it is configured to be.
//!
//! In: when it began, how long it takes, the time. Out: tenths of the weight, and when the next tenth comes. Invariants: never
//! nothing; whole at the end; a function of time alone, so that nobody needs to remember steps.

use std::time::Duration;

use super::Millis;

/// All of the weight.
pub(super) const WHOLE: u8 = 10;

/// A ramp that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ramp {
    /// When it began.
    pub(super) since: Millis,
    /// How long it takes.
    pub(super) length: Duration,
}

impl Ramp {
    /// Tenths of the weight at `now`, 1 to 10.
    pub(super) fn tenths(self, now: Millis) -> u8 {
        let elapsed = now.since(self.since).as_millis();
        let tenths = (elapsed * u128::from(WHOLE)).checked_div(self.length.as_millis());
        tenths.and_then(|tenths| u8::try_from(tenths).ok()).unwrap_or(WHOLE).clamp(1, WHOLE)
    }

    /// When the tenths are others than at `now`; `None`: it is over.
    pub(super) fn next(self, now: Millis) -> Option<Millis> {
        let next = self.tenths(now) + 1;
        // Rounded up: at that moment the tenth is reached.
        let at = (self.length.as_millis() * u128::from(next)).div_ceil(u128::from(WHOLE));
        let at = u64::try_from(at).unwrap_or(u64::MAX);
        (next <= WHOLE).then(|| self.since.after(Duration::from_millis(at)))
    }
}

/// By how much all weights of a table are multiplied so that a tenth of the smallest is a whole number, as far as weights go.
pub(super) fn scale(largest: u16) -> u32 {
    u32::from(u16::MAX / largest.max(1)).clamp(1, u32::from(WHOLE))
}

/// `tenths` of a weight in a table whose weights are multiplied by `scale`; never nothing of something.
pub(super) fn part(weight: u16, tenths: u8, scale: u32) -> u32 {
    let part = u32::from(weight) * scale * u32::from(tenths) / u32::from(WHOLE);
    part.max(u32::from(weight.min(1)))
}
