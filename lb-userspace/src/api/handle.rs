//! How the API reaches the one task that may change things.
//!
//! In: a request. Out: a [`Command`] in the controller's channel, and its answer by oneshot. Invariant: nobody else's
//! request is held up by one that waits; a controller that has ended is an error, not a hang.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};

use super::types::{
    Back, ChangeDone, ExplainRequest, Explanation, FlowCounts, FlowFilter, FlowList, FlowsFlushed,
    PlanAnswer, PlanRequest, RevisionDetail, RevisionList,
};
use super::{ApiError, Counters, ErrorCode, EventLog, Snapshot};
use crate::backup::Backup;
use crate::clock::Clock;
use crate::discovery::Board;
use crate::membership::{Change, Options};

/// How an answer comes back.
pub type Reply<T> = oneshot::Sender<Result<T, ApiError>>;

/// What only the controller can do.
#[derive(Debug)]
pub enum Command {
    /// Do, or judge, a change.
    Change {
        /// Who asks, as overrides and revisions name it: `uid 0`.
        who: String,
        /// What.
        change: Change,
        /// To whom.
        reply: Reply<ChangeDone>,
    },
    /// Say what a configuration file would do.
    Plan {
        /// What it says; `None`: the daemon's own file.
        candidate: Option<Box<PlanRequest>>,
        /// To whom.
        reply: Reply<PlanAnswer>,
    },
    /// Put the daemon's own configuration file in force.
    Apply {
        /// Who asks.
        who: String,
        /// Under which conditions.
        options: Options,
        /// To whom.
        reply: Reply<ChangeDone>,
    },
    /// List the revisions that are kept.
    Revisions {
        /// To whom.
        reply: Reply<RevisionList>,
    },
    /// Show one, whole.
    Revision {
        /// Its number.
        number: u64,
        /// What it is compared with; `None`: the one before it.
        against: Option<u64>,
        /// To whom.
        reply: Reply<RevisionDetail>,
    },
    /// Put the whole of another time in force.
    PutBack {
        /// Who asks.
        who: String,
        /// What.
        back: Back,
        /// Under which conditions.
        options: Options,
        /// To whom.
        reply: Reply<ChangeDone>,
    },
    /// Give out what is in force, whole.
    Backup {
        /// To whom.
        reply: Reply<Box<Backup>>,
    },
    /// Run a packet through the explaining program.
    Explain {
        /// Which packet.
        request: ExplainRequest,
        /// To whom.
        reply: Reply<Explanation>,
    },
    /// List tracked flows.
    Flows {
        /// Which.
        filter: FlowFilter,
        /// To whom.
        reply: Reply<FlowList>,
    },
    /// Count tracked flows.
    CountFlows {
        /// Which.
        filter: FlowFilter,
        /// To whom.
        reply: Reply<FlowCounts>,
    },
    /// Forget tracked flows.
    FlushFlows {
        /// Who asks.
        who: String,
        /// Which.
        filter: FlowFilter,
        /// To whom.
        reply: Reply<FlowsFlushed>,
    },
}

/// What handlers hold: the last snapshot, the counters, the events, and the way to the controller.
#[derive(Clone)]
pub struct Handle {
    /// Stored by the controller after each applied plan, before [`Self::published`] is counted up.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Counted up after each stored snapshot.
    pub published: watch::Receiver<u64>,
    /// The counters in the kernel.
    pub counters: Arc<dyn Counters>,
    /// What happened lately.
    pub events: Arc<EventLog>,
    /// How discovery sources are doing.
    pub sources: Arc<Board>,
    /// The clock of all that is kept and published.
    pub clock: Clock,
    /// To the controller.
    pub commands: mpsc::Sender<Command>,
}

impl Handle {
    /// Counts the flows anew, beside the runtime's few threads: what is asked next of flows is of this moment. A count that fails is
    /// said by the counters, and leaves the last one.
    pub async fn count_flows(&self) {
        let counters = Arc::clone(&self.counters);
        let _unused = tokio::task::spawn_blocking(move || counters.count_flows()).await;
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// The controller's own error, or that it is gone.
    pub async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, ApiError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn gone() -> ApiError {
    ApiError::new(ErrorCode::Unavailable, "lbd is stopping").hint("repeat it when lbd is running again")
}
