//! Services, pools and backends, in lists and one by one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Source;
use crate::health::Health;
use crate::membership::{Commanded, Override};
use crate::moment::Millis;
use crate::spec::{
    Affinity, BackendAddress, BackupSpec, Forward, Listener, Name, OnLoss, PassiveSpec, Percent, WhenNone,
    seconds,
};

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
    /// Which of its backends: v4, v6, any; empty, and all of them, where no service uses the pool.
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
    /// The `type` of its check, or none.
    pub check: String,
    /// Backends of this table.
    pub backends: usize,
    /// Those that take new flows.
    pub eligible: usize,
    /// Slots that were asked for; `None`: by the number of backends.
    #[serde(default)]
    pub maglev: Option<u32>,
    /// Below this share of healthy weight all its backends are used, healthy or not.
    #[serde(default)]
    pub panic_below: Percent,
    /// How long the weight of a backend grows after it was added or has recovered.
    #[serde(default, with = "seconds")]
    pub slow_start: Duration,
    /// The pool that stands in for it.
    #[serde(default)]
    pub backup: Option<BackupSpec>,
    /// What is made of connections that do not go on; `None`: nothing.
    #[serde(default)]
    pub passive: Option<PassiveSpec>,
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
    /// Its pool's discovery sources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discovery: Vec<Source>,
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
    /// Its discovery sources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discovery: Vec<Source>,
}

/// `GET /v1/backends`, `GET /v1/pools/NAME/backends`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackendList {
    /// By pool and address.
    pub backends: Vec<Backend>,
    /// When the count of their flows was begun, by the daemon's clock. A count may stand for another for a moment: two answers with the
    /// same time have one count.
    pub counted: Millis,
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
    /// file, cli, discovery, or several: `file,cli`.
    pub origin: String,
    /// Where in the file, if it is defined there; else which discovery source names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The discovery sources that name it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
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
    /// Its new connections did not go on, so it gets none for a while.
    #[serde(default)]
    pub ejected: bool,
    /// Until the deadline of its drain, by the daemon's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<f64>,
    /// The operator's hand on it.
    #[serde(default, rename = "override", skip_serializing_if = "Option::is_none")]
    pub over: Option<Override>,
}
