//! What may happen in a history, and how the membership is told of it.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::model::{ADDRESSES, SORRY};
use super::*;
use crate::membership::tests::ask::{self, Ask, ask};
use crate::membership::tests::discovered::{said, source};
use crate::plan::tests::histories::{Traffic, traffic};

/// What the file says besides its backends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    /// Below, above, hold.
    pub(super) backup: Option<(u64, u64, u64)>,
    pub(super) panic_below: u64,
    pub(super) slow_start: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Who is in the file besides 10.0.0.1, and whether the DNS is asked.
    Reload(BTreeSet<u8>, bool),
    /// With or without `--force`.
    Do(Ask, bool),
    /// The DNS (0) or a file (1) says this.
    Hear(usize, BTreeMap<u8, u16>),
    Health(u8, bool),
    Sorry(u8, bool),
    Way(u8, bool),
    Suspect(u8),
    Wait(u64),
    /// As many seconds later one of the backup pool is so, and only then comes the clock.
    Late(u64, u8, bool),
    /// Flows end, clients fall silent and others come back.
    Flows(Traffic),
    /// A walk over the flow table begins, or ends.
    Walk(bool),
    /// A grace period has passed.
    Settled,
}

pub(super) fn setting() -> impl Strategy<Value = Setting> {
    let thresholds = prop_oneof![Just((0, 25)), Just((0, 100)), Just((50, 50)), Just((60, 90))];
    let backup = (thresholds, prop_oneof![Just(0_u64), Just(10)])
        .prop_map(|((below, above), hold)| (below, above, hold));
    let panic = prop_oneof![2 => Just(0_u64), 1 => Just(40), 1 => Just(100)];
    (prop::option::of(backup), panic, prop_oneof![Just(0_u64), Just(20)])
        .prop_map(|(backup, panic_below, slow_start)| Setting { backup, panic_below, slow_start })
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let who = || 1..=ADDRESSES;
    let sorry = || 0..SORRY;
    let some = prop::collection::btree_map(who(), 1_u16..3, 0..4);
    let well = || prop::bool::weighted(0.7);
    prop_oneof![
        2 => (prop::collection::btree_set(2..=ADDRESSES, 0..4), well()).prop_map(|(members, dns)| Step::Reload(members, dns)),
        7 => (ask(ADDRESSES), prop::bool::weighted(0.3)).prop_map(|(ask, force)| Step::Do(ask, force)),
        4 => (0_usize..2, some).prop_map(|(source, said)| Step::Hear(source, said)),
        9 => (who(), well()).prop_map(|(who, well)| Step::Health(who, well)),
        2 => (sorry(), well()).prop_map(|(who, well)| Step::Sorry(who, well)),
        4 => (who(), prop::bool::weighted(0.85)).prop_map(|(who, way)| Step::Way(who, way)),
        4 => who().prop_map(Step::Suspect),
        5 => (1_u64..40).prop_map(Step::Wait),
        1 => (100_u64..700).prop_map(Step::Wait),
        2 => (1_u64..40, sorry(), any::<bool>()).prop_map(|(wait, who, well)| Step::Late(wait, who, well)),
        3 => traffic().prop_map(Step::Flows),
        3 => any::<bool>().prop_map(Step::Walk),
        1 => Just(Step::Settled),
    ]
}

/// The file.
pub(super) fn text(setting: Setting, members: &BTreeSet<u8>, has_dns: bool) -> String {
    let members: BTreeSet<u8> = members.iter().copied().chain([1]).collect();
    let members: Vec<String> = members.iter().map(|who| format!("\"10.0.0.{who}\"")).collect();
    let backup = setting.backup.map(|(below, above, hold)| {
        format!("backup = {{ pool = \"sorry\", below = \"{below}%\", above = \"{above}%\", hold = \"{hold}s\" }}\n")
    });
    let dns = "[[pool.discover]]\ntype = \"dns\"\nname = \"a.example\"\n";
    format!(
        "[datapath]\ninterfaces = [\"eth0\"]\n\
         [[service]]\nname = \"web\"\nforward = \"nat\"\nlisten = [\"203.0.113.10:80/tcp\"]\npool = \"web\"\n\
         [[pool]]\nname = \"sorry\"\nbackends = [\"10.0.9.1\", \"10.0.9.2\"]\n\
         [[pool]]\nname = \"web\"\nbackends = [{}]\nmaglev = 1021\npanic_below = \"{}%\"\nslow_start = \"{}s\"\n{}\
         {}[[pool.discover]]\ntype = \"file\"\npath = \"/b\"\n",
        members.join(", "),
        setting.panic_below,
        setting.slow_start,
        backup.unwrap_or_default(),
        if has_dns { dns } else { "" },
    )
}

/// The membership takes the step.
pub(super) fn run(world: &mut World, setting: Setting, step: &Step) -> Result<Outcome, Refusal> {
    let health = |well: bool| if well { Health::Healthy } else { Health::Unhealthy };
    let sorry = |who: u8| format!("10.0.9.{}", who + 1);
    Ok(match step {
        Step::Reload(members, has_dns) => return world.reload(&text(setting, members, *has_dns)),
        Step::Do(ask, force) => {
            let options = Options { force: *force, ..Options::default() };
            return world.change(&Change { operations: vec![ask.operation()], options });
        }
        Step::Hear(from, entries) => {
            let entries: Vec<(String, u16)> =
                entries.iter().map(|(who, weight)| (ask::at(*who), *weight)).collect();
            let entries: Vec<(&str, u16)> =
                entries.iter().map(|(who, weight)| (who.as_str(), *weight)).collect();
            let event = Event::Discovered { id: source([DNS, FILE][*from]), backends: said(&entries) };
            world.membership.handle(world.now, event)
        }
        Step::Health(who, well) => world.health("web", &ask::at(*who), health(*well)),
        Step::Sorry(who, well) => world.health("sorry", &sorry(*who), health(*well)),
        Step::Way(who, true) => world.way(&ask::at(*who), known("192.0.2.1")),
        Step::Way(who, false) => world.way(&ask::at(*who), unresolved("neighbour not answering")),
        Step::Suspect(who) => world.suspect(&ask::at(*who)),
        Step::Wait(seconds) => world.wait(*seconds),
        Step::Late(seconds, who, well) => {
            world.now = world.now.after(Duration::from_secs(*seconds));
            let mut outcome = world.health("sorry", &sorry(*who), health(*well));
            outcome.absorb(world.wait(0));
            outcome
        }
        Step::Flows(_) | Step::Walk(_) | Step::Settled => Outcome::default(),
    })
}
