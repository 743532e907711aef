//! The settings of the daemon and of the datapath.
//!
//! In: `[daemon]` and `[datapath]`. Out: [`DaemonSpec`], [`DatapathSpec`]. Invariant: `Default` is the contract's default,
//! and `docs/config.md` says the same (a test compares them).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::policy::{unknown_word, words};
use super::{ProbePrefix, SyntaxError, seconds};

/// `[daemon]`: where lbd is spoken to and where it keeps things.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DaemonSpec {
    /// The API's Unix socket.
    pub socket: PathBuf,
    /// Directory of revisions, overrides and what lbctl added.
    pub state: PathBuf,
    /// Where `/metrics`, `/healthz` and `/readyz` are served; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// What happens to the program in the kernel when the daemon stops.
    pub on_exit: OnExit,
    /// A group of Unix users who may change things, besides root and lbd's own user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
    /// A group of Unix users who may look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<String>,
}

impl Default for DaemonSpec {
    fn default() -> Self {
        Self {
            socket: "/run/lbd/lbd.sock".into(),
            state: "/var/lib/lbd".into(),
            metrics: Some(SocketAddr::from(([127, 0, 0, 1], 9472))),
            on_exit: OnExit::Keep,
            admin: None,
            read: None,
        }
    }
}

words! {
    /// What happens to the program in the kernel when the daemon stops.
    OnExit("on_exit") {
        /// It goes on forwarding, without health checks.
        #[default]
        Keep = "keep",
        /// It is removed.
        Detach = "detach",
    }
}

words! {
    /// How the program is attached to an interface.
    AttachMode("mode") {
        /// Native where the driver can, else generic with a warning.
        #[default]
        Auto = "auto",
        /// In the driver, or not at all.
        Native = "native",
        /// After the kernel has made an skb: every interface, slower.
        Generic = "generic",
    }
}

/// `[datapath]`: where packets come in and what the program in the kernel holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DatapathSpec {
    /// The interfaces the program is attached to, by name.
    pub interfaces: Vec<String>,
    /// How it is attached.
    pub mode: AttachMode,
    /// Flows to hold per address family.
    pub flows: u32,
    /// Directory on a BPF filesystem for what outlives the daemon.
    pub pin: PathBuf,
    /// The secret of the hash; the same content on every node of a cluster.
    pub seed_file: PathBuf,
    /// Source addresses of full-nat; empty: this host's address towards the backend.
    pub snat: Vec<IpAddr>,
    /// Outer source addresses of ipip; empty: this host's address towards the backend.
    pub tunnel_source: Vec<IpAddr>,
    /// Addresses of checks that go through services.
    pub probe_prefix: ProbePrefix,
    /// When a flow that is idle is forgotten.
    pub timeouts: TimeoutSpec,
}

impl Default for DatapathSpec {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            mode: AttachMode::Auto,
            flows: 1 << 20,
            pin: "/sys/fs/bpf/lbd".into(),
            seed_file: "/var/lib/lbd/seed".into(),
            snat: Vec::new(),
            tunnel_source: Vec::new(),
            probe_prefix: ProbePrefix::default(),
            timeouts: TimeoutSpec::default(),
        }
    }
}

/// `[datapath.timeouts]`: how long a flow may be idle before its entry is free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimeoutSpec {
    /// An established TCP flow.
    #[serde(with = "seconds")]
    pub tcp: Duration,
    /// A TCP flow of which only SYNs were seen.
    #[serde(with = "seconds")]
    pub tcp_syn: Duration,
    /// A TCP flow after a FIN, of either side, or a RST.
    #[serde(with = "seconds")]
    pub tcp_closing: Duration,
    /// A UDP flow.
    #[serde(with = "seconds")]
    pub udp: Duration,
}

impl Default for TimeoutSpec {
    fn default() -> Self {
        Self {
            tcp: Duration::from_secs(3600),
            tcp_syn: Duration::from_secs(10),
            tcp_closing: Duration::from_secs(30),
            udp: Duration::from_secs(60),
        }
    }
}
