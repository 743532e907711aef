//! The daemon at a glance, counters, and what rarely happens.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Source;
use crate::moment::Millis;
use crate::spec::{BackendAddress, Name};

/// `GET /v1/status`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// lbd's version.
    pub version: String,
    /// Seconds since the daemon started.
    pub uptime: f64,
    /// When it started.
    pub started: Millis,
    /// The configuration's number.
    pub revision: u64,
    /// A sentence for everything that is not as it should be; empty: all is well.
    pub degraded: Vec<String>,
    /// A sentence for what is worth knowing and no fault.
    pub notices: Vec<String>,
    /// Where packets come in.
    pub interfaces: Vec<Interface>,
    /// The flow tables.
    pub flows: FlowTables,
    /// Packets dropped, by reason; reasons that never happened are left out.
    pub drops: BTreeMap<String, u64>,
    /// Every pool in short.
    pub pools: Vec<PoolSummary>,
    /// Every discovery source.
    pub discovery: Vec<Source>,
    /// Services there are.
    pub services: usize,
    /// Overrides in force.
    pub overrides: usize,
    /// The configuration file.
    pub config: String,
    /// What becomes of the program in the kernel when the daemon stops: keep or detach.
    pub on_exit: String,
    /// Identifies the secret of the hash without telling it; the same on all nodes of a cluster.
    pub seed_fingerprint: String,
    /// The daemon's process.
    pub pid: u32,
}

/// One interface that packets come in by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// native or generic.
    pub mode: String,
    /// The program is attached.
    pub attached: bool,
    /// The kernel's number of the program.
    pub program_id: Option<u32>,
    /// Why it is generic, or why it is not attached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Packets by verdict: pass, drop, transmit, redirect.
    pub packets: BTreeMap<String, u64>,
}

/// Both flow tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowTables {
    /// IPv4.
    pub v4: FlowTable,
    /// IPv6 and any-port services.
    pub v6: FlowTable,
}

/// How full a flow table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FlowTable {
    /// Flows in it, those of removed services too (their idle time is not over yet).
    pub used: u64,
    /// Places for flows in it: twice the configured `flows`, as even those find room only in a table that is half empty.
    pub capacity: u64,
    /// New flows that found no room.
    pub not_stored: u64,
    /// Entries on probation or ending that had to give way.
    pub evicted: u64,
}

/// A pool in one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolSummary {
    /// Its name.
    pub name: Name,
    /// Its backends.
    pub backends: usize,
    /// Those that take new flows.
    pub eligible: usize,
    /// Those that checks found unhealthy.
    pub unhealthy: usize,
    /// So few are well that all get new flows, in one of its tables.
    #[serde(default)]
    pub panic: bool,
    /// The backup pool that gets its new flows, in one of its tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_backup: Option<Name>,
}

/// `GET /v1/stats[?name=NAME]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// When it was counted.
    pub time: Millis,
    /// By name.
    pub services: Vec<ServiceStats>,
    /// By pool and address.
    pub backends: Vec<BackendStats>,
    /// By name.
    pub interfaces: Vec<Interface>,
}

/// The counters of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStats {
    /// Which.
    pub name: Name,
    /// Its counters.
    #[serde(flatten)]
    pub totals: Totals,
    /// Packets dropped.
    pub drops: u64,
}

/// The counters of one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendStats {
    /// Its pool.
    pub pool: Name,
    /// Which.
    pub address: BackendAddress,
    /// Its counters.
    #[serde(flatten)]
    pub totals: Totals,
    /// Flows it has, as last counted.
    pub flows: u64,
}

/// What is counted of a service and of a backend; counts up across restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Packets from clients forwarded.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Flows begun.
    pub new_flows: u64,
    /// Replies translated (nat, full-nat).
    pub reply_packets: u64,
    /// Their bytes.
    pub reply_bytes: u64,
}

/// `GET /v1/drops[?name=NAME]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drops {
    /// By number of the reason; those that never happened are left out.
    pub reasons: Vec<ReasonCount>,
}

/// How often something rare happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonCount {
    /// Its name.
    pub reason: String,
    /// drop, answer, pass or note.
    pub kind: String,
    /// Packets.
    pub packets: u64,
    /// What it means.
    pub sentence: String,
    /// By service; packets that belong to none are left out.
    pub services: BTreeMap<String, u64>,
}

/// The query of `GET /v1/stats` and `GET /v1/drops`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NameQuery {
    /// Only this service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
}
