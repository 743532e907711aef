//! Addresses of this host that full-nat takes for its connections, and listeners on the ports where their answers come in.
//!
//! In: a spec, the snapshot. Out: an error for each listener that answers of backends would be taken for requests to. What `snat` says is judged
//! without a host (`spec/validate/sources.rs`); where it names no address, the kernel's route to a backend does.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::host::HostNetwork;
use crate::spec::{Listener, Name, Place, Problem, SNAT_PORTS, ServiceSpec, Spec, answered_on};

pub(super) fn judge(spec: &Spec, host: &HostNetwork) -> Vec<Problem> {
    let mut problems = Vec::new();
    for service in &spec.services {
        for (position, listener) in service.listen.iter().enumerate() {
            if is_in_the_way(listener, spec, host) {
                problems.push(claimed(service, position, listener));
            }
        }
    }
    problems
}

/// Whether this host's address towards a backend of full-nat, which is the source of connections to it, is the listener's. Cheap questions
/// first: hardly any listener comes to the last.
fn is_in_the_way(listener: &Listener, spec: &Spec, host: &HostNetwork) -> bool {
    let is_v4 = listener.addr.is_ipv4();
    let is_named = spec.datapath.snat.iter().any(|source| source.is_ipv4() == is_v4);
    if is_named || answered_on(listener, spec).next().is_none() {
        return false;
    }
    host.addresses.iter().any(|own| own.net.addr() == listener.addr)
        && backends(answered_on(listener, spec), spec)
            .any(|ip| ip.is_ipv4() == is_v4 && host.sends_from(listener.addr, ip))
}

/// Addresses of the backends of these services, those of backup pools among them.
fn backends<'a>(
    services: impl Iterator<Item = &'a ServiceSpec>,
    spec: &'a Spec,
) -> impl Iterator<Item = IpAddr> {
    let mut pools: BTreeSet<&Name> = services.map(|service| &service.pool).collect();
    let used = spec.pools.iter().filter(|pool| pools.contains(&pool.name));
    let backups: Vec<&Name> = used.filter_map(|pool| Some(&pool.backup.as_ref()?.pool)).collect();
    pools.extend(backups);
    let used = spec.pools.iter().filter(move |pool| pools.contains(&pool.name));
    used.flat_map(|pool| &pool.backends).map(|backend| backend.address.ip)
}

fn claimed(service: &ServiceSpec, position: usize, listener: &Listener) -> Problem {
    let (addr, low, high) = (listener.addr, SNAT_PORTS.start(), SNAT_PORTS.end());
    Problem::error(
        Place::from(&service.listener_origin(position)),
        format!(
            "service {:?} cannot listen on {listener}: full-nat sends to its backends from {addr}, as snat names no other address, and their \
             answers come back to its ports {low} to {high}",
            service.name.as_str()
        ),
        format!(
            "set snat in [datapath] to another address of this host, or listen on one port below {low}, or on another address"
        ),
    )
}
