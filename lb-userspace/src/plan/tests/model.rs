//! Values to plan with: small desired states and maps in memory.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use lb_common::{ENDPOINT_FILTER_WORDS, Settings};

use crate::datapath::memory::MemoryStore;
use crate::desired::{
    BackendKey, Desired, DesiredBackend, DesiredNextHop, DesiredPool, DesiredService, ListenerKey, PoolKey,
    Variant,
};
use crate::image::{Image, LiveImage, PoolImage};
use crate::plan::{Moves, Plan, PlanError, plan};
use crate::spec::{Affinity, Forward, Protocol, WhenNone};
use crate::store::{Store, Table};

pub(crate) const SETTINGS: Settings = Settings {
    abi_version: lb_common::ABI_VERSION,
    features: 0xff,
    seed: [11, 22, 33, 44],
    flow4_buckets: 256,
    flow6_buckets: 256,
    reply4_buckets: 128,
    reply6_buckets: 128,
    directory_buckets: 16,
    tick_shift: 8,
    tcp_syn_ticks: 10,
    tcp_ticks: 3600,
    tcp_closing_ticks: 30,
    udp_ticks: 60,
    snat_port_base: 61_000,
    snat_port_count: 4_536,
    interface_slots: 256,
};

/// Maps in memory, and what the daemon knows of them.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) store: MemoryStore,
    pub(crate) image: LiveImage,
}

pub(crate) fn entries(table: Table) -> u32 {
    match table {
        Table::Directory => SETTINGS.directory_buckets,
        Table::Services | Table::ServiceNames | Table::Pools | Table::PoolNames => 64,
        Table::Maglev => 1 << 16,
        Table::Backends => 1 << 11,
        Table::NextHops => 512,
        Table::Sources => 256,
        Table::EndpointFilter => ENDPOINT_FILTER_WORDS,
        Table::Control => 1,
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let store = MemoryStore::new(entries);
        let image = Image::read(&store).unwrap().into();
        Self { store, image }
    }

    pub(crate) fn plan(&self, desired: &Desired) -> Result<Plan, PlanError> {
        plan(&self.image, desired, &SETTINGS)
    }

    /// Plans and carries out, and waits as the daemon does when it has time; the image from the maps alone must say the same.
    pub(crate) fn go_to(&mut self, desired: &Desired) -> Plan {
        let plan = self.go_to_at_once(desired);
        self.settle();
        plan
    }

    /// A grace period passes.
    pub(crate) fn settle(&mut self) {
        self.store.grace().unwrap();
        self.image.note_grace();
    }

    /// As [`Self::go_to`], without the wait.
    pub(crate) fn go_to_at_once(&mut self, desired: &Desired) -> Plan {
        let plan = self.plan(desired).unwrap();
        self.image.replace(plan.clone().carry_out(&mut self.store).unwrap());
        assert_same(&self.image, &Image::read(&self.store).unwrap());
        plan
    }

    /// The daemon dies and starts anew.
    pub(crate) fn restart(&mut self) {
        self.image = Image::read(&self.store).unwrap().into();
    }

    /// What going there would move, table by table.
    pub(crate) fn moves(&self, desired: &Desired) -> Vec<Moves> {
        let plan = self.plan(desired).unwrap();
        let swaps = plan.report.pools.iter();
        swaps.map(|swap| plan.moves(swap, &self.image, &self.store).unwrap()).collect()
    }

    /// The words of a pool's table.
    pub(crate) fn words(&self, pool: &PoolImage) -> Vec<u64> {
        let (base, len) = pool.region();
        let mut words = vec![0; len as usize];
        self.store.read(Table::Maglev, base as usize, &mut words).unwrap();
        words
    }

    /// A walk over the flow table, all at once.
    pub(crate) fn scan(&mut self) {
        self.image.begin_walk();
        let scan = self.store.scan().unwrap();
        self.image.end_walk(Some(&scan));
    }
}

/// What is in the maps is the same; what only a running daemon knows may differ to the careful side.
pub(crate) fn assert_same(kept: &Image, read: &Image) {
    assert_eq!(kept.services, read.services);
    assert_eq!(kept.next_hops, read.next_hops);
    assert_eq!(kept.sources, read.sources);
    assert_eq!(kept.directory, read.directory);
    assert_eq!(kept.filter, read.filter);
    assert!(kept.rest.services.is_subset(&read.rest.services), "{:?} {:?}", kept.rest, read.rest);
    assert!(kept.rest.backends.is_subset(&read.rest.backends), "{:?} {:?}", kept.rest, read.rest);
    assert_eq!(kept.pools.keys().collect::<Vec<_>>(), read.pools.keys().collect::<Vec<_>>());
    for (kept, read) in kept.pools.values().zip(read.pools.values()) {
        assert_eq!((&kept.name, kept.table, kept.base), (&read.name, read.table, read.base));
        assert_eq!((&kept.records, kept.digest, kept.report), (&read.records, read.digest, read.report));
        assert_eq!(kept.slot_counts, read.slot_counts);
    }
}

pub(crate) fn v4(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}

pub(crate) fn key(name: &str, variant: Variant) -> PoolKey {
    PoolKey { name: name.to_owned(), variant }
}

pub(crate) fn listener(vip: IpAddr, port: u16, protocol: Protocol) -> ListenerKey {
    ListenerKey { addr: vip, port: (port != 0).then_some(port), protocol }
}

pub(crate) fn backend(weight: u32) -> DesiredBackend {
    DesiredBackend { weight, takes_new: true, keeps: true, sources: vec![v4(254)], way: None }
}

pub(crate) fn way(number: u8) -> DesiredNextHop {
    DesiredNextHop {
        interface: 2,
        destination_mac: [2, 0, 0, 0, 1, number],
        source_mac: [2, 0, 0, 0, 0, 1],
        mtu: 1500,
        local: false,
    }
}

/// One TCP service on port 80 of `10.0.0.200`, pool "web" with backends 10.0.0.1 … of these weights.
pub(crate) fn web(weights: &[u32]) -> Desired {
    let mut desired = Desired::default();
    let members = weights.iter().zip(1..).map(|(weight, number)| (v4(number), *weight));
    add_pool(&mut desired, "web", members);
    serve(&mut desired, listener(v4(200), 80, Protocol::Tcp), "web", Forward::FullNat);
    desired
}

pub(crate) fn add_pool(desired: &mut Desired, name: &str, members: impl Iterator<Item = (IpAddr, u32)>) {
    let backends: BTreeMap<BackendKey, DesiredBackend> =
        members.map(|(ip, weight)| (BackendKey { ip, port: None }, backend(weight))).collect();
    for address in backends.keys() {
        let IpAddr::V4(ip) = address.ip else { continue };
        Arc::make_mut(&mut desired.next_hops).insert(address.ip, way(ip.octets()[3]));
    }
    desired.pools.insert(key(name, Variant::V4), Arc::new(DesiredPool { table_len: 1021, backends }));
}

pub(crate) fn serve(desired: &mut Desired, listener: ListenerKey, name: &str, forward: Forward) {
    let service = DesiredService {
        name: name.to_owned(),
        forward,
        affinity: Affinity::Flow,
        when_none: WhenNone::Reset,
        loopback: false,
        resets_lost: false,
        pool: key(name, Variant::V4),
        tunnel: None,
    };
    desired.services.insert(listener, service);
}

/// To be changed.
pub(crate) fn pool_of<'a>(desired: &'a mut Desired, name: &str) -> &'a mut DesiredPool {
    Arc::make_mut(desired.pools.get_mut(&key(name, Variant::V4)).unwrap())
}

pub(crate) fn web_backend(desired: &mut Desired, number: u8) -> &mut DesiredBackend {
    pool_of(desired, "web").backends.get_mut(&BackendKey { ip: v4(number), port: None }).unwrap()
}
