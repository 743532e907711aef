//! Requests and answers, field by field as interface.md names them.
//!
//! In: what lbctl sends. Out: what it prints. Invariant: fields are only ever added; both sides use these types, so they
//! cannot disagree. Addresses are text that can be pasted back, durations seconds, times RFC 3339.

mod changes;
mod flows;
mod objects;
mod revisions;
mod source;
mod status;

use serde::{Deserialize, Serialize};

use super::ErrorCode;
use crate::spec::Problem;

// What changes, overrides and events are made of is the core's own vocabulary; whoever speaks the API takes it from here.
pub use crate::membership::{
    BackupKey, CliObjects, Commanded, DomainEvent, EventKind, False, Level, NewBackend, Operation, Override,
    OverrideEntry, PassiveKey, PoolAdd, PoolKeys, PoolSet, ServiceAdd, ServiceSet, StateOverride, Then,
};

pub use changes::{
    ChangeDone, ChangeRequest, Conditions, Event, EventList, EventQuery, OverrideList, PlanAnswer,
    PlanReport, PlanRequest, PoolMoves,
};
pub use flows::{
    ExplainRequest, Explanation, Flow, FlowCounts, FlowFilter, FlowList, FlowsFlushed, LeavingPacket,
    OuterHeader,
};
pub use objects::{
    Backend, BackendDetail, BackendList, Pool, PoolDetail, PoolList, Service, ServiceDetail, ServiceList,
};
pub use revisions::{Back, RestoreRequest, Revision, RevisionDetail, RevisionList, RevisionQuery};
pub use source::{Source, SourceStateWord};
pub use status::{
    BackendStats, Drops, FlowTable, FlowTables, Interface, NameQuery, PoolSummary, ReasonCount, ServiceStats,
    Stats, Status, Totals,
};

/// The version in every path and every answer.
pub const API_VERSION: &str = "v1";

/// Any answer: the version, then the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer<T> {
    /// [`API_VERSION`].
    pub api_version: String,
    /// The rest.
    #[serde(flatten)]
    pub body: T,
}

impl<T> Answer<T> {
    /// An answer of this version.
    pub fn new(body: T) -> Self {
        Self { api_version: API_VERSION.to_owned(), body }
    }
}

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorAnswer {
    /// What went wrong.
    pub error: ErrorBody,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// For programs.
    pub code: ErrorCode,
    /// What was refused or failed, and why.
    pub message: String,
    /// What to do about it.
    #[serde(default)]
    pub hint: Option<String>,
    /// The file that has to be edited.
    #[serde(default)]
    pub file: Option<String>,
    /// Its line, counted from 1.
    #[serde(default)]
    pub line: Option<u32>,
    /// Which operation of a list, counted from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<usize>,
    /// Everything that was found, if it is more than one problem.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}
