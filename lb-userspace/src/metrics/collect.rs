//! The families of interface.md, collected at a scrape.

mod discovery;

use std::collections::BTreeMap;

use lb_common::ReasonKind;

use super::text::{Kind, Text};
use crate::api::types::{FlowTable, Totals};
use crate::api::{Counters, Handle, Snapshot};
use crate::health::{DURATION_BOUNDS_SECONDS, Health, HealthMetrics};
use crate::membership::{BackendView, Commanded, MemberId, PoolView};
use crate::spec::Name;

/// How a family's value is read.
type Value<T> = fn(&T) -> u64;
type ValueOf<'a> = dyn Fn(&BackendView) -> u64 + 'a;

/// Everything in the text format.
pub(super) fn text(handle: &Handle, health: &HealthMetrics) -> String {
    let snapshot = handle.snapshot.load();
    let counters = &*handle.counters;
    let mut text = Text::default();
    daemon(&mut text, &snapshot);
    interfaces(&mut text, &snapshot, counters);
    reasons(&mut text, counters);
    services(&mut text, &counters.services());
    pools(&mut text, &snapshot);
    backends(&mut text, &snapshot, counters);
    checks(&mut text, health);
    flow_tables(&mut text, counters);
    discovery::families(&mut text, &handle.sources.read());
    text.finish()
}

#[expect(clippy::cast_precision_loss, reason = "a time in seconds needs no more than 52 bits")]
fn daemon(text: &mut Text, snapshot: &Snapshot) {
    let version = env!("CARGO_PKG_VERSION");
    text.family("build_info", Kind::Gauge, "Version of lbd; always 1.").sample(&[("version", version)], 1);
    text.family("start_time_seconds", Kind::Gauge, "When the daemon started, seconds since 1970.")
        .sample(&[], snapshot.started.0 as f64 / 1000.0);
    text.family("revision", Kind::Gauge, "Number of the configuration in force.")
        .sample(&[], snapshot.revision);
    text.family(
        "config_last_reload_successful",
        Kind::Gauge,
        "Whether the last reading of the file succeeded.",
    )
    .sample(&[], u8::from(!snapshot.file_refused));
    text.family("degraded", Kind::Gauge, "Things that are not as they should be; lbctl status names them.")
        .sample(&[], snapshot.degraded.len());
    text.family("overrides", Kind::Gauge, "Overrides in force.").sample(&[], snapshot.overrides.len());
}

fn interfaces(text: &mut Text, snapshot: &Snapshot, counters: &dyn Counters) {
    let mut family =
        text.family("interface_attached", Kind::Gauge, "Whether the program is on a listed interface.");
    for interface in &snapshot.interfaces {
        let labels = [("interface", interface.name.as_str()), ("mode", interface.mode.as_str())];
        family.sample(&labels, u8::from(interface.attached));
    }
    let mut family = text.family("packets_total", Kind::Counter, "Packets seen on an interface, by verdict.");
    for interface in &snapshot.interfaces {
        for (verdict, packets) in counters.interface(&interface.name) {
            family.sample(&[("interface", interface.name.as_str()), ("verdict", verdict.as_str())], packets);
        }
    }
}

fn reasons(text: &mut Text, counters: &dyn Counters) {
    let reasons = counters.reasons();
    let mut family = text.family("drops_total", Kind::Counter, "Packets dropped, by service and reason.");
    for (service, reason, count) in reasons.iter().filter(|(_, reason, _)| reason.kind() == ReasonKind::Drop)
    {
        let service = service.as_ref().map_or("", Name::as_str);
        family.sample(&[("service", service), ("reason", reason.name())], count);
    }
    let mut family = text.family(
        "answered_total",
        Kind::Counter,
        "Packets answered instead of forwarded, by service and reason.",
    );
    for (service, reason, count) in
        reasons.iter().filter(|(_, reason, _)| reason.kind() == ReasonKind::Answer)
    {
        let service = service.as_ref().map_or("", Name::as_str);
        family.sample(&[("service", service), ("reason", reason.name())], count);
    }
    let mut passed: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, reason, count) in reasons.iter().filter(|(_, reason, _)| reason.kind() == ReasonKind::Pass) {
        *passed.entry(reason.name()).or_default() += count;
    }
    let mut family =
        text.family("passed_total", Kind::Counter, "Packets to a vip left to this host, by reason.");
    for (reason, count) in passed {
        family.sample(&[("reason", reason)], count);
    }
}

fn services(text: &mut Text, services: &BTreeMap<Name, Totals>) {
    let families: [(&str, &str, Value<Totals>); 3] = [
        ("service_packets_total", "Packets from clients forwarded.", |totals| totals.packets),
        ("service_bytes_total", "Bytes from clients forwarded.", |totals| totals.bytes),
        ("service_new_flows_total", "Flows begun.", |totals| totals.new_flows),
    ];
    for (name, help, value) in families {
        let mut family = text.family(name, Kind::Counter, help);
        for (service, totals) in services {
            family.sample(&[("service", service.as_str())], value(totals));
        }
    }
}

fn pools(text: &mut Text, snapshot: &Snapshot) {
    let mut family = text.family("pool_backends", Kind::Gauge, "Backends of a pool, by state.");
    for pool in &snapshot.pools {
        let count =
            |wanted: &dyn Fn(&BackendView) -> bool| pool.backends.iter().filter(|b| wanted(b)).count();
        let states: [(&str, usize); 5] = [
            ("eligible", count(&|b| b.eligible)),
            ("unhealthy", count(&|b| b.health == Health::Unhealthy)),
            ("unknown", count(&|b| b.health == Health::Unknown)),
            ("draining", count(&|b| b.state == Commanded::Draining)),
            ("disabled", count(&|b| b.state == Commanded::Disabled)),
        ];
        for (state, count) in states {
            family.sample(&[("pool", pool.name.as_str()), ("state", state)], count);
        }
    }
    let help = "1: so few backends of a pool are well that all of them get new flows (panic_below).";
    flag(text, snapshot, ("pool_panic", help), |pool| {
        pool.plights.iter().any(|plight| plight.backup.is_none())
    });
    let help = "1: the backup pool gets a pool's new flows.";
    flag(text, snapshot, ("pool_on_backup", help), |pool| {
        pool.plights.iter().any(|plight| plight.backup.is_some())
    });
}

/// A gauge that is 0 or 1 for each pool.
fn flag(text: &mut Text, snapshot: &Snapshot, (name, help): (&str, &str), is_so: impl Fn(&PoolView) -> bool) {
    let mut family = text.family(name, Kind::Gauge, help);
    for pool in &snapshot.pools {
        family.sample(&[("pool", pool.name.as_str())], u64::from(is_so(pool)));
    }
}

fn backends(text: &mut Text, snapshot: &Snapshot, counters: &dyn Counters) {
    let (totals, flows) = (counters.backends(), counters.backend_flows());
    let views: Vec<&BackendView> = snapshot.pools.iter().flat_map(|pool| pool.members()).collect();
    let total = |id: &MemberId| totals.get(id).copied().unwrap_or_default();
    let placement = |id: &MemberId| snapshot.placements.get(id);
    let families: [(&str, Kind, &str, &ValueOf<'_>); 9] = [
        (
            "backend_ejected",
            Kind::Gauge,
            "1: new connections do not go on with a backend, so it gets none.",
            &|b| u64::from(b.ejected),
        ),
        ("backend_packets_total", Kind::Counter, "Packets from clients forwarded to a backend.", &|b| {
            total(&b.id).packets
        }),
        ("backend_bytes_total", Kind::Counter, "Bytes from clients forwarded to a backend.", &|b| {
            total(&b.id).bytes
        }),
        ("backend_new_flows_total", Kind::Counter, "Flows begun with a backend.", &|b| {
            total(&b.id).new_flows
        }),
        ("backend_flows", Kind::Gauge, "Flows tracked, as last counted.", &|b| {
            flows.get(&b.id).copied().unwrap_or(0)
        }),
        ("backend_healthy", Kind::Gauge, "Whether checks found it healthy.", &|b| {
            u64::from(b.health == Health::Healthy)
        }),
        ("backend_weight", Kind::Gauge, "The weight that counts.", &|b| b.weight.into()),
        (
            "backend_no_return_path",
            Kind::Gauge,
            "Flows are begun and nothing comes back through this host.",
            &|b| placement(&b.id).no_return_path.into(),
        ),
        ("next_hop_unresolved", Kind::Gauge, "The way to the backend is not known.", &|b| {
            u64::from(b.reason.starts_with("next hop unresolved"))
        }),
    ];
    for (name, kind, help, value) in families {
        let mut family = text.family(name, kind, help);
        for view in &views {
            let address = view.id.address.to_string();
            family.sample(&[("pool", view.id.pool.as_str()), ("backend", &address)], value(view));
        }
    }
}

fn checks(text: &mut Text, health: &HealthMetrics) {
    let mut family = text.family("health_checks_total", Kind::Counter, "Health checks, by type and result.");
    for check in &health.checks {
        for (result, count) in &check.results {
            family.sample(&[("type", check.kind), ("result", result)], count);
        }
    }
    let mut family =
        text.family("health_check_duration_seconds", Kind::Histogram, "How long health checks took.");
    for check in &health.checks {
        let duration = &check.duration;
        let buckets: Vec<_> =
            DURATION_BOUNDS_SECONDS.iter().copied().zip(duration.cumulative.iter().copied()).collect();
        family.histogram(&[("type", check.kind)], &buckets, duration.sum_seconds, duration.count);
    }
}

fn flow_tables(text: &mut Text, counters: &dyn Counters) {
    let tables = counters.flow_tables();
    let families: [(&str, Kind, &str, Value<FlowTable>); 4] = [
        ("flow_table_entries", Kind::Gauge, "Flows tracked, as last counted.", |table| table.used),
        (
            "flow_table_capacity",
            Kind::Gauge,
            "Places for flows in the table: twice datapath.flows.",
            |table| table.capacity,
        ),
        ("flow_table_evictions_total", Kind::Counter, "Entries on probation or ending that gave way.", |t| {
            t.evicted
        }),
        ("flow_table_not_stored_total", Kind::Counter, "New flows that found no room.", |table| {
            table.not_stored
        }),
    ];
    for (name, kind, help, value) in families {
        text.family(name, kind, help)
            .sample(&[("family", "v4")], value(&tables.v4))
            .sample(&[("family", "v6")], value(&tables.v6));
    }
}
