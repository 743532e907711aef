//! Answers made of a snapshot and the counters.
//!
//! In: [`Snapshot`], [`Counters`]. Out: the lists and details of [`super::types`]. Invariant: counters are read once for
//! each answer, so its rows agree with one another.

use std::collections::BTreeMap;

use lb_common::{Reason, ReasonKind};

use super::types::{
    Backend, BackendStats, Drops, Interface, Pool, PoolSummary, ReasonCount, Service, ServiceStats, Source,
    SourceStateWord, Stats, Status, Totals,
};
use super::{Counters, Handle, Snapshot};
use crate::desired::{PoolKey, Variant};
use crate::discovery::SourceState;
use crate::health::Health;
use crate::membership::{BackendView, MemberId, PoolView, ServiceView, StateOverride};
use crate::moment::Millis;
use crate::spec::{Name, Origin, SourceId};

/// A snapshot with the counters of one moment.
pub(super) struct Picture<'a> {
    handle: &'a Handle,
    snapshot: &'a Snapshot,
    counters: &'a dyn Counters,
    services: BTreeMap<Name, Totals>,
    backends: BTreeMap<MemberId, Totals>,
    flows: BTreeMap<MemberId, u64>,
    flows_counted: Millis,
    reasons: Vec<(Option<Name>, Reason, u64)>,
}

impl<'a> Picture<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, handle: &'a Handle) -> Self {
        let counters = &*handle.counters;
        Self {
            handle,
            snapshot,
            counters,
            services: counters.services(),
            backends: counters.backends(),
            // Before the flows: a count that ends in between is taken for the one before it, not for a second one.
            flows_counted: counters.flows_counted(),
            flows: counters.backend_flows(),
            reasons: counters.reasons(),
        }
    }

    /// The same with the flows counted anew, so that they are those that `lbctl flows count` counts.
    pub(super) async fn counted(snapshot: &'a Snapshot, handle: &'a Handle) -> Self {
        handle.count_flows().await;
        Self::new(snapshot, handle)
    }

    /// When the flows were counted.
    pub(super) const fn flows_counted(&self) -> Millis {
        self.flows_counted
    }

    pub(super) fn status(&self) -> Status {
        let snapshot = self.snapshot;
        let mut drops: BTreeMap<String, u64> = BTreeMap::new();
        for (_, reason, packets) in &self.reasons {
            if reason.kind() == ReasonKind::Drop && *packets > 0 {
                *drops.entry(reason.name().to_owned()).or_default() += packets;
            }
        }
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: self.handle.clock.now().since(snapshot.started).as_secs_f64(),
            started: snapshot.started,
            revision: snapshot.revision,
            degraded: snapshot.degraded.clone(),
            notices: snapshot.notices.clone(),
            interfaces: self.interfaces(),
            flows: self.counters.flow_tables(),
            drops,
            pools: snapshot.pools.iter().map(|pool| summary(pool)).collect(),
            discovery: self.sources(None),
            services: snapshot.services.len(),
            overrides: snapshot.overrides.len(),
            config: snapshot.config.clone(),
            on_exit: snapshot.on_exit.clone(),
            seed_fingerprint: snapshot.seed_fingerprint.clone(),
            pid: std::process::id(),
        }
    }

    /// Discovery sources, of all pools or of one.
    pub(super) fn sources(&self, only: Option<&Name>) -> Vec<Source> {
        let now = self.handle.clock.now();
        let all = self.handle.sources.read().into_iter();
        let wanted = all.filter(|(id, _)| only.is_none_or(|only| id.pool == *only));
        wanted.map(|(id, state)| source_row(id, state, now)).collect()
    }

    fn interfaces(&self) -> Vec<Interface> {
        let with_packets = |interface: &Interface| Interface {
            packets: self.counters.interface(&interface.name),
            ..interface.clone()
        };
        self.snapshot.interfaces.iter().map(with_packets).collect()
    }

    fn drops_of(&self, service: &Name) -> u64 {
        let own = self
            .reasons
            .iter()
            .filter(|(name, reason, _)| name.as_ref() == Some(service) && reason.kind() == ReasonKind::Drop);
        own.map(|(_, _, packets)| packets).sum()
    }

    pub(super) fn services(&self) -> Vec<Service> {
        self.snapshot.services.iter().map(|view| self.service(view)).collect()
    }

    pub(super) fn service(&self, view: &ServiceView) -> Service {
        let spec = &view.spec;
        let totals = self.services.get(&spec.name).copied().unwrap_or_default();
        Service {
            name: spec.name.clone(),
            listen: spec.listen.clone(),
            pool: spec.pool.clone(),
            forward: spec.forward,
            origin: spec.origin.kind().to_owned(),
            place: place(&spec.origin),
            affinity: spec.affinity,
            on_loss: spec.on_loss,
            when_none: spec.when_none,
            backends: view.backends,
            eligible: view.eligible,
            packets: totals.packets,
            bytes: totals.bytes,
            new_flows: totals.new_flows,
            drops: self.drops_of(&spec.name),
        }
    }

    pub(super) fn pools(&self) -> Vec<Pool> {
        self.snapshot.pools.iter().flat_map(|view| self.tables(view)).collect()
    }

    /// The same, with the pools that have no table.
    pub(super) fn every_pool(&self) -> Vec<Pool> {
        self.snapshot.pools.iter().flat_map(|view| self.tables_or_pool(view)).collect()
    }

    /// The tables of one pool.
    pub(super) fn tables(&self, view: &PoolView) -> Vec<Pool> {
        view.variants.iter().map(|variant| self.table(view, Some(*variant))).collect()
    }

    /// The tables of one pool, or, where it has none, the pool without.
    pub(super) fn tables_or_pool(&self, view: &PoolView) -> Vec<Pool> {
        let tables = self.tables(view);
        if tables.is_empty() { vec![self.table(view, None)] } else { tables }
    }

    fn table(&self, view: &PoolView, variant: Option<Variant>) -> Pool {
        let key = variant.map(|variant| PoolKey { name: view.name.as_str().to_owned(), variant });
        let info = key.and_then(|key| self.snapshot.tables.get(&key)).copied().unwrap_or_default();
        let is_in =
            |backend: &&BackendView| variant.is_none_or(|variant| variant.includes(backend.id.address.ip));
        let members = || view.backends.iter().filter(is_in);
        Pool {
            name: view.name.clone(),
            variant: variant.map(|variant| variant.as_str().to_owned()).unwrap_or_default(),
            generation: info.generation,
            table_hash: format!("{:016x}", info.table_hash),
            slots: info.slots,
            origin: view.origin.kind().to_owned(),
            services: view.services.clone(),
            check: view.health.kind.as_str().to_owned(),
            backends: members().count(),
            eligible: members().filter(|backend| backend.eligible).count(),
            maglev: view.maglev,
            panic_below: view.panic_below,
            slow_start: view.slow_start,
            backup: view.backup.clone(),
            passive: view.passive,
        }
    }

    pub(super) fn backends(&self) -> Vec<Backend> {
        self.snapshot.pools.iter().flat_map(|pool| pool.members()).map(|view| self.backend(view)).collect()
    }

    pub(super) fn backend(&self, view: &BackendView) -> Backend {
        let totals = self.backends.get(&view.id).copied().unwrap_or_default();
        let placement = self.snapshot.placements.get(&view.id);
        let mut origins: Vec<&str> = view.claims.iter().map(|claim| claim.origin.kind()).collect();
        origins.dedup();
        let deadline = view.over.state.and_then(StateOverride::pending);
        Backend {
            pool: view.id.pool.clone(),
            address: view.id.address,
            origin: origins.join(","),
            place: view.claims.iter().find_map(|claim| place(&claim.origin)),
            sources: view.claims.iter().filter_map(|claim| source(&claim.origin)).collect(),
            weight: view.weight,
            defined_weight: view.claims.first().map_or(0, |claim| claim.weight),
            state: view.state,
            health: view.health,
            eligible: view.eligible,
            reason: view.reason.clone(),
            reach: placement.reach.map(|reach| reach.as_str().to_owned()).unwrap_or_default(),
            slots: placement.slots,
            flows: self.flows.get(&view.id).copied().unwrap_or_default(),
            packets: totals.packets,
            bytes: totals.bytes,
            new_flows: totals.new_flows,
            no_return_path: placement.no_return_path,
            ejected: view.ejected,
            seconds_left: deadline.map(|deadline| deadline.since(self.handle.clock.now()).as_secs_f64()),
            over: (!view.over.is_empty()).then(|| view.over.as_ref().clone()),
        }
    }

    /// Counters of everything, or of one service and its pool.
    pub(super) fn stats(&self, only: Option<&ServiceView>) -> Stats {
        let services = self.snapshot.services.iter().map(|view| &view.spec.name);
        let services = services.filter(|name| only.is_none_or(|only| only.spec.name == **name));
        let pools = self.snapshot.pools.iter();
        let backends = pools
            .filter(|pool| only.is_none_or(|only| only.spec.pool == pool.name))
            .flat_map(|pool| pool.members());
        Stats {
            time: self.handle.clock.now(),
            services: services
                .map(|name| ServiceStats {
                    name: name.clone(),
                    totals: self.services.get(name).copied().unwrap_or_default(),
                    drops: self.drops_of(name),
                })
                .collect(),
            backends: backends
                .map(|view| BackendStats {
                    pool: view.id.pool.clone(),
                    address: view.id.address,
                    totals: self.backends.get(&view.id).copied().unwrap_or_default(),
                    flows: self.flows.get(&view.id).copied().unwrap_or_default(),
                })
                .collect(),
            interfaces: if only.is_some() { Vec::new() } else { self.interfaces() },
        }
    }

    /// What rarely happens, of everything or of one service.
    pub(super) fn drops(&self, only: Option<&Name>) -> Drops {
        let mut rows: BTreeMap<Reason, ReasonCount> = BTreeMap::new();
        for (service, reason, packets) in &self.reasons {
            if *packets == 0 || only.is_some_and(|only| service.as_ref() != Some(only)) {
                continue;
            }
            let row = rows.entry(*reason).or_insert_with(|| ReasonCount {
                reason: reason.name().to_owned(),
                kind: kind(*reason).to_owned(),
                packets: 0,
                sentence: reason.sentence().trim().to_owned(),
                services: BTreeMap::new(),
            });
            row.packets += packets;
            if let Some(service) = service {
                *row.services.entry(service.as_str().to_owned()).or_default() += packets;
            }
        }
        Drops { reasons: rows.into_values().collect() }
    }
}

fn summary(pool: &PoolView) -> PoolSummary {
    let count =
        |wanted: &dyn Fn(&BackendView) -> bool| pool.backends.iter().filter(|view| wanted(view)).count();
    PoolSummary {
        name: pool.name.clone(),
        backends: pool.backends.len(),
        eligible: count(&|view| view.eligible),
        unhealthy: count(&|view| view.checked && view.health == Health::Unhealthy),
        panic: pool.plights.iter().any(|plight| plight.backup.is_none()),
        on_backup: pool.plights.iter().find_map(|plight| plight.backup.clone()),
    }
}

fn place(origin: &Origin) -> Option<String> {
    match origin {
        Origin::File { .. } => Some(origin.to_string()),
        Origin::Discovery { source } => Some(source.clone()),
        Origin::Cli => None,
    }
}

fn source(origin: &Origin) -> Option<String> {
    match origin {
        Origin::Discovery { source } => Some(source.clone()),
        Origin::File { .. } | Origin::Cli => None,
    }
}

fn source_row(id: SourceId, state: SourceState, now: Millis) -> Source {
    let word = match (&state.failing, state.answered, state.is_fresh) {
        (Some(_), ..) => SourceStateWord::Failing,
        (None, None, _) => SourceStateWord::Waiting,
        (None, Some(_), false) => SourceStateWord::Kept,
        (None, Some(_), true) => SourceStateWord::Ok,
    };
    Source {
        pool: id.pool,
        source: id.source,
        kind: state.kind.to_owned(),
        state: word,
        last_success: state.answered,
        age: state.answered.map(|answered| now.since(answered).as_secs_f64()),
        backends: state.backends,
        lingering: state.lingering,
        answers: state.answers,
        failures: state.failures,
        error: state.failing,
        left_out: state.left_out,
    }
}

const fn kind(reason: Reason) -> &'static str {
    match reason.kind() {
        ReasonKind::Drop => "drop",
        ReasonKind::Answer => "answer",
        ReasonKind::Pass => "pass",
        ReasonKind::Note => "note",
    }
}
