//! What a check asks, and which answers count as healthy.
//!
//! In: the keys of the `health` table that belong to its `type`. Out: [`HealthKind`]. Invariant: a kind holds the keys that
//! mean something for it and no others.

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::spec::SyntaxError;

/// What a check asks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum HealthKind {
    /// That a connection opens.
    #[default]
    Tcp,
    /// That an HTTP/1.1 request is answered as expected.
    Http(HttpCheck),
    /// The same over TLS.
    Https(HttpsCheck),
    /// That the server says of itself that it serves (grpc.health.v1).
    Grpc(GrpcCheck),
    /// That an echo request (ping) is answered.
    Icmp,
    /// That a datagram is answered.
    Udp(UdpCheck),
    /// That a name is answered for.
    Dns(DnsCheck),
    /// That a program of the operator's says so by its exit status.
    Exec(ExecCheck),
    /// Nothing: the backend counts as healthy.
    None,
}

impl HealthKind {
    /// Every `type` there is, as it is written.
    pub const NAMES: [&'static str; 9] =
        ["tcp", "http", "https", "grpc", "icmp", "udp", "dns", "exec", "none"];

    /// The kind of this `type`, with the defaults of its keys; `None`: there is no such type.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "tcp" => Self::Tcp,
            "http" => Self::Http(HttpCheck::default()),
            "https" => Self::Https(HttpsCheck::default()),
            "grpc" => Self::Grpc(GrpcCheck::default()),
            "icmp" => Self::Icmp,
            "udp" => Self::Udp(UdpCheck::default()),
            "dns" => Self::Dns(DnsCheck::default()),
            "exec" => Self::Exec(ExecCheck::default()),
            "none" => Self::None,
            _ => return None,
        })
    }

    /// The `type` of the configuration and of the metrics, one of [`Self::NAMES`].
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http(_) => "http",
            Self::Https(_) => "https",
            Self::Grpc(_) => "grpc",
            Self::Icmp => "icmp",
            Self::Udp(_) => "udp",
            Self::Dns(_) => "dns",
            Self::Exec(_) => "exec",
            Self::None => "none",
        }
    }

    /// Whether it uses a file of this host: a program, or certificates.
    pub const fn names_file(&self) -> bool {
        match self {
            Self::Exec(_) => true,
            Self::Https(check) => check.tls.ca.is_some(),
            Self::Grpc(check) => check.trust.ca.is_some(),
            Self::Tcp | Self::Http(_) | Self::Icmp | Self::Udp(_) | Self::Dns(_) | Self::None => false,
        }
    }

    /// Whether it goes to a port, so that there has to be one. A program gets the port if there is one.
    pub const fn needs_port(&self) -> bool {
        !matches!(self, Self::Icmp | Self::Exec(_) | Self::None)
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
    /// What the beginning of the body has to contain; `None`: the body is not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

impl Default for HttpCheck {
    fn default() -> Self {
        Self { path: "/".to_owned(), method: "GET".to_owned(), host: None, expect: Vec::new(), body: None }
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

/// An HTTP check over TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpsCheck {
    /// The request and its answer.
    #[serde(flatten)]
    pub http: HttpCheck,
    /// Whom to trust.
    #[serde(flatten)]
    pub tls: TlsCheck,
}

/// How a server proves who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsCheck {
    /// The name asked for (SNI), which the certificate has to be for; `None`: the check's `host`, else the backend's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// A PEM file of the certificates to trust instead of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Any certificate will do.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
}

/// A call of grpc.health.v1.Health/Check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GrpcCheck {
    /// The service asked about; empty: the server as a whole.
    pub service: String,
    /// The `:authority`; `None`: the backend's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// HTTP/2 over TLS; false: without.
    pub tls: bool,
    /// Whom to trust, with `tls`.
    #[serde(flatten)]
    pub trust: TlsCheck,
}

/// A datagram and its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UdpCheck {
    /// What is sent, as [`unescape`](super::unescape) reads it.
    pub send: String,
    /// What the answer has to contain, written likewise; `None`: any answer will do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
}

/// A question to a DNS server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DnsCheck {
    /// The name asked for.
    pub query: String,
    /// The type of record.
    pub record: RecordType,
    /// What one of the answers has to be, as `dig +short` shows it; `None`: any record of that type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// The types of record that may be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are those of the record types")]
pub enum RecordType {
    #[default]
    A,
    Aaaa,
    Cname,
    Mx,
    Ns,
    Ptr,
    Soa,
    Srv,
    Txt,
}

impl RecordType {
    /// Every type.
    pub const ALL: [Self; 9] =
        [Self::A, Self::Aaaa, Self::Cname, Self::Mx, Self::Ns, Self::Ptr, Self::Soa, Self::Srv, Self::Txt];

    /// As in zone files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Cname => "CNAME",
            Self::Mx => "MX",
            Self::Ns => "NS",
            Self::Ptr => "PTR",
            Self::Soa => "SOA",
            Self::Srv => "SRV",
            Self::Txt => "TXT",
        }
    }
}

impl FromStr for RecordType {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let found = Self::ALL.into_iter().find(|record| record.as_str() == text);
        found.ok_or_else(|| SyntaxError {
            message: format!("record = {text:?} is no type of record that can be checked"),
            hint: format!("write one of {}", Self::ALL.map(Self::as_str).join(", ")),
        })
    }
}

/// A program that is run for each check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecCheck {
    /// The program by its absolute path, and its arguments.
    pub command: Vec<String>,
    /// As whom it is run.
    pub user: String,
}

impl Default for ExecCheck {
    fn default() -> Self {
        Self { command: Vec::new(), user: "nobody".to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::spec::HealthSpec;

    #[test]
    fn every_kind_is_known_by_its_name_and_comes_back_from_json() {
        for name in HealthKind::NAMES {
            let kind = HealthKind::named(name).unwrap();
            assert_eq!(kind.as_str(), name);
            let fast_interval = Some(Duration::from_millis(500));
            let spec = HealthSpec { kind, fast_interval, ..HealthSpec::default() };
            let json = serde_json::to_value(&spec).unwrap();
            assert_eq!((&json["type"], &json["fast_interval"]), (&name.into(), &0.5.into()));
            assert_eq!(serde_json::from_value::<HealthSpec>(json).unwrap(), spec);
        }
        let tls = TlsCheck { sni: Some("a.example".into()), ca: Some("/ca.pem".into()), insecure: false };
        let http = HttpCheck { body: Some("ok".into()), expect: vec![204], ..HttpCheck::default() };
        let spec = HealthSpec { kind: HealthKind::Https(HttpsCheck { http, tls }), ..HealthSpec::default() };
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<HealthSpec>(&json).unwrap(), spec);
        assert!(!json.contains("fast_interval") && json.contains("\"sni\":\"a.example\""), "{json}");
    }
}
