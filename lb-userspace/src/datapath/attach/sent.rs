//! Which interfaces have lately sent packets back the way they came.
//!
//! In: an interface's counter of such packets, and the time. Out: whether it has counted up of late. A pure function of these. The
//! counter outlives lbd and is never reset, so that only its growth tells of now: what it stands at when first looked at tells nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long packets that were sent count as sent of late. Answers of lbd itself come seldom, and nobody looks every second.
const HOLD: Duration = Duration::from_secs(60);

/// The interfaces that are watched, by index.
#[derive(Debug, Default)]
pub(super) struct Sent(BTreeMap<u32, Look>);

#[derive(Debug)]
struct Look {
    count: u64,
    /// When it was seen to be another than before.
    grew: Option<Instant>,
}

impl Sent {
    /// Whether an interface, whose counter stands at `count` at this instant, has sent any of late.
    pub(super) fn is_recent(&mut self, index: u32, count: u64, now: Instant) -> bool {
        let look = self.0.entry(index).or_insert(Look { count, grew: None });
        if look.count != count {
            *look = Look { count, grew: Some(now) };
        }
        look.grew.is_some_and(|grew| now.saturating_duration_since(grew) < HOLD)
    }

    /// What an interface sends is taken: what was sent till now says nothing of a later loss.
    pub(super) fn forget(&mut self, index: u32) {
        self.0.remove(&index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sent_of_late_counts() {
        let (mut sent, start) = (Sent::default(), Instant::now());
        let mut is_recent = |count, seconds| sent.is_recent(3, count, start + Duration::from_secs(seconds));
        assert!(!is_recent(7, 0), "years ago, for all one knows");
        assert!(!is_recent(7, 1));
        assert!(is_recent(8, 2) && is_recent(8, 61));
        assert!(!is_recent(8, 62), "for ever");
        assert!(is_recent(9, 1000));
    }

    #[test]
    fn each_interface_counts_for_itself_and_anew_when_it_was_forgotten() {
        let (mut sent, now) = (Sent::default(), Instant::now());
        assert!(!sent.is_recent(3, 0, now) && !sent.is_recent(4, 9, now));
        assert!(sent.is_recent(3, 1, now) && !sent.is_recent(4, 9, now));
        sent.forget(3);
        assert!(!sent.is_recent(3, 5, now));
    }
}
