//! What is wrong with the pool that stands in for another.
//!
//! In: pools by name, the services of each. Out: an error for each backup that is not there or is the pool itself, a warning for each
//! that cannot serve. Invariant: a pool that passes has somewhere to go when it is down.

use super::{Gaps, Index, join, nearest};
use crate::spec::{Forward, PoolSpec, Problem, ServiceSpec};

pub(super) fn check(
    pool: &PoolSpec,
    services: &[&ServiceSpec],
    index: &Index<'_>,
    gaps: &Gaps,
    problems: &mut Vec<Problem>,
) {
    let Some(backup) = &pool.backup else { return };
    let (name, other) = (pool.name.as_str(), backup.pool.as_str());
    if backup.pool == pool.name {
        problems.push(Problem::error(
            &pool.origin,
            format!("pool {name:?} is its own backup"),
            "name another pool, or leave backup out",
        ));
        return;
    }
    match index.pools.get(&backup.pool) {
        Some(found) => families(pool, found, services, problems),
        None if gaps.some_pools => {}
        None => {
            let near = nearest(other, index.pools.keys().map(|name| name.as_str()));
            let hint = match near.filter(|near| *near != name) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("define it as [[pool]] name = {other:?}, or leave backup out"),
            };
            let message = format!("the backup of pool {name:?} is the pool {other:?}, which does not exist");
            problems.push(Problem::error(&pool.origin, message, hint));
        }
    }
}

/// A family of which the pool has backends and its backup has none.
fn families(pool: &PoolSpec, backup: &PoolSpec, services: &[&ServiceSpec], problems: &mut Vec<Problem>) {
    if backup.backends.is_empty() {
        // Said of the backup itself.
        return;
    }
    let of_family = |pool: &PoolSpec, family: &str| {
        pool.backends.iter().any(|backend| join::family(backend.address.ip) == family)
    };
    let split = |service: &&&ServiceSpec| service.forward != Forward::Ipip;
    for family in ["IPv4", "IPv6"] {
        let mut listeners = services.iter().filter(split).flat_map(|service| &service.listen);
        let is_served = listeners.any(|listener| join::family(listener.addr) == family);
        if is_served && of_family(pool, family) && !of_family(backup, family) {
            let (name, other) = (pool.name.as_str(), backup.name.as_str());
            problems.push(Problem::warning(
                &pool.origin,
                format!("backup pool {other:?} of pool {name:?} has no {family} backend for the {family} listeners"),
                format!("add one to pool {other:?}, or use forward = \"ipip\""),
            ));
        }
    }
}
