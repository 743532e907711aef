//! Whether a service's forward mode can carry its listeners' packets to its pool's backends.
//!
//! In: a service and its pool. Out: problems of address families and ports. Invariant: one problem per family and per
//! backend, however many listeners there are.

use std::net::IpAddr;

use crate::spec::{BackendSpec, Forward, Listener, PoolSpec, Problem, ServiceSpec};

pub(super) fn check(service: &ServiceSpec, pool: &PoolSpec, problems: &mut Vec<Problem>) {
    families(service, pool, problems);
    for backend in &pool.backends {
        port(service, backend, problems);
        vip_as_backend(service, backend, problems);
    }
}

pub(super) const fn family(addr: IpAddr) -> &'static str {
    match addr {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

/// Every listener's family needs a backend that the mode can join to it; a tunnel joins any two.
fn families(service: &ServiceSpec, pool: &PoolSpec, problems: &mut Vec<Problem>) {
    if service.forward == Forward::Ipip || pool.backends.is_empty() {
        return;
    }
    for wanted in ["IPv4", "IPv6"] {
        let position = service.listen.iter().position(|listener| family(listener.addr) == wanted);
        let served = pool.backends.iter().any(|backend| family(backend.address.ip) == wanted);
        let (Some(position), false) = (position, served) else { continue };
        let Some(listener) = service.listen.get(position) else { continue };
        let other = if wanted == "IPv4" { "IPv6" } else { "IPv4" };
        problems.push(Problem::error(
            &service.listener_origin(position),
            format!(
                "service {:?} listens on {listener} but pool {:?} has only {other} backends, and {} does not turn {wanted} into {other}",
                service.name.as_str(),
                pool.name.as_str(),
                service.forward
            ),
            format!("add an {wanted} backend, or use forward = \"ipip\", which carries one family inside the other"),
        ));
    }
}

/// A fixed backend port contradicts a listener that takes every port, and any mode that leaves the packet's port alone.
fn port(service: &ServiceSpec, backend: &BackendSpec, problems: &mut Vec<Problem>) {
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
fn vip_as_backend(service: &ServiceSpec, backend: &BackendSpec, problems: &mut Vec<Problem>) {
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
