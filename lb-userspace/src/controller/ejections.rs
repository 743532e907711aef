//! Ejections on their way to the disk, so that a restart does not let in who is out.
//!
//! In: a membership whose ejections are others than before, by what happens or by time. Out: their file, written beside the controller
//! (`written.rs`). Invariants: a disk that refuses holds nothing up; it is said, and tried again; at the end the file says who is ejected
//! then, for a clock that begins anew at each start would find what is long over in force.

use std::time::Instant;

use super::enforce::SAVE_AGAIN;
use super::{Controller, Fault};
use crate::membership::Ejected;

/// What is known of the file.
#[derive(Debug)]
pub(super) struct Kept {
    /// What it says.
    says: Vec<Ejected>,
    /// When it is written again after it could not be.
    again: Option<Instant>,
}

impl Kept {
    /// What an earlier run has left in it.
    pub(super) fn new(says: Vec<Ejected>) -> Self {
        Self { says, again: None }
    }

    /// What has become of a write. Returns why it failed.
    fn hear(&mut self, now: Instant, written: Result<Vec<Ejected>, String>) -> Option<String> {
        match written {
            Ok(says) => {
                *self = Self::new(says);
                None
            }
            Err(error) => {
                self.again = Some(now + SAVE_AGAIN);
                Some(error)
            }
        }
    }

    /// To be written, although nothing has happened: it could not be, or what it says is over.
    fn is_due(&self, now: Instant, ejections: impl FnOnce() -> Vec<Ejected>) -> bool {
        match self.again {
            Some(again) => now >= again,
            None => !self.says.is_empty() && self.is_behind(&ejections()),
        }
    }

    /// It says something else.
    fn is_behind(&self, ejections: &[Ejected]) -> bool {
        self.says != ejections
    }
}

impl Controller {
    /// Has ejections written down as they are now.
    pub(super) fn save_ejections(&mut self) {
        self.ejections.again = None;
        self.writer.eject(self.membership.ejections(self.clock.now()));
    }

    /// Keeps their file in step, on the beat. True: there is news.
    pub(super) fn keep_ejections(&mut self) -> bool {
        let is_news = self.hear_of_ejections();
        let ejections = || self.membership.ejections(self.clock.now());
        if self.ejections.is_due(Instant::now(), ejections) {
            self.save_ejections();
        }
        is_news
    }

    /// Hears what has become of what was handed over. True: there is news.
    pub(super) fn hear_of_ejections(&mut self) -> bool {
        let Some(written) = self.writer.ejections_result() else { return false };
        if written.is_ok() {
            self.writer.ejections_replaced(&mut self.damaged);
        }
        let failed = self.ejections.hear(Instant::now(), written);
        let sentence =
            |error| format!("who is ejected is not written down, a restart would not know of it: {error}");
        self.set_fault(Fault::Ejections, failed.map(sentence).into_iter().collect())
    }

    /// The last that is written, at the end: also what could not be and waits to be tried again.
    pub(super) fn save_last_ejections(&mut self) {
        if self.ejections.is_behind(&self.membership.ejections(self.clock.now())) {
            self.save_ejections();
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::moment::Millis;

    pub(in crate::controller) fn ejected(until: u64) -> Ejected {
        Ejected {
            pool: "web".parse().unwrap(),
            address: "10.0.0.1".parse().unwrap(),
            until: Millis(until),
            times: 1,
            waiting: None,
            why: "0 of 12 new connections went on".to_owned(),
        }
    }

    #[test]
    fn what_is_over_by_time_alone_is_written_once() {
        let now = Instant::now();
        let mut kept = Kept::new(vec![ejected(1)]);
        assert!(!kept.is_due(now, || vec![ejected(1)]) && !kept.is_behind(&[ejected(1)]));
        assert!(kept.is_due(now, Vec::new) && kept.is_behind(&[]));
        assert_eq!(kept.hear(now, Ok(Vec::new())), None);
        assert!(!kept.is_due(now, Vec::new) && !kept.is_behind(&[]));
    }

    #[test]
    fn what_could_not_be_written_waits_and_is_not_taken_for_written() {
        let now = Instant::now();
        let mut kept = Kept::new(Vec::new());
        assert_eq!(kept.hear(now, Err("disk full".to_owned())), Some("disk full".to_owned()));
        assert!(!kept.is_due(now, || vec![ejected(1)]) && kept.is_due(now + SAVE_AGAIN, || vec![ejected(1)]));
        // A stop does not wait.
        assert!(kept.is_behind(&[ejected(1)]));
        kept.hear(now, Ok(vec![ejected(1)]));
        assert!(!kept.is_due(now + SAVE_AGAIN, || vec![ejected(1)]));
    }
}
