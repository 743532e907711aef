//! `lbctl backend`: who takes flows, and the operator's hand on them.

use std::time::Duration;

use super::Outcome;
use super::args::{BackendCommand, BackendTarget};
use super::change::Wanted;
use super::drain::Drain;
use super::print::{Align, Cell, Table, Tone, count, span};
use super::session::{Session, Style};
use crate::api::types::{Backend, BackendList, Commanded, Operation, StateOverride};
use crate::health::Health;
use crate::spec::Name;

pub(super) async fn run(session: &Session, command: BackendCommand) -> Outcome {
    match command {
        BackendCommand::List { pool } => list(session, pool.as_ref()).await,
        command => {
            let drain = Drain::of(&command);
            match (wanted(command), drain) {
                (Some(wanted), Some(drain)) => drain.run(session, wanted).await,
                (Some(wanted), None) => wanted.submit(session).await,
                (None, _) => Ok(0),
            }
        }
    }
}

/// What a verb asks to be changed; `None`: nothing.
pub(super) fn wanted(command: BackendCommand) -> Option<Wanted> {
    use BackendCommand as C;
    let (operation, change) = match command {
        C::List { .. } => return None,
        C::Add { pool, addresses, weight, change } => {
            let add = |address| Operation::BackendAdd { pool: pool.clone(), address, weight };
            return Some(Wanted::new(addresses.into_iter().map(add).collect(), change));
        }
        C::Set { target: BackendTarget { pool, address }, weight, change } => {
            (Operation::BackendWeight { pool, address, weight }, change)
        }
        C::Drain { target: BackendTarget { pool, address }, deadline, then, change } => {
            let then = then.unwrap_or_default();
            (Operation::BackendDrain { pool, address, deadline, then }, change)
        }
        C::Enable { target: BackendTarget { pool, address }, change } => {
            (Operation::BackendEnable { pool, address }, change)
        }
        C::Disable { target: BackendTarget { pool, address }, change } => {
            let what = format!("takes every flow off backend {pool}/{address}");
            return Some(Wanted::destroying(what, Operation::BackendDisable { pool, address }, change));
        }
        C::Remove { target: BackendTarget { pool, address }, drain, change } => {
            let what = format!("removes backend {pool}/{address}");
            return Some(Wanted::destroying(what, Operation::BackendRemove { pool, address, drain }, change));
        }
    };
    Some(Wanted::new(vec![operation], change))
}

async fn list(session: &Session, pool: Option<&Name>) -> Outcome {
    let list = session.client.backends(pool).await?;
    if list.backends.is_empty() {
        session.say("there are no backends");
    }
    session.show(
        &list,
        |BackendList { backends, .. }, style| {
            if backends.is_empty() { String::new() } else { table(backends, style) }
        },
    )?;
    Ok(0)
}

/// The backends as columns.
pub(super) fn table(backends: &[Backend], style: Style) -> String {
    use Align::{Left, Right, Text};
    let mut columns = vec![
        ("POOL", Left),
        ("ADDRESS", Left),
        ("WEIGHT", Left),
        ("STATE", Left),
        ("HEALTH", Left),
        ("ELIGIBLE", Left),
        ("FLOWS", Right),
        ("NEW", Right),
        ("PACKETS", Right),
    ];
    if style.wide {
        columns.extend([
            ("BYTES", Right),
            ("SLOTS", Right),
            ("REACH", Left),
            ("ORIGIN", Left),
            ("PLACE", Left),
        ]);
    }
    columns.push(("REASON", Text));
    let mut table = Table::new(&columns).giving_way(&["PACKETS", "NEW", "FLOWS", "ELIGIBLE"]);
    for backend in backends {
        table.row(row(backend, style));
    }
    table.render(style)
}

fn row(backend: &Backend, style: Style) -> Vec<Cell> {
    let mut cells = vec![
        backend.pool.to_string().into(),
        backend.address.to_string().into(),
        weight(backend),
        state(backend),
        health(backend.health),
        eligible(backend.eligible),
        count(backend.flows).into(),
        count(backend.new_flows).into(),
        count(backend.packets).into(),
    ];
    if style.wide {
        cells.extend([
            count(backend.bytes).into(),
            backend.slots.into(),
            backend.reach.clone().into(),
            backend.origin.clone().into(),
            backend.place.clone().unwrap_or_default().into(),
        ]);
    }
    let tone = if backend.eligible && !backend.no_return_path { Tone::Faint } else { Tone::Warn };
    cells.push(Cell::toned(reason(backend), tone));
    cells
}

/// `0 (file: 10)` where the operator's hand is on it.
fn weight(backend: &Backend) -> Cell {
    if backend.weight == backend.defined_weight {
        return backend.weight.into();
    }
    // The first origin is the one whose weight counts.
    let origin = backend.origin.split(',').next().unwrap_or_default();
    Cell::toned(format!("{} ({origin}: {})", backend.weight, backend.defined_weight), Tone::Warn)
}

/// The state, with what is left of a drain.
fn state(backend: &Backend) -> Cell {
    match backend.state {
        Commanded::Active => backend.state.as_str().into(),
        Commanded::Draining => Cell::toned(drained(backend), Tone::Warn),
        Commanded::Disabled => Cell::toned(backend.state.as_str(), Tone::Warn),
    }
}

/// `draining, 37 flows left, 42s`
pub(super) fn drained(backend: &Backend) -> String {
    let over = backend.over.as_ref().and_then(|over| over.state);
    let flows = format!("{} flow{} left", count(backend.flows), if backend.flows == 1 { "" } else { "s" });
    match (over, backend.seconds_left.and_then(|left| Duration::try_from_secs_f64(left).ok())) {
        (Some(StateOverride::Draining { expired: true, .. }), _) => "drained".to_owned(),
        (_, Some(left)) => format!("draining, {flows}, {}", span(left.as_secs())),
        (_, None) => format!("draining, {flows}"),
    }
}

fn health(health: Health) -> Cell {
    let tone = match health {
        Health::Healthy => Tone::Good,
        Health::Unknown => Tone::Warn,
        Health::Unhealthy => Tone::Bad,
    };
    Cell::toned(health.as_str(), tone)
}

fn eligible(eligible: bool) -> Cell {
    if eligible { "yes".into() } else { Cell::toned("no", Tone::Bad) }
}

fn reason(backend: &Backend) -> String {
    let path = backend.no_return_path.then_some("no_return_path");
    let said = Some(backend.reason.as_str()).filter(|reason| !reason.is_empty());
    [path, said].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{Override, Then};
    use crate::moment::Millis;

    fn backend() -> Backend {
        Backend {
            pool: "web".parse().unwrap(),
            address: "10.0.0.11:8443".parse().unwrap(),
            origin: "file,cli".to_owned(),
            place: Some("lbd.toml:12".to_owned()),
            sources: Vec::new(),
            weight: 10,
            defined_weight: 10,
            state: Commanded::Active,
            health: Health::Healthy,
            eligible: true,
            reason: String::new(),
            reach: "remote".to_owned(),
            slots: 340,
            flows: 12,
            packets: 123_456,
            bytes: 7_000_000,
            new_flows: 99,
            no_return_path: false,
            ejected: false,
            seconds_left: None,
            over: None,
        }
    }

    #[test]
    fn a_healthy_backend_is_one_line() {
        assert_eq!(
            table(&[backend()], Style::default()),
            "POOL  ADDRESS         WEIGHT  STATE   HEALTH   ELIGIBLE  FLOWS  NEW  PACKETS  REASON\n\
             web   10.0.0.11:8443  10      active  healthy  yes          12   99     123k\n"
        );
        let wide = table(&[backend()], Style { wide: true, ..Style::default() });
        for part in ["340", "remote", "file,cli", "lbd.toml:12", "7.00M"] {
            assert!(wide.contains(part), "{wide}");
        }
    }

    #[test]
    fn the_hand_of_the_operator_is_seen_beside_the_definition() {
        let drain =
            StateOverride::Draining { deadline: Some(Millis(90_000)), then: Then::Disable, expired: false };
        let over = Override { weight: Some(0), state: Some(drain), ..Override::default() };
        let held = Backend {
            weight: 0,
            state: Commanded::Draining,
            eligible: false,
            no_return_path: true,
            reason: "draining".to_owned(),
            seconds_left: Some(60.9),
            over: Some(over),
            ..backend()
        };
        let text = table(&[held], Style::default());
        for part in ["0 (file: 10)", "draining, 12 flows left, 1m0s", "no ", "no_return_path; draining"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
