//! What a spec means, in the terms that text and JSON share.
//!
//! In: a spec that passed validation. Out: the tables a pool gets, the share of each backend, what is checked. Invariant:
//! the same rules as the daemon's, taken from [`crate::spec`], never a second opinion.

use std::net::IpAddr;

use crate::spec::{
    BackendSpec, Forward, HealthKind, HealthSpec, HttpCheck, PoolSpec, Protocol, SourceKind, SourceSpec,
    Spec, TlsCheck, Via, format_duration, maglev_size,
};

/// One Maglev table: its backends are those among which a flow of its family can be spread.
pub(super) struct Table {
    /// `IPv4`, `IPv6`, or `both` for tunnels, which join the families.
    pub(super) family: &'static str,
    pub(super) backends: usize,
    pub(super) slots: u32,
    /// The sum of the weights.
    weight: u64,
}

/// The tables of a pool: one for each family that has backends, one for both where a tunnel uses the pool.
pub(super) fn tables(spec: &Spec, pool: &PoolSpec) -> Vec<Table> {
    let tunnels = |forward: Forward| forward == Forward::Ipip;
    let (mut split, mut joined) = (false, false);
    for service in spec.services_of(&pool.name) {
        match tunnels(service.forward) {
            true => joined = true,
            false => split = true,
        }
    }
    let mut families = Vec::new();
    if split || !joined {
        families.extend(["IPv4", "IPv6"]);
    }
    if joined {
        families.push("both");
    }
    let table = |family: &'static str| {
        let members: Vec<&BackendSpec> =
            pool.backends.iter().filter(|backend| belongs(backend, family)).collect();
        let weight = members.iter().map(|backend| u64::from(backend.weight)).sum();
        let slots = pool.maglev.unwrap_or_else(|| maglev_size(members.len()));
        Table { family, backends: members.len(), slots, weight }
    };
    families.into_iter().map(table).filter(|table| table.backends > 0).collect()
}

fn belongs(backend: &BackendSpec, family: &str) -> bool {
    match backend.address.ip {
        IpAddr::V4(_) => family != "IPv6",
        IpAddr::V6(_) => family != "IPv4",
    }
}

/// The share of new flows that goes to a backend while all are healthy, in per cent, by the first table it is in.
pub(super) fn share_percent(tables: &[Table], backend: &BackendSpec) -> f64 {
    let Some(table) = tables.iter().find(|table| belongs(backend, table.family)) else { return 0.0 };
    #[expect(
        clippy::cast_precision_loss,
        reason = "sums of 16-bit weights of at most 65,535 backends are exact in f64"
    )]
    let sum = table.weight.max(1) as f64;
    100.0 * f64::from(backend.weight) / sum
}

/// What is checked, how often, and what follows: one sentence without its full stop.
pub(super) fn health(spec: &Spec, pool: &PoolSpec) -> String {
    let health = spec.health_of(pool);
    let what = match &health.kind {
        HealthKind::None if pool.health_is_default && pool.health.kind != HealthKind::None => {
            return "none: its services are udp only, and no answer proves no fault; a health table in the pool would \
                    check it by tcp or http"
                .to_owned();
        }
        HealthKind::None => return "none: every backend counts as healthy".to_owned(),
        kind => asked(kind),
    };
    let through = match health.via {
        Via::Direct => "",
        Via::Service => " through each service",
    };
    let udp =
        spec.users_of(&pool.name).flat_map(|service| &service.listen).any(|l| l.protocol == Protocol::Udp);
    let speaks = if udp { "; it speaks for udp too" } else { "" };
    format!("{what}{through}{}{speaks}", rhythm(&health))
}

/// What a pool does when its backends are not well, and with one that comes back; empty: nothing of its own.
pub(super) fn plights(pool: &PoolSpec) -> Vec<String> {
    let backup = pool.backup.as_ref().map(|backup| {
        let below = match backup.below.is_zero() {
            true => "while nobody is usable".to_owned(),
            false => format!("below {} of healthy weight", backup.below),
        };
        let hold = format_duration(backup.hold);
        format!("pool {} stands in {below}, until {} is healthy for {hold}", backup.pool, backup.above)
    });
    let panic = (!pool.panic_below.is_zero())
        .then(|| format!("all backends are used below {} of healthy weight", pool.panic_below));
    let ramp = (!pool.slow_start.is_zero()).then(|| {
        format!("a backend that comes has its whole weight after {}", format_duration(pool.slow_start))
    });
    [backup, panic, ramp].into_iter().flatten().collect()
}

/// What is made of connections that do not go on.
pub(super) fn passive(pool: &PoolSpec) -> String {
    match &pool.passive {
        None => "off".to_owned(),
        Some(passive) => format!(
            "ejects for {} (at most {} of them) whose new connections do not go on within {}, while others' do",
            format_duration(passive.eject),
            passive.max_ejected,
            format_duration(passive.patience)
        ),
    }
}

/// What is sent, and what is expected.
fn asked(kind: &HealthKind) -> String {
    match kind {
        HealthKind::Tcp | HealthKind::Icmp | HealthKind::None => kind.as_str().to_owned(),
        HealthKind::Http(http) => request("http", http),
        HealthKind::Https(https) => format!("{}{}", request("https", &https.http), trusting(&https.tls)),
        HealthKind::Grpc(grpc) => {
            let of = if grpc.service.is_empty() { String::new() } else { format!(" of {}", grpc.service) };
            let trust = if grpc.tls { format!(" over TLS{}", trusting(&grpc.trust)) } else { String::new() };
            format!("grpc{of}{trust}")
        }
        HealthKind::Udp(udp) => {
            let answer = udp.expect.as_ref().map_or_else(
                || " answering anything".to_owned(),
                |expect| format!(" answering with \"{expect}\" in it"),
            );
            format!("udp sending \"{}\"{answer}", udp.send)
        }
        HealthKind::Dns(dns) => {
            let answer = dns.answer.as_ref().map(|answer| format!(" answering {answer}")).unwrap_or_default();
            format!("dns {} {}{answer}", dns.record.as_str(), dns.query)
        }
        HealthKind::Exec(exec) => format!("exec {} as {}", exec.command.join(" "), exec.user),
    }
}

fn request(kind: &str, http: &HttpCheck) -> String {
    let host = http.host.as_ref().map(|host| format!(" of {host}")).unwrap_or_default();
    let body = http.body.as_ref().map(|body| format!(" with {body:?} in its body")).unwrap_or_default();
    format!("{kind} {} {}{host}{}{body}", http.method, http.path, expected(&http.expect))
}

fn trusting(tls: &TlsCheck) -> String {
    match &tls.ca {
        _ if tls.insecure => ", whatever its certificate".to_owned(),
        Some(ca) => format!(", trusting {}", ca.display()),
        None => String::new(),
    }
}

fn expected(statuses: &[u16]) -> String {
    if statuses.is_empty() {
        return String::new();
    }
    let statuses: Vec<String> = statuses.iter().map(ToString::to_string).collect();
    format!(" answering {}", statuses.join(" or "))
}

fn rhythm(health: &HealthSpec) -> String {
    let fast = health.fast_interval.map(|fast| format!(" ({} while it changes)", format_duration(fast)));
    format!(
        " every {}{}, {} to answer, up after {}, down after {}",
        format_duration(health.interval),
        fast.unwrap_or_default(),
        format_duration(health.timeout),
        health.rise,
        health.fall
    )
}

/// The port a backend is checked on; `None` when it is not checked.
pub(super) fn checked_port(spec: &Spec, pool: &PoolSpec, backend: &BackendSpec) -> Option<u16> {
    let health = spec.health_of(pool);
    match health.kind {
        HealthKind::None => None,
        _ if health.via == Via::Service => {
            let ways = spec.check_ways(pool, backend.address.ip);
            ways.first().map(|way| way.backend_port(backend.address))
        }
        _ => spec.check_port(pool, backend.address).filter(|port| *port != 0),
    }
}

/// What a source is asked and how often: one sentence without its full stop.
pub(super) fn source(source: &SourceSpec) -> String {
    let how = match &source.kind {
        SourceKind::Dns(dns) => {
            let server =
                dns.server.map_or("the servers of /etc/resolv.conf".to_owned(), |server| server.to_string());
            let port = dns.port.map(|port| format!(", port {port}")).unwrap_or_default();
            let (least, most) = (format_duration(dns.min_interval), format_duration(dns.max_interval));
            format!(
                "{} records{port}, of {server}, every {least} to {most} as their TTL says",
                dns.record.as_str()
            )
        }
        SourceKind::File(_) => "read when it changes".to_owned(),
        SourceKind::Http(http) => format!("every {}", format_duration(http.interval)),
    };
    let empty = if source.allow_empty { "may name none" } else { "none is not believed" };
    format!("{}: {how}; up to {} backends, {empty}", source.name(), source.max_backends)
}
