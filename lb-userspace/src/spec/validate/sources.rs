//! Source addresses of full-nat that a listener takes for itself.
//!
//! In: a spec. Out: an error for each listener that replies of backends would be taken for requests to. A vip may be a source
//! too: replies come back to its high ports, and only a listener on those is in their way.

use super::Gaps;
use crate::spec::{Forward, Listener, Problem, SNAT_PORTS, ServiceSpec, Spec};

/// One problem for each such listener. The whole spec is needed: the connections may be those of any service.
pub(crate) fn claimed_sources(spec: &Spec, gaps: &Gaps) -> Vec<Problem> {
    if gaps.snat || gaps.anywhere(&["listen", "forward"]) {
        return Vec::new();
    }
    let translated = |listener: &Listener| {
        let services = spec.services.iter().filter(|service| service.forward == Forward::FullNat);
        services.flat_map(|service| &service.listen).any(|other| other.protocol == listener.protocol)
    };
    let in_the_way = |listener: &Listener| {
        spec.datapath.snat.contains(&listener.addr)
            && listener.port.is_none_or(|port| SNAT_PORTS.contains(&port))
            && translated(listener)
    };
    let listeners = |service: &ServiceSpec| service.listen.clone().into_iter().enumerate();
    let mut problems = Vec::new();
    for service in &spec.services {
        for (position, listener) in listeners(service).filter(|(_, listener)| in_the_way(listener)) {
            problems.push(claimed(service, position, &listener));
        }
    }
    problems
}

fn claimed(service: &ServiceSpec, position: usize, listener: &Listener) -> Problem {
    let (addr, low, high) = (listener.addr, SNAT_PORTS.start(), SNAT_PORTS.end());
    Problem::error(
        &service.listener_origin(position),
        format!(
            "service {:?} cannot listen on {listener}: {addr} is in snat, and answers of full-nat backends come back to its ports {low} to {high}",
            service.name.as_str()
        ),
        format!(
            "take {addr} out of snat in [datapath], or listen on one port below {low}, or on another address"
        ),
    )
}
