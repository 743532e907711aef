//! How long planning takes at 1,000 pools of 100 backends.
//!
//! `cargo test --config 'profile.dev.package.lb-userspace.opt-level=3' -p lb-userspace --lib scale -- --nocapture` prints the
//! times and holds them to their bounds; a build without optimisation plans a twentieth of it and holds no bound.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_common::{ENDPOINT_FILTER_WORDS, Settings};

use super::model::{SETTINGS, backend, key, listener, pool_of, serve, way};
use crate::datapath::memory::MemoryStore;
use crate::desired::{BackendKey, Desired, DesiredPool, Variant};
use crate::image::Image;
use crate::plan::plan;
use crate::spec::{Forward, Protocol};
use crate::store::Table;

const POOLS: u16 = if cfg!(debug_assertions) { 50 } else { 1000 };
const BACKENDS: u8 = 100;
/// 20 ms on a machine of one's own; the bound leaves room for caches shared with whatever else is tested.
const QUICK: Duration = Duration::from_millis(60);
const SLOTS: u32 = if cfg!(debug_assertions) { 1021 } else { 65_537 };

fn settings() -> Settings {
    Settings { directory_buckets: 1024, ..SETTINGS }
}

fn entries(table: Table) -> u32 {
    match table {
        Table::Directory => settings().directory_buckets,
        Table::Services | Table::ServiceNames | Table::Pools | Table::PoolNames => 4096,
        Table::Maglev => (u32::from(POOLS) + 8) * SLOTS.div_ceil(4),
        Table::Backends => 1 << 18,
        Table::NextHops => 4096,
        Table::Sources => 256,
        Table::EndpointFilter => ENDPOINT_FILTER_WORDS,
        Table::Control => 1,
    }
}

fn address(pool: u16, number: u8) -> IpAddr {
    let [high, low] = pool.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, high, low, number))
}

fn many() -> Desired {
    let mut desired = Desired::default();
    for pool in 0..POOLS {
        let name = format!("p{pool}");
        let mut backends = BTreeMap::new();
        for number in 0..BACKENDS {
            let ip = address(pool, number);
            backends.insert(BackendKey { ip, port: None }, backend(1));
            Arc::make_mut(&mut desired.next_hops).insert(ip, way(number));
        }
        desired.pools.insert(key(&name, Variant::V4), Arc::new(DesiredPool { table_len: SLOTS, backends }));
        serve(&mut desired, listener(address(pool, 200), 80, Protocol::Tcp), &name, Forward::FullNat);
    }
    desired
}

/// Time that this thread has run: what the machine gives to others does not count, nor do the threads that build tables.
fn ran() -> Duration {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(statistics.split(' ').next().unwrap().parse().unwrap())
}

/// Does `work`, which may keep this thread busy for `most`, where this build can be judged.
fn timed<T>(what: &str, most: Duration, work: impl FnOnce() -> T) -> T {
    let (begin, ran_before) = (Instant::now(), ran());
    let result = work();
    let (took, busy) = (begin.elapsed(), ran() - ran_before);
    println!(
        "{POOLS} pools of {BACKENDS} backends, {SLOTS} slots: {what} {took:.1?}, this thread {busy:.1?}"
    );
    assert!(cfg!(debug_assertions) || busy < most, "{what} {busy:?}, at most {most:?}");
    result
}

#[test]
fn a_thousand_pools_of_a_hundred_backends() {
    let mut desired = many();
    let mut store = MemoryStore::new(entries);
    let image = Image::read(&store).unwrap();
    let whole = timed("planned from nothing in", Duration::from_secs(1), || {
        plan(&image, &desired, &settings()).unwrap()
    });
    assert_eq!(whole.report.pools.len(), usize::from(POOLS));
    let image = whole.carry_out(&mut store).unwrap();
    let none =
        timed("compared without a difference in", QUICK, || plan(&image, &desired, &settings()).unwrap());
    assert_eq!(none.changes, []);
    pool_of(&mut desired, "p7").backends.values_mut().next().unwrap().weight = 2;
    let one = timed("one weight changed in", QUICK, || plan(&image, &desired, &settings()).unwrap());
    assert_eq!(one.changes.len(), 3);
    let read = timed("read from the maps in", Duration::from_secs(1), || Image::read(&store).unwrap());
    let none = timed("compared with maps of another daemon in", Duration::from_secs(1), || {
        pool_of(&mut desired, "p7").backends.values_mut().next().unwrap().weight = 1;
        plan(&read, &desired, &settings()).unwrap()
    });
    assert_eq!(none.changes, []);
}
