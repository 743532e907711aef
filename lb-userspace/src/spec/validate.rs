//! What the objects of a [`Spec`] say about one another.
//!
//! In: a spec whose parts are syntactically valid. Out: every problem, errors and warnings, in the order of definition.
//! Invariant: pure; it knows nothing of this host (that is [`crate::reach`]'s part), so a file can be judged anywhere.

mod backup;
mod discovered;
mod endpoints;
mod gaps;
mod health;
mod join;
mod pool;
mod ranges;
mod sources;
mod via;

use std::collections::HashMap;
use std::net::IpAddr;

pub(crate) use discovered::unfit;
pub(crate) use endpoints::shared_endpoints;
pub(crate) use gaps::Gaps;
pub(crate) use sources::{answered_on, claimed_sources};
pub(crate) use via::claimed_probes;

use super::{Affinity, LOOPBACK, Listener, Name, Origin, PoolSpec, Problem, Protocol, ServiceSpec, Spec};

/// Every problem of this spec; empty when there is nothing to say.
pub fn validate(spec: &Spec) -> Vec<Problem> {
    validate_known(spec, &Gaps::default())
}

/// As [`validate`] where some of what was written could not be read: every problem that does not follow from that.
pub(crate) fn validate_known(spec: &Spec, gaps: &Gaps) -> Vec<Problem> {
    let mut problems = parts(spec, gaps);
    ranges::settings(spec, &mut problems);
    problems.extend(claimed_sources(spec, gaps));
    problems.extend(claimed_probes(spec, gaps));
    if !gaps.anywhere(&["listen", "forward", "pool"]) {
        problems.extend(shared_endpoints(spec));
    }
    problems
}

/// As [`validate`] for some of the services, with those that have their listeners and all their pools: every problem but those
/// of [`shared_endpoints`] and [`claimed_sources`].
pub(crate) fn validate_part(spec: &Spec) -> Vec<Problem> {
    parts(spec, &Gaps::default())
}

fn parts(spec: &Spec, gaps: &Gaps) -> Vec<Problem> {
    let mut problems = Vec::new();
    let listed = if gaps.interfaces { &[][..] } else { &spec.datapath.interfaces };
    let index = Index::new(spec, &mut problems);
    duplicate_listeners(spec, &mut problems);
    for pool in &spec.pools {
        let services = index.services.get(&pool.name).map_or(&[][..], Vec::as_slice);
        let users = index.users_of(pool);
        pool::check(pool, &users, gaps, &mut problems);
        ranges::pool(pool, gaps, &mut problems);
        health::check(pool, &users, gaps, &mut problems);
        via::check(pool, &users, &via::Known { datapath: &spec.datapath, listed, gaps }, &mut problems);
        backup::check(pool, services, &index, gaps, &mut problems);
    }
    for service in &spec.services {
        listeners(service, listed, gaps, &mut problems);
        affinity(service, gaps, &mut problems);
        match index.pools.get(&service.pool) {
            Some(pool) => {
                let known = join::Known { listed, gaps };
                join::check(service, pool, &known, &mut problems);
                let backup = pool.backup.as_ref().filter(|backup| backup.pool != pool.name);
                if let Some(backup) = backup.and_then(|backup| index.pools.get(&backup.pool)) {
                    join::check_backup(service, pool, backup, &known, &mut problems);
                }
            }
            None if gaps.some_pools || gaps.at(&service.origin, &["pool"]) => {}
            None => problems.push(missing_pool(service, &index)),
        }
    }
    problems
}

/// Pools by name and services by pool, so that judging a large spec takes time linear in its size.
struct Index<'a> {
    pools: HashMap<&'a Name, &'a PoolSpec>,
    services: HashMap<&'a Name, Vec<&'a ServiceSpec>>,
    /// By the name of the backup pool: those that it stands in for.
    stood_in_for: HashMap<&'a Name, Vec<&'a Name>>,
}

impl<'a> Index<'a> {
    /// Builds the index; names used twice are problems.
    fn new(spec: &'a Spec, problems: &mut Vec<Problem>) -> Self {
        let mut pools = HashMap::new();
        for pool in &spec.pools {
            if let Some(first) = pools.insert(&pool.name, pool) {
                problems.push(duplicate_pool(first, pool));
                pools.insert(&pool.name, first);
            }
        }
        let mut names: HashMap<&Name, &ServiceSpec> = HashMap::new();
        let mut services: HashMap<&Name, Vec<&ServiceSpec>> = HashMap::new();
        for service in &spec.services {
            services.entry(&service.pool).or_default().push(service);
            if let Some(first) = names.insert(&service.name, service) {
                problems.push(Problem::error(
                    &service.origin,
                    format!(
                        "service {:?} is defined twice, first at {}",
                        service.name.as_str(),
                        first.origin
                    ),
                    "give one of them another name, or write all listeners in one service",
                ));
                names.insert(&service.name, first);
            }
        }
        let mut stood_in_for: HashMap<&Name, Vec<&Name>> = HashMap::new();
        for pool in &spec.pools {
            if let Some(backup) = &pool.backup {
                stood_in_for.entry(&backup.pool).or_default().push(&pool.name);
            }
        }
        Self { pools, services, stood_in_for }
    }

    /// The services of a pool, and those of the pools that it stands in for.
    fn users_of(&self, pool: &PoolSpec) -> Vec<&'a ServiceSpec> {
        let services = |name: &Name| self.services.get(name).into_iter().flatten().copied();
        let others = self.stood_in_for.get(&pool.name).into_iter().flatten();
        services(&pool.name).chain(others.flat_map(|other| services(other))).collect()
    }
}

fn duplicate_pool(first: &PoolSpec, second: &PoolSpec) -> Problem {
    let name = second.name.as_str();
    let inside = |pool: &PoolSpec| if pool.inline { " (the backends written in the service)" } else { "" };
    Problem::error(
        &second.origin,
        format!(
            "pool {name:?}{} is defined twice, also at {}{}",
            inside(second),
            first.origin,
            inside(first)
        ),
        match first.inline || second.inline {
            true => format!(
                "write pool = {name:?} in the service and its backends in [[pool]], or rename the pool"
            ),
            false => "give one of them another name, or write all backends in one pool".to_owned(),
        },
    )
}

fn duplicate_listeners(spec: &Spec, problems: &mut Vec<Problem>) {
    let mut seen: HashMap<Listener, (&ServiceSpec, usize)> = HashMap::new();
    for service in &spec.services {
        for (position, listener) in service.listen.iter().enumerate() {
            let Some((first, first_position)) = seen.get(listener) else {
                seen.insert(*listener, (service, position));
                continue;
            };
            let name = service.name.as_str();
            let (message, hint) = match std::ptr::eq(*first, service) {
                true => {
                    let first = first_at(&first.listener_origin(*first_position));
                    (format!("listener {listener} is in service {name:?} twice{first}"), "name it once")
                }
                false => (
                    format!(
                        "listener {listener} of service {name:?} is taken by service {:?} at {}",
                        first.name.as_str(),
                        first.listener_origin(*first_position)
                    ),
                    "a listener belongs to one service; remove one of the two",
                ),
            };
            problems.push(Problem::error(&service.listener_origin(position), message, hint));
        }
    }
}

/// Where the first of two is, if somebody can look there.
fn first_at(origin: &Origin) -> String {
    match origin {
        Origin::File { .. } => format!(", first at {origin}"),
        Origin::Cli | Origin::Discovery { .. } => String::new(),
    }
}

fn missing_pool(service: &ServiceSpec, index: &Index<'_>) -> Problem {
    let known = index.pools.values().filter(|pool| !pool.inline).map(|pool| pool.name.as_str());
    let hint = match nearest(service.pool.as_str(), known) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!(
            "define it as [[pool]] name = {:?}, or write backends = [\"10.0.0.11\"] here",
            service.pool.as_str()
        ),
    };
    let message = format!(
        "service {:?} names the pool {:?}, which does not exist",
        service.name.as_str(),
        service.pool.as_str()
    );
    Problem::error(&service.origin, message, hint)
}

/// Listeners that get no packet, whatever the pool.
fn listeners(service: &ServiceSpec, listed: &[String], gaps: &Gaps, problems: &mut Vec<Problem>) {
    let name = service.name.as_str();
    if service.listen.is_empty() && !gaps.at(&service.origin, &["listen"]) {
        problems.push(Problem::error(
            &service.origin,
            format!("service {name:?} has no listener, so no packet can belong to it"),
            "write listen = [\"203.0.113.10:443/tcp\"]",
        ));
    }
    for (position, listener) in service.listen.iter().enumerate() {
        if let Some(why) = unusable(listener.addr) {
            problems.push(Problem::error(
                &service.listener_origin(position),
                format!("service {name:?} cannot listen on {listener}: {why}"),
                "name one unicast address that clients send to",
            ));
        } else if listener.addr.is_loopback()
            && !listed.is_empty()
            && !listed.iter().any(|interface| interface == LOOPBACK)
        {
            problems.push(Problem::error(
                &service.listener_origin(position),
                format!(
                    "service {name:?} listens on {listener}, which is reached from this host only, by lo"
                ),
                "add \"lo\" to interfaces in [datapath], or name an address that clients reach",
            ));
        }
    }
}

/// What `affinity = "none"` contradicts.
fn affinity(service: &ServiceSpec, gaps: &Gaps, problems: &mut Vec<Problem>) {
    let name = service.name.as_str();
    if service.affinity != Affinity::None || gaps.at(&service.origin, &["affinity"]) {
        return;
    }
    if service.forward.translates() && !gaps.at(&service.origin, &["forward"]) {
        problems.push(Problem::error(
            &service.origin,
            format!(
                "service {name:?} has affinity = \"none\" with forward = \"{}\": replies could not be matched to a flow",
                service.forward
            ),
            "use forward = \"dsr\" or \"ipip\", or affinity = \"flow\"",
        ));
    }
    if let Some(position) = service.listen.iter().position(|listener| listener.protocol == Protocol::Tcp) {
        problems.push(Problem::error(
            &service.listener_origin(position),
            format!(
                "service {name:?} has affinity = \"none\" with the listener {}: a TCP connection needs one backend",
                service.listen.get(position).map(ToString::to_string).unwrap_or_default()
            ),
            "use affinity = \"flow\", or give the TCP listeners a service of their own",
        ));
    }
}

/// Why no host can have this address for itself alone; `None` for ordinary addresses.
pub(crate) fn unusable(addr: IpAddr) -> Option<&'static str> {
    match addr {
        _ if addr.is_unspecified() => Some("it is no single address"),
        _ if addr.is_multicast() => Some("it is a multicast address"),
        IpAddr::V4(addr) if addr.is_broadcast() => Some("it is the broadcast address"),
        IpAddr::V4(addr) if addr.octets().first() == Some(&0) => Some("0.0.0.0/8 is no host's address"),
        IpAddr::V4(addr) if addr.octets().first() >= Some(&240) => Some("240.0.0.0/4 is reserved"),
        IpAddr::V4(addr) if addr.is_link_local() => Some("a link-local address is never routed"),
        IpAddr::V6(addr) if addr.is_unicast_link_local() => Some("a link-local address is never routed"),
        _ => None,
    }
}

/// The known word most like `word`, if one is like it at all: at most a third of its letters differ.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    known
        .map(|candidate| (edit_distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours that make `b` of `a` (optimal string alignment).
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX - 1);
            let replaced = at(&row, j) + usize::from(x != y);
            let mut best = replaced.min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
