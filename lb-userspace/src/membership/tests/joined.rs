//! All of it at once, in random histories: health, ways, drains with what comes after them, disable, weights, slow start, backup, panic,
//! passive ejection, the file, lbctl and two discovery sources, from the events to the words that packets read. Three things are held
//! after each step. What the membership wants of the maps is what a naive model says (`joined/model.rs`). Every prefix of the plan that leads
//! there is safe: packets are followed through the maps after every single write, daemons die in the midst, grace periods are waited for or
//! not (`plan/tests/histories`). And no number is used again while a flow could hold it: flows live on in a flow table, some of them silent
//! for a while, walks that go on beside the plans find what they hold, and none ever meets another backend by its number.

mod model;
mod step;

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::ask::Told;
use super::discovered::{DNS, FILE};
use super::*;
use crate::plan::tests::histories::{Event as Happening, History};
use crate::spec::Origin;
use model::{Model, Row, State};
use step::{Step, run, setting, step, text};

/// What every observer of the membership sees, against the model.
fn compare(world: &World, model: &Model) -> Result<(), TestCaseError> {
    let table = world.table("web", Variant::V4);
    let rows: Vec<Row> = table
        .backends
        .iter()
        .map(|(address, one)| (address.to_string(), one.weight, one.takes_new, one.keeps))
        .collect();
    prop_assert_eq!(rows, model.rows());
    let ways: BTreeSet<String> =
        world.membership.desired().next_hops.keys().map(ToString::to_string).collect();
    prop_assert_eq!(ways, model.ways());
    let view = world.membership.pool_view(&name("web")).unwrap();
    let claims: Vec<(String, Vec<(String, u16)>)> = view
        .backends
        .iter()
        .map(|backend| {
            let claims = backend.claims.iter().map(|claim| {
                let by = match &claim.origin {
                    Origin::Discovery { source } => source.clone(),
                    other => other.kind().to_owned(),
                };
                (by, claim.weight)
            });
            (backend.id.address.to_string(), claims.collect())
        })
        .collect();
    let wanted = model.web.keys().map(|who| {
        let claims = model.claims(*who).into_iter().map(|(by, weight)| (by.to_owned(), weight));
        (format!("10.0.0.{who}"), claims.collect())
    });
    prop_assert_eq!(claims, wanted.collect::<Vec<_>>());
    overrides_and_ejections(world, model)
}

fn overrides_and_ejections(world: &World, model: &Model) -> Result<(), TestCaseError> {
    let overrides: Vec<(String, Option<u16>, Option<StateOverride>)> = world
        .membership
        .overrides()
        .into_iter()
        .map(|entry| (entry.address.to_string(), entry.value.weight, entry.value.state))
        .collect();
    let state = |state: State| {
        let draining = |deadline: Option<u64>, then, expired| StateOverride::Draining {
            deadline: deadline.map(|deadline| Millis(deadline * 1000)),
            then,
            expired,
        };
        match state {
            State::Active => None,
            State::Draining => Some(StateOverride::DRAIN),
            State::Until(deadline, then) => Some(draining(Some(deadline), then, false)),
            State::Over(deadline) => Some(draining(Some(deadline), Then::Keep, true)),
            State::Disabled => Some(StateOverride::Disabled),
        }
    };
    let wanted = model.web.iter().map(|(who, one)| (format!("10.0.0.{who}"), one.weight, state(one.state)));
    let wanted: Vec<_> = wanted.filter(|(_, weight, state)| weight.is_some() || state.is_some()).collect();
    prop_assert_eq!(overrides, wanted);
    let ejections: Vec<(String, Millis, u32)> = world
        .membership
        .ejections(world.now)
        .into_iter()
        .map(|ejected| (ejected.address.to_string(), ejected.until, ejected.times))
        .collect();
    let wanted = model.ejections().into_iter();
    let wanted = wanted.map(|(who, until, times)| (format!("10.0.0.{who}"), Millis(until * 1000), times));
    prop_assert_eq!(ejections, wanted.collect::<Vec<_>>());
    Ok(())
}

/// The maps follow, step by step.
fn follow(history: &mut History, world: &World, step: &Step, dies_at: Option<u8>) {
    match step {
        Step::Flows(traffic) => history.take_in(&Happening::Flows(*traffic)),
        Step::Walk(true) => history.take_in(&Happening::WalkBegins),
        Step::Walk(false) => history.take_in(&Happening::WalkEnds),
        Step::Settled => history.take_in(&Happening::Settled),
        _ if history.new == **world.membership.desired() => {}
        _ => history.go_to(world.membership.desired(), dies_at),
    }
}

/// Whoever has claimed it: the first four of them are well, with flows, in most histories.
fn begin(world: &mut World, model: &mut Model, setting: step::Setting) {
    let reload = Step::Reload((2..=4).collect(), true);
    let well = (1..=4).flat_map(|who| [Step::Way(who, true), Step::Health(who, true)]);
    for step in [reload].into_iter().chain(well).chain([Step::Sorry(0, true)]) {
        run(world, setting, &step).unwrap();
        model.apply(&step).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: histories(200), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_of_everything_agrees_with_the_model_and_every_prefix_of_its_plans_is_safe(
        setting in setting(),
        begun in prop::bool::weighted(0.8),
        steps in prop::collection::vec((step(), prop::option::weighted(0.15, any::<u8>())), 1..32),
    ) {
        let mut world = start(&text(setting, &BTreeSet::new(), true));
        for ip in ["10.0.9.1", "10.0.9.2"] {
            world.way(ip, known("192.0.2.1"));
        }
        let mut model = Model::new(setting);
        if begun {
            begin(&mut world, &mut model, setting);
        }
        let mut history = History::begin();
        history.go_to(world.membership.desired(), None);
        let mut told = Told::all(&world);
        for (step, dies_at) in &steps {
            let revision = world.membership.revision();
            let outcome = run(&mut world, setting, step);
            prop_assert_eq!(
                outcome.as_ref().map(|_| ()).map_err(|refusal| refusal.code),
                model.apply(step),
                "{:?}", step
            );
            if let Ok(outcome) = &outcome {
                let single = !matches!(step, Step::Wait(_) | Step::Late(..));
                prop_assert!(!single || world.membership.revision() == revision + u64::from(outcome.revised));
            }
            told.follow(outcome.as_ref().ok(), &world)?;
            let addresses: BTreeSet<String> = told.0.iter().map(|id| id.member.address.to_string()).collect();
            prop_assert_eq!(addresses, model.checked());
            if let Err(error) = compare(&world, &model) {
                return Err(TestCaseError::fail(format!("after {step:?} at {} s: {error}\n{model:#?}", model.now)));
            }
            follow(&mut history, &world, step, *dies_at);
        }
    }
}
