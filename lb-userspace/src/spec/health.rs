//! How a pool's backends are checked.
//!
//! In: the `health` table. Out: [`HealthSpec`]. Invariant: a default-made one is the check that interface.md promises to
//! those who write none: tcp, every 2 s, 1 s to answer, 2 successes to rise, 3 failures to fall.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::seconds;

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

/// What a check asks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum HealthKind {
    /// That a connection opens.
    #[default]
    Tcp,
    /// That an HTTP/1.1 request is answered as expected.
    Http(HttpCheck),
    /// Nothing: the backend counts as healthy.
    None,
}

impl HealthKind {
    /// `tcp`, `http` or `none`: the `type` of the configuration and of the metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http(_) => "http",
            Self::None => "none",
        }
    }
}

/// The request of an HTTP check and the answers that count as healthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpCheck {
    /// Path and query, beginning with `/`.
    pub path: String,
    /// `GET`, `HEAD` or another method without a body.
    pub method: String,
    /// The Host header; `None`: the backend's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Status codes that count as healthy; empty: 200 to 399.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<u16>,
}

impl Default for HttpCheck {
    fn default() -> Self {
        Self { path: "/".to_owned(), method: "GET".to_owned(), host: None, expect: Vec::new() }
    }
}

impl HttpCheck {
    /// This status of an answer means healthy.
    pub fn accepts(&self, status: u16) -> bool {
        match self.expect.as_slice() {
            [] => (200..400).contains(&status),
            expect => expect.contains(&status),
        }
    }
}
