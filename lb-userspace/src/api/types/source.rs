//! Discovery sources and how they are doing.

use serde::{Deserialize, Serialize};

use crate::moment::Millis;
use crate::spec::Name;

/// One discovery source of one pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Its pool.
    pub pool: Name,
    /// Its name: `dns:web.example`, `file:/etc/lbd/web.list`, `http://10.0.0.1/web.json`.
    pub source: String,
    /// dns, file or http.
    #[serde(rename = "type")]
    pub kind: String,
    /// waiting (it has never answered), kept (what it said before the restart is in force), ok, or failing.
    pub state: SourceStateWord,
    /// When it last answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Millis>,
    /// Seconds since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<f64>,
    /// Backends that are in the pool by its word.
    pub backends: usize,
    /// Those of them that it no longer names, kept because nobody else could take their place yet.
    pub lingering: usize,
    /// Answers since the daemon started.
    pub answers: u64,
    /// Failures since the daemon started.
    pub failures: u64,
    /// Why it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What it names that was not taken, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// How a source is doing, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceStateWord {
    /// It has never answered.
    Waiting,
    /// What it said before the restart is in force.
    Kept,
    /// It answers.
    Ok,
    /// It does not, or nothing that can be taken; what it said before stays.
    Failing,
}

impl SourceStateWord {
    /// The word of lists and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Kept => "kept",
            Self::Ok => "ok",
            Self::Failing => "failing",
        }
    }
}
