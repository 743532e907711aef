//! Why the state directory cannot be used.
//!
//! In: what was tried, and the system's word. Out: a sentence that says what to look at; the refusal of a change that is not written down.

use std::io;

use crate::membership::{Refusal, RefusalCode};

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another daemon uses it.
    #[error("{path} is used by another lbd: stop that one, or give this one another daemon.state")]
    Held {
        /// The directory.
        path: String,
    },
    /// The system refuses.
    #[error(
        "cannot {what} {path} ({error}): check that the disk has room and that lbd may read and write there"
    )]
    System {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: String,
        /// Why it failed.
        error: io::Error,
    },
    /// A value that JSON cannot hold.
    #[error("cannot write {path} as JSON ({error})")]
    Json {
        /// Which file.
        path: String,
        /// Why it failed.
        error: serde_json::Error,
    },
}

impl From<StateError> for Refusal {
    fn from(error: StateError) -> Self {
        Self::new(
            RefusalCode::NotSaved,
            error.to_string(),
            "nothing has changed; mend it and repeat the change",
        )
    }
}
