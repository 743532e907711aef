//! Addresses of this host that full-nat takes for its connections, and listeners on the ports where their answers come in.
//!
//! In: a spec, the snapshot. Out: an error for each listener that answers of backends would be taken for requests to. What `snat` says is judged
//! without a host (`spec/validate/sources.rs`); where it names no address, the kernel's route to a backend does.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::host::HostNetwork;
use crate::spec::{Forward, Listener, Name, Place, Problem, SNAT_PORTS, ServiceSpec, Spec};

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

/// Cheap questions first: hardly any listener comes to the last.
fn is_in_the_way(listener: &Listener, spec: &Spec, host: &HostNetwork) -> bool {
    let addr = listener.addr;
    listener.port.is_none_or(|port| SNAT_PORTS.contains(&port))
        && !spec.datapath.snat.iter().any(|source| source.is_ipv4() == addr.is_ipv4())
        && host
            .addresses
            .iter()
            .any(|own| own.net.addr() == addr && leads_to_full_nat(own.link, listener, spec, host))
}

/// Whether packets to a backend of full-nat leave by this link, so that this host's address there is their source.
fn leads_to_full_nat(link: u32, listener: &Listener, spec: &Spec, host: &HostNetwork) -> bool {
    let services = spec.services.iter().filter(|service| {
        service.forward == Forward::FullNat
            && service.listen.iter().any(|other| other.protocol == listener.protocol)
    });
    let mut pools: BTreeSet<&Name> = services.map(|service| &service.pool).collect();
    let used = spec.pools.iter().filter(|pool| pools.contains(&pool.name));
    let backups: Vec<&Name> = used.filter_map(|pool| Some(&pool.backup.as_ref()?.pool)).collect();
    pools.extend(backups);
    let by_link = |ip: IpAddr| {
        ip.is_ipv4() == listener.addr.is_ipv4()
            && host.routes.lookup(ip).iter().any(|route| route.link == link)
    };
    let used = spec.pools.iter().filter(|pool| pools.contains(&pool.name));
    used.flat_map(|pool| &pool.backends).any(|backend| by_link(backend.address.ip))
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
