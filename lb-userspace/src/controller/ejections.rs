//! Ejections on their way to the disk, so that a restart does not let in who is out.
//!
//! In: a membership whose ejections are others than before. Out: their file, written beside the controller (`written.rs`). Invariant: a disk
//! that refuses holds nothing up; it is said, and tried again.

use std::time::Instant;

use super::enforce::SAVE_AGAIN;
use super::{Controller, Fault};

impl Controller {
    /// Has ejections written down as they are now.
    pub(super) fn save_ejections(&mut self) {
        self.ejections_again = None;
        self.writer.eject(self.membership.ejections(self.clock.now()));
    }

    /// Hears what has become of what was handed over. True: there is news.
    pub(super) fn hear_of_ejections(&mut self) -> bool {
        let is_news = match self.writer.ejections_result() {
            None => false,
            Some(Ok(())) => self.set_fault(Fault::Ejections, Vec::new()),
            Some(Err(error)) => {
                self.ejections_again = Some(Instant::now() + SAVE_AGAIN);
                let sentence =
                    format!("who is ejected is not written down, a restart would not know of it: {error}");
                self.set_fault(Fault::Ejections, vec![sentence])
            }
        };
        if self.ejections_again.is_some_and(|again| Instant::now() >= again) {
            self.save_ejections();
        }
        is_news
    }
}
