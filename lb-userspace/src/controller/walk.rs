//! Walks over the flow tables, beside the controller: a table of a million flows takes longer to walk than a change may wait.
//!
//! In: the image when a walk begins. Out: flows counted for readers, entries past their time freed, ids given back. What a walk may free
//! while the image changes: `image/live.rs`.

use std::io;

use super::{Controller, memory};
use crate::api::Counters as _;
use crate::datapath::Datapath;
use crate::ended;
use crate::store::FlowScan;

/// A walk is over; what it found, or why it found nothing.
pub(super) type Walked = io::Result<FlowScan>;

impl Controller {
    /// Begins a walk, unless the last one is still under way.
    pub(super) fn walk(&mut self) {
        if self.image.is_walked() {
            return;
        }
        let tables = match Datapath::flow_tables(&self.read_datapath()) {
            Ok(tables) => tables,
            Err(error) => return tracing::warn!("cannot walk the flow tables: {error}"),
        };
        self.image.begin_walk();
        let gives_back = std::mem::take(&mut self.gives_back);
        let (counters, done) = (self.counters(), self.walked.clone());
        let walk = tokio::task::spawn_blocking(move || {
            let scan = tables.scan();
            counters.count_flows();
            if gives_back {
                memory::give_back();
            }
            scan
        });
        ended::answer(walk, done);
    }

    /// Takes in what a walk has found.
    pub(super) fn walked(&mut self, walked: Walked) {
        if let Err(error) = &walked {
            tracing::warn!("cannot walk the flow tables: {error}");
        }
        if self.image.end_walk(walked.ok().as_ref()) {
            self.enforce();
        }
    }
}
