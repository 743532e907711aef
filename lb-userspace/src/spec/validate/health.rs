//! Whether a pool's health check can be run and means something.
//!
//! In: a pool and the services that use it. Out: problems. Invariant: a check that passes has a rhythm, a port for every
//! backend, and a request that is one HTTP request and not two.

use std::time::Duration;

use super::Gaps;
use crate::spec::{HealthKind, HttpCheck, PoolSpec, Problem, ServiceSpec, format_duration};

/// A shorter period than this is a load test of the backends.
const SHORTEST: Duration = Duration::from_millis(10);

pub(super) fn check(pool: &PoolSpec, services: &[&ServiceSpec], gaps: &Gaps, problems: &mut Vec<Problem>) {
    let name = pool.name.as_str();
    let health = &pool.health;
    if health.kind == HealthKind::None {
        return;
    }
    for (key, value) in [("interval", health.interval), ("timeout", health.timeout)] {
        if value < SHORTEST {
            problems.push(Problem::error(
                &pool.origin,
                format!("pool {name:?} has a health {key} of {}", format_duration(value)),
                format!("write at least {}", format_duration(SHORTEST)),
            ));
        }
    }
    for (key, value) in [("rise", health.rise), ("fall", health.fall)] {
        if value == 0 {
            problems.push(Problem::error(
                &pool.origin,
                format!("pool {name:?} has health {key} = 0: a change needs at least one check"),
                format!("write {key} = 1 or more"),
            ));
        }
    }
    if let HealthKind::Http(http) = &health.kind {
        request(pool, http, problems);
    }
    let unheard = |service: &&ServiceSpec| gaps.at(&service.origin, &["listen"]);
    if !gaps.some_users && !gaps.at(&pool.origin, &["health"]) && !services.iter().any(unheard) {
        port(pool, services, problems);
    }
}

/// What goes into the request line and the Host header must not end it early.
fn request(pool: &PoolSpec, http: &HttpCheck, problems: &mut Vec<Problem>) {
    let name = pool.name.as_str();
    let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let mut fault = |message: String, hint: &str| problems.push(Problem::error(&pool.origin, message, hint));
    if !http.path.starts_with('/') || !visible(&http.path) {
        fault(
            format!("pool {name:?} has the health path {:?}", http.path),
            "begin it with \"/\" and percent-encode spaces and other special characters",
        );
    }
    if http.method.is_empty() || !http.method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        fault(format!("pool {name:?} has the health method {:?}", http.method), "write \"GET\" or \"HEAD\"");
    }
    if let Some(host) = http.host.as_deref().filter(|host| host.is_empty() || !visible(host)) {
        fault(
            format!("pool {name:?} has the health host {host:?}"),
            "write a host name, such as \"www.example.com\"",
        );
    }
    if let Some(status) = http.expect.iter().find(|status| !(100..600).contains(*status)) {
        fault(
            format!("pool {name:?} expects the HTTP status {status}"),
            "a status is a number from 100 to 599, such as expect = [200, 204]",
        );
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
