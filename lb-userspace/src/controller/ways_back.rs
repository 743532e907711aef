//! Ways to clients that the program does not know, because the kernel has forgotten who they lead by.
//!
//! In: packets that are dropped, and the program's own notes of what it asked for in vain. Out: the kernel asked to find out. Invariant: where
//! nothing is dropped nothing is read.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::Controller;
use super::effort::Effort;
use crate::netlink::WaysBack;

/// What was seen last, and who asks.
#[derive(Debug)]
pub(super) struct Missing {
    /// Packets that had been dropped.
    dropped: u64,
    /// Not before then: under a flood packets are dropped all the time.
    next: Instant,
    ways: WaysBack,
    asking: Option<JoinHandle<()>>,
}

impl Missing {
    pub(super) fn new(ways: WaysBack) -> Self {
        Self { dropped: 0, next: Instant::now(), ways, asking: None }
    }
}

impl Controller {
    /// Has the kernel look for whom the program could not send to.
    pub(super) fn look_for_ways_back(&mut self) {
        let is_asking = self.missing_ways.asking.as_ref().is_some_and(|task| !task.is_finished());
        if is_asking || Instant::now() < self.missing_ways.next {
            return;
        }
        let effort = Effort::begin();
        let dropped = match self.read_datapath().counters().interfaces() {
            Ok(all) => all.iter().map(|counters| counters.drop_packets).sum(),
            Err(error) => return tracing::debug!("cannot look for packets without a way: {error}"),
        };
        let is_news = dropped != std::mem::replace(&mut self.missing_ways.dropped, dropped);
        let ways = self.missing_ways.ways.clone();
        let unanswered = match is_news {
            true => self.read_datapath().unanswered_routes(),
            false => Ok(BTreeSet::new()),
        };
        self.missing_ways.next = effort.again(Duration::ZERO);
        match unanswered {
            Ok(clients) if !clients.is_empty() || ways.is_waiting() => {
                self.missing_ways.asking = Some(tokio::spawn(async move {
                    if let Err(error) = ways.ask(clients).await {
                        tracing::warn!("the way to clients that the kernel has forgotten: {error}");
                    }
                }));
            }
            Ok(_) => {}
            Err(error) => tracing::debug!("cannot look for packets without a way: {error}"),
        }
    }
}
