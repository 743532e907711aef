//! The whole put back: a revision, or a backup, takes the place of what is in force.
//!
//! In: the file's content, lbctl's objects and the overrides of another time. Out: a [`Candidate`] in which they are in force.
//! Invariants: it is judged like any other change; the file that is left for it is remembered, and stays out of force as long as it
//! says what it said then, so that no restart undoes what an operator has put back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::definitions::Definitions;
use super::discovered::Discovered;
use super::draft::Draft;
use super::{
    Candidate, CliObjects, MemberId, Membership, Millis, Options, Override, OverrideEntry, Refusal,
    StateOverride,
};
use crate::spec::{Spec, format_duration};

/// That something else than the configuration file is in force, because somebody put it back.
#[derive(Clone, Debug, PartialEq)]
pub struct SetAside {
    /// What the file said when it was left; as long as it says so it is not in force.
    pub file: Arc<Spec>,
    /// What is in force instead: `revision 7`.
    pub instead: String,
}

/// The whole of another time.
#[derive(Clone, Debug, PartialEq)]
pub struct Back {
    /// What it is called: `revision 7`.
    pub name: String,
    /// When it was in force.
    pub time: Millis,
    /// What the configuration file said.
    pub file: Arc<Spec>,
    /// What lbctl had added.
    pub cli: Arc<CliObjects>,
    /// The operator's hand on backends.
    pub overrides: Vec<OverrideEntry>,
}

/// The file and lbctl's objects as one spec, without what discovery sources say.
pub fn merged(file: &Arc<Spec>, cli: &Arc<CliObjects>) -> Spec {
    Definitions::new(Arc::clone(file), Arc::clone(cli), Arc::new(Discovered::default())).merged()
}

impl Membership {
    /// Judges a change that puts the whole of another time in force.
    ///
    /// # Errors
    /// It contradicts itself, changes what only a restart can, or takes a service's last usable backend; nothing has changed.
    pub fn put_back(
        &self,
        now: Millis,
        who: &str,
        back: Back,
        options: &Options,
    ) -> Result<Candidate, Refusal> {
        self.check_revision(options.if_revision)?;
        let mut draft = Draft::new(self, now, who);
        draft.put_back(back)?;
        draft.finish(options.force)
    }

    /// The file that is not in force although it is the daemon's, and what is instead.
    pub const fn set_aside(&self) -> Option<&Arc<SetAside>> {
        self.set_aside.as_ref()
    }
}

impl Draft<'_> {
    fn put_back(&mut self, back: Back) -> Result<(), Refusal> {
        let Back { name, time, file, cli, overrides } = back;
        let old = self.next.definitions.clone();
        super::start::needs_restart(&old.file, &file)?;
        let is_other = !old.file.means_the_same(&file) || old.cli != cli;
        self.define_all(Arc::clone(&file), cli, old.discovered)?;
        let is_overridden_otherwise = self.put_back_overrides(time, overrides);
        let aside = self.aside_for(&old.file, &file, &name);
        self.revised = is_other || is_overridden_otherwise || aside != self.next.set_aside;
        self.next.set_aside = aside;
        let what = if self.revised { "put back" } else { "unchanged: it is what is in force" };
        self.outcome.notes.insert(0, format!("{name}: {what}"));
        Ok(())
    }

    /// What is set aside when `file` takes the place of `old`: the content of the daemon's file, unless that is `file`.
    fn aside_for(&self, old: &Arc<Spec>, file: &Arc<Spec>, name: &str) -> Option<Arc<SetAside>> {
        let left = self.next.set_aside.as_ref().map_or(old, |aside| &aside.file);
        let aside = || SetAside { file: Arc::clone(left), instead: name.to_owned() };
        (!left.means_the_same(file)).then(|| Arc::new(aside()))
    }

    /// Overrides as they were at `time`; true: they are others than before.
    fn put_back_overrides(&mut self, time: Millis, overrides: Vec<OverrideEntry>) -> bool {
        let mut wanted: BTreeMap<MemberId, Override> = BTreeMap::new();
        for OverrideEntry { pool, address, mut value } in overrides {
            let id = MemberId { pool, address };
            if let Some(StateOverride::Draining { deadline: Some(deadline), expired: false, .. }) =
                &mut value.state
                && *deadline <= self.now
            {
                // What was still to come then would otherwise be over at once, and the backend gone that was to be had back.
                let left = deadline.since(time);
                *deadline = self.now.after(left);
                let left = format_duration(left);
                self.outcome
                    .notes
                    .push(format!("backend {id}: its drain had {left} to go, which count from now"));
            }
            wanted.insert(id, value);
        }
        let mut ids: Vec<MemberId> = self.next.overridden.iter().cloned().collect();
        ids.extend(wanted.keys().filter(|id| !self.next.overridden.contains(*id)).cloned());
        let mut changed = false;
        for id in ids {
            let value = wanted.remove(&id).unwrap_or_default();
            changed |= self.set_override(&id, |over| (over.weight, over.state) = (value.weight, value.state));
        }
        changed
    }
}
