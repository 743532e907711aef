//! What is wrong with a pool and its backends by themselves.
//!
//! In: a pool and the services that use it. Out: problems of members, weights and table size. Invariant: a pool that
//! passes can be made a Maglev table.

use std::collections::HashMap;

use super::{Gaps, first_at, join, unusable};
use crate::spec::{BackendSpec, Forward, MAGLEV_SIZES, Origin, PoolSpec, Problem, ServiceSpec, SourceSpec};

/// Slots and flow entries hold a 16-bit index, and 0 is nobody.
const MAX_BACKENDS: usize = 65_535;

pub(super) fn check(pool: &PoolSpec, services: &[&ServiceSpec], gaps: &Gaps, problems: &mut Vec<Problem>) {
    let name = pool.name.as_str();
    if services.is_empty() {
        problems.push(Problem::warning(
            &pool.origin,
            format!("pool {name:?} is used by no service"),
            format!("write pool = {name:?} in a service, or as backup of a pool that has one, or remove it"),
        ));
    }
    if !gaps.at(&pool.origin, &["backends"]) {
        members(pool, problems);
    }
    unused_family(pool, services, problems);
    sources(pool, problems);
    if !gaps.at(&pool.origin, &["maglev"]) {
        table(pool, problems);
    }
    let mut seen: HashMap<_, Vec<&BackendSpec>> = HashMap::new();
    for backend in &pool.backends {
        if let Some(why) = unusable(backend.address.ip) {
            problems.push(Problem::error(
                &backend.origin,
                format!("backend {} of pool {name:?} cannot be reached: {why}", backend.address),
                "name the address of one server",
            ));
        }
        // The same address from another origin is the same backend with two origins (interface.md, Who owns what, 3).
        let same = seen.entry(backend.address).or_default();
        if let Some(first) = same.iter().find(|other| other.origin.same_owner(&backend.origin)) {
            let first = first_at(&first.origin);
            problems.push(Problem::error(
                &backend.origin,
                format!("backend {} is in pool {name:?} twice{first}", backend.address),
                "name it once; a larger share is a larger weight",
            ));
        } else {
            same.push(backend);
        }
    }
}

fn members(pool: &PoolSpec, problems: &mut Vec<Problem>) {
    let name = pool.name.as_str();
    let owner = if pool.inline { "service" } else { "pool" };
    if pool.backends.is_empty() && pool.discover.is_empty() {
        let message = format!("{owner} {name:?} has no backends, so nobody would answer");
        problems.push(match pool.origin {
            // lbctl adds the service first and its backends one by one.
            Origin::Cli => {
                Problem::warning(&pool.origin, message, format!("add one with lbctl backend add {name} ADDR"))
            }
            _ => Problem::error(&pool.origin, message, "write backends = [\"10.0.0.11\", \"10.0.0.12\"]"),
        });
    } else if !pool.backends.is_empty() && pool.backends.iter().all(|backend| backend.weight == 0) {
        problems.push(Problem::warning(
            &pool.origin,
            format!("every backend of {owner} {name:?} has weight 0, so none takes a new flow"),
            "give at least one a weight of 1 or more",
        ));
    }
    if pool.backends.len() > MAX_BACKENDS {
        problems.push(Problem::error(
            &pool.origin,
            format!("{owner} {name:?} has {} backends; a pool holds {MAX_BACKENDS}", pool.backends.len()),
            "split it over several services",
        ));
    }
}

/// One question asked twice would be two owners of one name.
fn sources(pool: &PoolSpec, problems: &mut Vec<Problem>) {
    let mut seen: HashMap<String, &SourceSpec> = HashMap::new();
    for source in &pool.discover {
        let name = source.name();
        match seen.get(&name) {
            Some(first) => problems.push(Problem::error(
                &source.origin,
                format!("pool {:?} discovers {name} twice{}", pool.name.as_str(), first_at(&first.origin)),
                "write it once (record = \"a+aaaa\" asks for both families)",
            )),
            None => drop(seen.insert(name, source)),
        }
    }
}

/// A backend whose family no listener speaks never gets a packet.
fn unused_family(pool: &PoolSpec, services: &[&ServiceSpec], problems: &mut Vec<Problem>) {
    let joins_any = |service: &&ServiceSpec| service.forward == Forward::Ipip || service.listen.is_empty();
    if services.is_empty() || services.iter().any(joins_any) {
        return;
    }
    for family in ["IPv4", "IPv6"] {
        let mut listeners = services.iter().flat_map(|service| &service.listen);
        if listeners.any(|listener| join::family(listener.addr) == family) {
            continue;
        }
        let idle = pool.backends.iter().find(|backend| join::family(backend.address.ip) == family);
        if let Some(backend) = idle {
            problems.push(Problem::warning(
                &backend.origin,
                format!(
                    "backend {} of pool {:?} gets no packet: no listener of its services is {family}",
                    backend.address,
                    pool.name.as_str()
                ),
                format!("add an {family} listener, or use forward = \"ipip\""),
            ));
        }
    }
}

fn table(pool: &PoolSpec, problems: &mut Vec<Problem>) {
    let name = pool.name.as_str();
    let Some(slots) = pool.maglev else { return };
    if !MAGLEV_SIZES.contains(&slots) {
        problems.push(Problem::error(
            &pool.origin,
            format!("pool {name:?} has maglev = {slots}, which is no size of a table"),
            "write 1021, 4093, 16381 or 65537, or leave it out: lbd then chooses by the number of backends",
        ));
        return;
    }
    let active = pool.backends.iter().filter(|backend| backend.weight > 0).count();
    if usize::try_from(slots).is_ok_and(|slots| slots < active) {
        problems.push(Problem::error(
            &pool.origin,
            format!(
                "pool {name:?} has {active} backends with weight but only {slots} slots (maglev = {slots})"
            ),
            "choose a larger table, or leave maglev out",
        ));
    }
}
