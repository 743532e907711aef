//! What `lbctl status` can tell when no daemon answers: the pinned maps and links.
//!
//! In: where the pins are. Out: interfaces, services and backends as the kernel has them now. Invariants: nothing is written; it is
//! said first that no daemon answers, so that nobody takes this for a healthy balancer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::print::{Align, Cell, Table, Tone, count};
use super::session::{Session, Style};
use super::{print, status};
use crate::api::ApiError;
use crate::api::types::Interface;
use crate::datapath::counters::named;
use crate::datapath::{DatapathError, InterfaceState, Pinned};
use crate::desired::is_hidden;
use crate::image::Image;
use crate::spec::{BackendAddress, DatapathSpec, Listener};

/// What the kernel does without a daemon.
#[derive(Debug, Default, Serialize)]
struct Left {
    /// Always false: tells this answer from a daemon's.
    answering: bool,
    /// The pin path that was read.
    pin: PathBuf,
    interfaces: Vec<Interface>,
    services: Vec<LeftService>,
    backends: Vec<LeftBackend>,
    /// Packets by reason, of all services.
    drops: BTreeMap<String, u64>,
}

/// One listener of a service.
#[derive(Debug, Serialize)]
struct LeftService {
    name: String,
    listen: Listener,
    pool: String,
    packets: u64,
    new_flows: u64,
}

/// One entry of a backend.
#[derive(Debug, Serialize)]
struct LeftBackend {
    pool: String,
    address: BackendAddress,
    eligible: bool,
    slots: u32,
    packets: u64,
}

/// Shows what the pins tell; else the answer is why they tell nothing. That no daemon answers is the caller's to report.
pub(super) fn show(session: &Session, pin: Option<&Path>, config: &Path) -> Result<Option<String>, ApiError> {
    let (pin, aside) = pin.map_or_else(|| configured(config), |pin| (pin.to_owned(), String::new()));
    let nothing = match read(&pin) {
        Ok(Some(left)) => return session.show(&left, screen).map(|()| None),
        Ok(None) => format!("nothing is pinned under {}: no program of lbd is attached", pin.display()),
        Err(error) if matches!(error.downcast_ref(), Some(DatapathError::Barred { .. })) => error.to_string(),
        Err(error) => format!("the pins cannot be read either: {error:#}"),
    };
    Ok(Some(nothing + &aside))
}

/// The pin path of the configuration; the usual one if that cannot be read, which is said then.
fn configured(config: &Path) -> (PathBuf, String) {
    let usual = DatapathSpec::default().pin;
    if !config.exists() {
        return (usual, String::new());
    }
    crate::config::load(config).map_or_else(
        |_| (usual, format!("; {} does not say where the pins are (see lbd check)", config.display())),
        |loaded| (loaded.spec.datapath.pin, String::new()),
    )
}

fn read(pin: &Path) -> anyhow::Result<Option<Left>> {
    let Some(pinned) = Pinned::open(pin)? else { return Ok(None) };
    let image = Image::read(&pinned)?;
    let counters = pinned.counters();
    let pools: BTreeMap<u16, _> = image.pools().map(|pool| (pool.id, pool)).collect();
    let pool_name = |id: u16| {
        let key = pools.get(&id).and_then(|pool| pool.key.as_ref());
        key.map_or_else(|| format!("#{id}"), |key| key.name.clone())
    };
    let mut left = Left { pin: pin.to_owned(), ..Left::default() };
    for state in pinned.interfaces()? {
        let packets = counters.interface(state.index)?;
        left.interfaces.push(interface(state, &packets));
    }
    add_reasons(&mut left.drops, &counters.reasons(0)?);
    // Those of checks alone are shown to nobody.
    for service in image.services().filter(|service| !is_hidden(&service.name)) {
        let totals = counters.services(service.id.into(), 1)?.pop().unwrap_or_default();
        add_reasons(&mut left.drops, &counters.reasons(service.id.into())?);
        left.services.push(LeftService {
            name: service.name,
            listen: service.listener,
            pool: pool_name(service.pool),
            packets: totals.packets,
            new_flows: totals.new_flows,
        });
    }
    let is_shown = |pool: &&crate::image::PoolView| pool.key.as_ref().is_none_or(|key| !is_hidden(&key.name));
    for pool in pools.values().filter(is_shown) {
        for backend in &pool.backends {
            let totals = counters.backends(backend.counter, 1)?.pop().unwrap_or_default();
            left.backends.push(LeftBackend {
                pool: pool_name(pool.id),
                address: backend.key,
                eligible: backend.takes_new,
                slots: backend.slots,
                packets: totals.packets,
            });
        }
    }
    Ok(Some(left))
}

fn interface(state: InterfaceState, packets: &lb_common::InterfaceCounters) -> Interface {
    let by_verdict = [
        ("pass", packets.pass_packets),
        ("drop", packets.drop_packets),
        ("transmit", packets.transmit_packets),
        ("redirect", packets.redirect_packets),
    ];
    Interface {
        name: state.name,
        mode: state.mode.map(|mode| mode.as_str().to_owned()).unwrap_or_default(),
        attached: state.mode.is_some(),
        program_id: (state.program_id != 0).then_some(state.program_id),
        note: state.fault.or(state.warning),
        packets: by_verdict.map(|(verdict, count)| (verdict.to_owned(), count)).into(),
    }
}

fn add_reasons(drops: &mut BTreeMap<String, u64>, counts: &crate::datapath::counters::ReasonCounts) {
    for (reason, packets) in named(counts).filter(|(reason, _)| reason.kind() == lb_common::ReasonKind::Drop)
    {
        *drops.entry(reason.name().to_owned()).or_default() += packets;
    }
}

fn screen(left: &Left, style: Style) -> String {
    let attached = left.interfaces.iter().any(|interface| interface.attached);
    let what = match attached {
        true => "the kernel goes on forwarding as it was last told, without health checks",
        false => "its program is on no interface: nothing is forwarded",
    };
    let heading = format!("no daemon answers; {what}\nread from the pins under {}\n", left.pin.display());
    let interfaces = status::interfaces(&left.interfaces, style);
    let drops: Vec<String> =
        left.drops.iter().map(|(reason, packets)| format!("{reason} {}", print::count(*packets))).collect();
    let drops = if drops.is_empty() { "none".to_owned() } else { drops.join(", ") };
    [heading, interfaces, services(left, style), backends(left, style), format!("drops  {drops}\n")]
        .join("\n")
}

fn services(left: &Left, style: Style) -> String {
    use Align::{Left as L, Right as R};
    if left.services.is_empty() {
        return "no services\n".to_owned();
    }
    let columns = [("SERVICE", L), ("LISTEN", L), ("POOL", L), ("NEW", R), ("PACKETS", R)];
    let mut table = Table::new(&columns).giving_way(&["NEW", "POOL"]);
    for service in &left.services {
        table.row(vec![
            service.name.clone().into(),
            service.listen.into(),
            service.pool.clone().into(),
            count(service.new_flows).into(),
            count(service.packets).into(),
        ]);
    }
    table.render(style)
}

fn backends(left: &Left, style: Style) -> String {
    use Align::{Left as L, Right as R};
    if left.backends.is_empty() {
        return "no backends\n".to_owned();
    }
    let columns = [("POOL", L), ("BACKEND", L), ("TAKES FLOWS", L), ("SLOTS", R), ("PACKETS", R)];
    let mut table = Table::new(&columns);
    for backend in &left.backends {
        let takes = if backend.eligible { "yes".into() } else { Cell::toned("no", Tone::Warn) };
        table.row(vec![
            backend.pool.clone().into(),
            backend.address.to_string().into(),
            takes,
            backend.slots.into(),
            count(backend.packets).into(),
        ]);
    }
    table.render(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_first_that_nobody_checks_health() {
        let interface = Interface { name: "eth0".to_owned(), attached: true, ..Interface::default() };
        let left = Left { interfaces: vec![interface], ..Left::default() };
        let text = screen(&left, Style::default());
        assert!(text.starts_with("no daemon answers; the kernel goes on forwarding"), "{text}");
        let detached = screen(&Left::default(), Style::default());
        assert!(detached.contains("nothing is forwarded"), "{detached}");
    }

    #[test]
    fn the_answer_is_told_from_a_daemons() {
        let json = serde_json::to_value(Left::default()).unwrap();
        assert_eq!(json["answering"], false);
    }
}
