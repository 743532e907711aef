//! Numbers that a silent flow holds, and walks over the flow table that plans do not wait for: one pool whose few backends come and go.

use proptest::prelude::*;

use super::event::{Event, Traffic, traffic};
use super::histories;
use super::history::History;

/// Clients that are awake, and those that are not.
const NOBODY: u16 = 0;
const EVERYBODY: u16 = u16::MAX;

fn apply() -> Event {
    Event::Apply { dies_at: None }
}

fn comes(number: u8, sources: u8) -> Event {
    Event::Backend { pool: 0, number, weight: 1, standing: 0, sources, port: false, led: false }
}

const fn goes(number: u8) -> Event {
    Event::NoBackend { pool: 0, number }
}

const fn service(listener: u8, pool: u8) -> Event {
    Event::Service { listener, pool, forward: 0, affinity: 0 }
}

/// Every flow ends or none does, and these are silent from then on.
const fn flows(all_end: bool, asleep: u16) -> Event {
    Event::Flows(Traffic { end: if all_end { u32::MAX } else { 0 }, asleep })
}

/// A service with these backends, every client with a flow.
fn begun(backends: impl IntoIterator<Item = u8>) -> History {
    let mut history = History::begin();
    history.take_in(&service(0, 0));
    backends.into_iter().for_each(|number| history.take_in(&comes(number, 1)));
    history.take_in(&apply());
    history
}

fn take_in(history: &mut History, events: impl IntoIterator<Item = Event>) {
    events.into_iter().for_each(|event| history.take_in(&event));
}

/// Every index that the pool has had, and whose it is or was last.
fn indexes(history: &History) -> usize {
    let pool = history.world.image.pools.values().next().unwrap();
    pool.entries().filter(|(_, record)| record.family != 0).count()
}

#[test]
fn a_silent_flow_keeps_its_index_from_others_until_it_ends() {
    let mut history = begun(1..=3);
    take_in(&mut history, [flows(false, EVERYBODY), goes(1), goes(2), apply()]);
    // However often it is looked.
    for _ in 0..3 {
        take_in(&mut history, [Event::WalkBegins, Event::WalkEnds]);
    }
    take_in(&mut history, [comes(4, 1), comes(5, 1), apply()]);
    assert_eq!(indexes(&history), 5);
    // Their own backend meets them again.
    take_in(&mut history, [comes(1, 1), apply(), flows(false, NOBODY)]);
    assert_eq!(indexes(&history), 5);
    // All flows are somebody else's now.
    take_in(&mut history, [goes(1), apply(), flows(true, EVERYBODY), Event::WalkBegins, Event::WalkEnds]);
    take_in(&mut history, [comes(6, 1), comes(7, 1), apply()]);
    assert_eq!(indexes(&history), 5, "{:?}", history.world.image.rest);
}

#[test]
fn what_was_in_use_while_a_walk_went_on_is_not_freed_by_it() {
    let mut history = begun(1..=2);
    // Nobody holds the first one's index when the walk begins; then it comes back, gets flows, and goes with them silent.
    take_in(&mut history, [goes(1), apply(), Event::WalkBegins, comes(1, 1), apply()]);
    take_in(&mut history, [flows(true, EVERYBODY), goes(1), apply(), Event::WalkEnds]);
    take_in(&mut history, [comes(3, 1), apply(), flows(false, NOBODY)]);
    assert_eq!(indexes(&history), 3);
}

#[test]
fn what_comes_to_rest_while_a_walk_goes_on_is_not_freed_by_it() {
    let mut history = begun(1..=2);
    take_in(&mut history, [Event::WalkBegins, flows(true, EVERYBODY), goes(1), apply(), Event::WalkEnds]);
    take_in(&mut history, [comes(3, 1), apply(), flows(false, NOBODY)]);
    assert_eq!(indexes(&history), 3);
}

/// An entry that only keeps flows goes when nobody holds it: not by a walk that began before its flows did.
#[test]
fn an_entry_that_took_flows_while_a_walk_went_on_stays() {
    let mut history = begun(1..=2);
    // The entry with the first source is out of the tables, without flows, when the walk begins.
    take_in(&mut history, [comes(1, 2), apply(), flows(true, NOBODY), Event::WalkBegins]);
    take_in(&mut history, [comes(1, 1), apply(), flows(true, EVERYBODY), comes(1, 2), apply()]);
    take_in(&mut history, [Event::WalkEnds, apply(), flows(false, NOBODY)]);
    assert_eq!(indexes(&history), 3);
}

#[test]
fn a_service_id_that_a_silent_flow_holds_is_not_given_again() {
    let mut history = begun(1..=2);
    take_in(&mut history, [flows(false, EVERYBODY), Event::NoService { listener: 0 }, apply()]);
    take_in(&mut history, [Event::WalkBegins, Event::WalkEnds, service(3, 0), apply()]);
    assert_eq!(history.world.image.services.keys().collect::<Vec<_>>(), [&2]);
    take_in(
        &mut history,
        [flows(true, EVERYBODY), Event::WalkBegins, Event::WalkEnds, service(1, 0), apply()],
    );
    assert_eq!(history.world.image.services.keys().collect::<Vec<_>>(), [&1, &2]);
}

/// Few backends, so that numbers are wanted again soon.
fn change() -> impl Strategy<Value = Event> {
    let number = || 1..=5_u8;
    let listener = || 0..2_u8;
    prop_oneof![
        6 => (number(), prop_oneof![3 => Just(1), 1 => Just(2)]).prop_map(|(number, sources)| comes(number, sources)),
        7 => number().prop_map(goes),
        1 => (listener(), 0..2_u8).prop_map(|(listener, pool)| service(listener, pool)),
        1 => listener().prop_map(|listener| Event::NoService { listener }),
    ]
}

/// What is wanted, done, with clients that do something before and after, and a walk that may begin or end.
fn round() -> impl Strategy<Value = [Event; 5]> {
    let dies_at = prop::option::weighted(0.1, any::<u8>());
    let walk = prop_oneof![Just(Event::WalkBegins), Just(Event::WalkEnds), Just(Event::Settled)];
    (walk, change(), change(), dies_at, traffic()).prop_map(|(walk, change, more, dies_at, traffic)| {
        [walk, change, more, Event::Apply { dies_at }, Event::Flows(traffic)]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: histories(48), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_of_silent_flows_keeps_them_from_others_and_gives_every_number_back(
        rounds in prop::collection::vec(round(), 1..40),
    ) {
        let mut history = begun(1..=3);
        take_in(&mut history, rounds.into_iter().flatten());
        // Entries that only keep flows go with the next plan, and rest until the walk after it.
        take_in(&mut history, [flows(true, EVERYBODY), Event::WalkEnds]);
        for _ in 0..2 {
            take_in(&mut history, [Event::WalkBegins, Event::WalkEnds, apply()]);
        }
        prop_assert!(!history.world.image.wants_scan(), "{:?}", history.world.image.rest);
    }
}
