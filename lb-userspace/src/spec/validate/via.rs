//! Whether the checks that go through services can.
//!
//! In: a pool and its services; the whole spec, for addresses. Out: problems. Invariant: a check that passes has a listener for every
//! backend that a service sends flows to, and a probe address that is nobody else's.

use std::net::IpAddr;

use super::Gaps;
use super::join::family;
use crate::spec::{
    BackendSpec, DatapathSpec, Forward, HealthKind, Place, PoolSpec, Problem, Protocol, ServiceSpec, Spec,
    Via, on_loopback,
};

/// What is known besides a pool and its services.
pub(super) struct Known<'a> {
    pub(super) datapath: &'a DatapathSpec,
    /// The interfaces; none if that is not known.
    pub(super) listed: &'a [String],
    pub(super) gaps: &'a Gaps,
}

pub(super) fn check(
    pool: &PoolSpec,
    services: &[&ServiceSpec],
    known: &Known<'_>,
    problems: &mut Vec<Problem>,
) {
    let missing = |service: &&ServiceSpec| known.gaps.at(&service.origin, &["listen", "forward"]);
    if pool.health.via.is_direct()
        || known.gaps.some_users
        || known.gaps.at(&pool.origin, &["health"])
        || services.iter().any(missing)
    {
        return;
    }
    if let Some(problem) = unable(pool) {
        problems.push(problem);
        return;
    }
    problems.extend(services.iter().filter_map(|service| local(pool, service, known.listed)));
    problems.extend(unheard(pool, services));
    problems.extend(sourceless(pool, services, known.datapath));
}

/// A type of check that no service forwards.
fn unable(pool: &PoolSpec) -> Option<Problem> {
    let kind = &pool.health.kind;
    if kind.travels_by().is_some() || *kind == HealthKind::None {
        return None;
    }
    let why = match kind {
        HealthKind::Exec(_) => "goes where its program goes",
        _ => "is no packet that a service forwards",
    };
    let (name, kind) = (pool.name.as_str(), kind.as_str());
    Some(Problem::error(
        &pool.origin,
        format!(
            "pool {name:?} has a health check of type {kind} with via = \"service\", but such a check {why}"
        ),
        "use type tcp, http, https, grpc, udp or dns, or write via = \"direct\"",
    ))
}

/// A service on lo, which a probe does not come in by.
fn local(pool: &PoolSpec, service: &ServiceSpec, listed: &[String]) -> Option<Problem> {
    let name = pool.name.as_str();
    on_loopback(service, listed).then(|| {
        Problem::error(
            &pool.origin,
            format!(
                "pool {name:?} is checked with via = \"service\", but service {:?} is on lo: its packets do not leave this host",
                service.name.as_str()
            ),
            "write via = \"direct\"; on lo there is nothing between this host and the backend",
        )
    })
}

/// No service has a listener that could be asked.
fn unheard(pool: &PoolSpec, services: &[&ServiceSpec]) -> Option<Problem> {
    let protocol = pool.health.kind.travels_by()?;
    let udp_only = services.iter().flat_map(|service| &service.listen).all(|l| l.protocol == Protocol::Udp);
    if services.is_empty() || (pool.health_is_default && udp_only) {
        return None;
    }
    let is_asked = |service: &&ServiceSpec| {
        let mut listeners = service.listen.iter().filter(|listener| listener.protocol == protocol);
        listeners.any(|listener| match (listener.port, pool.health.port) {
            (Some(port), Some(wanted)) => port == wanted,
            (port, wanted) => port.or(wanted).is_some(),
        })
    };
    let silent = services.iter().find(|service| !is_asked(service))?;
    let (name, kind, service) = (pool.name.as_str(), pool.health.kind.as_str(), silent.name.as_str());
    let port = pool.health.port.map(|port| format!(" on port {port}")).unwrap_or_default();
    Some(Problem::error(
        &pool.origin,
        format!(
            "pool {name:?} is checked by {kind} with via = \"service\", but service {service:?} has no {protocol} listener{port} that \
             could be asked"
        ),
        match pool.health.port {
            Some(_) => "take the port out: such a check asks a listener of each service, where clients do",
            None => {
                "give the service one, write the port of the check if it takes every port, or write via = \"direct\""
            }
        },
    ))
}

/// A tunnel of the other family: the packet inside needs a source that the backend can answer.
fn sourceless(pool: &PoolSpec, services: &[&ServiceSpec], datapath: &DatapathSpec) -> Option<Problem> {
    let has_source = |is_v4: bool| datapath.snat.iter().any(|source| source.is_ipv4() == is_v4);
    let unsourced = |vip: IpAddr, backend: &BackendSpec| {
        vip.is_ipv4() != backend.address.ip.is_ipv4() && !has_source(vip.is_ipv4())
    };
    let tunnels = services.iter().filter(|service| service.forward == Forward::Ipip);
    tunnels.flat_map(|service| &service.listen).find_map(|listener| {
        let backend = pool.backends.iter().find(|backend| unsourced(listener.addr, backend))?;
        let wanted = family(listener.addr);
        Some(Problem::error(
            &backend.origin,
            format!(
                "pool {:?} is checked with via = \"service\", and backend {} gets packets to {} in a tunnel of the other family, but no \
                 {wanted} address of this host is known that it could answer",
                pool.name.as_str(),
                backend.address,
                listener.addr
            ),
            format!("write an {wanted} address of this host into snat in [datapath], or via = \"direct\" into the health check"),
        ))
    })
}

/// Problems of the probe addresses of a whole spec: somebody else has them, or there are too few.
pub(crate) fn claimed_probes(spec: &Spec, gaps: &Gaps) -> Vec<Problem> {
    let is_asked = |pool: &&PoolSpec| pool.health.via == Via::Service;
    let Some(first) = spec.pools.iter().find(is_asked) else { return Vec::new() };
    if gaps.some_users || gaps.anywhere(&["listen", "forward", "health"]) {
        return Vec::new();
    }
    let mut problems = claims(spec);
    for is_v4 in [true, false] {
        let wanted = wanted(spec, is_v4);
        let room = spec.datapath.probe_prefix.capacity(is_v4);
        if wanted > room as usize {
            let net = spec.datapath.probe_prefix.net(is_v4);
            problems.push(Problem::error(
                &first.origin,
                format!(
                    "checks with via = \"service\" need {wanted} probe addresses, one for each backend and listener, and {net} has room \
                     for {room}"
                ),
                "write a shorter prefix into probe_prefix in [datapath] (65,535 is the most), or via = \"direct\" into some pools",
            ));
        }
    }
    problems
}

/// How many probe addresses of a family the checks need.
fn wanted(spec: &Spec, is_v4: bool) -> usize {
    let asked = spec.pools.iter().filter(|pool| pool.health.via == Via::Service);
    let ways = |pool: &PoolSpec| -> usize {
        let ways = |backend: &BackendSpec| {
            let ways = spec.check_ways(pool, backend.address.ip);
            ways.iter().filter(|way| way.listener.addr.is_ipv4() == is_v4).count()
        };
        // The ways depend on the backend's family alone.
        let mut of = [None; 2];
        pool.backends
            .iter()
            .map(|backend| {
                *of[usize::from(backend.address.ip.is_ipv6())].get_or_insert_with(|| ways(backend))
            })
            .sum()
    };
    asked.map(ways).sum()
}

/// Vips, backends and sources that lie among the probe addresses.
fn claims(spec: &Spec) -> Vec<Problem> {
    let nets = spec.datapath.probe_prefix.nets();
    let mut problems = Vec::new();
    let mut claim = |place: &dyn Fn() -> Place, what: &dyn Fn() -> String, ip: IpAddr| {
        if let Some(net) = nets.iter().find(|net| net.contains(&ip)) {
            problems.push(Problem::error(
                place(),
                format!(
                    "{} has an address in {net}, which checks with via = \"service\" use for themselves",
                    what()
                ),
                "write another prefix, which nobody uses, into probe_prefix in [datapath]",
            ));
        }
    };
    for service in &spec.services {
        for (index, listener) in service.listen.iter().enumerate() {
            let place = || Place::from(&service.listener_origin(index));
            claim(&place, &|| format!("service {:?}", service.name.as_str()), listener.addr);
        }
    }
    for (pool, backend) in spec.pools.iter().flat_map(|pool| pool.backends.iter().map(move |b| (pool, b))) {
        let place = || Place::from(&backend.origin);
        claim(
            &place,
            &|| format!("backend {} of pool {:?}", backend.address, pool.name.as_str()),
            backend.address.ip,
        );
    }
    for (key, sources) in [("snat", &spec.datapath.snat), ("tunnel_source", &spec.datapath.tunnel_source)] {
        for source in sources {
            let place = || Place::Setting { key: format!("datapath.{key}") };
            claim(&place, &|| format!("{key} in [datapath]"), *source);
        }
    }
    problems
}
