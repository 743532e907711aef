//! Random histories: services, pools, backends, weights, modes and ways come and go, daemons die in the midst of plans, and
//! after every single write the packets of every listener are followed through the maps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::backend_state::KEEPS;
use lb_datapath::testing::HostPacket;
use proptest::prelude::*;

use super::model::*;
use super::reader::{self, UnderWay};
use crate::change::Change;
use crate::desired::{BackendKey, Desired, DesiredService, ListenerKey, PoolKey, Variant};
use crate::record::BackendRecord;
use crate::spec::{Affinity, Forward, Protocol, WhenNone};
use crate::store::{FlowScan, Store};

const POOLS: u8 = 3;
const BACKENDS: u8 = 12;
const LISTENERS: u8 = 6;
const CLIENTS: u32 = 12;

/// One event of a history.
#[derive(Clone, Debug)]
enum Event {
    Backend {
        pool: u8,
        number: u8,
        weight: u32,
        standing: u8,
        sources: u8,
        port: bool,
    },
    NoBackend {
        pool: u8,
        number: u8,
    },
    Service {
        listener: u8,
        pool: u8,
        forward: u8,
        affinity: u8,
    },
    NoService {
        listener: u8,
    },
    Way {
        number: u8,
        way: Option<u8>,
    },
    TableLen {
        pool: u8,
        long: bool,
    },
    /// The plan is carried out; a daemon that dies does so after this share of the changes.
    Apply {
        dies_at: Option<u8>,
    },
    /// Some flows end, and the flow table is scanned.
    Scan {
        ends: u32,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let pool = 0..POOLS;
    let number = 1..=BACKENDS;
    prop_oneof![
        6 => (pool.clone(), number.clone(), 0..4_u32, 0..4_u8, 0..3_u8, prop::bool::weighted(0.1)).prop_map(
            |(pool, number, weight, standing, sources, port)| Event::Backend { pool, number, weight, standing, sources, port },
        ),
        3 => (pool.clone(), number.clone()).prop_map(|(pool, number)| Event::NoBackend { pool, number }),
        3 => (0..LISTENERS, pool.clone(), 0..4_u8, 0..2_u8).prop_map(
            |(listener, pool, forward, affinity)| Event::Service { listener, pool, forward, affinity },
        ),
        1 => (0..LISTENERS).prop_map(|listener| Event::NoService { listener }),
        2 => (number, prop::option::weighted(0.7, 0..3_u8)).prop_map(|(number, way)| Event::Way { number, way }),
        1 => (pool, any::<bool>()).prop_map(|(pool, long)| Event::TableLen { pool, long }),
        6 => prop::option::weighted(0.3, any::<u8>()).prop_map(|dies_at| Event::Apply { dies_at }),
        2 => any::<u32>().prop_map(|ends| Event::Scan { ends }),
    ]
}

fn pool_key(pool: u8) -> PoolKey {
    key(&format!("p{pool}"), Variant::V4)
}

fn listener_key(number: u8) -> ListenerKey {
    let protocol = if number.is_multiple_of(2) { Protocol::Tcp } else { Protocol::Udp };
    listener(v4(200 + number / 3), u16::from(number % 3) * 80, protocol)
}

/// A flow as the flow table would hold it.
#[derive(Clone, Debug)]
struct Flow {
    local: u16,
    backend: BackendKey,
    sources: Vec<IpAddr>,
}

/// Maps, a daemon, its flows and what was asked of it so far.
#[derive(Clone)]
struct History {
    world: World,
    /// What the maps were last brought to.
    old: Desired,
    /// What is wanted next; pools lie in `pools` until a service names them.
    new: Desired,
    pools: BTreeMap<PoolKey, crate::desired::DesiredPool>,
    flows: BTreeMap<(u16, u32), Flow>,
    /// Packets that began since the last grace period.
    under_way: Vec<UnderWay>,
}

impl History {
    fn begin() -> Self {
        let empty = || crate::desired::DesiredPool { table_len: 1021, backends: BTreeMap::new() };
        let pools = (0..POOLS).map(|pool| (pool_key(pool), empty())).collect();
        let (old, new) = (Desired::default(), Desired::default());
        Self { world: World::new(), old, new, pools, flows: BTreeMap::new(), under_way: Vec::new() }
    }

    fn take_in(&mut self, event: &Event) {
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
                    pool: pool_key(pool),
                };
                self.new.services.insert(listener_key(listener), service);
            }
            Event::NoService { listener } => drop(self.new.services.remove(&listener_key(listener))),
            Event::Way { number, way: None } => drop(self.new.next_hops.remove(&v4(number))),
            Event::Way { number, way: Some(hop) } => drop(self.new.next_hops.insert(v4(number), way(hop))),
            Event::TableLen { pool, long } => self.pool(pool).table_len = if long { 4093 } else { 1021 },
            Event::Apply { dies_at } => self.apply(dies_at),
            Event::Scan { ends } => self.scan(ends),
        }
    }

    fn pool(&mut self, pool: u8) -> &mut crate::desired::DesiredPool {
        self.pools.get_mut(&pool_key(pool)).unwrap()
    }

    /// Desired are the pools that a service names.
    fn gather_pools(&mut self) {
        let named: BTreeSet<&PoolKey> = self.new.services.values().map(|service| &service.pool).collect();
        let named = named.into_iter().map(|key| (key.clone(), self.pools[key].clone())).collect();
        self.new.pools = named;
    }

    fn apply(&mut self, dies_at: Option<u8>) {
        self.gather_pools();
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
        assert_same(&self.world.image, &crate::image::Image::read(&self.world.store).unwrap());
        self.old = self.new.clone();
        assert_eq!(self.world.plan(&self.new).unwrap().changes, []);
        self.follow_all();
    }

    /// A daemon that dies after so many changes, and another one that reads the maps.
    fn apply_until(&mut self, dies_after: usize) {
        let plan = self.world.plan(&self.new).unwrap();
        plan.changes.iter().take(dies_after).for_each(|change| self.step(change));
        self.world.restart();
    }

    fn step(&mut self, change: &Change) {
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

    /// A packet of every client to every listener that was and will be there.
    fn follow_all(&mut self) {
        let listeners: Vec<ListenerKey> =
            self.old.services.keys().filter(|key| self.new.services.contains_key(key)).copied().collect();
        for listener in listeners {
            assert!(reader::is_vip(&self.world.store, &listener), "{listener} lost its vip");
            for client in 0..CLIENTS {
                self.follow(&listener, client);
            }
        }
    }

    fn follow(&mut self, listener: &ListenerKey, client: u32) {
        let store = &self.world.store;
        let (id, service) = reader::classify(store, listener).unwrap_or_else(|| panic!("{listener} is gone"));
        let words = reader::pool_words(store, &service);
        let flow = self.flows.get(&(id, client));
        if let Some(flow) = flow
            && let Some(record) = reader::resident(store, &service, words[1], flow.local)
            && record.state & KEEPS != 0
        {
            assert_eq!(record.key(), flow.backend, "a flow went to whoever got the index next");
            assert_eq!(reader::sources(store, &record), flow.sources, "the sources of a flow changed");
            self.judge(listener, &record, false);
            return;
        }
        if let Some(flow) = flow {
            assert!(!self.must_keep(listener, flow), "{listener}: {flow:?} had to stay");
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
        self.flows.insert((id, client), Flow { local, backend: record.key(), sources });
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
    fn must_keep(&self, listener: &ListenerKey, flow: &Flow) -> bool {
        let service = |desired: &Desired| {
            let service = &desired.services[listener];
            (service.pool.clone(), service.forward)
        };
        let keeps = |desired: &Desired| {
            let pool = &desired.pools[&desired.services[listener].pool];
            pool.backends.get(&flow.backend).is_some_and(|backend| backend.keeps)
        };
        service(&self.old) == service(&self.new) && keeps(&self.old) && keeps(&self.new)
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
        let is_desired = |desired: &&Desired| {
            let way = desired.next_hops.get(&backend.ip);
            let ethernet = way.map(|way| crate::plan::ways::entry(way).ethernet);
            ethernet == hop
        };
        assert!(states.iter().any(is_desired), "{listener}: {backend} by {hop:?}");
        let forward = self.new.services[listener].forward;
        if forward.translates() && self.old.services[listener].forward.translates() {
            assert!(
                reader::passes_filter(&self.world.store, record, listener),
                "{listener}: {backend} filtered"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_prefix_of_every_plan_leaves_each_packet_a_live_backend(events in prop::collection::vec(event(), 1..60)) {
        let mut history = History::begin();
        events.iter().for_each(|event| history.take_in(event));
        history.take_in(&Event::Apply { dies_at: None });
        // Another node that was only ever told the end of the story sends every client alike.
        let mut other = World::new();
        other.go_to(&history.new);
        let hashes = |world: &World| -> BTreeMap<PoolKey, u64> {
            world.image.pools().map(|pool| (pool.key.unwrap(), pool.table_hash)).collect()
        };
        prop_assert_eq!(hashes(&history.world), hashes(&other));
        for listener in history.new.services.keys() {
            for client in 0..200 {
                let meets = |world: &World| {
                    let (_, service) = reader::classify(&world.store, listener).unwrap();
                    let [table, block] = reader::pool_words(&world.store, &service);
                    let local = reader::pick(&world.store, &service, table, client)?;
                    Some(reader::resident(&world.store, &service, block, local).unwrap().key())
                };
                prop_assert_eq!(meets(&history.world), meets(&other));
            }
        }
    }
}

/// Its flows rest in the flow table while it is away: they meet it as soon as its entry lives, and its replies must be known by then.
#[test]
fn a_backend_that_comes_back_to_its_flows_is_answered_from_the_first_change_on() {
    let backend = Event::Backend { pool: 2, number: 5, weight: 1, standing: 0, sources: 0, port: false };
    let again = Event::Backend { pool: 2, number: 5, weight: 0, standing: 0, sources: 0, port: false };
    let apply = || Event::Apply { dies_at: None };
    let service = Event::Service { listener: 0, pool: 2, forward: 0, affinity: 0 };
    let away = Event::NoBackend { pool: 2, number: 5 };
    let mut history = History::begin();
    [service, backend, apply(), away, apply(), again, apply()]
        .iter()
        .for_each(|event| history.take_in(event));
}

/// A history whose next plan does a bit of everything.
fn eventful() -> History {
    let mut history = History::begin();
    let backend = |pool, number, standing, sources| Event::Backend {
        pool,
        number,
        weight: 1 + u32::from(number % 3),
        standing,
        sources,
        port: false,
    };
    let service = |listener, pool, forward| Event::Service { listener, pool, forward, affinity: 0 };
    let first: Vec<Event> = (0..3)
        .map(|pool| service(pool, pool, pool))
        .chain([service(3, 0, 1), service(4, 1, 0)])
        .chain((1..=5).flat_map(|number| (0..2).map(move |pool| backend(pool, number, 0, 1))))
        .chain((1..=12).map(|number| Event::Way { number, way: Some(number % 3) }))
        .chain([backend(2, 9, 0, 2), Event::Apply { dies_at: None }])
        .collect();
    let then = [
        (6..=11).map(|number| backend(0, number, 0, 1)).collect::<Vec<_>>(),
        vec![
            backend(1, 1, 3, 1),
            backend(1, 2, 2, 1),
            backend(1, 3, 0, 2),
            Event::NoBackend { pool: 1, number: 4 },
        ],
        vec![service(3, 1, 1), service(4, 1, 3), service(5, 0, 0), Event::NoService { listener: 2 }],
        vec![Event::Way { number: 5, way: Some(7) }, Event::Way { number: 1, way: None }],
        vec![Event::TableLen { pool: 1, long: true }],
    ];
    first.iter().chain(then.iter().flatten()).for_each(|event| history.take_in(event));
    history.gather_pools();
    history
}

#[test]
fn a_daemon_may_die_after_any_change() {
    let history = eventful();
    let steps = history.world.plan(&history.new).unwrap().changes.len();
    assert!(steps > 60, "{steps} changes");
    let mut whole = history.clone();
    whole.take_in(&Event::Apply { dies_at: None });
    for dies_after in 0..=steps {
        let mut history = history.clone();
        history.apply_until(dies_after);
        // What is wanted meanwhile may be the old state again, and then the new one after all.
        let goal = std::mem::replace(&mut history.new, history.old.clone());
        let mut back = history.clone();
        back.world.go_to(&back.new.clone());
        back.follow_all();
        history.new = goal;
        let recovered = history.world.go_to(&history.new.clone());
        history.follow_all();
        assert_eq!(history.world.go_to(&history.new.clone()).changes, []);
        back.world.go_to(&history.new);
        for world in [&history.world, &back.world] {
            let tables = |world: &World| -> Vec<(Option<PoolKey>, u64, u32)> {
                world.image.pools().map(|pool| (pool.key, pool.table_hash, pool.slots)).collect()
            };
            let by_key = |world| tables(world).into_iter().collect::<BTreeSet<_>>();
            assert_eq!(by_key(world), by_key(&whole.world), "died after {dies_after}: {recovered:?}");
            assert_eq!(world.image.filter, whole.world.image.filter);
        }
    }
}

/// A client's first packet to a listener: Ethernet, IPv4, and as much of TCP or UDP as is looked at.
fn frame(listener: &ListenerKey, client: u32) -> Vec<u8> {
    let IpAddr::V4(vip) = listener.addr else { panic!("{listener} is not IPv4") };
    let protocol = crate::desired::protocol_number(listener.protocol);
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 9, 9, 8, 0];
    bytes.extend([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, protocol, 0, 0]);
    bytes.extend(client.to_be_bytes());
    bytes.extend(vip.octets());
    // The port as the reader's hash takes it: loaded natively.
    bytes.extend(1000_u16.to_ne_bytes());
    bytes.extend(listener.port.unwrap_or(9).to_be_bytes());
    match listener.protocol {
        Protocol::Tcp => bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]),
        Protocol::Udp => bytes.extend([0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    }
    bytes
}

/// The reader above is a model; here the packet path itself goes over what is planned.
#[test]
fn the_packet_path_meets_the_same_backends_after_any_change() {
    let mut history = eventful();
    let listeners: Vec<ListenerKey> = history
        .old
        .services
        .keys()
        .filter(|key| history.new.services.contains_key(key) && key.port.is_some())
        .copied()
        .collect();
    assert!(listeners.len() >= 2, "{listeners:?}");
    let changes = history.world.plan(&history.new).unwrap().changes;
    let mut met = BTreeSet::new();
    for change in &changes {
        history.step(change);
        let store = &history.world.store;
        let tables = store.host_tables::<true>(SETTINGS);
        for (client, listener) in
            (0..8).flat_map(|n| listeners.iter().map(move |listener| (0xc0a8_0001 + n, listener)))
        {
            let (id, service) = reader::classify(store, listener).unwrap();
            let [table, block] = reader::pool_words(store, &service);
            let local = reader::pick(store, &service, table, client).unwrap();
            lb_datapath::pipeline::balance(&mut HostPacket::new(&frame(listener, client)), &tables);
            let found = tables.explanation();
            assert_eq!(
                (found.service, found.pool, found.backend),
                (id, service.pool(), local),
                "{listener}: {found:?}"
            );
            met.insert(reader::resident(store, &service, block, local).unwrap().key());
        }
    }
    assert!(met.len() >= 4, "{met:?}");
}
