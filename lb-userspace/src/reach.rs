//! Where a backend is as seen from this host, and whether a service can work with it.
//!
//! In: a [`Spec`] and a snapshot of this host's network ([`HostNetwork`], filled by whoever speaks netlink). Out: the
//! [`Reach`] of every backend, and a sentence for everything that cannot work or hardly will. Invariant: pure; the same
//! snapshot gives the same answer, and a refusal says what to do instead.

mod backend;
mod host;
mod probes;
mod service;
mod sources;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use crate::spec::LOOPBACK;
pub use crate::spec::on_loopback;
use crate::spec::{BackendAddress, Listener, Name, Problem, ServiceSpec, Spec};
pub use backend::judge_backend;
use backend::judge_place;
pub use host::{HostAddress, HostNetwork, Link, LinkKind, LocalSocket, Route, RouteKind, Routes};
pub use service::{judge_interfaces, judge_service};

/// Where a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Packets to it leave by a listed interface.
    Remote,
    /// Its address is one of this host.
    Local,
    /// It is behind a bridge or veth of this host.
    Container,
    /// 127.0.0.0/8 or ::1.
    Loopback,
}

impl Reach {
    /// The word of the contract.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Remote => "remote",
            Self::Local => "local",
            Self::Container => "container",
            Self::Loopback => "loopback",
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where each backend of a pool is.
pub type PoolReach = BTreeMap<BackendAddress, Reach>;

/// What this host makes of a spec.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// Where each backend of each pool is.
    pub reach: BTreeMap<Name, PoolReach>,
    /// Errors refuse the configuration, warnings are only said; in the order of interfaces, services, backends.
    pub problems: Vec<Problem>,
}

/// Judges the interfaces, every service and every backend of a spec.
pub fn judge(spec: &Spec, host: &HostNetwork) -> Judgement {
    let listed = &spec.datapath.interfaces;
    let mut judgement =
        Judgement { problems: judge_interfaces(&spec.datapath, host), ..Judgement::default() };
    // Without its interfaces everything else would be refused as well, for no other reason.
    if judgement.problems.iter().any(Problem::is_error) {
        return judgement;
    }
    judgement.problems.extend(probes::judge(spec, host));
    for service in &spec.services {
        judgement.problems.extend(judge_service(service, listed, host));
    }
    judgement.problems.extend(sources::judge(spec, host));
    let mut services: BTreeMap<&Name, Vec<&ServiceSpec>> = BTreeMap::new();
    for service in &spec.services {
        services.entry(&service.pool).or_default().push(service);
    }
    // The services of the pools that one stands in for send packets to its backends too.
    let mut behind: BTreeMap<&Name, Vec<&ServiceSpec>> = BTreeMap::new();
    for pool in &spec.pools {
        if let (Some(backup), Some(users)) = (&pool.backup, services.get(&pool.name)) {
            behind.entry(&backup.pool).or_default().extend(users);
        }
    }
    for pool in &spec.pools {
        let users = [services.get(&pool.name), behind.get(&pool.name)];
        let mut places = Vec::with_capacity(pool.backends.len());
        for backend in &pool.backends {
            let place = host.place(backend.address.ip, listed);
            places.push((backend.address, place.reach));
            let mut said = users.into_iter().flatten().flatten();
            // A backend that several services cannot reach is named once.
            let problem = said.find_map(|service| judge_place(service, backend, listed, host, place));
            judgement.problems.extend(problem);
        }
        judgement.reach.insert(pool.name.clone(), places.into_iter().collect());
    }
    judgement
}

/// Whether a socket on this host is one that a listener of this spec would take packets from: only of those [`judge`] tells
/// the program.
pub fn is_shadowed(spec: &Spec, host: &HostNetwork, socket: &LocalSocket) -> bool {
    could_shadow(spec).any(|listener| socket.takes(listener) && host.owns(listener.addr))
}

/// Whether any socket could be one of [`is_shadowed`]: else [`judge`] needs none. To look at them means to go through every connection of
/// the host.
pub fn needs_sockets(spec: &Spec, host: &HostNetwork) -> bool {
    could_shadow(spec).any(|listener| host.owns(listener.addr))
}

/// Listeners that may not take packets from a program of this host.
fn could_shadow(spec: &Spec) -> impl Iterator<Item = &Listener> {
    spec.services.iter().filter(|service| !service.shadow_local).flat_map(|service| &service.listen)
}

#[cfg(test)]
mod tests;
