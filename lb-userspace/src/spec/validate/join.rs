//! Whether a service's forward mode can carry its listeners' packets to its pool's backends.
//!
//! In: a service and its pool. Out: problems of address families and ports. Invariant: one problem per family and per
//! backend, however many listeners there are.

use std::net::IpAddr;

use super::Gaps;
use crate::spec::{
    BackendSpec, Forward, LOOPBACK, Listener, PoolSpec, Problem, ServiceSpec, WhenNone, on_loopback,
};

/// What is known besides the service and its pool.
pub(super) struct Known<'a> {
    /// The interfaces; none if that is not known.
    pub(super) listed: &'a [String],
    pub(super) gaps: &'a Gaps,
}

pub(super) fn check(service: &ServiceSpec, pool: &PoolSpec, known: &Known<'_>, problems: &mut Vec<Problem>) {
    let missing = |keys: &[&str]| known.gaps.at(&service.origin, keys);
    if !missing(&["listen", "forward"]) && !known.gaps.at(&pool.origin, &["backends"]) {
        families(service, pool, problems);
    }
    backends(service, pool, known, problems);
}

/// Whether the backends of the pool that stands in for another can have the packets of its service too.
pub(super) fn check_backup(
    service: &ServiceSpec,
    pool: &PoolSpec,
    backup: &PoolSpec,
    known: &Known<'_>,
    problems: &mut Vec<Problem>,
) {
    let mut own = Vec::new();
    backends(service, backup, known, &mut own);
    let why = format!(" (pool {:?} is the backup of pool {:?})", backup.name.as_str(), pool.name.as_str());
    problems.extend(own.into_iter().map(|problem| Problem { message: problem.message + &why, ..problem }));
}

fn backends(service: &ServiceSpec, pool: &PoolSpec, known: &Known<'_>, problems: &mut Vec<Problem>) {
    let missing = |keys: &[&str]| known.gaps.at(&service.origin, keys);
    for backend in &pool.backends {
        if !missing(&["forward"]) {
            port(service, backend, problems);
        }
        vip_as_backend(service, backend, problems);
        if !missing(&["listen"]) {
            problems.extend(loopback(service, backend, known.listed));
        }
    }
}

/// The kernel drops packets to these addresses that do not come by lo.
pub(super) fn loopback(service: &ServiceSpec, backend: &BackendSpec, listed: &[String]) -> Option<Problem> {
    let address = backend.address;
    if !address.ip.is_loopback() || listed.is_empty() || on_loopback(service, listed) {
        return None;
    }
    let outside: Vec<&str> =
        listed.iter().map(String::as_str).filter(|interface| *interface != LOOPBACK).collect();
    let range = if address.ip.is_ipv4() { "127.0.0.0/8" } else { "::1" };
    let (name, outside) = (service.name.as_str(), outside.join(", "));
    Some(Problem::error(
        &backend.origin,
        format!(
            "{address} cannot be reached from {outside}: service {name:?} is there, and the kernel drops packets from outside to {range}"
        ),
        "use a service on lo, or a backend on another host (another address of this host is not served from outside yet either)",
    ))
}

pub(super) const fn family(addr: IpAddr) -> &'static str {
    match addr {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

/// A listener's packets reach backends of its own family only, unless a tunnel carries them. A service none of whose
/// listeners has such a backend cannot work; one that lacks them for one of two families works for the other, as the
/// example of the contract does, and the rest is said. What a pool discovers may be of another family tomorrow.
fn families(service: &ServiceSpec, pool: &PoolSpec, problems: &mut Vec<Problem>) {
    if service.forward == Forward::Ipip || pool.backends.is_empty() {
        return;
    }
    let served = |wanted: &str| pool.backends.iter().any(|backend| family(backend.address.ip) == wanted);
    let some =
        !pool.discover.is_empty() || service.listen.iter().any(|listener| served(family(listener.addr)));
    for (wanted, other) in [("IPv4", "IPv6"), ("IPv6", "IPv4")] {
        let mut listeners = service.listen.iter().enumerate();
        let Some((position, listener)) = listeners.find(|(_, listener)| family(listener.addr) == wanted)
        else {
            continue;
        };
        if served(wanted) {
            continue;
        }
        let (name, pool, forward) = (service.name.as_str(), pool.name.as_str(), service.forward);
        let fault = format!(
            "service {name:?} listens on {listener} but pool {pool:?} has only {other} backends, and {forward} does not turn {wanted} into {other}"
        );
        let hint = format!(
            "add an {wanted} backend, or use forward = \"ipip\", which carries one family inside the other"
        );
        let place = service.listener_origin(position);
        problems.push(match some {
            true => {
                let then = match service.when_none {
                    WhenNone::Drop => "dropped",
                    WhenNone::Reset | WhenNone::Spread => "refused",
                };
                Problem::warning(&place, format!("{fault}: its {wanted} clients are {then}"), hint)
            }
            false => Problem::error(&place, fault, hint),
        });
    }
}

/// A fixed backend port contradicts a listener that takes every port, and any mode that leaves the packet's port alone.
pub(super) fn port(service: &ServiceSpec, backend: &BackendSpec, problems: &mut Vec<Problem>) {
    let Some(port) = backend.address.port else { return };
    let contradicts = |listener: &&Listener| match listener.port {
        None => true,
        Some(listened) => !service.forward.translates() && listened != port,
    };
    let Some(listener) = service.listen.iter().find(contradicts) else { return };
    let why = match listener.port {
        None => "which takes every port and keeps the one the client chose".to_owned(),
        Some(_) => format!("and {} does not rewrite ports", service.forward),
    };
    let without = backend.address.ip;
    let remedy = match listener.port {
        None => format!("write {without} without a port, or give the service a listener with one port"),
        Some(_) => format!("write {without} without a port, or use forward = \"full-nat\" or \"nat\""),
    };
    problems.push(Problem::error(
        &backend.origin,
        format!(
            "backend {} has port {port} but service {:?} listens on {listener}, {why}",
            backend.address,
            service.name.as_str()
        ),
        remedy,
    ));
}

/// A packet sent to the vip as a backend would come back here.
pub(super) fn vip_as_backend(service: &ServiceSpec, backend: &BackendSpec, problems: &mut Vec<Problem>) {
    if service.listen.iter().any(|listener| listener.addr == backend.address.ip) {
        problems.push(Problem::error(
            &backend.origin,
            format!(
                "backend {} has the address of service {:?} itself: its packets would come back here",
                backend.address,
                service.name.as_str()
            ),
            "write the backend's own address, not the vip",
        ));
    }
}
