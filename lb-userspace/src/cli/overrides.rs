//! `lbctl override`: what lbctl holds in place against the definitions.

use super::Outcome;
use super::args::OverrideCommand;
use super::change::Wanted;
use super::print::{Align, Table};
use super::session::{Session, Style};
use crate::api::types::{Operation, OverrideEntry, OverrideList, StateOverride};
use crate::api::{ApiError, ErrorCode};

pub(super) async fn run(session: &Session, command: OverrideCommand) -> Outcome {
    match command {
        OverrideCommand::List => list(session).await,
        command => match wanted(command)? {
            Some(wanted) => wanted.submit(session).await,
            None => Ok(0),
        },
    }
}

/// What a verb asks to be changed; `None`: nothing.
pub(super) fn wanted(command: OverrideCommand) -> Result<Option<Wanted>, ApiError> {
    match command {
        OverrideCommand::List => Ok(None),
        OverrideCommand::Clear { all: true, change, .. } => {
            let what = "clears every override of every backend".to_owned();
            Ok(Some(Wanted::destroying(what, Operation::OverrideClearAll, change)))
        }
        OverrideCommand::Clear { pool: Some(pool), address: Some(address), change, .. } => {
            Ok(Some(Wanted::new(vec![Operation::OverrideClear { pool, address }], change)))
        }
        OverrideCommand::Clear { .. } => {
            Err(ApiError::new(ErrorCode::Usage, "it is not said which override to clear")
                .hint("name POOL and ADDR, or say --all"))
        }
    }
}

async fn list(session: &Session) -> Outcome {
    let list = session.client.overrides().await?;
    if list.overrides.is_empty() {
        session.say("there are no overrides");
    }
    session.show(
        &list,
        |OverrideList { overrides }, style| {
            if overrides.is_empty() { String::new() } else { table(overrides, style) }
        },
    )?;
    Ok(0)
}

fn table(overrides: &[OverrideEntry], style: Style) -> String {
    use Align::{Left, Text};
    let columns =
        [("POOL", Left), ("ADDRESS", Left), ("STATE", Text), ("WEIGHT", Left), ("SINCE", Left), ("BY", Left)];
    let mut table = Table::new(&columns).giving_way(&["SINCE", "BY"]);
    for OverrideEntry { pool, address, value } in overrides {
        table.row(vec![
            pool.to_string().into(),
            address.to_string().into(),
            value.state.map(state).unwrap_or_default().into(),
            value.weight.map(|weight| weight.to_string()).unwrap_or_default().into(),
            value.since.to_string().into(),
            value.by.clone().into(),
        ]);
    }
    table.render(style)
}

fn state(state: StateOverride) -> String {
    match state {
        StateOverride::Disabled => "disabled".to_owned(),
        StateOverride::Draining { deadline: None, .. } => "draining".to_owned(),
        StateOverride::Draining { deadline: Some(deadline), expired: true, .. } => {
            format!("drained since {deadline}")
        }
        StateOverride::Draining { deadline: Some(deadline), then, expired: false } => {
            format!("draining until {deadline}, then {}", then.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{Override, Then};
    use crate::moment::Millis;

    #[test]
    fn each_override_says_what_until_when_and_by_whom() {
        let drain =
            StateOverride::Draining { deadline: Some(Millis(0)), then: Then::Disable, expired: false };
        let value =
            Override { weight: Some(5), state: Some(drain), since: Millis(0), by: "uid 0".to_owned() };
        let entry = OverrideEntry {
            pool: "web".parse().unwrap(),
            address: "[2001:db8::11]:443".parse().unwrap(),
            value,
        };
        let text = table(&[entry], Style::default());
        for part in [
            "web",
            "[2001:db8::11]:443",
            "draining until 1970-01-01T00:00:00.000Z, then disable",
            "5",
            "uid 0",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
