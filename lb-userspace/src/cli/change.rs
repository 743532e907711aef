//! How every verb that changes something does so.
//!
//! In: operations and the options `--wait`, `--if-revision`, `--force`, `--dry-run`. Out: one change sent to the daemon, and
//! what it did, in words. Invariants: however many operations, it is one revision, or none; nobody is asked about what is
//! refused anyway.

use std::time::Duration;

use super::args::{ChangeArguments, Wait};
use super::session::{Session, Style};
use super::{Outcome, plan};
use crate::api::types::{ChangeDone, ChangeRequest, Conditions, Operation};
use crate::api::{ApiError, ErrorCode};

/// The longest that the API lets a change wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What a verb that changes something asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    /// What is to be done.
    pub(super) operations: Vec<Operation>,
    /// Under which conditions.
    pub(super) how: ChangeArguments,
    /// What of it destroys and is asked about; it follows "this": `removes service web`.
    pub(super) destroys: Option<String>,
}

/// A `set` of a service or a pool without anything to set.
pub(super) fn nothing_to_change(noun: &str) -> ApiError {
    ApiError::new(ErrorCode::Usage, "it is not said what to change")
        .hint(format!("see lbctl {noun} set --help"))
}

impl Wanted {
    /// Operations that nobody is asked about.
    pub(super) const fn new(operations: Vec<Operation>, how: ChangeArguments) -> Self {
        Self { operations, how, destroys: None }
    }

    /// An operation that is asked about.
    pub(super) fn destroying(what: String, operation: Operation, how: ChangeArguments) -> Self {
        Self { operations: vec![operation], how, destroys: Some(what) }
    }

    /// Sends it as one change and says what it did. What destroys is judged, then asked about (unless `--yes`), then done.
    pub(super) async fn submit(self, session: &Session) -> Outcome {
        let done = self.send(session).await?;
        report(session, &done)
    }

    /// As [`Self::submit`], without a word.
    pub(super) async fn send(self, session: &Session) -> Result<ChangeDone, ApiError> {
        let Self { operations, how, destroys } = self;
        if let Some(what) = destroys.filter(|_| !how.yes && !how.dry_run) {
            let question = ChangeRequest { dry_run: true, ..request(operations.clone(), &how)? };
            let judged = session.client.change(&question).await?;
            if !judged.changed {
                return Ok(ChangeDone { dry_run: false, ..judged });
            }
            session.confirm(&what)?;
        }
        session.client.change(&request(operations, &how)?).await
    }
}

fn request(operations: Vec<Operation>, how: &ChangeArguments) -> Result<ChangeRequest, ApiError> {
    let Conditions { if_revision, force, dry_run, max_moved, wait } = conditions(how)?;
    Ok(ChangeRequest { operations, if_revision, force, dry_run, max_moved, wait })
}

/// The conditions of a change as the API has them.
pub(super) fn conditions(how: &ChangeArguments) -> Result<Conditions, ApiError> {
    let wait = how.wait.map(Wait::length);
    if wait.is_some_and(|wait| wait > LONGEST_WAIT) {
        let longest = LONGEST_WAIT.as_secs();
        return Err(ApiError::new(ErrorCode::Usage, format!("the longest wait is {longest}s")));
    }
    Ok(Conditions {
        if_revision: how.if_revision,
        force: how.force,
        dry_run: how.dry_run,
        max_moved: how.max_moved,
        wait: wait.map(|wait| wait.as_secs_f64()),
    })
}

/// Says what a change did, or would do.
pub(super) fn report(session: &Session, done: &ChangeDone) -> Outcome {
    for warning in &done.warnings {
        session.say(&format!("warning: {warning}"));
    }
    if session.is_json() || done.dry_run {
        session.show(done, judged)?;
    }
    if !session.is_json() {
        session.say(&epilogue(done));
    }
    Ok(0)
}

/// What a dry run found.
fn judged(done: &ChangeDone, style: Style) -> String {
    let notes: String = done.notes.iter().map(|line| format!("{line}\n")).collect();
    notes + &done.plan.as_ref().map(|plan| plan::text(plan, style)).unwrap_or_default()
}

/// The last word to the person.
pub(super) fn epilogue(done: &ChangeDone) -> String {
    if done.dry_run {
        return "dry run: nothing was changed".to_owned();
    }
    let notes = done.notes.join("\n");
    match done.changed {
        true => format!("{notes} (revision {})", done.revision),
        false => notes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::PlanReport;

    fn done(changed: bool, dry_run: bool) -> ChangeDone {
        let plan = PlanReport {
            changes: vec!["pool web/v4: 340 of 1021 slots move, 0 of them without need".to_owned()],
            slots_moved: 340,
            collateral: 0,
            flows_kept: 12_345,
            flows_moved: 7,
            ..PlanReport::default()
        };
        let notes = vec!["backend web/10.0.0.1: draining".to_owned()];
        ChangeDone { revision: 3, changed, dry_run, notes, plan: Some(plan), ..ChangeDone::default() }
    }

    #[test]
    fn a_dry_run_says_what_would_move_and_that_nothing_did() {
        let text = judged(&done(true, true), Style::default());
        for part in ["draining", "340 of 1021", "12.3k stay", "7 (0.1 %) are selected again"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(epilogue(&done(true, true)).contains("nothing was changed"));
    }

    #[test]
    fn a_change_names_its_revision_and_none_does_not() {
        assert_eq!(epilogue(&done(true, false)), "backend web/10.0.0.1: draining (revision 3)");
        assert_eq!(epilogue(&done(false, false)), "backend web/10.0.0.1: draining");
    }
}
