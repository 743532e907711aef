//! Where a pool's backends come from besides its own list: a name in the DNS, a file, an HTTP endpoint.
//!
//! In: `[pool.discover]`. Out: a [`SourceSpec`] for each, and [`Backends`], what a source says. Invariant: a source's name is
//! made of what it asks, so that the same question has the same name after a reload and after a restart.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{BackendAddress, Name, Origin, SyntaxError, seconds};

/// What a source says: each backend and its weight.
pub type Backends = BTreeMap<BackendAddress, u16>;

/// A source of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId {
    /// The pool.
    pub pool: Name,
    /// The source's name, as [`SourceSpec::name`] makes it.
    pub source: String,
}

impl std::fmt::Display for SourceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of pool {}", self.source, self.pool)
    }
}

/// One source of a pool's backends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceSpec {
    /// What is asked, and how.
    #[serde(flatten)]
    pub kind: SourceKind,
    /// An answer without backends is believed: it empties what the source gave.
    #[serde(default)]
    pub allow_empty: bool,
    /// An answer with more is refused whole.
    #[serde(default = "max_backends")]
    pub max_backends: u32,
    /// Where it was written.
    pub origin: Origin,
}

/// Backends that a source may give, unless it says otherwise.
pub const MAX_DISCOVERED: u32 = 1000;

fn max_backends() -> u32 {
    MAX_DISCOVERED
}

impl SourceSpec {
    /// `dns:web.example`, `file:/etc/lbd/web.list`, `http://10.0.0.1/backends`: unique in its pool.
    pub fn name(&self) -> String {
        match &self.kind {
            SourceKind::Dns(dns) => format!("dns:{}", dns.name),
            SourceKind::File(file) => format!("file:{}", file.path.display()),
            SourceKind::Http(http) => http.url.clone(),
        }
    }

    /// Both ask the same in the same way, wherever they were written.
    pub fn is_same(&self, other: &Self) -> bool {
        let here = |spec: &Self| Self { origin: Origin::Cli, ..spec.clone() };
        here(self) == here(other)
    }
}

/// What kind of source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SourceKind {
    /// A name in the DNS.
    Dns(DnsSource),
    /// A file on this host.
    File(FileSource),
    /// A JSON document served over HTTP.
    Http(HttpSource),
}

impl SourceKind {
    /// The word of the configuration, of JSON and of metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Dns(_) => "dns",
            Self::File(_) => "file",
            Self::Http(_) => "http",
        }
    }
}

/// A name in the DNS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsSource {
    /// The whole name; no search list is used.
    pub name: String,
    /// Which records.
    #[serde(default)]
    pub record: DnsRecords,
    /// The backends' port; `None`: the listener's. SRV records have their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Who is asked; `None`: those of /etc/resolv.conf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<SocketAddr>,
    /// An answer stands at least as long, however short its TTL.
    #[serde(with = "seconds")]
    pub min_interval: Duration,
    /// It is asked again after this time at the latest, however long the TTL.
    #[serde(with = "seconds")]
    pub max_interval: Duration,
    /// How long one server may take to answer one question.
    #[serde(with = "seconds")]
    pub timeout: Duration,
}

impl DnsSource {
    /// This name with the default of everything else.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            record: DnsRecords::default(),
            port: None,
            server: None,
            min_interval: Duration::from_secs(1),
            max_interval: Duration::from_secs(60),
            timeout: Duration::from_secs(2),
        }
    }
}

/// Which records of a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DnsRecords {
    /// IPv4 addresses.
    #[serde(rename = "a")]
    A,
    /// IPv6 addresses.
    #[serde(rename = "aaaa")]
    Aaaa,
    /// Addresses of both families.
    #[default]
    #[serde(rename = "a+aaaa")]
    Both,
    /// Targets with ports and weights (RFC 2782).
    #[serde(rename = "srv")]
    Srv,
}

impl DnsRecords {
    /// The word of the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::Aaaa => "aaaa",
            Self::Both => "a+aaaa",
            Self::Srv => "srv",
        }
    }
}

impl std::str::FromStr for DnsRecords {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        [Self::A, Self::Aaaa, Self::Both, Self::Srv]
            .into_iter()
            .find(|record| record.as_str() == text)
            .ok_or_else(|| {
                let hint = "write \"a\", \"aaaa\", \"a+aaaa\" or \"srv\"";
                SyntaxError::new(format!("record = {text:?} is unknown"), hint)
            })
    }
}

/// A file on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSource {
    /// Where it is; `.json`: as an HTTP endpoint would say it, else a line for each backend.
    pub path: PathBuf,
}

/// A JSON document served over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpSource {
    /// `http://HOST[:PORT]/PATH`, or `https://…`
    pub url: String,
    /// https: a PEM file of the certificates to trust instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// https: any certificate will do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
    /// From one request to the next.
    #[serde(with = "seconds")]
    pub interval: Duration,
    /// How long a request may take, from the connection to the last byte.
    #[serde(with = "seconds")]
    pub timeout: Duration,
}

impl HttpSource {
    /// This URL with the default of everything else.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ca: None,
            insecure: false,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
        }
    }
}
