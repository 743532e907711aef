//! A history as it unfolds: maps, a daemon that may die, flows that end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::super::model::{World, assert_same, backend, v4, way};
use super::super::reader::UnderWay;
use super::event::{Event, POOLS, listener_key, pool_key};
use crate::change::Change;
use crate::desired::{BackendKey, Desired, DesiredPool, DesiredService, PoolKey};
use crate::image::Image;
use crate::spec::{Affinity, Forward, WhenNone};
use crate::store::{FlowScan, Store};

/// A flow as the flow table would hold it.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub(super) local: u16,
    pub(super) backend: BackendKey,
    pub(super) sources: Vec<IpAddr>,
}

/// Maps, a daemon, its flows and what was asked of it so far.
#[derive(Clone)]
pub(crate) struct History {
    pub(super) world: World,
    /// What the maps were last brought to.
    pub(super) old: Desired,
    /// What is wanted next; pools lie in `pools` until a service names them.
    pub(crate) new: Desired,
    pools: BTreeMap<PoolKey, DesiredPool>,
    pub(super) flows: BTreeMap<(u16, u32), Flow>,
    /// Packets that began since the last grace period.
    pub(super) under_way: Vec<UnderWay>,
}

impl History {
    pub(crate) fn begin() -> Self {
        let empty = || DesiredPool { table_len: 1021, backends: BTreeMap::new() };
        let pools = (0..POOLS).map(|pool| (pool_key(pool), empty())).collect();
        let (old, new) = (Desired::default(), Desired::default());
        Self { world: World::new(), old, new, pools, flows: BTreeMap::new(), under_way: Vec::new() }
    }

    pub(crate) fn take_in(&mut self, event: &Event) {
        match *event {
            Event::Backend { pool, number, weight, standing, sources, port } => {
                let mut wanted = backend(weight);
                (wanted.takes_new, wanted.keeps) =
                    [(true, true), (true, true), (false, true), (false, false)][usize::from(standing)];
                wanted.sources = (0..sources).map(|source| v4(250 + source)).collect();
                let key = BackendKey { ip: v4(number), port: port.then_some(8080) };
                self.pool(pool).backends.insert(key, wanted);
            }
            Event::NoBackend { pool, number } => {
                self.pool(pool).backends.retain(|key, _| key.ip != v4(number));
            }
            Event::Service { listener, pool, forward, affinity } => {
                let service = DesiredService {
                    name: format!("s{listener}"),
                    forward: Forward::ALL[usize::from(forward)],
                    affinity: [Affinity::Flow, Affinity::None][usize::from(affinity)],
                    when_none: WhenNone::Reset,
                    loopback: false,
                    resets_lost: false,
                    pool: pool_key(pool),
                    tunnel: None,
                };
                self.new.services.insert(listener_key(listener), service);
            }
            Event::NoService { listener } => drop(self.new.services.remove(&listener_key(listener))),
            Event::Way { number, way: None } => drop(self.new.next_hops.remove(&v4(number))),
            Event::Way { number, way: Some(hop) } => drop(self.new.next_hops.insert(v4(number), way(hop))),
            Event::TableLen { pool, long } => self.pool(pool).table_len = if long { 4093 } else { 1021 },
            Event::Apply { dies_at } => self.apply(dies_at),
            Event::Settled => {
                self.world.settle();
                self.under_way.clear();
            }
            Event::Scan { ends } => self.scan(ends),
        }
    }

    fn pool(&mut self, pool: u8) -> &mut DesiredPool {
        self.pools.get_mut(&pool_key(pool)).unwrap()
    }

    /// Desired are the pools that a service names.
    pub(super) fn gather_pools(&mut self) {
        let named: BTreeSet<&PoolKey> = self.new.services.values().map(|service| &service.pool).collect();
        let named = named.into_iter().map(|key| (key.clone(), self.pools[key].clone())).collect();
        self.new.pools = named;
    }

    /// This is wanted, and done; a daemon that dies does so after this share of the changes.
    pub(crate) fn go_to(&mut self, desired: &Desired, dies_at: Option<u8>) {
        self.new = desired.clone();
        self.carry_out(dies_at);
    }

    fn apply(&mut self, dies_at: Option<u8>) {
        self.gather_pools();
        self.carry_out(dies_at);
    }

    fn carry_out(&mut self, dies_at: Option<u8>) {
        let plan = self.world.plan(&self.new).unwrap();
        let last = dies_at.map(|share| plan.changes.len() * usize::from(share) / 256);
        self.follow_all();
        for (done, change) in plan.changes.iter().enumerate() {
            if last == Some(done) {
                break;
            }
            self.step(change);
        }
        match last {
            None => self.world.image = plan.after,
            Some(_) => {
                self.world.restart();
                let rest = self.world.plan(&self.new).unwrap();
                rest.changes.iter().for_each(|change| self.step(change));
                self.world.image = rest.after;
            }
        }
        assert_same(&self.world.image, &Image::read(&self.world.store).unwrap());
        self.old = self.new.clone();
        assert_eq!(self.world.plan(&self.new).unwrap().changes, []);
        self.follow_all();
    }

    /// A daemon that dies after so many changes, and another one that reads the maps.
    pub(super) fn apply_until(&mut self, dies_after: usize) {
        let plan = self.world.plan(&self.new).unwrap();
        plan.changes.iter().take(dies_after).for_each(|change| self.step(change));
        self.world.restart();
    }

    pub(super) fn step(&mut self, change: &Change) {
        self.world.store.apply(change).unwrap();
        if *change == Change::Grace {
            self.under_way.clear();
        }
        self.under_way.iter().for_each(|packet| packet.go_on(&self.world.store));
        self.follow_all();
    }

    /// Flows whose number `ends` has a bit for end; then the flow table is scanned.
    fn scan(&mut self, ends: u32) {
        let mut number = 0;
        self.flows.retain(|_, _| {
            number += 1;
            ends >> (number % 32) & 1 == 0
        });
        let held = self.flows.iter().map(|((service, _), flow)| (*service, flow.local)).collect();
        self.world.store.held = FlowScan { held };
        self.world.scan();
    }
}
