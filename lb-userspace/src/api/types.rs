//! Requests and answers, field by field as interface.md names them.
//!
//! In: what lbctl sends. Out: what it prints. Invariant: fields are only ever added; both sides use these types, so they
//! cannot disagree. Addresses are text that can be pasted back, durations seconds, times RFC 3339.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::ErrorCode;
use crate::health::Health;
use crate::membership::{Commanded, DomainEvent, Operation, Override, OverrideEntry};
use crate::moment::Millis;
use crate::spec::{Affinity, BackendAddress, Forward, Listener, Name, OnLoss, Problem, Protocol, WhenNone};

/// The version in every path and every answer.
pub const API_VERSION: &str = "v1";

/// Any answer: the version, then the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer<T> {
    /// [`API_VERSION`].
    pub api_version: String,
    /// The rest.
    #[serde(flatten)]
    pub body: T,
}

impl<T> Answer<T> {
    /// An answer of this version.
    pub fn new(body: T) -> Self {
        Self { api_version: API_VERSION.to_owned(), body }
    }
}

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorAnswer {
    /// What went wrong.
    pub error: ErrorBody,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// For programs.
    pub code: ErrorCode,
    /// What was refused or failed, and why.
    pub message: String,
    /// What to do about it.
    #[serde(default)]
    pub hint: Option<String>,
    /// The file that has to be edited.
    #[serde(default)]
    pub file: Option<String>,
    /// Its line, counted from 1.
    #[serde(default)]
    pub line: Option<u32>,
    /// Which operation of a list, counted from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<usize>,
    /// Everything that was found, if it is more than one problem.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

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
    /// Flows in it, as last counted.
    pub used: u64,
    /// Flows it is made for.
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
}

/// `GET /v1/services`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceList {
    /// By name.
    pub services: Vec<Service>,
    /// Their pools, one entry for each table.
    pub pools: Vec<Pool>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: Name,
    /// Where clients send to.
    pub listen: Vec<Listener>,
    /// Who answers.
    pub pool: Name,
    /// How packets travel.
    pub forward: Forward,
    /// file, cli or a discovery source.
    pub origin: String,
    /// `lbd.toml:12`, for a service of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// What sticks.
    pub affinity: Affinity,
    /// What becomes of flows whose backend is gone.
    pub on_loss: OnLoss,
    /// What becomes of packets when no backend can take them.
    pub when_none: WhenNone,
    /// Backends that its listeners can reach.
    pub backends: usize,
    /// Those that take new flows.
    pub eligible: usize,
    /// Packets from clients forwarded.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Flows begun.
    pub new_flows: u64,
    /// Packets dropped.
    pub drops: u64,
}

/// One table of a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name.
    pub name: Name,
    /// Which of its backends: v4, v6, any.
    pub variant: String,
    /// Counted up by every change of the table.
    pub generation: u64,
    /// Equal on two nodes exactly if their tables are; hexadecimal.
    pub table_hash: String,
    /// Slots in the table.
    pub slots: u32,
    /// file, cli or a discovery source.
    pub origin: String,
    /// Who uses it.
    pub services: Vec<Name>,
    /// tcp, http or none.
    pub check: String,
    /// Backends of this table.
    pub backends: usize,
    /// Those that take new flows.
    pub eligible: usize,
}

/// `GET /v1/services/NAME`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceDetail {
    /// The service.
    pub service: Service,
    /// Its pool's tables.
    pub pools: Vec<Pool>,
    /// Its backends.
    pub backends: Vec<Backend>,
}

/// `GET /v1/pools`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolList {
    /// By name, one entry for each table.
    pub pools: Vec<Pool>,
}

/// `GET /v1/pools/NAME`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolDetail {
    /// One entry for each table.
    pub pools: Vec<Pool>,
    /// Its backends.
    pub backends: Vec<Backend>,
}

/// `GET /v1/backends`, `GET /v1/pools/NAME/backends`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackendList {
    /// By pool and address.
    pub backends: Vec<Backend>,
}

/// `GET /v1/pools/NAME/backends/ADDR`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendDetail {
    /// The backend.
    pub backend: Backend,
}

/// One backend of one pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    /// Its pool.
    pub pool: Name,
    /// Where it is.
    pub address: BackendAddress,
    /// file, cli, a discovery source, or several: `file,cli`.
    pub origin: String,
    /// Where in the file, if it is defined there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The weight that counts.
    pub weight: u16,
    /// The weight of its definition.
    pub defined_weight: u16,
    /// What is commanded.
    pub state: Commanded,
    /// What checks found.
    pub health: Health,
    /// New flows may come to it.
    pub eligible: bool,
    /// Why not, or what is worth knowing; may be empty.
    pub reason: String,
    /// remote, local, container or loopback; empty where it is not known.
    pub reach: String,
    /// Slots it has in the table.
    pub slots: u64,
    /// Flows it has, as last counted.
    pub flows: u64,
    /// Packets forwarded to it.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Flows begun with it.
    pub new_flows: u64,
    /// Connections are begun and nothing comes back through this host.
    pub no_return_path: bool,
    /// The operator's hand on it.
    #[serde(default, rename = "override", skip_serializing_if = "Option::is_none")]
    pub over: Option<Override>,
}

/// `POST /v1/changes`: the operations, under which conditions, and whether to wait. A list of operations alone is one too.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChangeRequest {
    /// Done in this order, all or none.
    pub operations: Vec<Operation>,
    /// Only if this is still the revision; the header If-Match says the same and wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_revision: Option<u64>,
    /// Even if it takes a service's last usable backend.
    pub force: bool,
    /// Judge it and say what it would do, but do nothing.
    pub dry_run: bool,
    /// Seconds to wait until every backend that the change admits has had its first check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<f64>,
}

/// What a change did, or, of a dry run, would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChangeDone {
    /// The revision it made, or the old one if it changed nothing.
    pub revision: u64,
    /// It changed something.
    pub changed: bool,
    /// It was only judged.
    pub dry_run: bool,
    /// A sentence for each operation.
    pub notes: Vec<String>,
    /// What works, perhaps not as meant.
    pub warnings: Vec<Problem>,
    /// What it means for the datapath.
    pub plan: PlanReport,
}

/// What a change means for the datapath.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlanReport {
    /// In words.
    pub changes: Vec<String>,
    /// Slots whose backend is another.
    pub slots_moved: u64,
    /// Those of them that neither left a backend that goes nor came to one that is new.
    pub collateral: u64,
    /// Flows that stay where they are.
    pub flows_kept: u64,
    /// Flows whose backend is another.
    pub flows_moved: u64,
}

/// `GET /v1/explain?protocol=tcp&source=ADDR:PORT&destination=ADDR:PORT`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainRequest {
    /// tcp or udp.
    pub protocol: Protocol,
    /// The client.
    pub source: SocketAddr,
    /// What it sends to.
    pub destination: SocketAddr,
    /// The interface it comes in by; `None`: the first listed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

/// What the program in the kernel would do with a packet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Explanation {
    /// pass, drop, transmit or redirect.
    pub verdict: String,
    /// Why, if it is a drop or a rare pass.
    pub reason: Option<String>,
    /// The service it belongs to.
    pub service: Option<Name>,
    /// Its pool.
    pub pool: Option<Name>,
    /// The backend that would get it.
    pub backend: Option<BackendAddress>,
    /// flow, maglev, reselected or nothing.
    pub selected_by: String,
    /// The interface it would leave by.
    pub interface: Option<String>,
    /// Where it would be sent next.
    pub next_hop: Option<String>,
    /// The slot of the table that was looked at.
    pub slot: Option<u32>,
    /// It was recognised as a reply.
    pub is_reply: bool,
    /// All of it in words.
    pub sentence: String,
}

/// Which flows: of `GET /v1/flows`, `/v1/flows/count` and `POST /v1/flows/flush`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FlowFilter {
    /// Only this service's (or pool's).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Only those of this backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendAddress>,
    /// At most this many; of lists only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// `GET /v1/flows`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FlowList {
    /// In no order.
    pub flows: Vec<Flow>,
    /// There are more than were asked for.
    pub truncated: bool,
}

/// One tracked flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// tcp or udp.
    pub protocol: Protocol,
    /// The client.
    pub source: SocketAddr,
    /// What it sends to.
    pub destination: SocketAddr,
    /// The service.
    pub service: Name,
    /// Its pool.
    pub pool: Name,
    /// The backend that has it; `None`: it is gone, the next packet selects another.
    pub backend: Option<BackendAddress>,
    /// probation, established or closing.
    pub state: String,
    /// Seconds since its last packet.
    pub idle: f64,
}

/// `GET /v1/flows/count`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FlowCounts {
    /// All that match.
    pub count: u64,
    /// By service.
    pub services: BTreeMap<String, u64>,
    /// By `pool/backend`.
    pub backends: BTreeMap<String, u64>,
    /// By state.
    pub states: BTreeMap<String, u64>,
}

/// `POST /v1/flows/flush`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowsFlushed {
    /// Flows forgotten.
    pub flushed: u64,
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

/// `GET /v1/overrides`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OverrideList {
    /// By pool and address.
    pub overrides: Vec<OverrideEntry>,
}

/// `GET /v1/events?since=SEQ[&wait=SECONDS]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventList {
    /// In order.
    pub events: Vec<Event>,
    /// To be given as `since` next time.
    pub next: u64,
    /// Events between `since` and the first of these that are no longer kept.
    pub lost: u64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Counted from 1 since the daemon started.
    pub seq: u64,
    /// When.
    pub time: Millis,
    /// What.
    #[serde(flatten)]
    pub event: DomainEvent,
}

/// The query of `GET /v1/events`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventQuery {
    /// Those after this one; 0: all that are kept.
    pub since: u64,
    /// Seconds to wait if there are none yet; at most 60.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<f64>,
}

/// The query of `GET /v1/stats` and `GET /v1/drops`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NameQuery {
    /// Only this service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
}
