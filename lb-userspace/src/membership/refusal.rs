//! Why a change is not done.
//!
//! In: the rules of interface.md, *Who owns what*. Out: [`Refusal`]: a code for programs, a sentence, a remedy and a place
//! for people. Invariant: when there is a refusal, nothing has changed.

use std::fmt;

use crate::spec::{BackendAddress, Name, Origin, Place, Problem};

/// The rule that refuses. How programs read it, and what it does to exit codes, the API's `ErrorCode` alone knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCode {
    /// It belongs to another origin.
    Owner,
    /// It would take a service's last usable backend.
    LastBackend,
    /// The configuration is no longer the one that was looked at.
    StaleRevision,
    /// It contradicts itself or what is there.
    Invalid,
    /// There is no such service, pool or backend.
    NotFound,
    /// More flows or slots would move than allowed.
    MaxMoved,
    /// A running daemon cannot take this over.
    RestartNeeded,
    /// It could not be written down, so it was not done.
    NotSaved,
}

/// A change that is not done, and why.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub struct Refusal {
    /// The rule.
    pub code: RefusalCode,
    /// What is refused, and why.
    pub message: String,
    /// What to do instead.
    pub hint: Option<String>,
    /// Where the thing is defined that stands in the way.
    pub place: Option<Box<Place>>,
    /// Which operation of the change, counted from 0, if it is one alone.
    pub operation: Option<usize>,
    /// Everything that was found, if it is more than one problem.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        write!(f, "{}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, ": {hint}"),
            None => Ok(()),
        }
    }
}

impl Refusal {
    /// A refusal without a place.
    pub fn new(code: RefusalCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: Some(hint.into()),
            place: None,
            operation: None,
            problems: Vec::new(),
        }
    }

    /// The same with the place of what stands in the way.
    #[must_use]
    pub fn at(mut self, origin: &Origin) -> Self {
        self.place = Some(Box::new(Place::from(origin)));
        self
    }

    /// The problems of a configuration; the first error speaks for all. `None` when there is no error among them.
    pub fn of_problems(problems: Vec<Problem>) -> Option<Self> {
        let first = problems.iter().find(|problem| problem.is_error())?;
        Some(Self {
            code: RefusalCode::Invalid,
            message: first.message.clone(),
            hint: first.hint.clone(),
            place: Some(Box::new(first.place.clone())),
            operation: None,
            problems,
        })
    }

    /// There is no such thing; `known` is the name most like it.
    pub(super) fn not_found(what: &str, name: &str, known: Option<&str>) -> Self {
        let hint = match known {
            Some(near) => format!("did you mean {near:?}?"),
            None => {
                format!("see what there is with lbctl {what} list")
            }
        };
        Self::new(RefusalCode::NotFound, format!("there is no {what} {name:?}"), hint)
    }

    /// There is no such backend in this pool.
    pub(super) fn no_backend(pool: &Name, address: BackendAddress) -> Self {
        Self::new(
            RefusalCode::NotFound,
            format!("pool {:?} has no backend {address}", pool.as_str()),
            format!("see its backends with lbctl backend list {pool}"),
        )
    }

    /// A definition of another origin; `instead` is the override that would do for now.
    pub(super) fn owner(what: &str, origin: &Origin, verb: &str, instead: Option<String>) -> Self {
        let edit = match origin {
            Origin::File { path, line } => format!("edit {path} line {line}, then `lbctl apply`"),
            Origin::Cli => "use lbctl".to_owned(),
            Origin::Discovery { source } => format!("change it in {source}"),
        };
        let hint = match instead {
            Some(instead) => format!("{edit}; for now, {instead} would do"),
            None => edit,
        };
        let message = format!("{what} is defined by {}, so lbctl cannot {verb} it", described(origin));
        Self::new(RefusalCode::Owner, message, hint).at(origin)
    }
}

fn described(origin: &Origin) -> String {
    match origin {
        Origin::File { path, line } => format!("{path}:{line}"),
        Origin::Cli => "lbctl".to_owned(),
        Origin::Discovery { source } => format!("the discovery source {source}"),
    }
}
