//! Walks over the flow tables, beside the controller: a table of a million flows takes longer to walk than a change may wait.
//!
//! In: the image when a walk begins. Out: flows counted for readers, entries past their time freed, ids given back. Invariant: a walk
//! frees only what has rested since before it began, in every image there has been meanwhile.

use std::io;

use tokio::sync::mpsc;

use super::Controller;
use crate::api::Counters as _;
use crate::datapath::Datapath;
use crate::ended;
use crate::ids::Rest;
use crate::store::FlowScan;

/// A walk is over; what it found, or why it found nothing.
pub(super) type Walked = io::Result<FlowScan>;

/// The walk that is under way, and where it is told of.
#[derive(Debug)]
pub(super) struct Walking {
    /// What it can free: what rested when it began and in every image since. `None`: there is no walk.
    resting: Option<Rest>,
    done: mpsc::UnboundedSender<Walked>,
}

impl Walking {
    pub(super) const fn new(done: mpsc::UnboundedSender<Walked>) -> Self {
        Self { resting: None, done }
    }
}

impl Controller {
    /// Begins a walk, unless the last one is still under way.
    pub(super) fn walk(&mut self) {
        if self.walking.resting.is_some() {
            return;
        }
        let tables = match Datapath::flow_tables(&self.read_datapath()) {
            Ok(tables) => tables,
            Err(error) => return tracing::warn!("cannot walk the flow tables: {error}"),
        };
        self.walking.resting = Some(self.image.resting());
        let (counters, done) = (self.counters(), self.walking.done.clone());
        let walk = tokio::task::spawn_blocking(move || {
            let scan = tables.scan();
            counters.count_flows();
            scan
        });
        ended::answer(walk, done);
    }

    /// The image is another one: what has been in use in it is none of the walk's business any more.
    pub(super) fn walk_goes_on(&mut self) {
        if let Some(resting) = &mut self.walking.resting {
            resting.keep_common(&self.image.resting());
        }
    }

    /// Takes in what a walk has found.
    pub(super) fn walked(&mut self, walked: Walked) {
        let Some(resting) = self.walking.resting.take() else { return };
        match walked {
            Ok(scan) => {
                if self.image.wants_scan() {
                    self.image.note_scan_since(&scan, &resting);
                    self.enforce();
                }
            }
            Err(error) => tracing::warn!("cannot walk the flow tables: {error}"),
        }
    }
}
