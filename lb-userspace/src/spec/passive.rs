//! Passive health: what is made of connections that do not go on.
//!
//! In: the `passive` key of a pool. Out: [`PassiveSpec`]. Invariant: it is on unless somebody says `false`; a flood must not be able to
//! empty a pool, so the share that may be ejected is below all.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Percent, seconds};

/// How a pool deals with backends that answer no new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PassiveSpec {
    /// How long a client may take to go on after its SYN: no less than the slowest round trip of most clients.
    #[serde(with = "seconds")]
    pub patience: Duration,
    /// How long a backend is ejected at first; twice as long each time after, up to [`LONGEST_EJECTION`].
    #[serde(with = "seconds")]
    pub eject: Duration,
    /// The largest part of a pool's backends that is ejected at a time; one may always be, if another is left.
    pub max_ejected: Percent,
}

/// No ejection is longer (or than `eject`, if that is longer).
pub const LONGEST_EJECTION: Duration = Duration::from_secs(300);

impl Default for PassiveSpec {
    fn default() -> Self {
        Self {
            patience: Duration::from_millis(300),
            eject: Duration::from_secs(10),
            max_ejected: Percent::new(34),
        }
    }
}

impl PassiveSpec {
    /// As a pool has it that says nothing.
    #[expect(clippy::unnecessary_wraps, reason = "what serde takes as the default of an optional field")]
    pub(super) fn on() -> Option<Self> {
        Some(Self::default())
    }
}
