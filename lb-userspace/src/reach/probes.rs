//! Whether the addresses of checks through services are free on this host.
//!
//! In: a spec, the host. Out: an error where somebody here has some of them. Invariant: a wide route that leads past them is none of theirs: the
//! rules that lead to them come before it.

use ipnet::IpNet;

use super::HostNetwork;
use crate::spec::{PROBE_INNER, PROBE_OUTER, Place, Problem, Spec, Via};

/// One problem for each prefix that is not free.
pub(super) fn judge(spec: &Spec, host: &HostNetwork) -> Vec<Problem> {
    if spec.pools.iter().all(|pool| pool.health.via == Via::Direct) {
        return Vec::new();
    }
    let is_own = |link: u32| {
        host.link(link).is_some_and(|link| [PROBE_INNER, PROBE_OUTER].contains(&link.name.as_str()))
    };
    let nets = spec.datapath.probe_prefix.nets();
    let taken = |net: &IpNet| {
        let address = host.addresses.iter().find(|own| {
            !is_own(own.link) && (net.contains(&own.net.addr()) || own.net.contains(&net.addr()))
        });
        let name = |link: u32| host.link(link).map_or_else(|| format!("#{link}"), |link| link.name.clone());
        address.map(|own| format!("the network {} of {}", own.net.trunc(), name(own.link))).or_else(|| {
            host.routes
                .within(net)
                .find(|route| !is_own(route.link))
                .map(|route| format!("the route to {}", route.destination))
        })
    };
    let problem = |net: &IpNet| {
        let taken = taken(net)?;
        Some(Problem::error(
            Place::Setting { key: "datapath.probe_prefix".to_owned() },
            format!(
                "checks with via = \"service\" use {net} for themselves, and this host has {taken} there"
            ),
            "write another prefix, which nobody uses, into probe_prefix in [datapath]",
        ))
    };
    nets.iter().filter_map(problem).collect()
}
