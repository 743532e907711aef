//! Random histories: services, pools, backends, weights, modes and ways come and go, daemons die in the midst of plans, and
//! after every single write the packets of every listener are followed through the maps.

mod event;
mod history;
mod judge;
mod packets;
mod silent;

use std::collections::{BTreeMap, BTreeSet};

use event::event;
pub(crate) use event::{Event, Traffic, traffic};
pub(crate) use history::History;
use proptest::prelude::*;

use super::model::World;
use super::reader;
use crate::desired::PoolKey;

/// How many random histories a test goes through: so many, or what `LBD_HISTORIES` says.
pub(crate) fn histories(usually: u32) -> u32 {
    std::env::var("LBD_HISTORIES").map_or(usually, |count| count.parse().expect("LBD_HISTORIES is a number"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: histories(48), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_of_plans_leaves_each_packet_a_live_backend_after_every_write(events in prop::collection::vec(event(), 1..60)) {
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
    let backend =
        Event::Backend { pool: 2, number: 5, weight: 1, standing: 0, sources: 0, port: false, led: false };
    let again =
        Event::Backend { pool: 2, number: 5, weight: 0, standing: 0, sources: 0, port: false, led: false };
    let apply = || Event::Apply { dies_at: None };
    let service = Event::Service { listener: 0, pool: 2, forward: 0, affinity: 0 };
    let away = Event::NoBackend { pool: 2, number: 5 };
    let mut history = History::begin();
    [service, backend, apply(), away, apply(), again, apply()]
        .iter()
        .for_each(|event| history.take_in(event));
}

/// Until it has left, a listener meets backends that are to come to the pool it leaves: by flows of before, and by its table where two listeners
/// exchange their pools. Their replies must be known.
#[test]
fn a_listener_that_leaves_its_pool_is_answered_by_whoever_comes_to_it() {
    let comes = |pool, number| Event::Backend {
        pool,
        number,
        weight: 1,
        standing: 0,
        sources: 1,
        port: false,
        led: false,
    };
    let service = |listener, pool| Event::Service { listener, pool, forward: 0, affinity: 0 };
    let goes = |pool, number| Event::NoBackend { pool, number };
    let apply = || Event::Apply { dies_at: None };
    let its_own_comes_back = [
        vec![service(0, 0), service(1, 0), comes(0, 1), apply(), goes(0, 1), apply()],
        vec![comes(0, 1), service(0, 1), apply()],
    ];
    let they_exchange = [
        vec![service(2, 2), service(1, 1), apply()],
        vec![service(2, 1), comes(1, 1), comes(2, 2), service(1, 2), apply()],
    ];
    let it_goes = [
        vec![service(0, 0), service(1, 0), comes(0, 1), apply(), goes(0, 1), apply()],
        vec![comes(0, 1), Event::NoService { listener: 0 }, apply()],
    ];
    for events in [its_own_comes_back, they_exchange, it_goes] {
        let mut history = History::begin();
        events.iter().flatten().for_each(|event| history.take_in(event));
        // What was needed in between is not needed for ever.
        assert_eq!(
            *history.world.image.filter,
            crate::plan::filter::wanted(&history.new, &super::model::SETTINGS)
        );
    }
}

/// Packets under way may have read the number of a next hop that nobody has any more.
#[test]
fn a_way_that_is_lost_is_not_written_over_in_the_same_plan() {
    let comes = |pool, number| Event::Backend {
        pool,
        number,
        weight: 1,
        standing: 0,
        sources: 0,
        port: false,
        led: false,
    };
    let service = |listener, pool| Event::Service { listener, pool, forward: 0, affinity: 0 };
    let way = |number, way| Event::Way { number, way };
    let apply = || Event::Apply { dies_at: None };
    let mut history = History::begin();
    [way(3, Some(2)), comes(0, 3), way(6, Some(0)), comes(2, 6), service(0, 0), apply()]
        .iter()
        .chain(&[way(3, None), service(1, 2), apply()])
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
        led: false,
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
