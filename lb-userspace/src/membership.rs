//! Who is in which pool, and who of them takes flows: the core of the control plane.
//!
//! In: the configuration, lbctl's changes, what checks and neighbours say, and the time. Out: the [`Desired`] state of the
//! maps, what is to be checked and looked up, when to come again, and [`DomainEvent`]s. Invariants: no clock, no file, no
//! task; a change is judged whole before anything of it is done; the same inputs give the same state.
//!
//! Two kinds of input. What people ask for can be refused and comes in two steps: [`Membership::prepare`] (or
//! [`Membership::reload`]) gives a [`Candidate`], a membership in which it is done. Whoever owns this one plans it, writes
//! it down, and only then puts it in the place of the old; to refuse it is to drop it. What is observed cannot be refused:
//! [`Membership::handle`] takes it at once.
//!
//! ```text
//! definitions (file, cli,   ┐
//!   discovery sources) ─────┤
//! overrides ───────────────┼→ pool: members → eligibility: judge → assemble → Desired
//! health, ways ────────────┘
//! ```

mod assemble;
mod change;
mod definitions;
mod discovered;
mod draft;
mod ejection;
mod eligibility;
mod event;
mod foresee;
mod hidden;
mod observe;
mod operations;
mod overrides;
mod pool;
mod probes;
mod ramp;
mod refusal;
mod settle;
mod standby;
mod start;
mod through;
mod view;
mod ways;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::desired::Desired;
use crate::health::{Health, Target, TargetId};
use crate::spec::{BackendAddress, Backends, Name, PassiveSpec, Problem, ServiceSpec, SourceId, Spec};

pub use crate::moment::Millis;
pub use change::{
    BackupKey, Change, False, NewBackend, Operation, Options, PassiveKey, PoolAdd, PoolKeys, PoolSet,
    ServiceAdd, ServiceSet, Then,
};
pub use definitions::CliObjects;
pub use discovered::{Answer, Recalled, SourceView};
pub use ejection::Ejected;
pub use eligibility::{Held, Verdict};
pub(crate) use event::in_words;
pub use event::{DomainEvent, EventKind, Level};
pub use overrides::{Commanded, Override, OverrideEntry, StateOverride};
pub use pool::Claim;
pub use probes::CheckId;
pub use refusal::{Refusal, RefusalCode};
pub use start::{Pinned, Start};
pub use view::{BackendView, Plight, PoolView, ServiceView};
pub use ways::WayState;
pub use whole::{Back, SetAside, merged};

use definitions::Definitions;
use draft::Draft;
use pool::Pool;
use probes::Probes;
use ways::Ways;

/// A backend in a pool: what checks, events and overrides are about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId {
    /// The pool.
    pub pool: Name,
    /// The backend.
    pub address: BackendAddress,
}

impl TargetId for MemberId {
    fn pool(&self) -> &str {
        self.pool.as_str()
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pool, self.address)
    }
}

/// Something that has come to be, whether one likes it or not.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The checks of a backend have found something.
    Health {
        /// Whose, and by which way.
        id: CheckId,
        /// What is held of it now.
        health: Health,
        /// What the last check found, in words.
        detail: Arc<str>,
    },
    /// A check that was to say again whether its backend is well ([`Outcome::checks_doubted`]) has found that it is.
    Confirmed {
        /// Whose, and by which way.
        id: CheckId,
        /// What the check found, in words.
        detail: Arc<str>,
    },
    /// The way to an address is another than before.
    Way {
        /// To where.
        ip: IpAddr,
        /// What is known of it now.
        state: WayState,
    },
    /// A discovery source has answered.
    Discovered {
        /// Which.
        id: SourceId,
        /// What it says, whole. Without backends it says nothing, unless the source may.
        backends: Backends,
    },
    /// New connections that were sent to a backend do not go on, while those of its neighbours do.
    Suspect {
        /// Whose.
        id: MemberId,
        /// What was seen, in words.
        why: Arc<str>,
    },
    /// The moment of [`Membership::next_timer`] has come, or might have.
    Tick,
}

/// What an input has done.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Definitions or overrides are others than before: there is a new revision, to be written down.
    pub revised: bool,
    /// The desired state is (perhaps) another: to be planned.
    pub desired_changed: bool,
    /// The set of addresses of [`Membership::next_hop_targets`] is (perhaps) another.
    pub members_changed: bool,
    /// Addresses whose ways are forgotten, because for a moment at least they were nobody's.
    pub ways_forgotten: BTreeSet<IpAddr>,
    /// What is to be checked from now on, or otherwise than before.
    pub checks_put: Vec<Target<CheckId>>,
    /// What is no longer to be checked.
    pub checks_removed: Vec<CheckId>,
    /// What is to be asked anew: its next success is to be told, whatever is held of it.
    pub checks_doubted: Vec<CheckId>,
    /// [`Membership::ejections`] are others than before: what a restart is to know of them.
    pub ejections_changed: bool,
    /// What has happened, in order.
    pub events: Vec<DomainEvent>,
    /// A sentence for each operation: what it did, or that it was so already.
    pub notes: Vec<String>,
    /// What works, perhaps not as meant.
    pub warnings: Vec<Problem>,
}

impl Outcome {
    /// Nothing follows from it.
    pub fn is_nothing(&self) -> bool {
        // Each of them, so that a new one is thought of. Notes and warnings are words on the others.
        let Self {
            revised,
            desired_changed,
            members_changed,
            ways_forgotten,
            checks_put,
            checks_removed,
            checks_doubted,
            ejections_changed,
            events,
            notes: _,
            warnings: _,
        } = self;
        let is_changed = *revised || *desired_changed || *members_changed || *ejections_changed;
        let is_asked = !checks_put.is_empty() || !checks_removed.is_empty() || !checks_doubted.is_empty();
        !is_changed && !is_asked && ways_forgotten.is_empty() && events.is_empty()
    }

    /// The backends of events of this kind.
    pub fn members(&self, kind: EventKind) -> Vec<MemberId> {
        let events = self.events.iter().filter(|event| event.kind == kind);
        let member =
            |event: &DomainEvent| Some(MemberId { pool: event.pool.clone()?, address: event.backend? });
        events.filter_map(member).collect()
    }
}

/// A membership in which a change is done, not yet in force.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// To be put in the place of the one that prepared it.
    pub membership: Membership,
    /// What the change did.
    pub outcome: Outcome,
}

/// All services, pools and backends, and what is known of them. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Membership {
    revision: u64,
    /// Something else than the configuration file is in force.
    set_aside: Option<Arc<SetAside>>,
    definitions: Definitions,
    services: BTreeMap<Name, Arc<ServiceSpec>>,
    pools: BTreeMap<Name, Arc<Pool>>,
    /// Members with an override.
    overridden: BTreeSet<MemberId>,
    /// When pools change by time alone: slow start, and the way back from a backup pool.
    timers: BTreeMap<Name, Millis>,
    ways: Arc<Ways>,
    /// By which addresses checks through services go.
    probes: Arc<Probes>,
    desired: Arc<Desired>,
    /// Counted up whenever something is defined otherwise.
    defined: u64,
    /// At which of those counts an answer was found to contradict what is defined.
    sifted: BTreeMap<SourceId, u64>,
}

impl Membership {
    /// Judges a change by lbctl or the API; `who` is named in overrides.
    ///
    /// # Errors
    /// A rule refuses it; nothing has changed.
    pub fn prepare(&self, now: Millis, who: &str, change: &Change) -> Result<Candidate, Refusal> {
        self.check_revision(change.options.if_revision)?;
        let mut draft = Draft::new(self, now, who);
        for (index, operation) in change.operations.iter().enumerate() {
            draft.operate(operation).map_err(|refusal| Refusal { operation: Some(index), ..refusal })?;
        }
        Ok(draft.finish(change.options.force)?.let_go(now))
    }

    /// Judges a new content of the configuration file. It replaces what the file defined before and touches nothing else.
    ///
    /// # Errors
    /// It contradicts itself or what lbctl added, or changes what only a restart can; nothing has changed.
    pub fn reload(&self, now: Millis, spec: Arc<Spec>, options: &Options) -> Result<Candidate, Refusal> {
        self.check_revision(options.if_revision)?;
        let mut draft = Draft::new(self, now, "the configuration file");
        draft.replace_file(spec, options.force)?;
        Ok(draft.finish(options.force)?.let_go(now))
    }

    /// Takes what has been observed.
    pub fn handle(&mut self, now: Millis, event: Event) -> Outcome {
        self.handle_all(now, vec![event])
    }

    /// Takes all that has been observed at one moment, as one.
    pub fn handle_all(&mut self, now: Millis, events: Vec<Event>) -> Outcome {
        let revision = self.revision;
        let mut outcome = self.observe_all(now, events);
        // Whoever stays for want of others may go when there are some.
        // An event is enough: a table in panic stays as it is while one of those it uses is lost.
        if outcome.desired_changed || outcome.members_changed || !outcome.events.is_empty() {
            self.let_go(now, &mut outcome);
        }
        if outcome.revised {
            // What is observed together is one revision, whatever ends with it.
            self.revision = revision + 1;
        }
        outcome
    }

    /// When [`Event::Tick`] is due next, if ever.
    pub fn next_timer(&self) -> Option<Millis> {
        let drains = self.overridden.iter().filter_map(|id| self.member(id)?.over.state?.pending());
        drains.chain(self.timers.values().copied()).min()
    }

    /// What the maps should hold.
    pub const fn desired(&self) -> &Arc<Desired> {
        &self.desired
    }

    /// Everything that is to be checked.
    pub fn health_targets(&self) -> Vec<Target<CheckId>> {
        self.pools.values().flat_map(|pool| pool.targets(&self.probes)).collect()
    }

    /// The families of the checks that go through services, IPv4 and IPv6: what the way for them has to carry.
    pub fn probe_families(&self) -> [bool; 2] {
        self.probes.families()
    }

    /// How the connections of a pool are watched; `None`: they are not.
    pub fn passive(&self, pool: &Name) -> Option<PassiveSpec> {
        self.pools.get(pool)?.passive().copied()
    }

    /// The services whose packets may come to the backends of a pool: its own, and those of the pools that it stands in for.
    pub fn services_of(&self, pool: &Name) -> Vec<Arc<ServiceSpec>> {
        let services = self.services.values();
        services.filter(|service| self.definitions.sends_to(&service.pool, pool)).cloned().collect()
    }

    /// Every address whose next hop is to be kept known: the backends of pools in use.
    pub fn next_hop_targets(&self) -> BTreeSet<IpAddr> {
        self.pools.values().flat_map(|pool| pool.addresses()).collect()
    }

    /// The number of the configuration, counted up by every accepted change.
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// The configuration file's content, as in force.
    pub const fn file(&self) -> &Arc<Spec> {
        &self.definitions.file
    }

    /// What lbctl added.
    pub const fn cli_objects(&self) -> &Arc<CliObjects> {
        &self.definitions.cli
    }

    /// Every override.
    pub fn overrides(&self) -> Vec<OverrideEntry> {
        let entry = |id: &MemberId| {
            let value = Override::clone(&self.member(id)?.over);
            Some(OverrideEntry { pool: id.pool.clone(), address: id.address, value })
        };
        self.overridden.iter().filter_map(entry).collect()
    }

    /// Both have the same definitions of every origin: at most overrides are others.
    pub fn is_defined_as(&self, other: &Self) -> bool {
        self.definitions.is_same(&other.definitions)
    }

    /// Services, pools and backends of all origins as one spec: for checks that need the host (`reach`).
    pub fn merged_spec(&self) -> Spec {
        self.definitions.merged()
    }

    fn member(&self, id: &MemberId) -> Option<&pool::Member> {
        self.pools.get(&id.pool)?.members.get(&id.address)
    }

    fn check_revision(&self, wanted: Option<u64>) -> Result<(), Refusal> {
        match wanted {
            Some(wanted) if wanted != self.revision => Err(Refusal::new(
                RefusalCode::StaleRevision,
                format!("the configuration is at revision {}, not {wanted}", self.revision),
                "look at it again, then repeat the change with the new number",
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
