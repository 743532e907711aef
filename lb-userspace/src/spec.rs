//! What is wanted: services, pools, backends and the settings of daemon and datapath, as plain values.
//!
//! In: values made by [`crate::config`] (the file), by the API (`lbctl`) or by a discovery source. Out: the same values,
//! serialisable (snake_case, addresses as strings, durations in seconds), and [`validate()`], which judges them together.
//! Invariant: nothing here reads a file, a clock, a socket or the kernel; a value that exists has a valid syntax, whether
//! it makes sense next to the others is for [`validate()`] to say.

mod address;
mod backup;
mod discovery;
mod duration;
mod endpoint;
mod health;
pub(crate) mod limits;
mod loopback;
mod name;
mod origin;
mod passive;
mod percent;
mod places;
mod policy;
mod probes;
mod problem;
mod settings;
mod url;
mod validate;

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use address::{BackendAddress, Listener, Protocol};
pub use backup::BackupSpec;
pub use discovery::{
    Backends, DnsRecords, DnsSource, FileSource, HttpSource, MAX_DISCOVERED, SourceId, SourceKind, SourceSpec,
};
pub use duration::{format_duration, parse_duration, seconds};
pub(crate) use endpoint::deserialize_endpoint;
pub use endpoint::{parse_endpoint, parse_endpoint_near};
pub use health::{
    CheckWay, DnsCheck, ExecCheck, GrpcCheck, HealthKind, HealthSpec, HttpCheck, HttpsCheck, MAX_JITTER,
    RecordType, TlsCheck, UdpCheck, Via, unescape,
};
pub use limits::LONGEST;
pub(crate) use loopback::LOOPBACK;
pub use loopback::on_loopback;
pub use name::Name;
pub use origin::{FileName, Origin};
pub use passive::{LONGEST_EJECTION, PassiveSpec};
pub use percent::Percent;
pub use policy::{Affinity, Forward, OnLoss, WhenNone};
pub use probes::{PROBE_INNER, PROBE_OUTER, ProbePrefix};
pub use problem::{Place, Problem, Severity, SyntaxError};
pub use settings::{AttachMode, DaemonSpec, DatapathSpec, OnExit, TimeoutSpec};
pub use url::HttpUrl;
pub use validate::validate;
pub(crate) use validate::{
    Gaps, answered_on, claimed_probes, claimed_sources, nearest, shared_endpoints, unfit, unusable,
    validate_known, validate_part,
};

/// Everything that is wanted of one lbd: one revision of the configuration, whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// Socket, state directory, metrics.
    pub daemon: DaemonSpec,
    /// Interfaces, flow table, tunnel and translation sources.
    pub datapath: DatapathSpec,
    /// Pools in the order of their definition, those written inside a service included.
    pub pools: Vec<PoolSpec>,
    /// Services in the order of their definition.
    pub services: Vec<ServiceSpec>,
}

impl Spec {
    /// The pool of this name.
    pub fn pool(&self, name: &Name) -> Option<&PoolSpec> {
        self.pools.iter().find(|pool| pool.name == *name)
    }

    /// The service of this name.
    pub fn service(&self, name: &Name) -> Option<&ServiceSpec> {
        self.services.iter().find(|service| service.name == *name)
    }

    /// The keys in which `new` differs from this spec and which only a restart can change, as the configuration names them.
    /// A reload that changes one of them is refused (a restart is hitless).
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let DaemonSpec { socket, state, metrics, on_exit: _, admin, read } = &self.daemon;
        let DatapathSpec {
            interfaces,
            mode,
            flows,
            pin,
            seed_file,
            snat: _,
            tunnel_source: _,
            probe_prefix: _,
            timeouts: _,
        } = &self.datapath;
        let changed = [
            ("daemon.socket", *socket != new.daemon.socket),
            ("daemon.state", *state != new.daemon.state),
            ("daemon.metrics", *metrics != new.daemon.metrics),
            ("daemon.admin", *admin != new.daemon.admin),
            ("daemon.read", *read != new.daemon.read),
            ("datapath.interfaces", *interfaces != new.datapath.interfaces),
            ("datapath.mode", *mode != new.datapath.mode),
            ("datapath.flows", *flows != new.datapath.flows),
            ("datapath.pin", *pin != new.datapath.pin),
            ("datapath.seed_file", *seed_file != new.datapath.seed_file),
        ];
        changed.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }

    /// The services that send their flows to this pool.
    pub fn services_of(&self, pool: &Name) -> impl Iterator<Item = &ServiceSpec> {
        self.services.iter().filter(move |service| service.pool == *pool)
    }

    /// The services that send their flows to this pool, and then those of the pools that it stands in for.
    pub fn users_of(&self, pool: &Name) -> impl Iterator<Item = &ServiceSpec> {
        let stands_in =
            move |other: &&PoolSpec| other.backup.as_ref().is_some_and(|backup| backup.pool == *pool);
        let others = self.pools.iter().filter(stands_in).flat_map(|other| self.services_of(&other.name));
        self.services_of(pool).chain(others.filter(move |service| service.pool != *pool))
    }

    /// The health check of this pool as it will run: what the pool says; what the defaults say; nothing for a pool that
    /// says nothing itself and only serves UDP, where no answer proves no fault.
    pub fn health_of(&self, pool: &PoolSpec) -> HealthSpec {
        let mut services = self.users_of(&pool.name).peekable();
        let udp_only = services.peek().is_some()
            && services
                .flat_map(|service| &service.listen)
                .all(|listener| listener.protocol == Protocol::Udp);
        match pool.health_is_default && udp_only {
            true => HealthSpec { kind: HealthKind::None, ..pool.health.clone() },
            false => pool.health.clone(),
        }
    }

    /// The port a check of this backend goes to: the check's own, the backend's, else that of the pool's first TCP
    /// listener (of its first listener, if it has none). `None`: every listener takes any port, so there is none to check. A
    /// check that asks no port gets 0, one that can do without gets 0 where there is none.
    pub fn check_port(&self, pool: &PoolSpec, address: BackendAddress) -> Option<u16> {
        let listener_port = |protocol: Option<Protocol>| {
            self.users_of(&pool.name)
                .flat_map(|service| &service.listen)
                .filter(|listener| protocol.is_none_or(|wanted| listener.protocol == wanted))
                .find_map(|listener| listener.port)
        };
        if pool.health.kind == HealthKind::Icmp {
            return Some(0);
        }
        pool.health
            .port
            .or(address.port)
            .or_else(|| listener_port(Some(Protocol::Tcp)))
            .or_else(|| listener_port(None))
            .or_else(|| matches!(pool.health.kind, HealthKind::Exec(_)).then_some(0))
    }
}

/// Backends that stand for one another, and how their health is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolSpec {
    /// Unique among pools.
    pub name: Name,
    /// Who defined it, and where.
    pub origin: Origin,
    /// Written inside the service of the same name (`backends = […]` there), not as a `[[pool]]` of its own.
    #[serde(default)]
    pub inline: bool,
    /// The members.
    pub backends: Vec<BackendSpec>,
    /// Where more of them come from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discover: Vec<SourceSpec>,
    /// The check as the pool or the defaults give it; [`Spec::health_of`] says what runs.
    #[serde(default)]
    pub health: HealthSpec,
    /// The pool itself says nothing of its health: `health` holds the defaults.
    #[serde(default)]
    pub health_is_default: bool,
    /// Slots of the Maglev table, one of [`MAGLEV_SIZES`]; `None`: [`maglev_size`] of its backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maglev: Option<u32>,
    /// Below this share of healthy weight all its backends are used, healthy or not; 0: never.
    #[serde(default, skip_serializing_if = "Percent::is_zero")]
    pub panic_below: Percent,
    /// How long the weight of a backend grows after it was added or has recovered; 0: it has all of it at once.
    #[serde(default, with = "seconds", skip_serializing_if = "Duration::is_zero")]
    pub slow_start: Duration,
    /// The pool that stands in for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupSpec>,
    /// What is made of connections that do not go on; `None`: nothing.
    #[serde(default = "PassiveSpec::on")]
    pub passive: Option<PassiveSpec>,
}

/// One server of a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendSpec {
    /// Where it is.
    pub address: BackendAddress,
    /// Share of new flows next to the other weights of the pool; 0 takes none and keeps its flows.
    #[serde(default = "default_weight")]
    pub weight: u16,
    /// Who defined it, and where.
    pub origin: Origin,
}

/// The weight of a backend that names none.
pub const DEFAULT_WEIGHT: u16 = 1;

fn default_weight() -> u16 {
    DEFAULT_WEIGHT
}

/// One or more vip:port/protocol and what happens to their packets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Unique among services.
    pub name: Name,
    /// Who defined it, and where.
    pub origin: Origin,
    /// Where clients send to.
    pub listen: Vec<Listener>,
    /// The line of each listener in the origin's file, for messages; empty when the origin is no file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listen_lines: Vec<u32>,
    /// The pool that answers.
    pub pool: Name,
    /// How a packet reaches its backend.
    #[serde(default)]
    pub forward: Forward,
    /// What stays with the same backend.
    #[serde(default)]
    pub affinity: Affinity,
    /// What becomes of a flow whose backend is gone.
    #[serde(default)]
    pub on_loss: OnLoss,
    /// What becomes of a packet when no backend can take it.
    #[serde(default)]
    pub when_none: WhenNone,
    /// Take the port although a program on this host listens there.
    #[serde(default)]
    pub shadow_local: bool,
}

impl ServiceSpec {
    /// Where listener number `index` was written.
    pub fn listener_origin(&self, index: usize) -> Origin {
        match (&self.origin, self.listen_lines.get(index)) {
            (Origin::File { path, .. }, Some(line)) => Origin::File { path: path.clone(), line: *line },
            (origin, _) => origin.clone(),
        }
    }
}

/// The ports of each source address that full-nat gives to connections: above the kernel's default ephemeral range
/// (net.ipv4.ip_local_port_range).
pub const SNAT_PORTS: RangeInclusive<u16> = 61_000..=u16::MAX;

/// The sizes a Maglev table may have: primes, so that every step through the table meets every slot.
pub const MAGLEV_SIZES: [u32; 4] = [1021, 4093, 16_381, 65_537];

/// Slots per backend below which the shares of equal backends differ by more than about 1 %.
pub const SLOTS_PER_BACKEND: usize = 251;

/// The table size for this many backends: the smallest of [`MAGLEV_SIZES`] with [`SLOTS_PER_BACKEND`] slots each, else
/// the largest.
pub fn maglev_size(backends: usize) -> u32 {
    let wanted = backends.saturating_mul(SLOTS_PER_BACKEND);
    let [.., largest] = MAGLEV_SIZES;
    MAGLEV_SIZES
        .into_iter()
        .find(|size| usize::try_from(*size).is_ok_and(|size| size >= wanted))
        .unwrap_or(largest)
}

#[cfg(test)]
mod tests;
