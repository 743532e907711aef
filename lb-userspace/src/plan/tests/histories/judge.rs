//! After every write: a packet of every client that is awake to every listener, and whether it met a backend that it may meet; and whose the
//! numbers are that flows hold, those of silent clients too.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lb_common::backend_state::KEEPS;

use super::super::reader::{self, UnderWay};
use super::event::POOLS;
use super::history::{Flow, History};
use crate::desired::{BackendKey, Desired, ListenerKey, PoolKey};
use crate::record::BackendRecord;

const CLIENTS: u32 = 12;

impl History {
    /// A packet of every client that is awake to every listener that was and will be there.
    pub(super) fn follow_all(&mut self) {
        self.flows.iter().for_each(|((service, _), flow)| self.hold(*service, flow));
        let listeners: Vec<ListenerKey> =
            self.old.services.keys().filter(|key| self.new.services.contains_key(key)).copied().collect();
        for listener in listeners {
            assert!(reader::is_vip(&self.world.store, &listener), "{listener} lost its vip");
            let asleep = self.asleep;
            for client in (0..CLIENTS).filter(|client| asleep >> client & 1 == 0) {
                self.follow(&listener, client);
            }
        }
    }

    /// The numbers in the entry of a flow lead to what they led to when it began, or to nobody.
    fn hold(&self, id: u16, flow: &Flow) {
        let store = &self.world.store;
        let Some(service) = reader::service(store, id) else { return };
        assert!(reader::is_of(&service, &flow.listener), "a flow's service id went to whoever got it next");
        let [_, block] = reader::pool_words(store, &service);
        if let Some(record) = reader::resident(store, &service, block, flow.local) {
            assert_eq!(record.key(), flow.backend, "a flow went to whoever got the index next");
            assert_eq!(reader::sources(store, &record), flow.sources, "the sources of a flow changed");
        }
    }

    fn follow(&mut self, listener: &ListenerKey, client: u32) {
        let store = &self.world.store;
        let (id, service) = reader::classify(store, listener).unwrap_or_else(|| panic!("{listener} is gone"));
        let words = reader::pool_words(store, &service);
        if let Some(flow) = self.flows.get_mut(&(id, client))
            && let Some(record) = reader::resident(store, &service, words[1], flow.local)
            && record.state & KEEPS != 0
        {
            flow.may_be_lost = false;
            self.judge(listener, &record, false);
            return;
        }
        if let Some(flow) = self.flows.get(&(id, client)) {
            assert!(flow.may_be_lost || !self.must_keep(flow), "{listener}: {flow:?} had to stay");
        }
        let Some(local) = reader::pick(store, &service, words[0], client) else {
            let empty = |desired: &Desired| self.takers(desired, listener).is_empty();
            assert!(empty(&self.old) || empty(&self.new), "{listener} has no table");
            return;
        };
        let record = reader::resident(store, &service, words[1], local);
        let record = record.unwrap_or_else(|| panic!("{listener}: slot of nobody: {local}"));
        self.judge(listener, &record, true);
        let sources = reader::sources(&self.world.store, &record);
        let hop = reader::next_hop(&self.world.store, &record);
        let packet = UnderWay { client, service, words, local, record, hop, sources: sources.clone() };
        if !self.under_way.contains(&packet) {
            self.under_way.push(packet);
        }
        let (listener, backend) = (*listener, record.key());
        self.begun += 1;
        let flow = Flow { number: self.begun, listener, local, backend, sources, may_be_lost: false };
        self.flows.insert((id, client), flow);
    }

    /// Whom new flows of a listener may meet.
    fn takers(&self, desired: &Desired, listener: &ListenerKey) -> BTreeSet<BackendKey> {
        let pool = &desired.pools[&desired.services[listener].pool];
        let takers = pool.backends.iter().filter(|(_, backend)| backend.table_weight() > 0);
        takers.map(|(key, _)| *key).collect()
    }

    /// Whether listeners move in a circle between pools, this one among them: then it may meet a backend to come of its old
    /// pool.
    fn changes_places(&self, listener: &ListenerKey) -> bool {
        let pool = |desired: &Desired, listener: &ListenerKey| {
            desired.services.get(listener).map(|service| service.pool.clone())
        };
        let moves: Vec<(PoolKey, PoolKey)> = self
            .old
            .services
            .keys()
            .filter_map(|listener| Some((pool(&self.old, listener)?, pool(&self.new, listener)?)))
            .filter(|(from, to)| from != to)
            .collect();
        let (Some(from), Some(to)) = (pool(&self.old, listener), pool(&self.new, listener)) else {
            return false;
        };
        let is_moving = from != to;
        let mut reached = BTreeSet::from([to]);
        for _ in 0..POOLS {
            let further: Vec<PoolKey> =
                moves.iter().filter(|(from, _)| reached.contains(from)).map(|(_, to)| to.clone()).collect();
            reached.extend(further);
        }
        is_moving && reached.contains(&from)
    }

    /// Whether nothing about a flow's service and backend changes.
    pub(super) fn must_keep(&self, flow: &Flow) -> bool {
        // Pool and way of forwarding, where the backend keeps its flows.
        let kept_by = |desired: &Desired| {
            let service = desired.services.get(&flow.listener)?;
            let backend = desired.pools[&service.pool].backends.get(&flow.backend)?;
            backend.keeps.then(|| (service.pool.clone(), service.forward))
        };
        let before = kept_by(&self.old);
        before.is_some() && before == kept_by(&self.new)
    }

    /// The backend that a packet meets was or is to be met, by a way that was or is to be gone.
    fn judge(&self, listener: &ListenerKey, record: &BackendRecord, is_new: bool) {
        let backend = record.key();
        let states = [&self.old, &self.new];
        if is_new {
            let is_taker = |desired: &&Desired| self.takers(desired, listener).contains(&backend);
            let is_met = states.iter().any(is_taker) || self.changes_places(listener);
            assert!(is_met, "{listener}: {backend} is not to be met");
        }
        let hop = reader::next_hop(&self.world.store, record).map(|hop| hop.ethernet);
        let is_desired = |desired: &Desired, way: IpAddr| {
            let way = desired.next_hops.get(&way);
            way.map(|way| crate::plan::ways::entry(way).ethernet) == hop
        };
        // One that is on its way out has no place in either state, and any that its address has.
        let led = states.iter().flat_map(|desired| desired.pools.values());
        let led: BTreeSet<IpAddr> =
            led.filter_map(|pool| Some(pool.backends.get(&backend)?.way(backend.ip))).collect();
        let by = if led.is_empty() { BTreeSet::from([backend.ip]) } else { led };
        let by_them = |desired: &&Desired| by.iter().any(|way| is_desired(desired, *way));
        assert!(states.iter().any(by_them), "{listener}: {backend} by {hop:?}");
        let forward = self.new.services[listener].forward;
        if forward.translates() && self.old.services[listener].forward.translates() {
            assert!(
                reader::passes_filter(&self.world.store, record, listener),
                "{listener}: {backend} filtered"
            );
        }
    }
}
