//! Who defined a service, a pool or a backend.
//!
//! In: a file position, `cli`, or a discovery source. Out: the `origin` shown everywhere. Invariant: an origin adds,
//! changes and removes only its own, so [`Origin::same_owner`] compares owners, never positions.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A file's name as the user wrote it, shared by all that is defined in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct FileName(Arc<str>);

impl FileName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for FileName {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for FileName {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<FileName> for String {
    fn from(name: FileName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Who defined something, and where.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The configuration file or one it includes.
    File {
        /// As the user named it.
        path: FileName,
        /// Counted from 1.
        line: u32,
    },
    /// lbctl, or another user of the API.
    Cli,
    /// A discovery source.
    Discovery {
        /// The source's name.
        source: String,
    },
}

impl Origin {
    /// Both belong to the same owner, wherever in a file they stand: a line that moved is not a change.
    pub fn same_owner(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File { .. }, Self::File { .. }) | (Self::Cli, Self::Cli) => true,
            (Self::Discovery { source }, Self::Discovery { source: other }) => source == other,
            _ => false,
        }
    }

    /// `file`, `cli` or `discovery`: the word of the `origin` columns.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Cli => "cli",
            Self::Discovery { .. } => "discovery",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        super::Place::from(self).fmt(f)
    }
}
