//! What goes wrong in a request, for programs and for people.
//!
//! In: refusals of the membership, faults of requests. Out: a code, an HTTP status and lbctl's exit code. Invariant: every
//! code has one status and one exit code, the contract's.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::types::ErrorBody;
use crate::membership::{Refusal, RefusalCode};
use crate::spec::{Place, Problem};

/// The kind of error; the `code` of JSON errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// It belongs to another origin.
    Owner,
    /// It would take a service's last usable backend.
    LastBackend,
    /// The configuration is no longer the one that was looked at.
    StaleRevision,
    /// It contradicts itself or what is there.
    Invalid,
    /// There is no such thing.
    NotFound,
    /// More flows or slots would move than allowed.
    MaxMoved,
    /// A running daemon cannot take this over.
    RestartNeeded,
    /// It could not be written down, so it was not done.
    NotSaved,
    /// The request is none that lbd understands.
    BadRequest,
    /// The path exists, but not with this method.
    MethodNotAllowed,
    /// The body is larger than allowed.
    TooLarge,
    /// This user may not do that.
    Forbidden,
    /// What was waited for did not happen in time.
    WaitTimeout,
    /// lbd is starting or stopping.
    Unavailable,
    /// Something failed that should not.
    Internal,
    /// The daemon cannot be reached; of the client alone.
    Unreachable,
    /// What was typed cannot be meant; of the client alone.
    Usage,
    /// Whoever was asked said no; of the client alone.
    Declined,
}

impl ErrorCode {
    /// lbctl's exit code.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Owner
            | Self::LastBackend
            | Self::StaleRevision
            | Self::Invalid
            | Self::MaxMoved
            | Self::RestartNeeded => 5,
            Self::NotFound => 4,
            Self::Usage => 2,
            Self::Unreachable | Self::Unavailable => 3,
            Self::WaitTimeout => 6,
            Self::NotSaved
            | Self::BadRequest
            | Self::MethodNotAllowed
            | Self::TooLarge
            | Self::Forbidden
            | Self::Declined
            | Self::Internal => 1,
        }
    }

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::Owner | Self::LastBackend | Self::MaxMoved | Self::RestartNeeded => 409,
            Self::StaleRevision => 412,
            Self::Invalid => 422,
            Self::NotFound => 404,
            Self::BadRequest | Self::Usage | Self::Declined => 400,
            Self::MethodNotAllowed => 405,
            Self::TooLarge => 413,
            Self::Forbidden => 403,
            Self::WaitTimeout => 504,
            Self::Unavailable | Self::Unreachable => 503,
            Self::NotSaved | Self::Internal => 500,
        }
    }
}

impl From<RefusalCode> for ErrorCode {
    fn from(code: RefusalCode) -> Self {
        match code {
            RefusalCode::Owner => Self::Owner,
            RefusalCode::LastBackend => Self::LastBackend,
            RefusalCode::StaleRevision => Self::StaleRevision,
            RefusalCode::Invalid => Self::Invalid,
            RefusalCode::NotFound => Self::NotFound,
            RefusalCode::MaxMoved => Self::MaxMoved,
            RefusalCode::RestartNeeded => Self::RestartNeeded,
            RefusalCode::NotSaved => Self::NotSaved,
        }
    }
}

/// An error of the API, on either side.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub struct ApiError(pub Box<ErrorBody>);

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ErrorBody { message, hint, file, line, .. } = &*self.0;
        match (file, line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line}: ")?,
            (Some(file), None) => write!(f, "{file}: ")?,
            _ => {}
        }
        match hint {
            Some(hint) => write!(f, "{message}: {hint}"),
            None => write!(f, "{message}"),
        }
    }
}

impl ApiError {
    /// An error without a remedy.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(Box::new(ErrorBody {
            code,
            message: message.into(),
            hint: None,
            file: None,
            line: None,
            operation: None,
            problems: Vec::new(),
        }))
    }

    /// The errors among what was said of the configuration called `name`, as one.
    pub fn of_problems(problems: Vec<Problem>, name: impl std::fmt::Display) -> Self {
        match Refusal::of_problems(problems) {
            Some(refusal) => refusal.into(),
            None => Self::new(ErrorCode::Invalid, format!("{name} is invalid")),
        }
    }

    /// The same with a remedy.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Its code.
    pub const fn code(&self) -> ErrorCode {
        self.0.code
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let (file, line) = match refusal.place.as_deref() {
            Some(Place::File { path }) => (Some(path.clone()), None),
            Some(Place::Line { path, line }) => (Some(path.clone()), Some(*line)),
            Some(Place::Setting { .. } | Place::Cli | Place::Discovery { .. }) | None => (None, None),
        };
        Self(Box::new(ErrorBody {
            code: refusal.code.into(),
            message: refusal.message,
            hint: refusal.hint,
            file,
            line,
            operation: refusal.operation,
            // One problem is already said by the message.
            problems: if refusal.problems.len() > 1 { refusal.problems } else { Vec::new() },
        }))
    }
}
