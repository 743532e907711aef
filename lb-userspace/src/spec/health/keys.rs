//! The keys of a `health` table.
//!
//! Invariant: one list for the file and for the API, so that a key is refused or taken by both.

use super::{HealthKind, HealthSpec};

impl HealthKind {
    /// Keys that mean something for some types only, with those types.
    pub const KEYS: &[(&'static str, &[&'static str])] = &[
        ("path", &["http", "https"]),
        ("method", &["http", "https"]),
        ("host", &["http", "https", "grpc"]),
        ("expect", &["http", "https", "udp"]),
        ("body", &["http", "https"]),
        ("sni", &["https", "grpc"]),
        ("ca", &["https", "grpc"]),
        ("insecure", &["https", "grpc"]),
        ("tls", &["grpc"]),
        ("service", &["grpc"]),
        ("send", &["udp"]),
        ("query", &["dns"]),
        ("record", &["dns"]),
        ("answer", &["dns"]),
        ("command", &["exec"]),
        ("user", &["exec"]),
    ];
}

impl HealthSpec {
    /// Keys that mean something whatever the type is; `port` does not for icmp.
    pub const KEYS: [&'static str; 9] =
        ["type", "interval", "fast_interval", "jitter", "timeout", "rise", "fall", "port", "via"];
}
