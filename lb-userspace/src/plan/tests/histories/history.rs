//! A history as it unfolds: maps, a daemon that may die, flows that end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::super::model::{World, assert_same, backend, v4, way};
use super::super::reader::UnderWay;
use super::event::{BACKENDS, Event, POOLS, Traffic, listener_key, pool_key};
use crate::change::Change;
use crate::desired::{
    BackendKey, Desired, DesiredNextHop, DesiredPool, DesiredService, ListenerKey, PoolKey,
};
use crate::image::Image;
use crate::spec::{Affinity, Forward, WhenNone};
use crate::store::{FlowScan, Store};

/// A flow as the flow table would hold it.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    /// No other flow has this number.
    pub(super) number: u64,
    pub(super) listener: ListenerKey,
    pub(super) local: u16,
    pub(super) backend: BackendKey,
    pub(super) sources: Vec<IpAddr>,
    /// Since its client was heard of last it was not to be kept for a while: it may be there when the client comes back, or not.
    pub(super) may_be_lost: bool,
}

/// Maps, a daemon, its flows and what was asked of it so far.
#[derive(Clone)]
pub(crate) struct History {
    pub(super) world: World,
    /// What the maps were last brought to.
    pub(super) old: Desired,
    /// What is wanted next; pools lie in `pools` until a service names them.
    pub(crate) new: Desired,
    pools: BTreeMap<PoolKey, Arc<DesiredPool>>,
    /// By service id and client: what the flow table holds.
    pub(super) flows: BTreeMap<(u16, u32), Flow>,
    /// Flows so far.
    pub(super) begun: u64,
    /// Clients that send nothing, by bit.
    pub(super) asleep: u16,
    /// The flows, by their numbers, that were there when the walk began that is under way.
    walk: Option<BTreeMap<(u16, u32), u64>>,
    /// Packets that began since the last grace period.
    pub(super) under_way: Vec<UnderWay>,
}

impl History {
    pub(crate) fn begin() -> Self {
        let empty = || Arc::new(DesiredPool { table_len: 1021, backends: BTreeMap::new() });
        let pools = (0..POOLS).map(|pool| (pool_key(pool), empty())).collect();
        let (old, new) = (Desired::default(), Desired::default());
        let (flows, under_way) = (BTreeMap::new(), Vec::new());
        Self { world: World::new(), old, new, pools, flows, begun: 0, asleep: 0, walk: None, under_way }
    }

    pub(crate) fn take_in(&mut self, event: &Event) {
        match *event {
            Event::Backend { pool, number, weight, standing, sources, port, led } => {
                let mut wanted = backend(weight);
                (wanted.takes_new, wanted.keeps) =
                    [(true, true), (true, true), (false, true), (false, false)][usize::from(standing)];
                wanted.sources = (0..sources).map(|source| v4(250 + source)).collect();
                wanted.way = led.then(|| v4(number % BACKENDS + 1));
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
            Event::Way { number, way: None } => drop(self.ways().remove(&v4(number))),
            Event::Way { number, way: Some(hop) } => drop(self.ways().insert(v4(number), way(hop))),
            Event::TableLen { pool, long } => self.pool(pool).table_len = if long { 4093 } else { 1021 },
            Event::Apply { dies_at } => self.apply(dies_at),
            Event::Settled => {
                self.world.settle();
                self.under_way.clear();
            }
            Event::Flows(traffic) => self.traffic(traffic),
            Event::WalkBegins if self.world.image.is_walked() => {}
            Event::WalkBegins => {
                self.world.image.begin_walk();
                self.walk = Some(self.flows.iter().map(|(key, flow)| (*key, flow.number)).collect());
            }
            Event::WalkEnds => self.end_walk(),
        }
    }

    fn pool(&mut self, pool: u8) -> &mut DesiredPool {
        Arc::make_mut(self.pools.get_mut(&pool_key(pool)).unwrap())
    }

    fn ways(&mut self) -> &mut BTreeMap<IpAddr, DesiredNextHop> {
        Arc::make_mut(&mut self.new.next_hops)
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
        // What is known to be as before is only passed over.
        assert_eq!(plan.changes, self.world.plan(&apart(&self.new)).unwrap().changes);
        let last = dies_at.map(|share| plan.changes.len() * usize::from(share) / 256);
        self.note_what_may_be_lost();
        self.follow_all();
        for (done, change) in plan.changes.iter().enumerate() {
            if last == Some(done) {
                break;
            }
            self.step(change);
        }
        match dies_at {
            None => self.world.image.replace(plan.after),
            Some(share) => {
                self.read_image(share.is_multiple_of(2));
                let rest = self.world.plan(&self.new).unwrap();
                rest.changes.iter().for_each(|change| self.step(change));
                self.world.image.replace(rest.after);
            }
        }
        assert_same(&self.world.image, &Image::read(&self.world.store).unwrap());
        self.old = self.new.clone();
        assert_eq!(self.world.plan(&self.new).unwrap().changes, []);
        self.follow_all();
    }

    /// A daemon that starts anew knows of no walk; one whose maps have refused a write reads them while its walk goes on.
    fn read_image(&mut self, starts_anew: bool) {
        if starts_anew {
            self.world.restart();
            self.walk = None;
        } else {
            self.world.image.replace(Image::read(&self.world.store).unwrap());
        }
    }

    fn note_what_may_be_lost(&mut self) {
        let mut flows = std::mem::take(&mut self.flows);
        for flow in flows.values_mut() {
            flow.may_be_lost |= !self.must_keep(flow);
        }
        self.flows = flows;
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

    fn traffic(&mut self, Traffic { end, asleep }: Traffic) {
        let mut number = 0;
        self.flows.retain(|_, _| {
            number += 1;
            end >> (number % 32) & 1 == 0
        });
        // Nothing is done yet of what is wanted next.
        let goal = std::mem::replace(&mut self.new, self.old.clone());
        // Who falls silent now has sent until now.
        self.asleep &= asleep;
        self.follow_all();
        self.asleep = asleep;
        self.new = goal;
    }

    /// The walk has met every flow that was there all the time, and of the others, as luck would have it, none.
    fn end_walk(&mut self) {
        let Some(then) = self.walk.take() else { return };
        let stayed = |(key, flow): &(&(u16, u32), &Flow)| then.get(*key) == Some(&flow.number);
        let held =
            self.flows.iter().filter(stayed).map(|((service, _), flow)| (*service, flow.local)).collect();
        self.world.image.end_walk(Some(&FlowScan { held }));
    }
}

/// The same in other places of memory.
fn apart(desired: &Desired) -> Desired {
    let pools = desired.pools.iter().map(|(key, pool)| (key.clone(), Arc::new(DesiredPool::clone(pool))));
    Desired {
        pools: pools.collect(),
        next_hops: Arc::new(BTreeMap::clone(&desired.next_hops)),
        services: desired.services.clone(),
    }
}
