//! `lbctl plan` and `lbctl apply`: what the configuration file would do, and doing it.
//!
//! In: the daemon's own file, or a candidate. Out: what changes, slots and flows that move, pool by pool. Invariant: `plan` changes
//! nothing and ends with 0 if there is nothing to change, with 10 if there is.

use std::io;
use std::path::Path;

use super::Outcome;
use super::args::ChangeArguments;
use super::change::{conditions, report};
use super::print::{self, Align, Table, count};
use super::session::{Session, Style};
use crate::api::types::{PlanAnswer, PlanReport, PlanRequest, PoolMoves};
use crate::api::{ApiError, ErrorCode};
use crate::config;
use crate::spec::{Problem, Spec};

/// `lbctl plan` when something would change.
const CHANGES: u8 = 10;

pub(super) async fn run(session: &Session, file: Option<&Path>) -> Outcome {
    let answer = match file {
        None => session.client.plan().await?,
        Some(file) => {
            let (configuration, warnings) = read(file)?;
            let file = file.display().to_string();
            let request = PlanRequest { file, configuration };
            let mut answer = session.client.plan_candidate(&request).await?;
            answer.warnings.splice(0..0, warnings);
            answer
        }
    };
    for warning in &answer.warnings {
        session.say(&format!("warning: {warning}"));
    }
    let code = if answer.report.changes.is_empty() { 0 } else { CHANGES };
    print::when_unread(code);
    session.show(&answer, |PlanAnswer { report, .. }, style| match report.changes.is_empty() {
        true => String::new(),
        false => text(report, style),
    })?;
    if !session.is_json() {
        answer.notes.iter().for_each(|note| session.say(note));
        // A file that is not in force has said so.
        if answer.notes.is_empty() || !answer.report.changes.is_empty() {
            session.say(&epilogue(&answer));
        }
    }
    Ok(code)
}

pub(super) async fn apply(session: &Session, how: &ChangeArguments) -> Outcome {
    let done = session.client.apply(&conditions(how)?).await?;
    report(session, &done)
}

/// A candidate's content; the daemon need not be able to read it.
fn read(file: &Path) -> Result<(Spec, Vec<Problem>), ApiError> {
    // One that is not there is no invalid one.
    if file != Path::new("-")
        && let Err(error) = std::fs::File::open(file)
    {
        return Err(ApiError::new(ErrorCode::Usage, format!("cannot read {} ({error})", file.display()))
            .hint("name a configuration file, or - for standard input"));
    }
    let loaded = match file == Path::new("-") {
        true => config::load_from(&mut io::stdin().lock(), "-", Some(Path::new("."))),
        false => config::load(file),
    };
    let loaded = loaded.map_err(|errors| ApiError::of_problems(errors.problems, file.display()))?;
    Ok((loaded.spec, loaded.warnings))
}

/// What a change does, for people.
pub(super) fn text(plan: &PlanReport, style: Style) -> String {
    let mut text: String = plan.changes.iter().map(|line| format!("{line}\n")).collect();
    if !plan.pools.is_empty() {
        text.push('\n');
        text.push_str(&pools(&plan.pools, style));
        text.push('\n');
    }
    let (moved, of) = (plan.slots_moved, plan.slots);
    let collateral = plan.collateral;
    text.push_str(&format!("slots: {} move, {collateral} of them without need\n", share(moved, of)));
    let (kept, moved) = (plan.flows_kept, plan.flows_moved);
    text.push_str(&format!(
        "flows: {} stay, {} are selected again\n",
        count(kept),
        share(moved, kept + moved)
    ));
    text.push_str(&format!("{} writes to the kernel's tables\n", plan.map_writes));
    text
}

fn pools(pools: &[PoolMoves], style: Style) -> String {
    use Align::{Left, Right};
    let columns = [
        ("POOL", Left),
        ("SLOTS", Right),
        ("MOVE", Right),
        ("SHARE", Right),
        ("FLOWS STAY", Right),
        ("MOVE", Right),
        ("SHARE", Right),
    ];
    let mut table = Table::new(&columns);
    for pool in pools {
        let flows = pool.flows_kept + pool.flows_moved;
        table.row(vec![
            pool.pool.clone().into(),
            pool.slots.into(),
            pool.slots_moved.into(),
            percent(pool.slots_moved, pool.slots).into(),
            count(pool.flows_kept).into(),
            count(pool.flows_moved).into(),
            percent(pool.flows_moved, flows).into(),
        ]);
    }
    table.render(style)
}

/// `340 (33.3 %)`; without the share of nothing.
fn share(part: u64, whole: u64) -> String {
    match whole {
        0 => count(part),
        whole => format!("{} ({})", count(part), percent(part, whole)),
    }
}

/// `33.3 %`; nothing of nothing.
fn percent(part: u64, whole: u64) -> String {
    let Some(thousandths) = (part.saturating_mul(1000) + whole / 2).checked_div(whole) else {
        return String::new();
    };
    format!("{}.{} %", thousandths / 10, thousandths % 10)
}

fn epilogue(answer: &PlanAnswer) -> String {
    let PlanAnswer { revision, file, report, .. } = answer;
    match report.changes.is_empty() {
        true => format!("{file} says what is in force (revision {revision}): no change"),
        false => format!("revision {revision} is in force, nothing was changed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_shows_changes_pools_and_sums() {
        let pool = PoolMoves {
            pool: "web".to_owned(),
            slots: 1021,
            slots_moved: 340,
            collateral: 0,
            flows_kept: 900,
            flows_moved: 100,
        };
        let plan = PlanReport {
            changes: vec!["pool web: backend 10.0.0.4 is removed".to_owned()],
            slots_moved: 340,
            slots: 2042,
            flows_kept: 1_900,
            flows_moved: 100,
            map_writes: 12,
            pools: vec![pool],
            ..PlanReport::default()
        };
        let text = text(&plan, Style::default());
        for part in [
            "backend 10.0.0.4 is removed\n",
            "web    1021   340  33.3 %         900   100  10.0 %",
            "slots: 340 (16.7 %) move, 0 of them without need",
            "flows: 1.90k stay, 100 (5.0 %) are selected again",
            "12 writes",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn no_change_is_no_table() {
        assert!(!text(&PlanReport::default(), Style::default()).contains("POOL"));
        let answer = PlanAnswer { revision: 7, file: "lbd.toml".to_owned(), ..PlanAnswer::default() };
        assert!(epilogue(&answer).contains("revision 7") && epilogue(&answer).contains("no change"));
    }
}
