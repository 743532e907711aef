//! The grace period after the last change, waited for while nobody else waits.
//!
//! In: an image that packets under way may still read behind. Out: the same image settled, so that the next plan can begin at once with
//! what the last one has left. Invariant: a grace period counts only if nothing was written since it began.

use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::Controller;
use crate::ended;
use crate::image::Image;

/// A grace period is over, or could not be waited for.
#[derive(Debug)]
pub(super) struct Settled {
    /// [`Settling::writes`] when it began.
    writes: u64,
    result: io::Result<()>,
}

/// The wait, and what it is for.
#[derive(Debug)]
pub(super) struct Settling {
    /// How often the image was replaced.
    writes: u64,
    is_waiting: bool,
    done: mpsc::UnboundedSender<Settled>,
}

impl Settling {
    pub(super) const fn new(done: mpsc::UnboundedSender<Settled>) -> Self {
        Self { writes: 0, is_waiting: false, done }
    }
}

impl Controller {
    /// The image is this one now.
    pub(super) fn replace_image(&mut self, image: Image) {
        self.image.replace(image);
        self.settling.writes += 1;
        self.settle_later();
    }

    fn settle_later(&mut self) {
        if self.settling.is_waiting || !self.image.is_unsettled() {
            return;
        }
        self.settling.is_waiting = true;
        let (writes, done) = (self.settling.writes, self.settling.done.clone());
        let grace = Arc::clone(self.read_datapath().grace());
        let wait = tokio::task::spawn_blocking(move || grace.wait_unhurried());
        tokio::spawn(async move {
            let result = ended::result(wait.await);
            // A controller that has ended does not care.
            let _unused = done.send(Settled { writes, result });
        });
    }

    /// Takes in that a grace period is over.
    pub(super) fn settled(&mut self, settled: Settled) {
        self.settling.is_waiting = false;
        match settled.result {
            Ok(()) if settled.writes == self.settling.writes => self.image.note_grace(),
            Ok(()) => self.settle_later(),
            // The next plan waits by itself, and says what is wrong.
            Err(error) => tracing::debug!("cannot wait for running programs: {error}"),
        }
    }
}
