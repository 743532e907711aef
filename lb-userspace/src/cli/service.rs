//! `lbctl service`: who may be reached where, and by whom it is answered.

use super::Outcome;
use super::args::{PolicyArguments, ServiceCommand};
use super::change::{Wanted, nothing_to_change};
use super::print::{Align, Cell, Table, Tone, count};
use super::session::{Session, Style};
use super::{pool, print};
use crate::api::ApiError;
use crate::api::types::{Operation, Service, ServiceAdd, ServiceDetail, ServiceList, ServiceSet};
use crate::spec::Name;

pub(super) async fn run(session: &Session, command: ServiceCommand) -> Outcome {
    match command {
        ServiceCommand::List => list(session).await,
        ServiceCommand::Show { name } => show(session, &name).await,
        command => match wanted(command)? {
            Some(wanted) => wanted.submit(session).await,
            None => Ok(0),
        },
    }
}

/// What a verb asks to be changed; `None`: nothing.
pub(super) fn wanted(command: ServiceCommand) -> Result<Option<Wanted>, ApiError> {
    Ok(Some(match command {
        ServiceCommand::List | ServiceCommand::Show { .. } => return Ok(None),
        ServiceCommand::Add { name, listen, forward, backends, pool, own, policy, shadow_local, change } => {
            let add = ServiceAdd {
                pool,
                backends,
                shadow_local,
                forward: forward.unwrap_or_default(),
                affinity: policy.affinity.unwrap_or_default(),
                on_loss: policy.on_loss.unwrap_or_default(),
                when_none: policy.when_none.unwrap_or_default(),
                ..ServiceAdd::new(name, listen).with_keys(own.keys())
            };
            Wanted::new(vec![Operation::ServiceAdd(Box::new(add))], change)
        }
        ServiceCommand::Set { name, listen, forward, pool, own, policy, shadow_local, change } => {
            let PolicyArguments { affinity, on_loss, when_none } = policy;
            let listen = Some(listen).filter(|listen| !listen.is_empty());
            let nothing = ServiceSet::new(name);
            let set = ServiceSet {
                listen,
                pool,
                forward,
                affinity,
                on_loss,
                when_none,
                shadow_local,
                ..nothing.clone().with_keys(own.keys())
            };
            if set == nothing {
                return Err(nothing_to_change("service"));
            }
            Wanted::new(vec![Operation::ServiceSet(Box::new(set))], change)
        }
        ServiceCommand::Remove { name, change } => {
            let what = format!("removes service {name}");
            Wanted::destroying(what, Operation::ServiceRemove { name }, change)
        }
    }))
}

async fn list(session: &Session) -> Outcome {
    let list = session.client.services().await?;
    if list.services.is_empty() {
        session.say("there are no services");
    }
    session.show(
        &list,
        |ServiceList { services, .. }, style| {
            if services.is_empty() { String::new() } else { table(services, style) }
        },
    )?;
    Ok(0)
}

fn table(services: &[Service], style: Style) -> String {
    use Align::{Left, Right, Text};
    let mut columns = vec![
        ("NAME", Left),
        ("LISTEN", Text),
        ("FORWARD", Left),
        ("POOL", Left),
        ("BACKENDS", Left),
        ("NEW", Right),
        ("PACKETS", Right),
        ("DROPS", Right),
    ];
    if style.wide {
        columns.extend([("BYTES", Right), ("AFFINITY", Left), ("ORIGIN", Left), ("PLACE", Left)]);
    }
    let mut table = Table::new(&columns).giving_way(&["NEW", "PACKETS", "DROPS", "FORWARD"]);
    for service in services {
        let listeners: Vec<String> = service.listen.iter().map(ToString::to_string).collect();
        let mut cells = vec![
            service.name.to_string().into(),
            listeners.join(" ").into(),
            service.forward.into(),
            service.pool.to_string().into(),
            share(service.eligible, service.backends),
            count(service.new_flows).into(),
            count(service.packets).into(),
            count(service.drops).into(),
        ];
        if style.wide {
            cells.extend([
                count(service.bytes).into(),
                service.affinity.into(),
                service.origin.clone().into(),
                service.place.clone().unwrap_or_default().into(),
            ]);
        }
        table.row(cells);
    }
    table.render(style)
}

/// `2/3`: so many of so many take new flows.
pub(super) fn share(eligible: usize, all: usize) -> Cell {
    let tone = match eligible {
        0 => Tone::Bad,
        some if some < all => Tone::Warn,
        _ => Tone::Good,
    };
    Cell::toned(format!("{eligible}/{all}"), tone)
}

async fn show(session: &Session, name: &Name) -> Outcome {
    let detail = session.client.service(name).await?;
    session.show(&detail, described)?;
    Ok(0)
}

/// The service, its listeners, its pool's tables, its backends.
fn described(detail: &ServiceDetail, style: Style) -> String {
    let service = &detail.service;
    let place = service.place.as_ref().map(|place| format!(" ({place})")).unwrap_or_default();
    let mut text = format!("service   {}, by {}{place}\n", service.name, service.origin);
    for (index, listener) in service.listen.iter().enumerate() {
        let heading = if index == 0 { "listen" } else { "" };
        text.push_str(&format!("{heading:<9} {listener}\n"));
    }
    text.push_str(&format!(
        "forward   {}; affinity {}, on_loss {}, when_none {}\n",
        service.forward, service.affinity, service.on_loss, service.when_none
    ));
    let (packets, bytes) = (print::count(service.packets), print::count(service.bytes));
    let (new, drops) = (print::count(service.new_flows), print::count(service.drops));
    text.push_str(&format!("traffic   {packets} packets, {bytes}B, {new} new flows, {drops} drops\n"));
    for pool in &detail.pools {
        text.push_str(&pool::lines(pool));
    }
    text.push_str(&pool::members(&detail.discovery, &detail.backends, style));
    text
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::types::Pool;
    use crate::spec::{Affinity, Forward, OnLoss, PassiveSpec, Percent, WhenNone};

    fn service() -> Service {
        Service {
            name: "web".parse().unwrap(),
            listen: vec!["203.0.113.10:443/tcp".parse().unwrap(), "[2001:db8::10]:any/udp".parse().unwrap()],
            pool: "shared".parse().unwrap(),
            forward: Forward::Dsr,
            origin: "file".to_owned(),
            place: Some("lbd.toml:30".to_owned()),
            affinity: Affinity::Client,
            on_loss: OnLoss::Reselect,
            when_none: WhenNone::Reset,
            backends: 3,
            eligible: 2,
            packets: 10_000,
            bytes: 5_000_000,
            new_flows: 12,
            drops: 1,
        }
    }

    pub(in crate::cli) fn pool() -> Pool {
        Pool {
            name: "shared".parse().unwrap(),
            variant: "v4".to_owned(),
            generation: 7,
            table_hash: "00ff".to_owned(),
            slots: 1021,
            origin: "file".to_owned(),
            services: vec!["web".parse().unwrap()],
            check: "tcp".to_owned(),
            backends: 3,
            eligible: 2,
            maglev: None,
            panic_below: Percent::ZERO,
            slow_start: Duration::ZERO,
            backup: None,
            passive: Some(PassiveSpec::default()),
        }
    }

    #[test]
    fn the_list_has_every_listener_and_how_many_take_flows() {
        let text = table(&[service()], Style::default());
        for part in ["203.0.113.10:443/tcp [2001:db8::10]:any/udp", "dsr", "shared", "2/3", "10.0k"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn one_service_is_told_with_its_pool() {
        let detail = ServiceDetail {
            service: service(),
            pools: vec![pool()],
            backends: Vec::new(),
            discovery: Vec::new(),
        };
        let text = described(&detail, Style::default());
        for part in [
            "service   web, by file (lbd.toml:30)",
            "listen    203.0.113.10:443/tcp\n          [2001:db8::10]:any/udp",
            "affinity client",
            "shared/v4: 2 of 3 backends take flows; check tcp; table of 1,021 slots, generation 7, hash 00ff",
            "no backends",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
