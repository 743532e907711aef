//! How a pool's backends are checked.
//!
//! In: the `health` table. Out: [`HealthSpec`]. Invariant: a default-made one is the check that interface.md promises to
//! those who write none: tcp, every 2 s, 1 s to answer, 2 successes to rise, 3 failures to fall.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Percent, seconds};

mod bytes;
mod keys;
mod kind;
mod via;

pub use bytes::unescape;
pub use kind::{
    DnsCheck, ExecCheck, GrpcCheck, HealthKind, HttpCheck, HttpsCheck, RecordType, TlsCheck, UdpCheck,
};
pub use via::{CheckWay, Via};

/// More jitter than this would make another rhythm of it.
pub const MAX_JITTER: Percent = Percent::new(50);

/// A health check, with its rhythm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthSpec {
    /// What is asked of the backend.
    #[serde(flatten)]
    pub kind: HealthKind,
    /// From the start of one check to the start of the next.
    #[serde(with = "seconds")]
    pub interval: Duration,
    /// The same while the results speak against the health that is held, or nothing is known yet; `None`: no difference.
    #[serde(with = "seconds::option", skip_serializing_if = "Option::is_none")]
    pub fast_interval: Option<Duration>,
    /// Each interval is shorter by a random part of it, this share at most ([`MAX_JITTER`]).
    pub jitter: Percent,
    /// How long one check may take.
    #[serde(with = "seconds")]
    pub timeout: Duration,
    /// Successes in a row that bring an unhealthy backend back.
    pub rise: u32,
    /// Failures in a row that take a backend out.
    pub fall: u32,
    /// The port to check instead of the backend's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// By which way it travels.
    #[serde(skip_serializing_if = "Via::is_direct")]
    pub via: Via,
}

impl Default for HealthSpec {
    fn default() -> Self {
        Self {
            kind: HealthKind::Tcp,
            interval: Duration::from_secs(2),
            fast_interval: None,
            jitter: Percent::new(10),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            port: None,
            via: Via::Direct,
        }
    }
}
