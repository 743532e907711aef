//! The whole put back: file, lbctl's objects and overrides together, and the file that stays out of force.

use super::*;

const OTHER: &str = r#"
[datapath]
interfaces = ["eth0"]
[[service]]
name = "web"
forward = "nat"
listen = ["203.0.113.10:80/tcp"]
backends = ["10.0.0.1", "10.0.0.7"]
"#;

fn whole(world: &World, name: &str) -> Back {
    let membership = &world.membership;
    Back {
        name: name.to_owned(),
        time: world.now,
        file: Arc::clone(membership.file()),
        cli: Arc::clone(membership.cli_objects()),
        overrides: membership.overrides(),
    }
}

fn put_back(world: &mut World, back: &Back) -> Outcome {
    let options = Options { force: true, ..Options::default() };
    let candidate = world.membership.put_back(world.now, "uid 0", back.clone(), &options).unwrap();
    world.membership = candidate.membership;
    candidate.outcome
}

/// What people see of the pool.
fn picture(world: &World) -> Vec<(String, u16, Commanded)> {
    let view = world.membership.pool_view(&name("web")).unwrap();
    view.backends
        .iter()
        .map(|backend| (backend.id.address.to_string(), backend.weight, backend.state))
        .collect()
}

fn own_service() -> Operation {
    let mut add = ServiceAdd::new(name("own"), vec!["203.0.113.11:80/tcp".parse().unwrap()]);
    add.backends = vec![NewBackend { address: address("10.0.0.9"), weight: 1 }];
    Operation::ServiceAdd(Box::new(add))
}

#[test]
fn everything_is_as_it_was_and_nothing_that_came_since_is_left() {
    let mut world = running(WEB);
    world.done(add("web", "10.0.0.3"));
    world.done(weight(ONE, 5));
    let (good, wanted) = (whole(&world, "revision 2"), picture(&world));
    world.done(own_service());
    world.done(remove("web", "10.0.0.3"));
    world.done(Operation::OverrideClearAll);
    world.forced(disable(TWO));
    world.reload(OTHER).unwrap();
    assert_ne!(picture(&world), wanted);
    let before = world.membership.revision();
    let outcome = put_back(&mut world, &good);
    assert_eq!(picture(&world), wanted);
    assert!(world.membership.pool_view(&name("own")).is_none(), "what came since is gone");
    assert_eq!((outcome.revised, world.membership.revision()), (true, before + 1));
    assert_eq!(outcome.notes, ["revision 2: put back"]);
    // And back again, to what was.
    assert!(!put_back(&mut world, &good).revised, "it is so already");
    let checks = world.membership.health_targets();
    assert!(checks.iter().any(|target| target.id == id("web", "10.0.0.3")), "it is checked again");
}

#[test]
fn the_file_that_was_left_stays_out_of_force_until_it_changes() {
    let mut world = running(WEB);
    let good = whole(&world, "revision 1");
    world.reload(OTHER).unwrap();
    put_back(&mut world, &good);
    assert!(world.membership.set_aside().is_some());
    let outcome = world.reload(&format!("# moved\n{OTHER}")).unwrap();
    assert!(!outcome.revised && outcome.notes[0].contains("revision 1 stays"), "{:?}", outcome.notes);
    assert_eq!(world.backends("web"), [ONE, TWO]);
    // lbctl's changes go on from there, and do not end it.
    world.done(add("web", "10.0.0.3"));
    assert!(world.membership.set_aside().is_some());
    let outcome = world.reload(&OTHER.replace("10.0.0.7", "10.0.0.8")).unwrap();
    assert!(outcome.revised && world.membership.set_aside().is_none());
    assert_eq!(world.backends("web"), [ONE, "10.0.0.3", "10.0.0.8"]);
}

#[test]
fn going_back_to_what_the_file_says_sets_nothing_aside() {
    let mut world = running(WEB);
    let first = whole(&world, "revision 1");
    world.reload(OTHER).unwrap();
    let second = whole(&world, "revision 2");
    put_back(&mut world, &first);
    put_back(&mut world, &second);
    assert!(world.membership.set_aside().is_none());
    assert!(!world.reload(OTHER).unwrap().revised);
}

#[test]
fn what_is_put_back_is_judged_like_any_other_change() {
    let mut world = running(WEB);
    let good = whole(&world, "revision 1");
    let other = WEB.replace("eth0", "eth1");
    let mut foreign = good.clone();
    foreign.file = spec(&other);
    let none = Options::default();
    let refused = |world: &World, back: &Back, options: &Options| {
        world.membership.put_back(world.now, "uid 0", back.clone(), options).unwrap_err().code
    };
    assert_eq!(refused(&world, &foreign, &none), RefusalCode::RestartNeeded);
    let stale = Options { if_revision: Some(99), ..Options::default() };
    assert_eq!(refused(&world, &good, &stale), RefusalCode::StaleRevision);
    let mut broken = good.clone();
    let mut file = Spec::clone(&good.file);
    file.services[0].listen.clear();
    broken.file = Arc::new(file);
    assert_eq!(refused(&world, &broken, &none), RefusalCode::Invalid);
    world.forced(disable(TWO));
    let mut last = whole(&world, "revision 2");
    last.overrides[0].address = address(ONE);
    assert_eq!(refused(&world, &last, &none), RefusalCode::LastBackend);
}

#[test]
fn a_deadline_that_is_over_by_now_is_as_far_away_as_it_was() {
    let mut world = running(WEB);
    world.done(add("web", "10.0.0.3"));
    world.all_well();
    world.done(drain_until("10.0.0.3", 60, Then::Remove));
    world.wait(20);
    let then = whole(&world, "revision 3");
    world.wait(100);
    assert_eq!(world.backends("web"), [ONE, TWO]);
    let outcome = put_back(&mut world, &then);
    assert!(outcome.notes.iter().any(|note| note.contains("40s to go")), "{:?}", outcome.notes);
    world.wait(39);
    assert_eq!(world.backends("web"), [ONE, TWO, "10.0.0.3"]);
    world.wait(2);
    assert_eq!(world.backends("web"), [ONE, TWO]);
}
