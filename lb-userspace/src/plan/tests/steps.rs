//! What a plan consists of, case by case.

use std::sync::Arc;

use lb_common::backend_state::{KEEPS, LIVE, TAKES_NEW};

use super::model::World;
use super::model::*;
use crate::change::Change;
use crate::desired::{BackendKey, Desired, Variant};
use crate::plan::{Plan, PlanError};
use crate::spec::{Forward, Protocol};
use crate::store::Table;

/// A word for each change, for comparing orders.
fn names(changes: &[Change]) -> Vec<String> {
    let name = |change: &Change| {
        let text = format!("{change:?}");
        text.split([' ', '(']).next().unwrap_or_default().to_owned()
    };
    changes.iter().map(name).collect()
}

#[test]
fn from_nothing_each_step_refers_to_what_is_there_already() {
    let mut world = World::new();
    let plan = world.go_to(&web(&[1, 1]));
    let expected = [
        "Grace",
        "PoolName",
        "Filter",
        "Filter",
        "Source",
        "NextHop",
        "NextHop",
        "Block",
        "PoolBackends",
        "Region",
        "PoolTable",
        "PoolReport",
        "ClearCounters",
        "Service",
        "ServiceName",
        "ServicePolicy",
        "Directory",
        "Directory",
    ];
    assert_eq!(names(&plan.changes), expected);
    assert_eq!(plan.report.services_added, 1);
    assert_eq!(plan.report.backends_added, 2);
}

#[test]
fn nothing_differs_nothing_is_done() {
    let mut world = World::new();
    let desired = web(&[1, 2, 5]);
    world.go_to(&desired);
    assert_eq!(world.go_to(&desired).changes, []);
    world.restart();
    assert_eq!(world.go_to(&desired).changes, []);
    assert_eq!(world.go_to(&desired).changes, []);
}

#[test]
fn a_weight_is_a_table_and_nobody_waits() {
    let mut world = World::new();
    let mut desired = web(&[1, 2, 5]);
    world.go_to(&desired);
    web_backend(&mut desired, 2).weight = 3;
    let (plan, moves) = (world.plan(&desired).unwrap(), world.moves(&desired));
    assert_eq!(names(&plan.changes), ["Region", "PoolTable", "PoolReport"]);
    let swap = &plan.report.pools[0];
    assert_eq!((swap.generation_before, swap.generation_after, swap.slots), (1, 2, 1021));
    let [moves] = moves[..] else { panic!("{moves:?}") };
    // 2 of 8 becomes 3 of 9: a twelfth of the slots.
    assert!((80..=100).contains(&moves.slots_moved), "{moves:?}");
    assert!(moves.collateral < 10, "{moves:?}");
}

/// What is left behind by one plan is waited for by the next, unless somebody had time in between.
#[test]
fn a_grace_period_is_waited_for_only_where_something_comes_after_it() {
    let graces = |plan: &Plan| names(&plan.changes).iter().filter(|name| *name == "Grace").count();
    let mut world = World::new();
    let mut desired = web(&[1, 1, 1]);
    world.go_to(&desired);
    // Grace periods, and whether one comes before anything else.
    let mut changed = |world: &mut World, change: &dyn Fn(&mut Desired)| {
        change(&mut desired);
        let plan = world.go_to_at_once(&desired);
        let waits_first = names(&plan.changes)[0] == "Grace";
        (graces(&plan), waits_first)
    };
    let weight = |weight| move |desired: &mut Desired| web_backend(desired, 2).weight = weight;
    assert_eq!(changed(&mut world, &weight(2)), (0, false));
    assert_eq!(changed(&mut world, &weight(3)), (1, true));
    world.settle();
    assert_eq!(changed(&mut world, &weight(4)), (0, false));
    world.settle();
    let drain = |desired: &mut Desired| web_backend(desired, 2).takes_new = false;
    assert_eq!(changed(&mut world, &drain), (1, false));
    world.settle();
    let remove = |desired: &mut Desired| *desired = web(&[1]);
    assert_eq!(changed(&mut world, &remove), (1, false));
    world.settle();
    let add = |desired: &mut Desired| *desired = web(&[1, 1, 1]);
    assert_eq!(changed(&mut world, &add), (0, false));
}

#[test]
fn a_lost_backend_leaves_the_table_before_its_flows_do() {
    let mut world = World::new();
    let mut desired = web(&[1, 1, 1]);
    world.go_to(&desired);
    let lost = web_backend(&mut desired, 2);
    (lost.takes_new, lost.keeps) = (false, false);
    let plan = world.go_to(&desired);
    assert_eq!(names(&plan.changes), ["Region", "PoolTable", "PoolReport", "Grace", "BackendState"]);
    let Some(Change::BackendState { state, .. }) = plan.changes.last() else { panic!() };
    assert_eq!(state & (LIVE | KEEPS | TAKES_NEW), LIVE);
    assert_eq!(plan.report.pools[0].slots, 1021);
}

#[test]
fn a_removed_index_rests_until_no_flow_holds_it() {
    let mut world = World::new();
    world.go_to(&web(&[1, 1, 1]));
    world.go_to(&web(&[1, 1]));
    let pool = 1;
    assert_eq!(world.image.rest.backends, [(pool, 3)].into());
    // Another backend does not get index 3 while a flow holds it, nor while nobody has looked.
    let mut other = web(&[1, 1]);
    add_pool(&mut other, "web", [(v4(1), 1), (v4(2), 1), (v4(9), 1)].into_iter());
    world.store.held.held.insert((1, 3));
    world.scan();
    let mut held = world.clone();
    held.go_to(&other);
    assert_eq!(held.image.pools[&pool].record(4).key().ip, v4(9));
    let mut restarted = world.clone();
    restarted.restart();
    restarted.go_to(&other);
    assert_eq!(restarted.image.pools[&pool].record(4).key().ip, v4(9));
    // The same backend gets its own index back.
    let mut back = world.clone();
    back.go_to(&web(&[1, 1, 1]));
    assert_eq!(back.image.pools[&pool].record(3).key().ip, v4(3));
    // After a clean scan the index is anybody's.
    world.store.held.held.clear();
    world.scan();
    assert!(!world.image.wants_scan());
    world.go_to(&other);
    assert_eq!(world.image.pools[&pool].record(3).key().ip, v4(9));
}

#[test]
fn a_service_id_rests_and_another_pool_is_another_id() {
    let mut world = World::new();
    let mut desired = web(&[1, 1]);
    add_pool(&mut desired, "other", [(v4(1), 1), (v4(7), 1)].into_iter());
    world.go_to(&desired);
    let web = listener(v4(200), 80, Protocol::Tcp);
    let id = |world: &World| world.image.services().find(|service| service.listener == web).map(|s| s.id);
    assert_eq!(id(&world), Some(1));
    desired.services.get_mut(&web).unwrap().pool = key("other", Variant::V4);
    let plan = world.go_to(&desired);
    assert_eq!(id(&world), Some(2));
    assert_eq!(world.image.rest.services, [1].into());
    // The directory's word changes in one store: no tombstone, no second word.
    let words = world.image.directory.iter().filter(|word| **word != 0).count();
    assert_eq!(words, 2);
    assert_eq!(plan.report.services_added, 1);
    assert_eq!(plan.report.services_removed, 1);
    desired.services.get_mut(&web).unwrap().pool = key("web", Variant::V4);
    world.go_to(&desired);
    assert_eq!(id(&world), Some(3));
    world.scan();
    desired.services.get_mut(&web).unwrap().forward = Forward::Dsr;
    world.go_to(&desired);
    assert_eq!(id(&world), Some(1));
}

#[test]
fn a_block_that_is_too_small_moves_with_everything_in_it() {
    let mut world = World::new();
    world.go_to(&web(&[1; 6]));
    world.go_to(&web(&[1; 5]));
    let before = world.image.pools[&1].clone();
    let plan = world.go_to(&web(&[1; 40]));
    let after = &world.image.pools[&1];
    assert_eq!((before.records.len(), after.records.len()), (8, 64));
    assert_ne!(before.base, after.base);
    assert_eq!(after.records[1..6], before.records[1..6]);
    // The sixth is revived at its own index.
    assert_eq!(after.record(6).key(), before.record(6).key());
    let order = names(&plan.changes);
    let at = |name: &str| order.iter().position(|change| change == name).unwrap();
    assert!(at("Block") < at("PoolBackends"));
    assert!(at("PoolBackends") < at("Grace"));
    assert!(at("Grace") < at("PoolTable"));
}

#[test]
fn a_longer_table_is_a_new_region() {
    let mut world = World::new();
    let mut desired = web(&[1, 1, 1]);
    world.go_to(&desired);
    pool_of(&mut desired, "web").table_len = 4093;
    let plan = world.go_to(&desired);
    assert_eq!(names(&plan.changes), ["Region", "PoolTable", "PoolReport"]);
    assert_eq!(plan.report.pools[0].slots, 4093);
    // The old region is free again.
    world.go_to(&web(&[1, 1, 1]));
    assert_eq!(world.image.pools[&1].region(), (0, 256));
}

#[test]
fn a_way_that_changes_is_a_new_entry_and_one_word_for_each_backend() {
    let mut world = World::new();
    let mut desired = web(&[1, 1]);
    world.go_to(&desired);
    Arc::make_mut(&mut desired.next_hops).insert(v4(1), way(77));
    let plan = world.go_to(&desired);
    assert_eq!(names(&plan.changes), ["NextHop", "BackendState"]);
    Arc::make_mut(&mut desired.next_hops).insert(v4(2), way(77));
    let plan = world.go_to(&desired);
    assert_eq!(names(&plan.changes), ["BackendState"]);
    Arc::make_mut(&mut desired.next_hops).remove(&v4(2));
    let plan = world.go_to(&desired);
    assert_eq!(names(&plan.changes), ["BackendState"]);
    assert_eq!(world.image.pools[&1].record(2).next_hop(), 0);
}

#[test]
fn other_sources_are_a_new_entry_and_the_old_one_keeps_its_flows() {
    let mut world = World::new();
    let mut desired = web(&[1, 1]);
    world.go_to(&desired);
    web_backend(&mut desired, 2).sources = vec![v4(253), v4(252)];
    world.go_to(&desired);
    let pool = &world.image.pools[&1];
    let (old, new) = (pool.record(2), pool.record(3));
    assert_eq!(old.key(), new.key());
    assert_eq!(old.state & (LIVE | KEEPS | TAKES_NEW), LIVE | KEEPS);
    assert_eq!(new.state & (LIVE | KEEPS | TAKES_NEW), LIVE | KEEPS | TAKES_NEW);
    assert_eq!(old.counter, new.counter);
    assert!(!crate::maglev::unpack(&world.words(pool), pool.slots()).any(|local| local == 2));
    assert_eq!(world.go_to(&desired).changes, []);
    // While a flow holds it, it stays; then it goes and rests.
    assert!(world.image.wants_scan());
    world.store.held.held.insert((1, 2));
    world.scan();
    assert_eq!(world.go_to(&desired).changes, []);
    world.store.held.held.clear();
    world.scan();
    world.go_to(&desired);
    assert_eq!(world.image.pools[&1].record(2).state, 0);
    assert_eq!(world.image.rest.backends, [(1, 2)].into());
    assert_eq!(world.go_to(&desired).changes, []);
}

#[test]
fn the_last_service_takes_its_pool_along() {
    let mut world = World::new();
    world.go_to(&web(&[1, 1]));
    let plan = world.go_to(&crate::desired::Desired::default());
    assert_eq!(plan.report.pools_removed, 1);
    assert!(world.image.directory.iter().all(|word| *word == 0));
    assert!(world.image.filter.iter().all(|word| *word == 0));
    assert!(world.image.pools.is_empty());
    assert_eq!(world.image.rest.services, [1].into());
    // The words go before the policy, with a grace period between them.
    let order = names(&plan.changes);
    let at = |name: &str| order.iter().position(|change| change == name).unwrap();
    assert!(at("Directory") < at("Grace"));
    assert!(at("Grace") < at("ServicePolicy"));
    assert!(at("ServicePolicy") < at("PoolTable"));
}

#[test]
fn an_emptied_pool_has_no_table() {
    let mut world = World::new();
    world.go_to(&web(&[1, 1]));
    world.go_to(&web(&[0, 0]));
    assert_eq!(world.image.pools[&1].slots(), 0);
    assert_eq!(world.image.pools[&1].report.generation, 2);
    world.restart();
    assert_eq!(world.go_to(&web(&[0, 0])).changes, []);
}

#[test]
fn full_maps_are_said_before_anything_is_written() {
    let world = World::new();
    let mut desired = web(&[1]);
    for port in 100..200 {
        serve(&mut desired, listener(v4(201), port, Protocol::Udp), "web", Forward::Nat);
    }
    let error = world.plan(&desired).unwrap_err();
    let PlanError::Full { map: Table::Services, needed: 101, free: 63, entries: 64, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(
        error.to_string(),
        "the map services is full: 101 new listeners needed, 63 of 64 entries free; entries come back as flows end \
         (`lbctl flows flush` ends them), or change less at once"
    );
    let mut desired = web(&[1]);
    pool_of(&mut desired, "web").backends = (0..=u16::MAX)
        .take(3000)
        .map(|n| (BackendKey { ip: v4(1), port: Some(n + 1) }, backend(1)))
        .collect();
    let error = world.plan(&desired).unwrap_err();
    assert!(
        matches!(error, PlanError::Full { map: Table::Backends, needed: 4096, free: 2048, .. }),
        "{error}"
    );
    let mut desired = web(&[1]);
    for number in 0..5 {
        add_pool(&mut desired, &format!("p{number}"), [(v4(1), 1)].into_iter());
        pool_of(&mut desired, &format!("p{number}")).table_len = 65_537;
    }
    let error = world.plan(&desired).unwrap_err();
    assert!(matches!(error, PlanError::Full { map: Table::Maglev, needed: 16_385, .. }), "{error}");
}

#[test]
fn contradictions_are_named() {
    let mut desired = web(&[1]);
    desired.pools.clear();
    let error = World::new().plan(&desired).unwrap_err().to_string();
    assert!(error.contains("10.0.0.200:80/tcp names the pool web/v4, which is not desired"), "{error}");
    let mut desired = web(&[1]);
    pool_of(&mut desired, "web").table_len = 1000;
    let error = World::new().plan(&desired).unwrap_err().to_string();
    assert!(error.contains("1000 slots"), "{error}");
    let mut desired = web(&[1]);
    desired.services.values_mut().for_each(|service| service.name = "n".repeat(64));
    let error = World::new().plan(&desired).unwrap_err().to_string();
    assert!(error.contains("64 bytes"), "{error}");
}

#[test]
fn tables_are_swapped_in_turn_when_the_arena_is_nearly_full() {
    let mut world = World::new();
    let mut desired = crate::desired::Desired::default();
    for number in 0..15_u8 {
        let name = format!("p{number}");
        add_pool(&mut desired, &name, [(v4(1), 1), (v4(2), 1)].into_iter());
        pool_of(&mut desired, &name).table_len = 16_381;
    }
    world.go_to(&desired);
    // 15 of 16 places are taken; each pool's new table needs one.
    for pool in desired.pools.values_mut() {
        Arc::make_mut(pool).backends.values_mut().next().unwrap().weight = 2;
    }
    let plan = world.go_to(&desired);
    assert_eq!(plan.report.pools.len(), 15);
    assert!(names(&plan.changes).iter().filter(|name| *name == "Grace").count() >= 8);
}
