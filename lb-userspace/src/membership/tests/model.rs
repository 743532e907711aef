//! Random histories against a model that keeps plain sets and recomputes everything each time.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::ask::{Ask, Told, ask, at};
use super::*;

/// 10.0.0.1 to 10.0.0.4; the first is always in the file, so that the file is never empty.
const ADDRESSES: u8 = 4;

#[derive(Clone, Debug)]
enum Step {
    Reload(BTreeSet<u8>),
    Do(Ask),
    Health(u8, bool),
    Way(u8, bool),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 1..=ADDRESSES;
    prop_oneof![
        1 => prop::collection::btree_set(2..=ADDRESSES, 0..4).prop_map(Step::Reload),
        7 => ask(ADDRESSES).prop_map(Step::Do),
        4 => (who(), any::<bool>()).prop_map(|(who, well)| Step::Health(who, well)),
        2 => (who(), any::<bool>()).prop_map(|(who, known)| Step::Way(who, known)),
        1 => (0_u64..150).prop_map(Step::Wait),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Active,
    Draining,
    Until(u64, Then),
    Over,
    Disabled,
}

/// What is known of one address that somebody claims.
#[derive(Clone, Debug)]
struct Known {
    state: State,
    weight: Option<u16>,
    well: Option<bool>,
}

#[derive(Clone, Debug, Default)]
struct Model {
    file: BTreeSet<u8>,
    cli: BTreeMap<u8, u16>,
    known: BTreeMap<u8, Known>,
    ways: BTreeMap<u8, bool>,
    now: u64,
}

impl Model {
    /// Those without a claim are forgotten, the others begin as new ones.
    fn settle(&mut self) {
        let claimed: BTreeSet<u8> = self.file.iter().chain(self.cli.keys()).copied().collect();
        self.known.retain(|who, _| claimed.contains(who));
        self.ways.retain(|who, _| claimed.contains(who));
        for who in claimed {
            self.known.entry(who).or_insert(Known { state: State::Active, weight: None, well: None });
        }
    }

    fn weight(&self, who: u8) -> u16 {
        let defined = if self.file.contains(&who) { 1 } else { self.cli[&who] };
        self.known[&who].weight.unwrap_or(defined)
    }

    /// (takes new flows, keeps those it has)
    fn verdict(&self, who: u8) -> (bool, bool) {
        let known = &self.known[&who];
        let takes = known.state == State::Active
            && self.weight(who) > 0
            && known.well == Some(true)
            && self.ways.get(&who) == Some(&true);
        let lost = matches!(known.state, State::Disabled | State::Over) || known.well == Some(false);
        (takes, !lost)
    }

    fn usable(&self) -> usize {
        self.known.keys().filter(|who| self.verdict(**who).0).count()
    }

    fn set(&mut self, who: u8, state: State) {
        let known = self.known.get_mut(&who).unwrap();
        if (known.state == State::Disabled) != (state == State::Disabled) {
            known.well = None;
        }
        known.state = state;
    }

    /// Applies the step; the code of the refusal, and then nothing has changed.
    fn apply(&mut self, step: &Step) -> Result<(), RefusalCode> {
        let mut next = self.clone();
        next.try_apply(step)?;
        next.settle();
        let judged = !matches!(step, Step::Health(..) | Step::Way(..) | Step::Wait(_));
        if judged && self.usable() > 0 && next.usable() == 0 {
            return Err(RefusalCode::LastBackend);
        }
        *self = next;
        Ok(())
    }

    fn try_apply(&mut self, step: &Step) -> Result<(), RefusalCode> {
        let exists = |model: &Self, who: &u8| {
            if model.known.contains_key(who) { Ok(()) } else { Err(RefusalCode::NotFound) }
        };
        let own = |model: &Self, who: &u8| {
            if model.cli.contains_key(who) { Ok(()) } else { Err(RefusalCode::Owner) }
        };
        match step {
            Step::Reload(members) => self.file = members.iter().copied().chain([1]).collect(),
            Step::Do(Ask::Add(who, weight)) => match self.cli.get(who) {
                Some(there) if there != weight => return Err(RefusalCode::Invalid),
                _ => drop(self.cli.insert(*who, *weight)),
            },
            Step::Do(Ask::Remove(who, drain)) => {
                exists(self, who)?;
                own(self, who)?;
                match drain {
                    None => drop(self.cli.remove(who)),
                    Some(seconds) => {
                        self.set(*who, State::Until(self.now + seconds * 1000, Then::Remove));
                    }
                }
            }
            Step::Do(Ask::Weight(who, weight)) => {
                exists(self, who)?;
                if *weight > 0 && self.known[who].state == State::Draining {
                    self.set(*who, State::Active);
                }
                self.known.get_mut(who).unwrap().weight = Some(*weight);
            }
            Step::Do(Ask::Drain(who, deadline, then)) => {
                exists(self, who)?;
                if *then == Then::Remove {
                    own(self, who)?;
                }
                match deadline {
                    None if *then != Then::Keep => return Err(RefusalCode::Invalid),
                    None => self.set(*who, State::Draining),
                    Some(seconds) => self.set(*who, State::Until(self.now + seconds * 1000, *then)),
                }
            }
            Step::Do(Ask::Disable(who)) => {
                exists(self, who)?;
                self.set(*who, State::Disabled);
            }
            Step::Do(Ask::Enable(who)) => {
                exists(self, who)?;
                let idle = self.known[who].state == State::Active && self.known[who].weight != Some(0);
                let defined_zero = !self.file.contains(who) && self.cli[who] == 0;
                if idle && defined_zero && self.weight(*who) == 0 {
                    return Err(RefusalCode::Owner);
                }
                self.set(*who, State::Active);
                let weight = &mut self.known.get_mut(who).unwrap().weight;
                *weight = weight.filter(|weight| *weight > 0);
            }
            Step::Do(Ask::Clear(who)) => {
                exists(self, who)?;
                self.set(*who, State::Active);
                self.known.get_mut(who).unwrap().weight = None;
            }
            Step::Health(who, well) => {
                if let Some(known) = self.known.get_mut(who).filter(|known| known.state != State::Disabled) {
                    known.well = Some(*well);
                }
            }
            Step::Way(who, known) => {
                if self.known.contains_key(who) {
                    self.ways.insert(*who, *known);
                }
            }
            Step::Wait(seconds) => {
                self.now += seconds * 1000;
                self.expire();
            }
        }
        Ok(())
    }

    fn expire(&mut self) {
        for who in self.known.keys().copied().collect::<Vec<_>>() {
            match self.known[&who].state {
                State::Until(deadline, then) if deadline <= self.now => match then {
                    Then::Keep => self.set(who, State::Over),
                    Then::Disable => self.set(who, State::Disabled),
                    Then::Remove => {
                        self.cli.remove(&who);
                        self.set(who, State::Disabled);
                    }
                },
                _ => {}
            }
        }
    }
}

fn text(members: &BTreeSet<u8>) -> String {
    let members: Vec<String> = members
        .iter()
        .chain([&1])
        .collect::<BTreeSet<_>>()
        .iter()
        .map(|n| format!("\"10.0.0.{n}\""))
        .collect();
    WEB.replace("\"10.0.0.1\", \"10.0.0.2:81\"", &members.join(", "))
}

fn run(world: &mut World, step: &Step) -> Result<Outcome, Refusal> {
    Ok(match step {
        Step::Reload(members) => return world.reload(&text(members)),
        Step::Do(ask) => return world.try_do(ask.operation()),
        Step::Health(who, well) => {
            let health = if *well { Health::Healthy } else { Health::Unhealthy };
            world.health("web", &at(*who), health)
        }
        Step::Way(who, true) => world.way(&at(*who), known("192.0.2.1")),
        Step::Way(who, false) => world.way(&at(*who), unresolved("neighbour not answering")),
        Step::Wait(seconds) => world.wait(*seconds),
    })
}

/// What every observer of the membership sees, against the model.
fn compare(world: &World, model: &Model) -> Result<(), TestCaseError> {
    let table = world.table("web", Variant::V4);
    let seen: Vec<(String, u32, bool, bool)> = table
        .backends
        .iter()
        .map(|(address, backend)| (address.to_string(), backend.weight, backend.takes_new, backend.keeps))
        .collect();
    let wanted: Vec<(String, u32, bool, bool)> = model
        .known
        .keys()
        .map(|who| {
            let (takes, keeps) = model.verdict(*who);
            (at(*who), u32::from(model.weight(*who)), takes, keeps)
        })
        .collect();
    prop_assert_eq!(seen, wanted);
    let ways: Vec<String> = world.membership.desired().next_hops.keys().map(ToString::to_string).collect();
    let wanted: Vec<String> =
        model.ways.iter().filter(|(_, known)| **known).map(|(who, _)| at(*who)).collect();
    prop_assert_eq!(ways, wanted);
    let checked: BTreeSet<String> =
        world.membership.health_targets().iter().map(|target| target.id.member.address.to_string()).collect();
    let wanted: BTreeSet<String> = model
        .known
        .iter()
        .filter(|(_, known)| known.state != State::Disabled)
        .map(|(who, _)| at(*who))
        .collect();
    prop_assert_eq!(checked, wanted);
    let timer = model.known.values().filter_map(|known| match known.state {
        State::Until(deadline, _) => Some(Millis(deadline)),
        _ => None,
    });
    prop_assert_eq!(world.membership.next_timer(), timer.min());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: histories(10_000), ..ProptestConfig::default() })]

    #[test]
    fn every_history_agrees_with_the_model(steps in prop::collection::vec(step(), 1..16)) {
        let mut world = start(&text(&BTreeSet::new()));
        let mut model = Model { file: [1].into(), ..Model::default() };
        model.settle();
        let mut told = Told::all(&world);
        for step in &steps {
            let revision = world.membership.revision();
            let outcome = run(&mut world, step);
            prop_assert_eq!(
                outcome.as_ref().map(|_| ()).map_err(|refusal| refusal.code),
                model.apply(step),
                "{:?}", step
            );
            if let Ok(outcome) = &outcome {
                let single = !matches!(step, Step::Wait(_));
                prop_assert!(!single || world.membership.revision() == revision + u64::from(outcome.revised));
            }
            told.follow(outcome.as_ref().ok(), &world)?;
            compare(&world, &model)?;
        }
    }
}
