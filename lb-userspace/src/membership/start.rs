//! How a membership begins: with the file, and with what earlier runs left behind.
//!
//! In: the file's content, what lbctl added, overrides, and what the pinned maps say. Out: a [`Membership`] and all that
//! follows from it. Invariant: until checks and neighbours have spoken, a backend that took flows before goes on taking them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::definitions::Definitions;
use super::discovered::Discovered;
use super::draft::Draft;
use super::event::DomainEvent;
use super::ways::Ways;
use super::{
    Candidate, CliObjects, Ejected, Held, MemberId, Membership, Millis, OverrideEntry, Recalled, Refusal,
    RefusalCode, SetAside, WayState,
};
use crate::desired::Desired;
use crate::spec::{Place, Problem, SourceId, Spec};

/// What the pinned maps held when this daemon started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pinned {
    /// What each backend did.
    pub members: BTreeMap<MemberId, Held>,
    /// The ways that were in use.
    pub ways: BTreeMap<IpAddr, WayState>,
}

/// Everything a membership begins with.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// The configuration file's content.
    pub file: Arc<Spec>,
    /// What lbctl added in earlier runs.
    pub cli: CliObjects,
    /// The overrides of earlier runs.
    pub overrides: Vec<OverrideEntry>,
    /// The number of the last revision that was written down, and the file's content in it; `None`: there is none yet.
    pub saved: Option<(u64, Arc<Spec>)>,
    /// The file's content is not what the daemon's file says, because something was put back.
    pub set_aside: Option<Arc<SetAside>>,
    /// What discovery sources last said in earlier runs.
    pub discovered: BTreeMap<SourceId, Recalled>,
    /// The ejections of earlier runs.
    pub ejections: Vec<Ejected>,
    /// What the kernel is doing.
    pub pinned: Pinned,
}

impl Membership {
    /// Begins. `outcome.revised` says whether this is another configuration than the one that was written down last.
    ///
    /// # Errors
    /// The file contradicts itself or what lbctl added.
    pub fn start(now: Millis, start: Start) -> Result<Candidate, Refusal> {
        let Start { file, cli, overrides, saved, set_aside, discovered, ejections, pinned } = start;
        let mut ways = Ways::default();
        ways.take(pinned.ways.into_iter().collect());
        let same = saved.as_ref().is_some_and(|(_, saved)| saved.means_the_same(&file));
        let cli = Arc::new(cli);
        let empty = Self {
            revision: saved.map_or(0, |(revision, _)| revision),
            definitions: Definitions::new(Arc::default(), Arc::clone(&cli), Arc::default()),
            set_aside,
            services: BTreeMap::new(),
            pools: BTreeMap::new(),
            overridden: BTreeSet::new(),
            timers: BTreeMap::new(),
            ways: Arc::new(ways),
            probes: Arc::default(),
            desired: Arc::new(Desired::default()),
            defined: 0,
            sifted: BTreeMap::new(),
        };
        let mut draft = Draft::new(&empty, now, "the configuration file");
        draft.define_all(file, cli, Arc::new(Discovered::of(discovered)))?;
        draft.revised = !same;
        if !same {
            draft.outcome.notes.push("configuration file: taken over at the start".to_owned());
        }
        let wanted = draft.next.next_hop_targets();
        Arc::make_mut(&mut draft.next.ways).retain(&wanted);
        draft.restore(overrides);
        for (id, held) in pinned.members {
            draft.adopt(&id, held);
        }
        for ejected in ejections {
            draft.eject_again(ejected);
        }
        draft.finish(true)
    }
}

impl Draft<'_> {
    /// Puts another file in the place of the one in force. One that was set aside, and says what it said then, stays out of force
    /// unless `force` is given.
    pub(super) fn replace_file(&mut self, file: Arc<Spec>, force: bool) -> Result<(), Refusal> {
        if let Some(aside) = self.next.set_aside.take() {
            if aside.file.means_the_same(&file) && !force {
                let note = format!(
                    "configuration file: unchanged since {0} was put in its place, so {0} stays",
                    aside.instead
                );
                self.outcome.notes.push(note);
                self.next.set_aside = Some(aside);
                return Ok(());
            }
            self.revised = true;
        }
        let old = Arc::clone(&self.next.definitions.file);
        needs_restart(&old, &file)?;
        self.revised |= !old.means_the_same(&file);
        let note =
            if self.revised { "configuration file: taken over" } else { "configuration file: unchanged" };
        self.outcome.notes.push(note.to_owned());
        let (cli, discovered) =
            (Arc::clone(&self.next.definitions.cli), Arc::clone(&self.next.definitions.discovered));
        self.define_all(file, cli, discovered)
    }

    /// Takes this file with what lbctl added and what sources say, validated together.
    pub(super) fn define_all(
        &mut self,
        file: Arc<Spec>,
        cli: Arc<CliObjects>,
        discovered: Arc<Discovered>,
    ) -> Result<(), Refusal> {
        let old = self.next.definitions.clone();
        self.next.definitions = Definitions::new(file, cli, discovered);
        self.judge_with_answers()?;
        self.validated = true;
        for name in self.next.definitions.orphaned() {
            self.outcome.warnings.push(Problem::warning(
                Place::Cli,
                format!("lbctl added backends to pool {:?}, which is no longer defined", name.as_str()),
                format!("they come back with the pool; remove them with lbctl backend remove {name} ADDR"),
            ));
        }
        let new = self.next.definitions.clone();
        // Sources, interfaces and the like are in every entry.
        let all = old.file.datapath != new.file.datapath;
        let services: BTreeSet<_> = old
            .service_names()
            .chain(new.service_names())
            .chain(self.next.services.keys())
            .cloned()
            .collect();
        for name in services {
            if all {
                self.touched_services.insert(name.clone());
            }
            if self.next.services.get(&name).map(Arc::as_ref) != new.service(&name) {
                self.sync_service(&name);
            }
        }
        let pools: BTreeSet<_> = old.pool_names().chain(new.pool_names()).cloned().collect();
        for name in pools {
            let changed = !self.next.pools.contains_key(&name)
                || old.pool_alone(&name) != new.pool_alone(&name)
                || old.cli.backends.get(&name) != new.cli.backends.get(&name)
                || !old.discovered.is_same_for(&new.discovered, &name);
            if all || changed {
                self.sync_pool(&name);
            }
        }
        Ok(())
    }

    /// Takes what the kernel's tables say of a member, or of one of the backup pool that stands in.
    fn adopt(&mut self, id: &MemberId, held: Held) {
        let pools = &mut self.next.pools;
        let Some(pool) = pools.get_mut(&id.pool) else { return };
        if let Some(member) = Arc::make_mut(pool).members.get_mut(&id.address) {
            member.held = Some(held);
            return;
        }
        let Some(backup) = pool.backup.as_ref().map(|backup| backup.pool.clone()) else { return };
        let backup = pools.get_mut(&backup).map(Arc::make_mut);
        // Who is in neither was taken out of the configuration meanwhile, and says nothing of the others.
        let Some(member) = backup.and_then(|backup| backup.members.get_mut(&id.address)) else { return };
        // Its own pool's tables know better, if it has any.
        member.held = member.held.or(Some(held));
        if let Some(pool) = pools.get_mut(&id.pool).filter(|_| held.takes_new) {
            Arc::make_mut(pool).go_on_with_backup(id.address);
        }
    }

    /// Puts the overrides of earlier runs back on their backends; those whose backend is gone have ended with it.
    fn restore(&mut self, overrides: Vec<OverrideEntry>) {
        for OverrideEntry { pool, address, value } in overrides {
            let id = MemberId { pool, address };
            let member = self
                .next
                .pools
                .get_mut(&id.pool)
                .and_then(|pool| Arc::make_mut(pool).members.get_mut(&id.address));
            match member {
                Some(member) if !value.is_empty() => {
                    member.over = Arc::new(value);
                    self.next.overridden.insert(id);
                }
                Some(_) => {}
                None => {
                    self.outcome.events.push(DomainEvent::override_ended(&id));
                    self.revised = true;
                }
            }
        }
    }
}

/// Refuses what a running daemon cannot take over, naming every such key.
pub(super) fn needs_restart(old: &Spec, new: &Spec) -> Result<(), Refusal> {
    let keys = old.needs_restart(new);
    match keys.is_empty() {
        true => Ok(()),
        false => Err(Refusal::new(
            RefusalCode::RestartNeeded,
            format!("{} cannot change while lbd runs", keys.join(", ")),
            "restart lbd (traffic goes on meanwhile), or put the old value back",
        )),
    }
}
