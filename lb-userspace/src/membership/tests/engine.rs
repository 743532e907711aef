//! An engine of checks and a resolver of ways that, like the real ones, tell only news: whoever is forgotten must be asked anew.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use super::discovered::{DNS, FILE, FOUND, said, source};
use super::*;
use crate::health::Target;
use crate::spec::HealthSpec;

/// What the engine was told to ask, and what it has told.
struct Question {
    address: SocketAddr,
    spec: HealthSpec,
    told: Option<Health>,
}

/// The engine, and what becomes of its probes.
#[derive(Default)]
struct Engine {
    questions: BTreeMap<CheckId, Question>,
    /// Backends whose checks fail.
    ill: BTreeSet<MemberId>,
    /// Ways that were told.
    ways: BTreeSet<IpAddr>,
}

impl Engine {
    fn of(world: &World) -> Self {
        let mut engine = Self { ways: world.membership.next_hop_targets(), ..Self::default() };
        engine.put(world.membership.health_targets());
        engine
    }

    /// As the controller does: first what is removed, then what is put.
    fn follow(&mut self, outcome: Outcome) {
        self.ways.retain(|ip| !outcome.ways_forgotten.contains(ip));
        self.questions.retain(|id, _| !outcome.checks_removed.contains(id));
        self.put(outcome.checks_put);
    }

    fn put(&mut self, targets: Vec<Target<CheckId>>) {
        for Target { id, address, spec, .. } in targets {
            let same = |old: &Question| old.address == address && old.spec == spec;
            if !self.questions.get(&id).is_some_and(same) {
                self.questions.insert(id, Question { address, spec, told: None });
            }
        }
    }

    fn truth(&self, id: &CheckId) -> Health {
        if self.ill.contains(&id.member) { Health::Unhealthy } else { Health::Healthy }
    }

    /// Probes everybody until nothing is news; every way is known.
    fn probe(&mut self, world: &mut World) {
        loop {
            let wanted = world.membership.next_hop_targets();
            self.ways.retain(|ip| wanted.contains(ip));
            if let Some(ip) = wanted.into_iter().find(|ip| self.ways.insert(*ip)) {
                let outcome = world.way(&ip.to_string(), known("192.0.2.1"));
                self.follow(outcome);
                continue;
            }
            let is_news = |id: &CheckId, question: &Question| question.told != Some(self.truth(id));
            let news = self.questions.iter().find(|(id, question)| is_news(id, question));
            let Some(id) = news.map(|(id, _)| id.clone()) else { return };
            let health = self.truth(&id);
            if let Some(question) = self.questions.get_mut(&id) {
                question.told = Some(health);
            }
            let outcome = world.health(id.member.pool.as_str(), &id.member.address.to_string(), health);
            self.follow(outcome);
        }
    }
}

fn batch(world: &World, operations: Vec<Operation>) -> Result<Candidate, Refusal> {
    let options = Options { force: true, ..Options::default() };
    world.membership.prepare(world.now, "uid 0", &Change { operations, options })
}

/// The pool with two sources of which each has said something, all well, and the engine that said so.
fn found() -> (World, Engine) {
    let mut world = running(FOUND);
    world.hear(DNS, &[("10.0.0.2", 1)]);
    world.hear(FILE, &[("10.0.0.3", 1)]);
    world.all_well();
    let mut engine = Engine::of(&world);
    engine.probe(&mut world);
    (world, engine)
}

#[test]
fn one_that_goes_from_one_source_to_another_stays_as_it_is() {
    let (mut world, mut engine) = found();
    world.done(weight("10.0.0.2", 7));
    let answers = [(DNS, said(&[("10.0.0.4", 1)])), (FILE, said(&[("10.0.0.2", 1), ("10.0.0.3", 1)]))];
    let answers = answers.map(|(from, backends)| (source(from), backends)).to_vec();
    let outcome = world.membership.take_answers(world.now, answers);
    assert!(!outcome.revised, "no override has ended");
    engine.follow(outcome);
    engine.probe(&mut world);
    assert_eq!((world.cell("10.0.0.2"), world.desired("10.0.0.2").weight), ((true, true, true), 7));
}

#[test]
fn one_that_goes_and_comes_at_once_is_asked_at_once() {
    // One after the other, and what followed is carried out together.
    let (mut world, mut engine) = found();
    let mut outcome = world.hear(DNS, &[("10.0.0.4", 1)]);
    outcome.absorb(world.hear(FILE, &[("10.0.0.2", 1), ("10.0.0.3", 1)]));
    engine.follow(outcome);
    engine.probe(&mut world);
    assert_eq!(world.reason("10.0.0.2"), "");
    // In one change.
    let mut world = running(WEB);
    world.done(add("web", "10.0.0.3"));
    world.all_well();
    let mut engine = Engine::of(&world);
    engine.probe(&mut world);
    for operations in [
        vec![remove("web", "10.0.0.3"), add("web", "10.0.0.3")],
        vec![disable("10.0.0.3"), enable("10.0.0.3")],
    ] {
        let Candidate { membership, outcome } = batch(&world, operations).unwrap();
        world.membership = membership;
        engine.follow(outcome);
        engine.probe(&mut world);
        assert_eq!(world.reason("10.0.0.3"), "");
    }
}

/// 10.0.0.1 to 10.0.0.5.
type Who = u8;

#[derive(Clone, Debug)]
enum Step {
    Answers(Vec<(bool, BTreeSet<Who>)>),
    Change(Vec<(u8, Who)>),
    Truth(Who, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 1..=5_u8;
    let answer = (any::<bool>(), prop::collection::btree_set(who(), 0..4));
    prop_oneof![
        3 => prop::collection::vec(answer, 1..4).prop_map(Step::Answers),
        3 => prop::collection::vec((0..6_u8, who()), 1..4).prop_map(Step::Change),
        2 => (who(), any::<bool>()).prop_map(|(who, well)| Step::Truth(who, well)),
    ]
}

fn operation((kind, who): (u8, Who)) -> Operation {
    let at = format!("10.0.0.{who}");
    match kind {
        0 | 1 => add("web", &at),
        2 => remove("web", &at),
        3 => disable(&at),
        4 => enable(&at),
        _ => drain(&at),
    }
}

fn take(world: &mut World, engine: &mut Engine, step: Step) {
    let outcome = match step {
        Step::Answers(answers) => {
            let entries =
                |who: BTreeSet<Who>| who.iter().map(|who| (address(&format!("10.0.0.{who}")), 1)).collect();
            let from = |dns| source(if dns { DNS } else { FILE });
            let answers = answers.into_iter().map(|(dns, who)| (from(dns), entries(who))).collect();
            world.membership.take_answers(world.now, answers)
        }
        Step::Change(operations) => match batch(world, operations.into_iter().map(operation).collect()) {
            Ok(Candidate { membership, outcome }) => {
                world.membership = membership;
                outcome
            }
            Err(_) => return,
        },
        Step::Truth(who, well) => {
            let id = id("web", &format!("10.0.0.{who}"));
            if well {
                engine.ill.remove(&id)
            } else {
                engine.ill.insert(id)
            };
            Outcome::default()
        }
    };
    engine.follow(outcome);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_findings_of_checks_arrive(steps in prop::collection::vec(step(), 1..12)) {
        let (mut world, mut engine) = found();
        for step in steps {
            take(&mut world, &mut engine, step.clone());
            engine.probe(&mut world);
            let targets: Vec<CheckId> = world.membership.health_targets().into_iter().map(|target| target.id).collect();
            prop_assert_eq!(&targets, &engine.questions.keys().cloned().collect::<Vec<_>>());
            for id in targets {
                let view = world.view("web", &id.member.address.to_string());
                prop_assert_eq!(view.health, engine.truth(&id), "{} after {:?}", id, step);
                prop_assert!(!view.reason.contains("not looked up"), "{} after {:?}: {}", id, step, view.reason);
            }
        }
    }
}
