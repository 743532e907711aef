//! Random histories of backup, panic, slow start and ejection against a model that knows nothing of timers: it goes from second to second
//! and works everything out anew. At times the clock comes late, after something else.

use proptest::prelude::*;

use super::*;
use crate::spec::LONGEST_EJECTION;

const WEB: [&str; 3] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
const SORRY: [&str; 2] = ["10.0.9.1", "10.0.9.2"];

/// What the file says.
#[derive(Clone, Copy, Debug)]
struct Setting {
    backup: Option<(u64, u64, u64)>,
    panic_below: u64,
    slow_start: u64,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Health(usize, bool),
    Sorry(usize, bool),
    Drain(usize),
    Disable(usize),
    Enable(usize),
    Weight(usize, u16),
    Suspect(usize),
    Wait(u64),
    /// As many seconds later one of the backup pool is so, and only then comes the clock.
    Late(u64, usize, bool),
}

fn setting() -> impl Strategy<Value = Setting> {
    let thresholds = prop_oneof![Just((0, 25)), Just((0, 100)), Just((50, 50)), Just((60, 90))];
    let backup = (thresholds, prop_oneof![Just(0_u64), Just(10)])
        .prop_map(|((below, above), hold)| (below, above, hold));
    let panic = prop_oneof![Just(0_u64), Just(40), Just(100)];
    (prop::option::of(backup), panic, prop_oneof![Just(0_u64), Just(20)])
        .prop_map(|(backup, panic_below, slow_start)| Setting { backup, panic_below, slow_start })
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..WEB.len();
    prop_oneof![
        6 => (who(), any::<bool>()).prop_map(|(who, well)| Step::Health(who, well)),
        2 => (0..SORRY.len(), any::<bool>()).prop_map(|(who, well)| Step::Sorry(who, well)),
        1 => who().prop_map(Step::Drain),
        1 => who().prop_map(Step::Disable),
        1 => who().prop_map(Step::Enable),
        1 => (who(), 0_u16..4).prop_map(|(who, weight)| Step::Weight(who, weight)),
        3 => who().prop_map(Step::Suspect),
        4 => (1_u64..40).prop_map(Step::Wait),
        1 => (200_u64..800).prop_map(Step::Wait),
        2 => (1_u64..40, 0..SORRY.len(), any::<bool>()).prop_map(|(wait, who, well)| Step::Late(wait, who, well)),
    ]
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    #[default]
    Active,
    Draining,
    Disabled,
}

#[derive(Clone, Copy, Debug)]
struct One {
    state: State,
    weight: u64,
    well: Option<bool>,
    /// Seconds.
    ejected_until: Option<u64>,
    ejections: u32,
    takes: bool,
    takes_since: u64,
}

impl One {
    const NEW: Self = Self {
        state: State::Active,
        weight: 1,
        well: None,
        ejected_until: None,
        ejections: 0,
        takes: false,
        takes_since: 0,
    };

    fn is_active(&self) -> bool {
        self.state == State::Active && self.weight > 0
    }

    fn is_out(&self, now: u64) -> bool {
        self.ejected_until.is_some_and(|until| until > now)
    }
}

#[derive(Debug)]
struct Model {
    setting: Setting,
    web: [One; 3],
    sorry: [One; 2],
    on_backup: bool,
    well_since: Option<u64>,
    panic: bool,
    now: u64,
}

impl Model {
    fn new(setting: Setting) -> Self {
        let (web, sorry) = ([One::NEW; 3], [One::NEW; 2]);
        Self { setting, web, sorry, on_backup: false, well_since: None, panic: false, now: 0 }
    }

    /// What follows from what is known now.
    fn settle(&mut self) {
        let now = self.now;
        for one in self.web.iter_mut().chain(&mut self.sorry) {
            let takes = one.is_active() && one.well == Some(true) && !one.is_out(now);
            if takes && !one.takes {
                one.takes_since = now;
            }
            one.takes = takes;
        }
        let active = || self.web.iter().filter(|one| one.is_active());
        let usable: u64 = active().filter(|one| one.takes).map(|one| one.weight).sum();
        let known: u64 = active().filter(|one| one.well.is_some()).map(|one| one.weight).sum();
        let nobody_has_spoken = known == 0 && active().count() > 0;
        let stand_ins = self.setting.backup.is_some() && self.sorry.iter().any(|one| one.takes);
        let is_less = |percent: u64| usable * 100 < known * percent;
        if nobody_has_spoken {
            (self.panic, self.well_since) = (false, None);
            self.on_backup &= self.setting.backup.is_some();
            return;
        }
        match self.setting.backup.filter(|_| stand_ins) {
            None => (self.on_backup, self.well_since) = (false, None),
            Some((below, above, hold)) => {
                let is_well = usable > 0 && !is_less(above);
                self.well_since = if is_well { self.well_since.or(Some(now)) } else { None };
                self.on_backup = match self.on_backup {
                    true => self.well_since.is_none_or(|since| now - since < hold),
                    false => usable == 0 || is_less(below),
                };
                if !self.on_backup {
                    self.well_since = None;
                }
            }
        }
        self.panic = !self.on_backup && is_less(self.setting.panic_below);
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Health(who, well) => {
                if self.web[who].state != State::Disabled {
                    self.web[who].well = Some(well);
                }
            }
            Step::Sorry(who, well) => self.sorry(who, well),
            Step::Late(seconds, who, well) => {
                self.now += seconds;
                self.sorry(who, well);
            }
            Step::Drain(who) => self.set(who, State::Draining),
            Step::Disable(who) => self.set(who, State::Disabled),
            Step::Enable(who) => {
                self.set(who, State::Active);
                // An overriding weight of 0 ends too.
                self.web[who].weight += u64::from(self.web[who].weight == 0);
            }
            Step::Weight(who, weight) => {
                if weight > 0 && self.web[who].state == State::Draining {
                    self.set(who, State::Active);
                }
                self.web[who].weight = u64::from(weight);
            }
            Step::Suspect(who) => self.suspect(who),
            Step::Wait(seconds) => {
                for _ in 0..seconds {
                    self.now += 1;
                    self.settle();
                }
            }
        }
        self.settle();
    }

    /// Without a service it is not checked.
    fn sorry(&mut self, who: usize, well: bool) {
        self.sorry[who].well = Some(well).filter(|_| self.setting.backup.is_some());
    }

    fn set(&mut self, who: usize, state: State) {
        let one = &mut self.web[who];
        if (one.state == State::Disabled) != (state == State::Disabled) {
            one.well = None;
        }
        one.state = state;
    }

    fn suspect(&mut self, who: usize) {
        let now = self.now;
        let is_out = |one: &One| one.is_out(now);
        let others_take = self.web.iter().enumerate().any(|(other, one)| other != who && one.takes);
        // Two of three are more than 34 %.
        if !self.web[who].takes || self.on_backup || self.panic || self.web.iter().any(is_out) || !others_take
        {
            return;
        }
        let one = &mut self.web[who];
        let is_recent = one.ejected_until.is_some_and(|until| now - until < LONGEST_EJECTION.as_secs());
        one.ejections = if is_recent { one.ejections + 1 } else { 1 };
        one.ejected_until = Some(now + (10 << (one.ejections - 1).min(5)).min(LONGEST_EJECTION.as_secs()));
    }

    /// Address and weight in the table of everybody who gets new flows.
    fn takers(&self) -> Vec<(String, u64)> {
        let tenths = |one: &One| {
            let age = self.now - one.takes_since;
            let slow = self.setting.slow_start;
            if !one.takes || age >= slow { 10 } else { (10 * age / slow).max(1) }
        };
        let is_any_slow = self.web.iter().any(|one| tenths(one) < 10);
        let scale = if is_any_slow { 10 } else { 1 };
        let mut takers = Vec::new();
        for (address, one) in WEB.iter().zip(&self.web) {
            let in_panic = self.panic && one.is_active() && one.well.is_some();
            if in_panic || one.takes && !self.on_backup {
                let tenths = if in_panic { 10 } else { tenths(one) };
                takers.push(((*address).to_owned(), one.weight * scale * tenths / 10));
            }
        }
        for (address, one) in SORRY.iter().zip(&self.sorry) {
            if self.on_backup && one.takes {
                takers.push(((*address).to_owned(), scale));
            }
        }
        takers
    }
}

fn text(setting: Setting) -> String {
    let backup = setting.backup.map(|(below, above, hold)| {
        format!("backup = {{ pool = \"sorry\", below = \"{below}%\", above = \"{above}%\", hold = \"{hold}s\" }}\n")
    });
    format!(
        "[datapath]\ninterfaces = [\"eth0\"]\n\
         [[service]]\nname = \"web\"\nforward = \"nat\"\nlisten = [\"203.0.113.10:80/tcp\"]\npool = \"web\"\n\
         [[pool]]\nname = \"web\"\nbackends = {WEB:?}\npanic_below = \"{}%\"\nslow_start = \"{}s\"\n{}\
         [[pool]]\nname = \"sorry\"\nbackends = {SORRY:?}\n",
        setting.panic_below,
        setting.slow_start,
        backup.unwrap_or_default()
    )
}

fn run(world: &mut World, step: Step) {
    let health = |well| if well { Health::Healthy } else { Health::Unhealthy };
    match step {
        Step::Health(who, well) => drop(world.health("web", WEB[who], health(well))),
        Step::Sorry(who, well) => drop(world.health("sorry", SORRY[who], health(well))),
        Step::Drain(who) => drop(world.forced(drain(WEB[who]))),
        Step::Disable(who) => drop(world.forced(disable(WEB[who]))),
        Step::Enable(who) => drop(world.forced(enable(WEB[who]))),
        Step::Weight(who, value) => drop(world.forced(weight(WEB[who], value))),
        Step::Suspect(who) => drop(world.suspect(WEB[who])),
        Step::Wait(seconds) => drop(world.wait(seconds)),
        Step::Late(seconds, who, well) => {
            world.now = world.now.after(Duration::from_secs(seconds));
            world.health("sorry", SORRY[who], health(well));
            world.wait(0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: histories(10_000), ..ProptestConfig::default() })]

    #[test]
    fn every_history_agrees_with_the_model_of_standby(setting in setting(), steps in prop::collection::vec(step(), 1..24)) {
        let mut world = start(&text(setting));
        for ip in WEB.iter().chain(&SORRY) {
            world.way(ip, known("192.0.2.1"));
        }
        let mut model = Model::new(setting);
        for step in steps {
            run(&mut world, step);
            model.apply(step);
            let table = world.table("web", Variant::V4).backends.iter();
            let takers: Vec<(String, u64)> = table
                .filter(|(_, one)| one.table_weight() > 0)
                .map(|(address, one)| (address.to_string(), u64::from(one.weight)))
                .collect();
            prop_assert_eq!(takers, model.takers(), "after {:?} at {} s: {:#?}", step, model.now, model);
        }
    }
}
