//! How a pool's backends are checked.
//!
//! In: the `health` table. Out: [`HealthSpec`]. Invariant: a default-made one is the check that interface.md promises to
//! those who write none: tcp, every 2 s, 1 s to answer, 2 successes to rise, 3 failures to fall.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::seconds;

mod bytes;
mod kind;

pub use bytes::unescape;
pub use kind::{
    DnsCheck, ExecCheck, GrpcCheck, HealthKind, HttpCheck, HttpsCheck, RecordType, TlsCheck, UdpCheck,
};

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
}

impl Default for HealthSpec {
    fn default() -> Self {
        Self {
            kind: HealthKind::Tcp,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            port: None,
        }
    }
}
