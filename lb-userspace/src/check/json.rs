//! The answer for programs.
//!
//! In: a configuration that passed, or what is wrong with it. Out: one JSON object, `api_version` first, with the fields of the
//! contract's error object. Invariant: addresses are strings that may be pasted back, durations numbers of seconds.

use std::time::Duration;

use serde::Serialize;

use super::describe;
use crate::config::{ConfigErrors, Loaded};
use crate::spec::{
    BackupSpec, HealthSpec, PassiveSpec, Percent, Place, PoolSpec, Problem, ServiceSpec, Severity,
    SourceKind, SourceSpec, Spec, seconds,
};

#[derive(Serialize)]
struct Valid<'a> {
    api_version: &'static str,
    valid: bool,
    files: Vec<&'a str>,
    fingerprint: &'a str,
    daemon: &'a crate::spec::DaemonSpec,
    datapath: &'a crate::spec::DatapathSpec,
    services: Vec<Service<'a>>,
    pools: Vec<Pool<'a>>,
    warnings: Vec<Said<'a>>,
}

#[derive(Serialize)]
struct Service<'a> {
    name: &'a str,
    listen: Vec<String>,
    pool: &'a str,
    forward: &'static str,
    affinity: &'static str,
    on_loss: &'static str,
    when_none: &'static str,
    shadow_local: bool,
    origin: String,
}

#[derive(Serialize)]
struct Pool<'a> {
    name: &'a str,
    tables: Vec<Table>,
    health: HealthSpec,
    panic_below: Percent,
    #[serde(with = "seconds")]
    slow_start: Duration,
    #[serde(skip_serializing_if = "Option::is_none")]
    backup: Option<&'a BackupSpec>,
    passive: Option<PassiveSpec>,
    maglev: Option<u32>,
    inline: bool,
    backends: Vec<Backend>,
    discover: Vec<Source<'a>>,
    origin: String,
}

#[derive(Serialize)]
struct Source<'a> {
    name: String,
    #[serde(flatten)]
    kind: &'a SourceKind,
    allow_empty: bool,
    max_backends: u32,
    origin: String,
}

#[derive(Serialize)]
struct Table {
    family: String,
    backends: usize,
    slots: u32,
}

#[derive(Serialize)]
struct Backend {
    address: String,
    weight: u16,
    share_percent: f64,
    checked_port: Option<u16>,
    origin: String,
}

#[derive(Serialize)]
struct Said<'a> {
    severity: Severity,
    message: &'a str,
    hint: Option<&'a str>,
    file: Option<&'a str>,
    line: Option<u32>,
}

#[derive(Serialize)]
struct Invalid<'a> {
    api_version: &'static str,
    valid: bool,
    error: Refusal<'a>,
    problems: Vec<Said<'a>>,
}

#[derive(Serialize)]
struct Refusal<'a> {
    code: &'static str,
    #[serde(flatten)]
    first: Option<Said<'a>>,
}

/// What lbd would do.
pub(super) fn valid(loaded: &Loaded) -> serde_json::Result<String> {
    let spec = &loaded.spec;
    serde_json::to_string_pretty(&Valid {
        api_version: "v1",
        valid: true,
        files: loaded.sources.iter().map(|source| source.path.as_str()).collect(),
        fingerprint: &loaded.fingerprint,
        daemon: &spec.daemon,
        datapath: &spec.datapath,
        services: spec.services.iter().map(service).collect(),
        pools: spec.pools.iter().map(|one| pool(spec, one)).collect(),
        warnings: loaded.warnings.iter().map(said).collect(),
    })
}

/// Why lbd would not: the first error as the API would give it, and all of them.
pub(super) fn invalid(errors: &ConfigErrors) -> serde_json::Result<String> {
    let first = errors.problems.iter().find(|problem| problem.is_error()).map(said);
    serde_json::to_string_pretty(&Invalid {
        api_version: "v1",
        valid: false,
        error: Refusal { code: "invalid", first },
        problems: errors.problems.iter().map(said).collect(),
    })
}

fn service(service: &ServiceSpec) -> Service<'_> {
    Service {
        name: service.name.as_str(),
        listen: service.listen.iter().map(ToString::to_string).collect(),
        pool: service.pool.as_str(),
        forward: service.forward.as_str(),
        affinity: service.affinity.as_str(),
        on_loss: service.on_loss.as_str(),
        when_none: service.when_none.as_str(),
        shadow_local: service.shadow_local,
        origin: service.origin.to_string(),
    }
}

fn pool<'a>(spec: &Spec, pool: &'a PoolSpec) -> Pool<'a> {
    let tables = describe::tables(spec, pool);
    let backends = pool.backends.iter().map(|backend| Backend {
        address: backend.address.to_string(),
        weight: backend.weight,
        share_percent: (describe::share_percent(&tables, backend) * 10.0).round() / 10.0,
        checked_port: describe::checked_port(spec, pool, backend),
        origin: backend.origin.to_string(),
    });
    let family = |family: &str| if family == "both" { family.to_owned() } else { family.replace("IP", "") };
    Pool {
        name: pool.name.as_str(),
        backends: backends.collect(),
        tables: tables
            .iter()
            .map(|table| Table { family: family(table.family), backends: table.backends, slots: table.slots })
            .collect(),
        health: spec.health_of(pool),
        panic_below: pool.panic_below,
        slow_start: pool.slow_start,
        backup: pool.backup.as_ref(),
        passive: pool.passive,
        maglev: pool.maglev,
        inline: pool.inline,
        discover: pool.discover.iter().map(source).collect(),
        origin: pool.origin.to_string(),
    }
}

fn source(source: &SourceSpec) -> Source<'_> {
    Source {
        name: source.name(),
        kind: &source.kind,
        allow_empty: source.allow_empty,
        max_backends: source.max_backends,
        origin: source.origin.to_string(),
    }
}

fn said(problem: &Problem) -> Said<'_> {
    let (file, line) = match &problem.place {
        Place::File { path } => (Some(path.as_str()), None),
        Place::Line { path, line } => (Some(path.as_str()), Some(*line)),
        Place::Setting { .. } | Place::Cli | Place::Discovery { .. } => (None, None),
    };
    Said { severity: problem.severity, message: &problem.message, hint: problem.hint.as_deref(), file, line }
}
