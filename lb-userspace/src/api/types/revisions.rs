//! Revisions, as they are listed and shown.

use serde::{Deserialize, Serialize};

use super::Conditions;
use crate::backup::Backup;
use crate::membership::{CliObjects, OverrideEntry};
use crate::moment::Millis;
use crate::spec::Spec;

/// `GET /v1/revisions`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RevisionList {
    /// Those that are kept, the newest first.
    pub revisions: Vec<Revision>,
}

/// A revision in short.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Revision {
    /// Its number.
    pub revision: u64,
    /// When it was accepted.
    pub time: Millis,
    /// Who asked for it.
    pub who: String,
    /// What it changed, in sentences.
    pub what: Vec<String>,
    /// It is in force.
    pub current: bool,
}

/// `GET /v1/revisions/N[?against=M]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RevisionDetail {
    /// It in short.
    #[serde(flatten)]
    pub summary: Revision,
    /// The revision that it is compared with; `None`: there is none before it.
    pub against: Option<u64>,
    /// What it has otherwise than that.
    pub changes: Vec<String>,
    /// What the configuration file said.
    pub configuration: Spec,
    /// What lbctl had added.
    pub cli: CliObjects,
    /// The operator's hand on backends.
    pub overrides: Vec<OverrideEntry>,
}

/// The query of `GET /v1/revisions/N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RevisionQuery {
    /// Compare with this one instead of the one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<u64>,
}

/// What is put back.
#[derive(Clone, Debug, PartialEq)]
pub enum Back {
    /// A revision that is kept.
    Revision(u64),
    /// A backup.
    Backup(Box<Backup>),
}

/// `POST /v1/restore`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreRequest {
    /// What is put in force.
    pub backup: Backup,
    /// Under which conditions.
    #[serde(default)]
    pub conditions: Conditions,
}
