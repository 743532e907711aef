//! The pool that stands in for another.
//!
//! In: `backup = "sorry"`, or a table of it. Out: [`BackupSpec`]. Invariant: a default-made threshold is the plain meaning of
//! the word: the backup serves when nobody else can, and gives way when a quarter of the pool has been well for 10 s.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Name, Percent, seconds};

/// Which pool stands in, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSpec {
    /// The pool whose backends get the new flows then. Its own backup is not asked.
    pub pool: Name,
    /// It stands in below this share of healthy weight, and always if nobody is usable.
    #[serde(default)]
    pub below: Percent,
    /// It gives way when this share of weight is healthy …
    #[serde(default = "BackupSpec::default_above")]
    pub above: Percent,
    /// … and has been for this long.
    #[serde(default = "BackupSpec::default_hold", with = "seconds")]
    pub hold: Duration,
}

impl BackupSpec {
    /// Stands in when nobody is usable.
    pub const fn new(pool: Name) -> Self {
        Self { pool, below: Percent::ZERO, above: Self::default_above(), hold: Self::default_hold() }
    }

    const fn default_above() -> Percent {
        Percent::new(25)
    }

    const fn default_hold() -> Duration {
        Duration::from_secs(10)
    }
}
