//! What is wrong, where, and what to do about it.
//!
//! In: the findings of the config reader, of `validate` and of `reach`. Out: one line a person can act on, and the same
//! in parts for JSON. Invariant: a problem names its place when it has one, and its hint is a remedy, not a repetition.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Origin;

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It works, perhaps not as meant.
    Warning,
    /// It cannot work: the configuration is refused.
    Error,
}

/// Where a [`Problem`] was found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// A whole file.
    File {
        /// As the user named it.
        path: String,
    },
    /// A line of a file.
    Line {
        /// As the user named it.
        path: String,
        /// Counted from 1.
        line: u32,
    },
    /// A setting that is wrong on this host, wherever it was written.
    Setting {
        /// Table and key: `datapath.interfaces`.
        key: String,
    },
    /// Something lbctl (or the API) added.
    Cli,
    /// Something a discovery source delivered.
    Discovery {
        /// The source's name.
        source: String,
    },
}

impl From<&Origin> for Place {
    fn from(origin: &Origin) -> Self {
        match origin {
            Origin::File { path, line } => Self::Line { path: path.as_str().to_owned(), line: *line },
            Origin::Cli => Self::Cli,
            Origin::Discovery { source } => Self::Discovery { source: source.clone() },
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path } => write!(f, "{path}"),
            Self::Line { path, line } => write!(f, "{path}:{line}"),
            Self::Setting { key } => write!(f, "{key}"),
            Self::Cli => write!(f, "cli"),
            Self::Discovery { source } => write!(f, "discovery:{source}"),
        }
    }
}

/// One thing that is wrong with what is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Problem {
    /// Refused, or only said.
    pub severity: Severity,
    /// Where it was written.
    pub place: Place,
    /// What is wrong, and why it is.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    /// A problem that refuses the configuration.
    pub fn error(place: impl Into<Place>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            place: place.into(),
            message: message.into(),
            hint: Some(hint.into()),
        }
    }

    /// A problem that is only said.
    pub fn warning(place: impl Into<Place>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(place, message, hint) }
    }

    /// It refuses the configuration.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, ": {hint}"),
            None => Ok(()),
        }
    }
}

/// A text that is not the name, address, duration or keyword it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {hint}")]
pub struct SyntaxError {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

impl SyntaxError {
    /// A syntax error with its remedy.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}
