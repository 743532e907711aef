//! Whether a pool's health check can be run and means something.
//!
//! In: a pool and the services that use it. Out: problems. Invariant: a check that passes has a port for every
//! backend that needs one, and something to ask ([`kind`]); its rhythm is for [`super::ranges`].

mod kind;

use super::Gaps;
use crate::spec::{HealthKind, MAX_JITTER, Origin, PoolSpec, Problem, ServiceSpec, format_duration};

pub(super) fn check(pool: &PoolSpec, services: &[&ServiceSpec], gaps: &Gaps, problems: &mut Vec<Problem>) {
    let name = pool.name.as_str();
    let health = &pool.health;
    if health.kind == HealthKind::None {
        return;
    }
    if let Some(fast) = health.fast_interval.filter(|fast| *fast > health.interval) {
        problems.push(Problem::error(
            &pool.origin,
            format!(
                "pool {name:?} has a health fast_interval of {}, longer than its interval of {}",
                format_duration(fast),
                format_duration(health.interval)
            ),
            "write a shorter one: it is the interval while a backend's health is changing",
        ));
    }
    if health.jitter > MAX_JITTER {
        problems.push(Problem::error(
            &pool.origin,
            format!("pool {name:?} has a health jitter of {}", health.jitter),
            format!(
                "write at most {MAX_JITTER}: it shortens each interval by a random part, this share at most"
            ),
        ));
    }
    let mut fault = |message: String, hint: &str| {
        let message = format!("pool {name:?} {message}");
        problems.push(Problem::error(&pool.origin, message, hint));
    };
    kind::check(&health.kind, &mut fault);
    if matches!(health.kind, HealthKind::Exec(_)) && !matches!(pool.origin, Origin::File { .. }) {
        fault(
            "has a health check of type exec that is not of the file: who may change pools may not run programs".to_owned(),
            "write the check into the configuration file, or use another type",
        );
    }
    let unheard = |service: &&ServiceSpec| gaps.at(&service.origin, &["listen"]);
    if health.kind.needs_port()
        && !gaps.some_users
        && !gaps.at(&pool.origin, &["health"])
        && !services.iter().any(unheard)
    {
        port(pool, services, problems);
    }
}

/// Where every listener takes any port, there is none to knock at.
fn port(pool: &PoolSpec, services: &[&ServiceSpec], problems: &mut Vec<Problem>) {
    let mut listeners = services.iter().flat_map(|service| &service.listen).peekable();
    let portless = pool.backends.iter().find(|backend| backend.address.port.is_none());
    let (Some(backend), None, true) = (portless, pool.health.port, listeners.peek().is_some()) else {
        return;
    };
    if pool.health_is_default
        && listeners.clone().all(|listener| listener.protocol == crate::spec::Protocol::Udp)
    {
        return;
    }
    if listeners.all(|listener| listener.port.is_none()) {
        problems.push(Problem::error(
            &backend.origin,
            format!(
                "pool {:?} has no port to check: its services take any port and backend {} names none",
                pool.name.as_str(),
                backend.address
            ),
            "write the port of the check, health = { port = 443 }, or health = { type = \"none\" }",
        ));
    }
}
