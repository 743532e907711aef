//! The membership as people and programs look at it.
//!
//! In: a [`Membership`]. Out: plain values that outlive it: snapshots, lists, metrics. Invariant: what is shown is what
//! decides; nothing is computed here that the datapath sees otherwise.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::pool::{Member, Pool};
use super::ramp::WHOLE;
use super::standby::Mode;
use super::{Claim, Commanded, MemberId, Membership, Override};
use crate::desired::Variant;
use crate::health::Health;
use crate::spec::{BackendAddress, BackupSpec, HealthSpec, Name, Origin, PassiveSpec, Percent, ServiceSpec};

/// One backend of one pool.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendView {
    /// Which.
    pub id: MemberId,
    /// Who defines it, with which weight; the first counts.
    pub claims: Vec<Claim>,
    /// The weight that counts.
    pub weight: u16,
    /// What is commanded.
    pub state: Commanded,
    /// What was observed.
    pub health: Health,
    /// What the last check found, in words.
    pub detail: Arc<str>,
    /// New flows may come to it.
    pub eligible: bool,
    /// Why not, or what is worth knowing; may be empty.
    pub reason: String,
    /// The operator's hand on it; empty when there is none.
    pub over: Arc<Override>,
    /// It is checked.
    pub checked: bool,
    /// Its new connections did not go on, so it gets none for a while.
    pub ejected: bool,
}

/// One pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolView {
    /// Its name.
    pub name: Name,
    /// Who defines it.
    pub origin: Origin,
    /// Written inside the service of the same name.
    pub inline: bool,
    /// The check that runs.
    pub health: HealthSpec,
    /// Slots that were asked for.
    pub maglev: Option<u32>,
    /// Below this share of healthy weight all its backends are used.
    pub panic_below: Percent,
    /// How long the weight of a backend grows.
    pub slow_start: Duration,
    /// Who stands in for it.
    pub backup: Option<BackupSpec>,
    /// What is made of connections that do not go on.
    pub passive: Option<PassiveSpec>,
    /// The services that use it.
    pub services: Vec<Name>,
    /// The tables it has in the datapath.
    pub variants: Vec<Variant>,
    /// Its backends, by address.
    pub backends: Vec<BackendView>,
    /// Those of the backup pool, as members of this one.
    pub stand_ins: Vec<BackendView>,
    /// Tables that are not served as they should be.
    pub plights: Vec<Plight>,
    /// See [`Made`].
    made: Made,
}

/// The pool and its backup pool as they were when a view was made of them: while they are the very same, the view is.
#[derive(Clone)]
struct Made(Arc<Pool>, Option<Arc<Pool>>);

impl Made {
    fn is_of(&self, pool: &Arc<Pool>, backup: Option<&Arc<Pool>>) -> bool {
        let same_backup = match (&self.1, backup) {
            (None, None) => true,
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            _ => false,
        };
        Arc::ptr_eq(&self.0, pool) && same_backup
    }
}

/// Two views that show the same are equal, whatever they were made of.
impl PartialEq for Made {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Made")
    }
}

impl PoolView {
    /// Its backends, and those of its backup pool that are in its tables.
    pub fn members(&self) -> impl Iterator<Item = &BackendView> {
        self.backends.iter().chain(&self.stand_ins)
    }
}

/// A table whose backends are not well enough, and what is done about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plight {
    /// Which table.
    pub variant: Variant,
    /// The backup pool that gets its new flows; `None`: all its backends do, healthy or not (`panic_below`).
    pub backup: Option<Name>,
    /// The share of its weight that is healthy.
    pub healthy: Percent,
}

impl fmt::Display for Plight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { healthy, .. } = self;
        match &self.backup {
            Some(backup) => {
                write!(f, "{healthy} of its weight is healthy: backup pool {backup} gets its new flows")
            }
            None => write!(
                f,
                "{healthy} of its weight is healthy, less than panic_below: all its backends get new flows"
            ),
        }
    }
}

/// One service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceView {
    /// As defined.
    pub spec: ServiceSpec,
    /// Backends of its pool that its listeners can reach.
    pub backends: usize,
    /// Those of them that take new flows.
    pub eligible: usize,
}

impl Membership {
    /// Every pool, by name; `before`: an earlier answer, of which every view that still holds is taken.
    pub fn pool_views(&self, before: &[Arc<PoolView>]) -> Vec<Arc<PoolView>> {
        let mut before = before.iter().peekable();
        let view = |pool: &Arc<Pool>| {
            while before.next_if(|view| view.name < pool.name).is_some() {}
            let known = before.next_if(|view| view.name == pool.name);
            let known = known.filter(|view| view.made.is_of(pool, self.backup_of(pool)));
            known.map_or_else(|| Arc::new(Pool::view(pool, self.backup_of(pool))), Arc::clone)
        };
        self.pools.values().map(view).collect()
    }

    fn backup_of(&self, pool: &Pool) -> Option<&Arc<Pool>> {
        self.pools.get(&pool.backup.as_ref()?.pool)
    }

    /// The pool of this name, or that of the service of this name.
    pub fn pool_view(&self, name: &Name) -> Option<PoolView> {
        let pool = self.pools.get(name).or_else(|| self.pools.get(&self.services.get(name)?.pool));
        pool.map(|pool| Pool::view(pool, self.backup_of(pool)))
    }

    /// Every service, by name.
    pub fn service_views(&self) -> Vec<ServiceView> {
        let view = |service: &ServiceSpec| {
            let pool = self.pools.get(&service.pool);
            let variants: Vec<Variant> = super::pool::variants_of(service).collect();
            let reached =
                |address: &BackendAddress| variants.iter().any(|variant| variant.includes(address.ip));
            let members = || {
                let members = pool.into_iter().flat_map(|pool| &pool.members);
                members.filter(|(address, _)| reached(address))
            };
            let is_eligible = |(address, member): &(&BackendAddress, &Member)| {
                let tables = variants.iter().filter(|variant| variant.includes(address.ip));
                let mut modes = tables.filter_map(|variant| pool?.modes.get(variant));
                modes.any(|mode| Pool::takes_new_in(mode, member))
            };
            let stand_ins = pool.into_iter().flat_map(|pool| pool.serving_stand_ins());
            let stand_ins = stand_ins.filter(|address| reached(address)).count();
            ServiceView {
                spec: service.clone(),
                backends: members().count(),
                eligible: members().filter(is_eligible).count() + stand_ins,
            }
        };
        self.services.values().map(|service| view(service)).collect()
    }
}

impl Pool {
    fn view(self: &Arc<Self>, backup: Option<&Arc<Self>>) -> PoolView {
        let backends = self.members.iter();
        let plight = |(variant, mode): (&Variant, &Mode)| {
            let backup = self.backup.as_ref().filter(|_| mode.on_backup).map(|backup| backup.pool.clone());
            let plight = Plight { variant: *variant, backup, healthy: mode.share() };
            (mode.on_backup || mode.panic).then_some(plight)
        };
        PoolView {
            name: self.name.clone(),
            origin: self.origin.clone(),
            inline: self.inline,
            health: self.health.clone(),
            maglev: self.maglev,
            panic_below: self.panic_below,
            slow_start: self.slow_start,
            backup: self.backup.clone(),
            passive: self.passive,
            services: self.services.iter().map(|service| service.name.clone()).collect(),
            variants: self.variants().into_iter().collect(),
            backends: backends.map(|(address, member)| self.backend(*address, member)).collect(),
            stand_ins: backup.map(|backup| self.stand_ins_of(backup)).unwrap_or_default(),
            plights: self.modes.iter().filter_map(plight).collect(),
            made: Made(Arc::clone(self), backup.cloned()),
        }
    }

    fn backend(&self, address: BackendAddress, member: &Member) -> BackendView {
        BackendView {
            id: MemberId { pool: self.name.clone(), address },
            claims: member.claims.clone(),
            weight: member.weight(),
            state: member.commanded(),
            // Without a check it counts as healthy.
            health: if member.check.is_some() { member.health } else { Health::Healthy },
            detail: Arc::clone(&member.detail),
            eligible: self.takes_new(address, member),
            reason: self.reason(address, member),
            over: Arc::clone(&member.over),
            checked: member.check.is_some() && member.commanded() != Commanded::Disabled,
            ejected: member.is_ejected,
        }
    }

    /// Why it takes no new flows, or what is worth knowing although it does.
    fn reason(&self, address: BackendAddress, member: &Member) -> String {
        let is_spread = self.modes_of(address).any(|mode| Self::is_spread(mode, member));
        let is_relieved = self.modes_of(address).any(|mode| mode.on_backup);
        let special = match (&self.backup, is_spread) {
            (_, true) if self.modes_of(address).any(|mode| mode.panic) => {
                "takes flows because too few are well (panic_below)".to_owned()
            }
            (_, true) => "takes flows because nobody is well (when_none = \"spread\")".to_owned(),
            (Some(backup), false) if is_relieved && member.verdict.takes_new => {
                format!("backup pool {} has its flows", backup.pool)
            }
            _ if member.tenths < WHOLE && member.verdict.takes_new => {
                format!("slow start: {}0% of its weight", member.tenths)
            }
            _ => String::new(),
        };
        let parts = [member.verdict.reason.clone(), special];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
    }

    /// The backup pool's members in this one's tables.
    fn stand_ins_of(&self, backup: &Self) -> Vec<BackendView> {
        let serving: BTreeSet<BackendAddress> = self.serving_stand_ins().collect();
        let members = backup.members.iter().filter(|(address, _)| self.stand_ins.contains_key(*address));
        let view = |(address, member): (&BackendAddress, &Member)| {
            let view = backup.backend(*address, member);
            let because = match view.reason.as_str() {
                "" => String::new(),
                reason => format!("; {reason}"),
            };
            BackendView {
                id: MemberId { pool: self.name.clone(), address: *address },
                eligible: serving.contains(address),
                reason: format!("of backup pool {}{because}", backup.name),
                ..view
            }
        };
        members.map(view).collect()
    }

    /// Members of the backup pool that get its new flows.
    fn serving_stand_ins(&self) -> impl Iterator<Item = BackendAddress> {
        let on_backup = |address: &BackendAddress| {
            self.modes.iter().any(|(variant, mode)| mode.on_backup && variant.includes(address.ip))
        };
        let stand_ins = self.stand_ins.iter().filter(|(_, other)| other.is_usable && other.weight > 0);
        stand_ins.map(|(address, _)| *address).filter(on_backup)
    }
}
