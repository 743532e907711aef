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
    let in_the_way = |listener: &Listener| {
        spec.datapath.snat.contains(&listener.addr) && answered_on(listener, spec).next().is_some()
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

/// The services of full-nat whose answers come in on ports of this listener, if its address is their source.
pub(crate) fn answered_on<'a>(
    listener: &Listener,
    spec: &'a Spec,
) -> impl Iterator<Item = &'a ServiceSpec> + use<'a> {
    let protocol = listener.protocol;
    let is_there = listener.port.is_none_or(|port| SNAT_PORTS.contains(&port));
    let services = is_there.then(|| spec.services.iter()).into_iter().flatten();
    services.filter(move |service| {
        service.forward == Forward::FullNat && service.listen.iter().any(|other| other.protocol == protocol)
    })
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
