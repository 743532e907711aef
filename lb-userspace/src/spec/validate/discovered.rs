//! What a discovered backend by itself contradicts.
//!
//! In: one backend, the services of its pool. Out: nothing, or why it cannot be taken. Invariant: what is refused of the file is
//! refused here for the same reason; here it costs that one backend, because nobody who could mend it is waiting for an
//! answer.

use super::{join, unusable};
use crate::spec::{BackendSpec, Forward, Name, Problem, ServiceSpec};

/// Why this backend cannot belong to this pool, which these services use by these interfaces.
pub(crate) fn unfit(
    backend: &BackendSpec,
    pool: &Name,
    services: &[&ServiceSpec],
    listed: &[String],
) -> Option<Problem> {
    if let Some(why) = unusable(backend.address.ip) {
        let message =
            format!("backend {} of pool {:?} cannot be reached: {why}", backend.address, pool.as_str());
        return Some(Problem::error(&backend.origin, message, "name the address of one server"));
    }
    let mut problems = Vec::new();
    for service in services {
        join::port(service, backend, &mut problems);
        join::vip_as_backend(service, backend, &mut problems);
        problems.extend(join::loopback(service, backend, listed));
    }
    problems.into_iter().next().or_else(|| family(backend, pool, services))
}

/// Of a family that no listener speaks: it would be checked and shown and never get a packet.
fn family(backend: &BackendSpec, pool: &Name, services: &[&ServiceSpec]) -> Option<Problem> {
    let family = join::family(backend.address.ip);
    let speaks = |service: &&ServiceSpec| {
        service.forward == Forward::Ipip
            || service.listen.iter().any(|listener| join::family(listener.addr) == family)
    };
    if services.is_empty() || services.iter().any(speaks) {
        return None;
    }
    let (address, pool) = (backend.address, pool.as_str());
    Some(Problem::error(
        &backend.origin,
        format!(
            "backend {address} of pool {pool:?} would get no packet: no listener of its services is {family}"
        ),
        format!("add an {family} listener, or use forward = \"ipip\""),
    ))
}
