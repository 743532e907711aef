//! Changes of the whole: the configuration file judged and put in force, on demand.
//!
//! In: what `lbctl plan` and `lbctl apply` ask. Out: what it would do, or what it did. Invariant: a file that cannot be read, says
//! something wrong or moves more than allowed changes nothing.

use std::sync::Arc;

use super::moves::refuse_moves;
use super::{Controller, Fault, Notice};
use crate::api::types::{ChangeDone, PlanAnswer, PlanRequest};
use crate::api::{ApiError, ErrorCode};
use crate::config::{self, ConfigErrors, Loaded};
use crate::difference::{differences, override_differences};
use crate::membership::{Candidate, EventKind, Membership, Options, Refusal, RefusalCode};
use crate::netlink::read_host_network;
use crate::spec::{Place, Problem, Spec};

/// Who is named in revisions made of the file.
pub(super) const THE_FILE: &str = "the configuration file";

impl Controller {
    /// What the daemon's own file, or a candidate, would do.
    pub(super) async fn plan_whole(
        &mut self,
        candidate: Option<PlanRequest>,
    ) -> Result<PlanAnswer, ApiError> {
        let (file, spec, mut warnings) = match candidate {
            Some(PlanRequest { file, configuration }) => (file, configuration, Vec::new()),
            None => {
                let Loaded { spec, warnings, .. } = self.read_file()?;
                (self.config.display().to_string(), spec, warnings)
            }
        };
        self.see_host().await;
        let spec = Arc::new(spec);
        let reload = |force| {
            let options = Options { force, ..Options::default() };
            self.membership.reload(self.clock.now(), Arc::clone(&spec), &options)
        };
        let candidate = match reload(false) {
            Err(refusal) if refusal.code == RefusalCode::LastBackend => {
                let hint = "lbctl apply refuses it without --force";
                warnings.push(Problem::warning(Place::File { path: file.clone() }, refusal.message, hint));
                reload(true)
            }
            candidate => candidate,
        }?;
        let foreseen = self.foresee_whole(&candidate, None)?;
        let judgement = self.judge(&candidate.membership.merged_spec());
        super::reload::refuse_errors(&judgement.problems)?;
        warnings.extend(candidate.outcome.warnings);
        warnings.extend(self.new_warnings(&judgement));
        let revision = self.membership.revision();
        let mut notes = foreseen.notes;
        if candidate.membership.set_aside().is_some() {
            notes.extend(candidate.outcome.notes);
        }
        Ok(PlanAnswer { revision, file, report: foreseen.report, notes, warnings })
    }

    /// Puts the daemon's own file in force, or says what that would do.
    pub(super) async fn apply_file(&mut self, who: &str, options: &Options) -> Result<ChangeDone, ApiError> {
        let Loaded { spec, warnings, .. } = self.read_file()?;
        self.see_host().await;
        let candidate = self.membership.reload(self.clock.now(), Arc::new(spec), options)?;
        let mut done = self.put_whole(candidate, who, options)?;
        if !options.dry_run {
            self.set_notices(Notice::File, &warnings);
            self.set_fault(Fault::Config, Vec::new());
            self.publish();
        }
        done.warnings.splice(0..0, warnings);
        Ok(done)
    }

    /// Puts a candidate in force that changes the whole, unless that moves too much; or only says what it would do.
    pub(super) fn put_whole(
        &mut self,
        candidate: Candidate,
        who: &str,
        options: &Options,
    ) -> Result<ChangeDone, ApiError> {
        let foreseen = self.foresee_whole(&candidate, options.max_moved)?;
        let outcome = &candidate.outcome;
        let mut done = ChangeDone {
            revision: self.membership.revision(),
            changed: outcome.revised,
            dry_run: options.dry_run,
            notes: [outcome.notes.clone(), foreseen.notes].concat(),
            warnings: outcome.warnings.clone(),
            plan: Some(foreseen.report),
            admitted: outcome.members(EventKind::BackendAdded),
        };
        if options.dry_run {
            let judgement = self.judge(&candidate.membership.merged_spec());
            super::reload::refuse_errors(&judgement.problems)?;
            done.warnings.extend(self.new_warnings(&judgement));
            return Ok(done);
        }
        // A file whose lines alone have moved is taken over as well: messages name its lines.
        let accepted = self.accept(candidate, who, foreseen.plan)?;
        self.gives_back = true;
        done.revision = accepted.revision;
        done.warnings.extend(accepted.warnings);
        Ok(done)
    }

    fn foresee_whole(
        &self,
        candidate: &Candidate,
        max_moved: Option<f64>,
    ) -> Result<ForeseenWhole, ApiError> {
        let foreseen = self.foresee(&candidate.membership)?;
        let mut report = foreseen.report;
        refuse_moves(&report, max_moved)?;
        let mut changes = changes(&self.membership, &candidate.membership);
        changes.append(&mut report.changes);
        report.changes = changes;
        let notes = match foreseen.plan {
            Some(_) => Vec::new(),
            None => vec!["the kernel's tables are made larger for it".to_owned()],
        };
        Ok(ForeseenWhole { plan: foreseen.plan, report, notes })
    }

    fn read_file(&self) -> Result<Loaded, ApiError> {
        config::load(&self.config).map_err(|errors| invalid(errors, &self.config.display().to_string()))
    }

    /// Looks at the host's network; what cannot be seen now is as it was.
    pub(super) async fn see_host(&mut self) {
        if let Ok(host) = read_host_network().await {
            self.host = host;
        }
    }
}

/// What is known of a change of the whole before it is done.
struct ForeseenWhole {
    plan: Option<crate::plan::Plan>,
    report: crate::api::types::PlanReport,
    notes: Vec<String>,
}

/// What is otherwise after a change, in words.
fn changes(before: &Membership, after: &Membership) -> Vec<String> {
    let (old, new): (Spec, Spec) = (before.merged_spec(), after.merged_spec());
    let mut changes = differences(&old, &new);
    changes.extend(override_differences(&before.overrides(), &after.overrides()));
    changes
}

/// The mistakes of a file as a refusal: the first speaks for all.
pub(super) fn invalid(errors: ConfigErrors, file: &str) -> ApiError {
    match Refusal::of_problems(errors.problems) {
        Some(refusal) => refusal.into(),
        None => ApiError::new(ErrorCode::Invalid, format!("{file} is invalid")),
    }
}
