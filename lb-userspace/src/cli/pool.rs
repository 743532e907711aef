//! `lbctl pool`: what backends have in common, for one service or several.

use super::Outcome;
use super::args::PoolCommand;
use super::change::{Wanted, nothing_to_change};
use super::print::{self, Align, Table};
use super::service::share;
use super::session::{Session, Style};
use super::{backend, sources};
use crate::api::ApiError;
use crate::api::types::{Backend, Operation, Pool, PoolAdd, PoolDetail, PoolList, PoolSet, Source};
use crate::spec::{Name, format_duration};

pub(super) async fn run(session: &Session, command: PoolCommand) -> Outcome {
    match command {
        PoolCommand::List => list(session).await,
        PoolCommand::Show { name } => show(session, &name).await,
        command => match wanted(command)? {
            Some(wanted) => wanted.submit(session).await,
            None => Ok(0),
        },
    }
}

/// What a verb asks to be changed; `None`: nothing.
pub(super) fn wanted(command: PoolCommand) -> Result<Option<Wanted>, ApiError> {
    Ok(Some(match command {
        PoolCommand::List | PoolCommand::Show { .. } => return Ok(None),
        PoolCommand::Add { name, backends, pool, change } => {
            let add = PoolAdd::new(name, backends).with_keys(pool.keys());
            Wanted::new(vec![Operation::PoolAdd(Box::new(add))], change)
        }
        PoolCommand::Set { name, pool, change } => {
            let set = PoolSet::new(name).with_keys(pool.keys());
            if set.keys().is_empty() {
                return Err(nothing_to_change("pool"));
            }
            Wanted::new(vec![Operation::PoolSet(Box::new(set))], change)
        }
        PoolCommand::Remove { name, change } => {
            let what = format!("removes pool {name}");
            Wanted::destroying(what, Operation::PoolRemove { name }, change)
        }
    }))
}

async fn list(session: &Session) -> Outcome {
    let list = session.client.pools().await?;
    if list.pools.is_empty() {
        session.say("there are no pools");
    }
    session.show(
        &list,
        |PoolList { pools }, style| if pools.is_empty() { String::new() } else { table(pools, style) },
    )?;
    Ok(0)
}

fn table(pools: &[Pool], style: Style) -> String {
    use Align::{Left, Right, Text};
    let mut columns =
        vec![("NAME", Left), ("TABLE", Left), ("BACKENDS", Left), ("CHECK", Left), ("ORIGIN", Left)];
    if style.wide {
        columns.extend([("SLOTS", Right), ("HASH", Left)]);
    }
    columns.push(("SERVICES", Text));
    let mut table = Table::new(&columns).giving_way(&["CHECK", "ORIGIN"]);
    for pool in pools {
        let mut cells = vec![
            pool.name.to_string().into(),
            pool.variant.clone().into(),
            share(pool.eligible, pool.backends),
            pool.check.clone().into(),
            pool.origin.clone().into(),
        ];
        if style.wide {
            cells.extend([pool.slots.into(), pool.table_hash.clone().into()]);
        }
        let services: Vec<String> = pool.services.iter().map(ToString::to_string).collect();
        cells.push(services.join(" ").into());
        table.row(cells);
    }
    table.render(style)
}

async fn show(session: &Session, name: &Name) -> Outcome {
    let detail = session.client.pool(name).await?;
    session.show(&detail, described)?;
    Ok(0)
}

fn described(detail: &PoolDetail, style: Style) -> String {
    let mut text = String::new();
    for pool in &detail.pools {
        text.push_str(&lines(pool));
    }
    text.push_str(&members(&detail.discovery, &detail.backends, style));
    text
}

/// Where backends come from, if not from lbd's own configuration, and the backends.
pub(super) fn members(discovery: &[Source], backends: &[Backend], style: Style) -> String {
    let mut text = String::new();
    if !discovery.is_empty() {
        text.push('\n');
        text.push_str(&sources::table(discovery, style));
    }
    text.push('\n');
    match backends.is_empty() {
        true => text.push_str("no backends\n"),
        false => text.push_str(&backend::table(backends, style)),
    }
    text
}

/// One table of a pool, and what the pool does when its backends are not well.
pub(super) fn lines(pool: &Pool) -> String {
    let place = if pool.variant.is_empty() { String::new() } else { format!("/{}", pool.variant) };
    let table = match pool.variant.is_empty() {
        true => "no service uses it".to_owned(),
        false => format!(
            "table of {} slots, generation {}, hash {}",
            print::grouped(u64::from(pool.slots)),
            pool.generation,
            pool.table_hash
        ),
    };
    let mut text = format!(
        "pool      {}{place}: {} of {} backends take flows; check {}; {table}\n",
        pool.name, pool.eligible, pool.backends, pool.check
    );
    let mut unwell = vec![match &pool.passive {
        Some(passive) => format!(
            "passive health ejects for {} (at most {} of them) whose new connections do not go on within {}",
            format_duration(passive.eject),
            passive.max_ejected,
            format_duration(passive.patience)
        ),
        None => "passive health is off".to_owned(),
    }];
    if !pool.slow_start.is_zero() {
        unwell.push(format!("slow start {}", format_duration(pool.slow_start)));
    }
    if !pool.panic_below.is_zero() {
        unwell.push(format!("all are used below {} of healthy weight", pool.panic_below));
    }
    if let Some(backup) = &pool.backup {
        unwell.push(format!("backup {}", backup.pool));
    }
    text.push_str(&format!("{:<9} {}\n", "", unwell.join("; ")));
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::service::tests::pool;
    use crate::spec::{BackupSpec, Percent};

    #[test]
    fn a_pool_says_what_becomes_of_those_who_are_not_well() {
        let plain = lines(&pool());
        assert!(plain.contains("passive health ejects for 10s (at most 34% of them)"), "{plain}");
        let other = Pool {
            passive: None,
            slow_start: Duration::from_secs(30),
            panic_below: Percent::new(50),
            backup: Some(BackupSpec::new("sorry".parse().unwrap())),
            variant: String::new(),
            ..pool()
        };
        let text = lines(&other);
        for part in
            ["passive health is off", "slow start 30s", "below 50%", "backup sorry", "no service uses it"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_list_has_a_line_for_each_table() {
        let text = table(&[pool()], Style::default());
        for part in ["shared", "v4", "2/3", "tcp", "web"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
