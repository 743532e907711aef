//! `lbctl status`: one screen. When nobody answers, what can be told from the pins.

use std::path::Path;

use super::offline;
use super::print::{Align, Cell, Table, Tone, count, span};
use super::service::share;
use super::session::{Session, Style};
use super::{Outcome, print, sources};
use crate::api::ErrorCode;
use crate::api::types::{FlowTable, Interface, PoolSummary, Status};

/// `status --check` when something needs attention.
const DEGRADED: u8 = 7;

pub(super) async fn run(session: &Session, check: bool, pin: Option<&Path>, config: &Path) -> Outcome {
    let status = match session.client.status().await {
        Ok(status) => status,
        Err(error) if error.code() == ErrorCode::Unreachable && !session.client.is_barred() => {
            return Err(match offline::show(session, pin, config)? {
                Some(nothing) if session.is_json() => {
                    let hint = error.0.hint.clone().into_iter().chain([nothing]).collect::<Vec<_>>();
                    error.hint(hint.join("; "))
                }
                nothing => {
                    nothing.iter().for_each(|nothing| session.say(nothing));
                    error
                }
            });
        }
        Err(error) => return Err(error),
    };
    let code = if check && !status.degraded.is_empty() { DEGRADED } else { 0 };
    super::print::when_unread(code);
    session.show(&status, screen)?;
    Ok(code)
}

fn screen(status: &Status, style: Style) -> String {
    let mut parts = vec![heading(status, style)];
    parts.push(interfaces(&status.interfaces, style));
    if status.pools.is_empty() {
        parts.push("no pools\n".to_owned());
    } else {
        parts.push(pools(&status.pools, style));
    }
    if !status.discovery.is_empty() {
        parts.push(sources::table(&status.discovery, style));
    }
    parts.push(flows_and_drops(status));
    parts.push(attention(status, style.colour));
    parts.join("\n")
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds since the start, not negative, shown whole"
)]
fn heading(status: &Status, style: Style) -> String {
    let up = span(status.uptime as u64);
    let mut text =
        format!("lbd {}, up {up}, revision {}, process {}\n", status.version, status.revision, status.pid);
    text.push_str(&format!("configuration {}, on_exit {}\n", status.config, status.on_exit));
    if style.wide {
        text.push_str(&format!("started {}, seed {}\n", status.started, status.seed_fingerprint));
    }
    text
}

/// Interfaces with their modes; a note is a line of its own below.
pub(super) fn interfaces(interfaces: &[Interface], style: Style) -> String {
    use Align::{Left, Right};
    if interfaces.is_empty() {
        return "no interfaces\n".to_owned();
    }
    let columns = [
        ("INTERFACE", Left),
        ("MODE", Left),
        ("PROGRAM", Right),
        ("PASS", Right),
        ("DROP", Right),
        ("TRANSMIT", Right),
        ("REDIRECT", Right),
    ];
    let mut table = Table::new(&columns).giving_way(&["PROGRAM", "TRANSMIT", "REDIRECT"]);
    for interface in interfaces {
        let mode = match interface.attached {
            true if interface.mode == "generic" => Cell::toned("generic", Tone::Warn),
            true => Cell::toned(interface.mode.as_str(), Tone::Good),
            false => Cell::toned("not attached", Tone::Bad),
        };
        let program = interface.program_id.map(|id| id.to_string()).unwrap_or_default();
        let packets =
            |verdict: &str| interface.packets.get(verdict).map_or_else(Cell::default, |n| count(*n).into());
        let counters = ["pass", "drop", "transmit", "redirect"].map(packets);
        let mut cells = vec![interface.name.clone().into(), mode, program.into()];
        cells.extend(counters);
        table.row(cells);
    }
    let notes = interfaces.iter().filter_map(|interface| Some((&interface.name, interface.note.as_ref()?)));
    let notes = notes.map(|(name, note)| match note.starts_with(name.as_str()) {
        true => format!("  {note}\n"),
        false => format!("  {name}: {note}\n"),
    });
    table.render(style) + &notes.collect::<String>()
}

fn pools(pools: &[PoolSummary], style: Style) -> String {
    let columns = [("POOL", Align::Left), ("TAKE FLOWS", Align::Left), ("UNHEALTHY", Align::Right)];
    let mut table = Table::new(&columns);
    for pool in pools {
        let tone = if pool.unhealthy > 0 { Tone::Bad } else { Tone::Plain };
        table.row(vec![
            pool.name.to_string().into(),
            share(pool.eligible, pool.backends),
            Cell::toned(pool.unhealthy.to_string(), tone),
        ]);
    }
    table.render(style)
}

fn flows_and_drops(status: &Status) -> String {
    let services = plural(status.services, "service");
    let overrides = plural(status.overrides, "override");
    let mut text = format!("{services}, {overrides}\n");
    text.push_str(&format!("flows  v4 {}; v6 {}\n", fill(&status.flows.v4), fill(&status.flows.v6)));
    let drops: Vec<String> =
        status.drops.iter().map(|(reason, packets)| format!("{reason} {}", print::count(*packets))).collect();
    match drops.is_empty() {
        true => text.push_str("drops  none\n"),
        false => text.push_str(&format!("drops  {}\n", drops.join(", "))),
    }
    text
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// `12.3k of 2.09M places (1 %)`, and what found no room.
fn fill(table: &FlowTable) -> String {
    let share = table.used.saturating_mul(100).checked_div(table.capacity).unwrap_or_default();
    let mut text = format!("{} of {} places ({share} %)", count(table.used), count(table.capacity));
    if table.not_stored > 0 {
        text.push_str(&format!(", {} found no room", count(table.not_stored)));
    }
    text
}

fn attention(status: &Status, colour: bool) -> String {
    let paint = |text: &str, code: &str| match colour {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_owned(),
    };
    let mut text = match status.degraded.is_empty() {
        true => format!("{}\n", paint("all is well", "32")),
        false => format!("{}\n", paint("needs attention", "31")),
    };
    text.extend(status.degraded.iter().map(|sentence| format!("  {sentence}\n")));
    // Those of interfaces stand beside them.
    let beside = |notice: &&String| {
        !status.interfaces.iter().any(|interface| interface.note.as_ref() == Some(*notice))
    };
    let notices = status.notices.iter().filter(beside);
    text.extend(notices.map(|sentence| format!("{} {sentence}\n", paint("note:", "33"))));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::FlowTables;

    fn status() -> Status {
        let interface = |name: &str, mode: &str, attached, note: Option<&str>| Interface {
            name: name.to_owned(),
            mode: mode.to_owned(),
            attached,
            program_id: attached.then_some(42),
            note: note.map(str::to_owned),
            packets: [("pass".to_owned(), 1_500)].into(),
        };
        let v4 = FlowTable { used: 12_300, capacity: 1_048_576, not_stored: 5, evicted: 0 };
        Status {
            version: "0.1.0".to_owned(),
            uptime: 192.7,
            revision: 17,
            interfaces: vec![
                interface("eth0", "native", true, None),
                interface("eth1", "generic", true, Some("driver e1000 has no XDP support")),
                interface("eth2", "", false, None),
            ],
            flows: FlowTables { v4, v6: FlowTable { capacity: 10, ..FlowTable::default() } },
            drops: [("no_backend".to_owned(), 9_000)].into(),
            pools: vec![PoolSummary {
                name: "web".parse().unwrap(),
                backends: 3,
                eligible: 2,
                unhealthy: 1,
                panic: false,
                on_backup: None,
            }],
            services: 1,
            ..Status::default()
        }
    }

    #[test]
    fn one_screen_has_it_all() {
        let text = screen(&status(), Style::default());
        for part in [
            "lbd 0.1.0, up 3m12s, revision 17",
            "eth0       native",
            "generic",
            "  eth1: driver e1000 has no XDP support",
            "eth2       not attached",
            "web   2/3",
            "1 service, 0 overrides",
            "v4 12.3k of 1.04M places (1 %), 5 found no room; v6 0 of 10 places (0 %)",
            "drops  no_backend 9.00k",
            "all is well",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn what_needs_attention_is_said_last() {
        let degraded = vec!["pool web has no usable backend".to_owned()];
        let notices = vec!["driver e1000 has no XDP support".to_owned(), "the seed is new".to_owned()];
        let text = screen(&Status { degraded, notices, ..status() }, Style::default());
        let end = "needs attention\n  pool web has no usable backend\nnote: the seed is new\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn a_table_without_capacity_is_not_divided_by() {
        assert_eq!(fill(&FlowTable::default()), "0 of 0 places (0 %)");
    }
}
