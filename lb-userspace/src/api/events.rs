//! What happened lately, kept for those who ask.
//!
//! In: the events of the membership and the controller. Out: those after a number. Invariant: never more than
//! [`KEPT`] are held; numbers have no gaps, so whoever asks again knows what was lost.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use super::types::{Event, EventList};
use crate::membership::DomainEvent;
use crate::moment::Millis;

/// How many events are kept.
pub const KEPT: usize = 4096;

/// The last events.
#[derive(Debug)]
pub struct EventLog {
    kept: Mutex<VecDeque<Event>>,
    last: watch::Sender<u64>,
}

impl Default for EventLog {
    fn default() -> Self {
        Self { kept: Mutex::default(), last: watch::Sender::new(0) }
    }
}

impl EventLog {
    /// Adds what has just happened.
    pub fn add(&self, time: Millis, events: impl IntoIterator<Item = DomainEvent>) {
        // A panic while the lock was held leaves a shorter or longer queue, both whole.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last = *self.last.borrow();
        for event in events {
            last += 1;
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(Event { seq: last, time, event });
        }
        drop(kept);
        self.last.send_if_modified(|seq| std::mem::replace(seq, last) != last);
    }

    /// Those after `since`. A number that was never given is one of a daemon that ran before: all that are kept.
    pub fn after(&self, since: u64) -> EventList {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let next = kept.back().map_or(0, |event| event.seq);
        let since = if since > next { 0 } else { since };
        let first = kept.front().map_or(next + 1, |event| event.seq);
        EventList {
            events: kept.iter().filter(|event| event.seq > since).cloned().collect(),
            next,
            lost: first.saturating_sub(since + 1),
        }
    }

    /// How many look at it.
    #[cfg(test)]
    pub(super) fn followers(&self) -> usize {
        self.last.receiver_count()
    }

    /// Changes whenever events were added.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }
}
