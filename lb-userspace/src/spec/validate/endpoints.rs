//! Endpoints that two listeners would share without knowing of one another.
//!
//! In: a spec. Out: an error for each pair of services of which one takes every port and the other a single one, and whose flows
//! could meet at one endpoint. Invariant: nat and full-nat keep apart the flows that look the same to a backend (one client's or
//! one source port) by the reply index; IPv4 flows of a listener with a port lie in one index and those of a listener that
//! takes every port in the other, so neither sees what the other has given away.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::spec::{Forward, Listener, Name, PoolSpec, Problem, Protocol, ServiceSpec, Spec};

/// A backend, as an any-port listener's flows come to it: at whichever port the client chose.
type Host = (IpAddr, Protocol, Forward);

/// A listener and its service.
type Listened<'a> = (&'a ServiceSpec, Listener);

/// One problem for each pair of services, at the one with the port. The whole spec is needed: a listener of any service can
/// keep two others apart.
pub(crate) fn shared_endpoints(spec: &Spec) -> Vec<Problem> {
    let mut problems = Vec::new();
    let pools: HashMap<&Name, &PoolSpec> = spec.pools.iter().map(|pool| (&pool.name, pool)).collect();
    let hosts = open_hosts(spec, &pools);
    if hosts.is_empty() {
        return problems;
    }
    let listeners: HashSet<Listener> =
        spec.services.iter().flat_map(|service| &service.listen).copied().collect();
    let mut said: HashSet<(&Name, &Name)> = HashSet::new();
    for (service, listener, pool) in translated(spec, &pools) {
        let Some(listened) = listener.port else { continue };
        for backend in &pool.backends {
            let port = backend.address.port.unwrap_or(listened);
            let host = (backend.address.ip, listener.protocol, service.forward);
            for (open, taking_all) in hosts.get(&host).into_iter().flatten() {
                // What another listener of that vip names does not come by the one that takes the rest.
                let named = Listener { port: Some(port), ..*taking_all };
                if !listeners.contains(&named) && said.insert((&open.name, &service.name)) {
                    problems.push(shared((open, *taking_all), (service, listener), host.0, named));
                }
            }
        }
    }
    problems
}

/// The backends of listeners that take every port.
fn open_hosts<'a>(spec: &'a Spec, pools: &HashMap<&Name, &'a PoolSpec>) -> HashMap<Host, Vec<Listened<'a>>> {
    let mut hosts: HashMap<Host, Vec<Listened<'a>>> = HashMap::new();
    for (service, listener, pool) in translated(spec, pools) {
        // A backend with a port of its own is refused elsewhere.
        for backend in pool.backends.iter().filter(|_| listener.port.is_none()) {
            let host = (backend.address.ip, listener.protocol, service.forward);
            hosts.entry(host).or_default().push((service, listener));
        }
    }
    hosts
}

/// Every IPv4 listener whose flows are translated, with its service and pool, and with the pool that stands in for that one. All flows
/// of IPv6 lie in one index.
fn translated<'a>(
    spec: &'a Spec,
    pools: &HashMap<&Name, &'a PoolSpec>,
) -> impl Iterator<Item = (&'a ServiceSpec, Listener, &'a PoolSpec)> {
    let services = spec.services.iter().filter(|service| service.forward.translates());
    let pools_of = |service: &ServiceSpec| {
        let pool = pools.get(&service.pool).copied();
        let backup = pool.and_then(|pool| pools.get(&pool.backup.as_ref()?.pool)).copied();
        pool.into_iter().chain(backup)
    };
    services.flat_map(move |service| pools_of(service).map(move |pool| (service, pool))).flat_map(
        |(service, pool)| {
            let listeners = service.listen.iter().filter(|listener| listener.addr.is_ipv4());
            listeners.map(move |listener| (service, *listener, pool))
        },
    )
}

fn shared(
    (open, taking_all): Listened<'_>,
    (service, listener): Listened<'_>,
    host: IpAddr,
    named: Listener,
) -> Problem {
    let position = service.listen.iter().position(|other| *other == listener).unwrap_or_default();
    let (port, protocol) = (named.port.unwrap_or_default(), named.protocol);
    let both = match open.name == service.name {
        true => format!("listeners {taking_all} and {listener} of service {:?} both", open.name.as_str()),
        false => format!(
            "service {:?} (listener {taking_all}) and service {:?} (listener {listener}) both",
            open.name.as_str(),
            service.name.as_str()
        ),
    };
    let mixed = match service.forward {
        Forward::Nat => "two connections of one client port would be one connection there",
        _ => "two clients could be given one source port there",
    };
    Problem::error(
        &service.listener_origin(position),
        format!("{both} send flows to {host}:{port}/{protocol}, where they are not kept apart: {mixed}"),
        format!(
            "add the listener {named} to one of them, so that this port is not among those that {taking_all} takes; or give each backends of its own, or use forward = \"dsr\" or \"ipip\""
        ),
    )
}
