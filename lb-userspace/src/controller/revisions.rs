//! Revisions: looked at, put back, carried away and brought back.
//!
//! In: what `lbctl history`, `rollback`, `backup` and `restore` ask. Out: lists, the whole of a revision, or a change of the whole.
//! Invariant: what is put back is judged like any other change, and becomes a new revision; none is ever rewritten.

use std::sync::Arc;

use super::Controller;
use crate::api::types::{Back as BackTo, ChangeDone, Revision, RevisionDetail, RevisionList};
use crate::api::{ApiError, ErrorCode};
use crate::backup::Backup;
use crate::difference::{differences, override_differences};
use crate::membership::{Back, Options, merged};
use crate::state::{Record, Summary, Unkept};

impl Controller {
    /// Every revision that is kept, the newest first.
    pub(super) fn revisions(&self) -> RevisionList {
        RevisionList { revisions: self.state.history().map(|summary| self.in_short(summary)).collect() }
    }

    fn in_short(&self, summary: &Summary) -> Revision {
        let Summary { revision, time, who, what } = summary.clone();
        Revision { revision, time, who, what, current: revision == self.membership.revision() }
    }

    /// A revision, whole, and what it has otherwise than `against`, or than the one before it.
    pub(super) fn revision(&self, number: u64, against: Option<u64>) -> Result<RevisionDetail, ApiError> {
        let record = self.state.record(number)?;
        let before = self.state.history().map(|summary| summary.revision).find(|other| *other < number);
        let against = against.or(before);
        let changes = match against {
            // One before it that is damaged is no reason to say nothing of this one.
            Some(other) => self.state.record(other).map(|other| changes(&other, &record)),
            None => Ok(Vec::new()),
        };
        let changes = match (changes, against != before) {
            (Ok(changes), _) => changes,
            (Err(error), true) => return Err(error.into()),
            (Err(error), false) => vec![format!("not known: {error}")],
        };
        let summary = Summary { revision: number, time: record.time, who: record.who, what: record.what };
        Ok(RevisionDetail {
            summary: self.in_short(&summary),
            against,
            changes,
            configuration: (*record.file).clone(),
            cli: (*record.cli).clone(),
            overrides: record.overrides,
        })
    }

    /// Puts a revision back, or a backup.
    pub(super) async fn put_back(
        &mut self,
        who: &str,
        back: BackTo,
        options: &Options,
    ) -> Result<ChangeDone, ApiError> {
        let back = match back {
            BackTo::Revision(number) => {
                let Record { time, file, cli, overrides, .. } = self.state.record(number)?;
                Back { name: format!("revision {number}"), time, file, cli, overrides }
            }
            BackTo::Backup(backup) => {
                let name = backup.name();
                let Backup { time, configuration, cli, overrides, .. } = *backup;
                Back { name, time, file: Arc::new(configuration), cli: Arc::new(cli), overrides }
            }
        };
        self.see_host().await;
        let candidate = self.membership.put_back(self.clock.now(), who, back, options)?;
        self.put_whole(candidate, who, options)
    }

    /// What is in force, whole.
    pub(super) fn backup(&self) -> Backup {
        Backup {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: self.membership.revision(),
            time: self.clock.now(),
            configuration: (**self.membership.file()).clone(),
            cli: (**self.membership.cli_objects()).clone(),
            overrides: self.membership.overrides(),
        }
    }

    /// That something else than the file is in force, for status; nothing: the file is.
    pub(super) fn file_set_aside(&self) -> Option<String> {
        let aside = self.membership.set_aside()?;
        Some(format!(
            "{} is in force, put back by an operator, and not what {} says: that counts again when it is changed, or with lbctl apply \
             --force",
            aside.instead,
            self.config.display()
        ))
    }
}

/// What a revision has otherwise than another.
fn changes(old: &Record, new: &Record) -> Vec<String> {
    let mut changes = differences(&merged(&old.file, &old.cli), &merged(&new.file, &new.cli));
    changes.extend(override_differences(&old.overrides, &new.overrides));
    changes
}

impl From<Unkept> for ApiError {
    fn from(error: Unkept) -> Self {
        let code = match error {
            Unkept::Missing { .. } => ErrorCode::NotFound,
            Unkept::Unusable { .. } => ErrorCode::Invalid,
        };
        Self::new(code, error.to_string()).hint("see lbctl history")
    }
}
