//! The answer for people.
//!
//! In: a configuration that passed. Out: a few lines per service and per pool, in the order of the file. Invariant: a name or
//! an address is written as the configuration writes it, so it can be pasted back.

use std::fmt::Write;

use super::describe;
use crate::cli::print::grouped;
use crate::config::Loaded;
use crate::spec::{DatapathSpec, PoolSpec, ServiceSpec, Spec, format_duration};

/// The whole description.
pub(super) fn describe(loaded: &Loaded) -> String {
    let spec = &loaded.spec;
    let mut text = String::new();
    let result = summary(&mut text, loaded)
        .and_then(|()| spec.services.iter().try_for_each(|one| service(&mut text, one)))
        .and_then(|()| spec.pools.iter().try_for_each(|one| pool(&mut text, spec, one)));
    debug_assert!(result.is_ok(), "writing to a String cannot fail");
    text
}

fn summary(text: &mut String, loaded: &Loaded) -> std::fmt::Result {
    let spec = &loaded.spec;
    let backends: usize = spec.pools.iter().map(|pool| pool.backends.len()).sum();
    let files: Vec<&str> = loaded.sources.iter().map(|source| source.path.as_str()).collect();
    writeln!(
        text,
        "{} is valid: {}, {}, {}",
        files.join(" + "),
        count(spec.services.len(), "service"),
        count(spec.pools.len(), "pool"),
        count(backends, "backend")
    )?;
    datapath(text, &spec.datapath)?;
    let metrics = spec.daemon.metrics.map_or("off".to_owned(), |address| format!("http://{address}/metrics"));
    writeln!(
        text,
        "  daemon      socket {}, state {}, metrics {metrics}",
        spec.daemon.socket.display(),
        spec.daemon.state.display()
    )?;
    let on_exit = match spec.daemon.on_exit.as_str() {
        "keep" => "the program stays and forwards without health checks",
        _ => "the program is removed",
    };
    writeln!(text, "  on exit     {} ({on_exit})", spec.daemon.on_exit)
}

fn datapath(text: &mut String, datapath: &DatapathSpec) -> std::fmt::Result {
    writeln!(
        text,
        "  datapath    on {} (mode {}), {} flows per address family",
        datapath.interfaces.join(", "),
        datapath.mode,
        grouped(u64::from(datapath.flows))
    )?;
    let timeouts = &datapath.timeouts;
    writeln!(
        text,
        "  idle flows  tcp {}, tcp_syn {}, tcp_closing {}, udp {}",
        format_duration(timeouts.tcp),
        format_duration(timeouts.tcp_syn),
        format_duration(timeouts.tcp_closing),
        format_duration(timeouts.udp)
    )
}

fn service(text: &mut String, service: &ServiceSpec) -> std::fmt::Result {
    writeln!(text, "\nservice {}  ({})", service.name, service.origin)?;
    lines(text, "listens on", service.listen.iter().map(ToString::to_string))?;
    let shadow = if service.shadow_local { ", taking the port from programs here" } else { "" };
    writeln!(text, "  forwards    {} to pool {}{shadow}", service.forward, service.pool)?;
    writeln!(
        text,
        "  policy      affinity {}, on_loss {}, when_none {}",
        service.affinity, service.on_loss, service.when_none
    )
}

fn pool(text: &mut String, spec: &Spec, pool: &PoolSpec) -> std::fmt::Result {
    let inline = if pool.inline { ", written in the service" } else { "" };
    writeln!(text, "\npool {}  ({}{inline})", pool.name, pool.origin)?;
    let tables = describe::tables(spec, pool);
    let chosen = if pool.maglev.is_some() { "as configured" } else { "by the number of backends" };
    lines(
        text,
        "table",
        tables.iter().map(|table| {
            let slots = grouped(u64::from(table.slots));
            format!("{slots} slots for {} ({}), {chosen}", count(table.backends, "backend"), table.family)
        }),
    )?;
    writeln!(text, "  health      {}", describe::health(spec, pool))?;
    writeln!(text, "  passive     {}", describe::passive(pool))?;
    lines(text, "if unwell", describe::plights(pool).into_iter())?;
    lines(text, "discovers", pool.discover.iter().map(describe::source))?;
    let width =
        pool.backends.iter().map(|backend| backend.address.to_string().len()).max().unwrap_or_default();
    lines(
        text,
        "backends",
        pool.backends.iter().map(|backend| {
            let share = describe::share_percent(&tables, backend);
            let checked = describe::checked_port(spec, pool, backend);
            let checked = checked.map(|port| format!("  checked on port {port}")).unwrap_or_default();
            format!("{:width$}  weight {:<5} {share:5.1} %{checked}", backend.address, backend.weight)
        }),
    )
}

/// A heading and its lines beneath one another.
fn lines(text: &mut String, heading: &str, lines: impl Iterator<Item = String>) -> std::fmt::Result {
    for (index, line) in lines.enumerate() {
        writeln!(text, "  {:<11} {line}", if index == 0 { heading } else { "" })?;
    }
    Ok(())
}

/// `1 pool`, `2 pools`.
fn count(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
