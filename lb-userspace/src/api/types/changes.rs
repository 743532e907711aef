//! Changes, overrides, and what has happened.

use serde::{Deserialize, Serialize};

use crate::membership::{DomainEvent, MemberId, Operation, OverrideEntry};
use crate::moment::Millis;
use crate::spec::{Problem, Spec};

/// `POST /v1/changes`: the operations, under which conditions, and whether to wait. A list of operations alone is one too.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChangeRequest {
    /// Done in this order, all or none.
    pub operations: Vec<Operation>,
    /// Only if this is still the revision; the header If-Match says the same and wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_revision: Option<u64>,
    /// Even if it takes a service's last usable backend.
    pub force: bool,
    /// Judge it and say what it would do, but do nothing.
    pub dry_run: bool,
    /// Only if no larger share (of 1) than this of a pool's tracked flows or slots moves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_moved: Option<f64>,
    /// Seconds to wait until every backend that the change admits takes flows; the first check alone, where the operator's own
    /// word (weight 0, drained) keeps flows away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<f64>,
}

/// What a change did, or, of a dry run, would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChangeDone {
    /// The revision it made, or the old one if it changed nothing.
    pub revision: u64,
    /// It changed something.
    pub changed: bool,
    /// It was only judged.
    pub dry_run: bool,
    /// A sentence for each operation.
    pub notes: Vec<String>,
    /// What works, perhaps not as meant.
    pub warnings: Vec<Problem>,
    /// What it means for the datapath; none for a change that is only judged and needs larger maps first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanReport>,
    /// The backends that it added: for the wait that follows, not for the answer.
    #[serde(skip)]
    pub admitted: Vec<MemberId>,
}

/// `POST /v1/apply`, and the conditions of every change of the whole: under which the file is put in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Conditions {
    /// Only if this is still the revision; the header If-Match says the same and wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_revision: Option<u64>,
    /// Even if it takes a service's last usable backend.
    pub force: bool,
    /// Judge it and say what it would do, but do nothing.
    pub dry_run: bool,
    /// Only if no larger share (of 1) than this of a pool's tracked flows or slots moves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_moved: Option<f64>,
    /// Seconds to wait until every backend that it adds takes flows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<f64>,
}

/// What a change means for the datapath.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlanReport {
    /// In words.
    pub changes: Vec<String>,
    /// Slots whose backend is another.
    pub slots_moved: u64,
    /// Those of them that neither left a backend that goes nor came to one that is new.
    pub collateral: u64,
    /// Tracked flows that stay where they are.
    pub flows_kept: u64,
    /// Tracked flows that their backend has now and will not have: they are selected again.
    pub flows_moved: u64,
    /// Slots of all tables after it.
    pub slots: u64,
    /// Words written to the kernel's tables, each a step of its own.
    pub map_writes: u64,
    /// The pools of which something moves, or whose tables are new.
    pub pools: Vec<PoolMoves>,
}

/// What a change means for one pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolMoves {
    /// Its name.
    pub pool: String,
    /// Slots of its tables after the change.
    pub slots: u64,
    /// Slots whose backend is another.
    pub slots_moved: u64,
    /// Those of them that need not have moved.
    pub collateral: u64,
    /// Tracked flows that stay.
    pub flows_kept: u64,
    /// Tracked flows that are selected again.
    pub flows_moved: u64,
}

/// `GET /v1/plan`: what the changed configuration file would do. `POST /v1/plan`: what a candidate would.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlanAnswer {
    /// The revision in force.
    pub revision: u64,
    /// The file that was judged.
    pub file: String,
    /// What it would do.
    #[serde(flatten)]
    pub report: PlanReport,
    /// What is to be known of it.
    pub notes: Vec<String>,
    /// What works, perhaps not as meant.
    pub warnings: Vec<Problem>,
}

/// `POST /v1/plan`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// What the candidate is called in messages.
    pub file: String,
    /// What it says.
    pub configuration: Spec,
}

/// `GET /v1/overrides`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OverrideList {
    /// By pool and address.
    pub overrides: Vec<OverrideEntry>,
}

/// `GET /v1/events?since=SEQ[&wait=SECONDS]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventList {
    /// In order.
    pub events: Vec<Event>,
    /// To be given as `since` next time.
    pub next: u64,
    /// Events between `since` and the first of these that are no longer kept.
    pub lost: u64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Counted from 1 since the daemon started.
    pub seq: u64,
    /// When.
    pub time: Millis,
    /// What.
    #[serde(flatten)]
    pub event: DomainEvent,
}

/// The query of `GET /v1/events`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventQuery {
    /// Those after this one; 0: all that are kept.
    pub since: u64,
    /// Seconds to wait if there are none yet; at most 60.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<f64>,
}
