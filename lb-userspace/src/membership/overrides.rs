//! The operator's hand on a backend: drain, disable, another weight.
//!
//! In: operations, and what the state directory holds. Out: [`Override`], [`Commanded`]. Invariant: an override never
//! carries an address or a port, and it ends with its backend.

use serde::{Deserialize, Serialize};

use super::{Millis, Then};
use crate::spec::{BackendAddress, Name};

/// What an operator holds of one backend against its definition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Override {
    /// The weight that counts instead of the defined one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// The state instead of active.
    #[serde(flatten)]
    pub state: Option<StateOverride>,
    /// When it was set or last changed.
    pub since: Millis,
    /// Who set or last changed it.
    pub by: String,
}

impl Override {
    /// It says nothing any more.
    pub fn is_empty(&self) -> bool {
        self.weight.is_none() && self.state.is_none()
    }
}

/// A commanded state other than active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum StateOverride {
    /// No new flows; tracked ones stay until the deadline.
    Draining {
        /// `None`: until the flows end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Millis>,
        /// What happens at the deadline.
        #[serde(default)]
        then: Then,
        /// The deadline is over and `then` was to keep it drained.
        #[serde(default)]
        expired: bool,
    },
    /// No flows, no checks.
    Disabled,
}

impl StateOverride {
    /// A drain without a deadline.
    pub const DRAIN: Self = Self::Draining { deadline: None, then: Then::Keep, expired: false };

    /// The deadline that has still to be waited for.
    pub const fn pending(self) -> Option<Millis> {
        match self {
            Self::Draining { deadline, expired: false, .. } => deadline,
            _ => None,
        }
    }
}

/// One override with the backend it is on, as lists and the state directory have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverrideEntry {
    /// The pool.
    pub pool: Name,
    /// The backend.
    pub address: BackendAddress,
    /// What is held.
    #[serde(flatten)]
    pub value: Override,
}

/// What is commanded of a backend: `active`, `draining`, `disabled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Commanded {
    /// It takes flows if it can.
    Active,
    /// It keeps the flows it has.
    Draining,
    /// It has none.
    Disabled,
}

impl Commanded {
    /// The word of lists, JSON and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Disabled => "disabled",
        }
    }
}
