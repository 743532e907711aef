//! Start, restart, reload.

use super::*;

fn restarted(text: &str, pinned: Pinned) -> World {
    let start = Start { file: spec(text), pinned, ..Start::default() };
    World { membership: Membership::start(Millis(0), start).unwrap().membership, now: Millis(0) }
}

fn served_one() -> Pinned {
    let held = |takes_new, keeps| Held { takes_new, keeps };
    Pinned {
        members: [(id("web", ONE), held(true, true)), (id("web", TWO), held(false, false))].into(),
        ways: [("10.0.0.1".parse().unwrap(), known("192.0.2.1"))].into(),
    }
}

#[test]
fn after_a_restart_the_pinned_state_stands_until_checks_have_spoken() {
    let mut world = restarted(WEB, served_one());
    assert_eq!(world.cell(ONE), (true, true, true));
    assert_eq!(world.reason(ONE), "as before; waiting for first check");
    assert_eq!(world.cell(TWO), (false, false, true));
    assert_eq!(world.membership.desired().next_hops.len(), 1);
    let initial: Vec<Health> =
        world.membership.health_targets().iter().map(|target| target.initial).collect();
    assert_eq!(initial, [Health::Healthy, Health::Unknown]);
    world.health("web", ONE, Health::Unhealthy);
    assert_eq!(world.cell(ONE), (false, false, true));
    world.health("web", TWO, Health::Healthy);
    world.way("10.0.0.2", known("192.0.2.1"));
    assert_eq!(world.cell(TWO), (true, true, true));
}

#[test]
fn a_way_that_is_looked_for_again_stands_until_it_is_lost() {
    let mut world = restarted(WEB, served_one());
    let before = world.membership.desired().clone();
    let outcome = world.way("10.0.0.1", WayState::Resolving);
    assert!(!outcome.desired_changed && world.membership.desired() == &before);
    world.way("10.0.0.1", unresolved("no route"));
    assert_eq!(world.reason(ONE), "next hop unresolved: no route");
    world.way("10.0.0.1", WayState::Resolving);
    assert_eq!(world.reason(ONE), "next hop unresolved: neighbour not known yet");
    assert_eq!(world.membership.desired().next_hops.len(), 0);
}

#[test]
fn a_pinned_backend_that_is_drained_takes_nothing() {
    let entry = OverrideEntry {
        pool: name("web"),
        address: address(ONE),
        value: Override { state: Some(StateOverride::DRAIN), ..Override::default() },
    };
    let start = Start { file: spec(WEB), pinned: served_one(), overrides: vec![entry], ..Start::default() };
    let membership = Membership::start(Millis(0), start).unwrap().membership;
    let world = World { membership, now: Millis(0) };
    assert_eq!(world.cell(ONE), (false, true, true));
}

#[test]
fn a_deadline_that_passed_while_nobody_ran_is_due_at_once() {
    let state = StateOverride::Draining { deadline: Some(Millis(500)), then: Then::Disable, expired: false };
    let value = Override { state: Some(state), ..Override::default() };
    let entry = OverrideEntry { pool: name("web"), address: address(ONE), value };
    let start = Start { file: spec(WEB), overrides: vec![entry], ..Start::default() };
    let membership = Membership::start(Millis(10_000), start).unwrap().membership;
    let mut world = World { membership, now: Millis(10_000) };
    assert_eq!(world.membership.next_timer(), Some(Millis(500)));
    world.wait(0);
    assert_eq!(world.view("web", ONE).state, Commanded::Disabled);
}

#[test]
fn revisions_count_on_and_the_same_file_is_none() {
    let saved =
        |number, text: &str| Start { file: spec(WEB), saved: Some((number, spec(text))), ..Start::default() };
    let first = Membership::start(Millis(0), Start { file: spec(WEB), ..Start::default() }).unwrap();
    assert_eq!((first.membership.revision(), first.outcome.revised), (1, true));
    let same = Membership::start(Millis(0), saved(7, &format!("# moved by a line\n{WEB}"))).unwrap();
    assert_eq!((same.membership.revision(), same.outcome.revised), (7, false));
    let other = Membership::start(Millis(0), saved(7, &WEB.replace("203.0.113.10", "203.0.113.12"))).unwrap();
    assert_eq!((other.membership.revision(), other.outcome.revised), (8, true));
}

#[test]
fn a_file_that_contradicts_what_lbctl_added_does_not_start() {
    let mut world = running(WEB);
    let service = ServiceAdd::new(name("api"), vec!["203.0.113.11:80/tcp".parse().unwrap()]);
    world.done(Operation::ServiceAdd(Box::new(service)));
    let start = Start {
        file: spec(&WEB.replace("203.0.113.10", "203.0.113.11")),
        cli: CliObjects::clone(world.membership.cli_objects()),
        ..Start::default()
    };
    assert_eq!(Membership::start(Millis(0), start).unwrap_err().code, RefusalCode::Invalid);
}

#[test]
fn lbctls_objects_survive_a_restart_as_json() {
    let mut world = running(WEB);
    let mut service = ServiceAdd::new(name("api"), vec!["[2001:db8::1]:80/tcp".parse().unwrap()]);
    service.backends = vec![NewBackend { address: address("[2001:db8::9]:81"), weight: 2 }];
    world.done(Operation::ServiceAdd(Box::new(service)));
    world.done(add("web", "10.0.0.3"));
    let json = serde_json::to_string(&**world.membership.cli_objects()).unwrap();
    let cli: CliObjects = serde_json::from_str(&json).unwrap();
    let start = Start { file: spec(WEB), cli, ..Start::default() };
    let again = Membership::start(Millis(0), start).unwrap().membership;
    assert_eq!(again.cli_objects(), world.membership.cli_objects());
    let members = |membership: &Membership| membership.health_targets().len();
    assert_eq!(members(&again), members(&world.membership));
}

#[test]
fn a_reload_of_the_same_is_no_revision_and_no_change() {
    let mut world = running(WEB);
    let before = world.membership.desired().clone();
    let outcome = world.reload(&format!("# a comment\n\n{WEB}")).unwrap();
    assert!(!outcome.revised && !outcome.desired_changed);
    assert_eq!(world.membership.desired(), &before);
    // But messages name the line where it stands now.
    assert!(world.refused(remove("web", ONE)).to_string().starts_with("lbd.toml:10"));
}

#[test]
fn a_reload_changes_only_what_it_must() {
    let text = format!(
        "{WEB}\n[[service]]\nname = \"api\"\nlisten = [\"203.0.113.11:80/tcp\"]\nbackends = [\"10.0.2.1\"]\n"
    );
    let mut world = running(&text);
    let outcome = world.reload(&text.replace("\"10.0.2.1\"", "\"10.0.2.1\", \"10.0.2.2\"")).unwrap();
    assert_eq!(outcome.checks_put.len(), 1);
    assert!(outcome.checks_removed.is_empty());
    assert_eq!(outcome.checks_put[0].id, id("api", "10.0.2.2"));
    assert!(world.view("api", "10.0.2.1").eligible);
}

#[test]
fn a_reload_that_needs_a_restart_is_refused_naming_the_keys() {
    let mut world = running(WEB);
    let other = WEB.replace("interfaces = [\"eth0\"]", "interfaces = [\"eth1\"]\nflows = 4096");
    let refusal = world.reload(&other).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::RestartNeeded);
    assert!(refusal.message.contains("datapath.interfaces, datapath.flows"), "{refusal}");
}

#[test]
fn a_check_that_comes_by_reload_interrupts_nobody() {
    let unchecked = WEB.replace("forward =", "health = { type = \"none\" }\nforward =");
    let mut world = running(&unchecked);
    assert_eq!(world.cell(ONE), (true, true, false));
    let outcome = world.reload(WEB).unwrap();
    assert_eq!(world.cell(ONE), (true, true, true));
    assert_eq!(outcome.checks_put.len(), 2);
    assert_eq!(outcome.checks_put[0].initial, Health::Healthy);
    world.health("web", ONE, Health::Unhealthy);
    assert_eq!(world.cell(ONE), (false, false, true));
}

#[test]
fn a_reload_that_leaves_no_usable_backend_needs_force() {
    let mut world = running(WEB);
    let other = WEB.replace("\"10.0.0.1\", \"10.0.0.2:81\"", "\"10.0.0.7\"");
    assert_eq!(world.reload(&other).unwrap_err().code, RefusalCode::LastBackend);
    let force = Options { force: true, ..Options::default() };
    let candidate = world.membership.reload(world.now, spec(&other), &force).unwrap();
    assert_eq!(candidate.outcome.checks_removed.len(), 2);
}

#[test]
fn what_is_gone_is_not_listened_to() {
    let mut world = running(WEB);
    let before = world.membership.desired().clone();
    for outcome in [
        world.health("web", "10.0.0.99", Health::Healthy),
        world.health("nobody", ONE, Health::Healthy),
        world.way("10.0.0.99", known("192.0.2.1")),
        world.health("web", ONE, Health::Healthy),
        world.membership.handle(Millis(9), Event::Tick),
    ] {
        assert!(outcome.events.is_empty() && !outcome.desired_changed && !outcome.revised);
    }
    assert_eq!(world.membership.desired(), &before);
}

#[test]
fn ways_that_nobody_needs_are_forgotten() {
    let text = format!("{WEB}\n[[pool]]\nname = \"spare\"\nbackends = [\"10.0.1.1\", \"10.0.0.1\"]\n");
    let used =
        format!("{text}[[service]]\nname = \"api\"\nlisten = [\"203.0.113.11:80/tcp\"]\npool = \"spare\"\n");
    let mut world = running(&used);
    let hops = |world: &World| -> Vec<String> {
        world.membership.desired().next_hops.keys().map(ToString::to_string).collect()
    };
    assert_eq!(hops(&world), ["10.0.0.1", "10.0.0.2", "10.0.1.1"]);
    let force = Options { force: true, ..Options::default() };
    let candidate = world.membership.reload(world.now, spec(&text), &force).unwrap();
    assert!(candidate.outcome.members_changed);
    world.membership = candidate.membership;
    assert_eq!(hops(&world), ["10.0.0.1", "10.0.0.2"]);
    assert!(!world.way("10.0.1.1", known("192.0.2.1")).desired_changed);
    // Back again, it is looked up again.
    world.reload(&used).unwrap();
    assert_eq!(hops(&world), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(world.view("spare", "10.0.1.1").reason, "waiting for first check");
    world.way("10.0.1.1", known("192.0.2.1"));
    assert_eq!(hops(&world), ["10.0.0.1", "10.0.0.2", "10.0.1.1"]);
}

#[test]
fn pinned_ways_of_nobody_are_dropped() {
    let mut pinned = served_one();
    pinned.ways.insert("10.0.0.77".parse().unwrap(), known("192.0.2.1"));
    let mut world = restarted(WEB, pinned);
    assert_eq!(world.membership.desired().next_hops.len(), 1);
    world.done(add("web", "10.0.0.77"));
    assert_eq!(world.membership.desired().next_hops.len(), 1);
}
