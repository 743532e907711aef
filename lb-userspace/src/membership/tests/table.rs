//! The table of interface.md, *Who owns what*: a test for each row, an assertion for each cell.

use super::*;

/// With lost flows held where they are.
fn holding() -> World {
    running(&WEB.replace("forward =", "on_loss = \"hold\"\nforward ="))
}

#[test]
fn active() {
    let world = running(WEB);
    assert_eq!(world.cell(ONE), (true, true, true));
    assert_eq!(world.reason(ONE), "");
}

#[test]
fn weight_zero_by_override() {
    let mut world = running(WEB);
    world.done(weight(ONE, 0));
    assert_eq!(world.cell(ONE), (false, true, true));
    assert_eq!(world.reason(ONE), "weight 0 by override");
    assert_eq!((world.view("web", ONE).weight, world.view("web", ONE).claims[0].weight), (0, 1));
    world.done(enable(ONE));
    assert_eq!(world.cell(ONE), (true, true, true));
    world.done(weight(ONE, 0));
    world.done(weight(ONE, 7));
    assert_eq!(world.cell(ONE), (true, true, true));
    assert_eq!(world.desired(ONE).weight, 7);
}

#[test]
fn weight_zero_by_definition() {
    let mut world =
        running(&WEB.replace("\"10.0.0.1\"", "\"10.0.0.3\", { address = \"10.0.0.1\", weight = 0 }"));
    assert_eq!(world.cell(ONE), (false, true, true));
    assert_eq!(world.reason(ONE), "weight 0");
    let refusal = world.refused(enable(ONE));
    assert_eq!(refusal.code, RefusalCode::Owner);
    assert!(refusal.to_string().contains("lbctl backend set web 10.0.0.1 --weight N"), "{refusal}");
    world.done(weight(ONE, 2));
    assert_eq!(world.cell(ONE), (true, true, true));
}

#[test]
fn drain_has_no_end_of_its_own() {
    let mut world = running(WEB);
    world.done(drain(ONE));
    assert_eq!(world.cell(ONE), (false, true, true));
    assert_eq!(world.reason(ONE), "drained by override");
    assert_eq!(world.membership.next_timer(), None);
    world.wait(1_000_000);
    assert_eq!(world.cell(ONE), (false, true, true));
    world.done(enable(ONE));
    assert_eq!(world.cell(ONE), (true, true, true));
    world.done(drain(ONE));
    world.done(weight(ONE, 3));
    assert_eq!(world.cell(ONE), (true, true, true));
    // Another 0 is no end.
    world.done(drain(ONE));
    world.done(weight(ONE, 0));
    assert_eq!(world.view("web", ONE).state, Commanded::Draining);
}

#[test]
fn drain_with_a_deadline_keeps_flows_until_then() {
    let mut world = running(WEB);
    world.done(drain_until(ONE, 60, Then::Keep));
    assert_eq!(world.membership.next_timer(), Some(Millis(60_000)));
    world.wait(59);
    assert_eq!(world.cell(ONE), (false, true, true));
    assert_eq!(world.reason(ONE), "drained by override until 1970-01-01T00:01:00.000Z");
    let outcome = world.wait(1);
    assert_eq!(world.cell(ONE), (false, false, true));
    assert_eq!(world.view("web", ONE).state, Commanded::Draining);
    assert!(outcome.revised && outcome.desired_changed);
    assert!(outcome.events.iter().any(|event| event.kind == EventKind::DrainOver));
    assert_eq!(world.membership.next_timer(), None);
    // A weight does not end it, enable does.
    world.done(weight(ONE, 3));
    assert_eq!(world.cell(ONE), (false, false, true));
    world.done(enable(ONE));
    assert_eq!(world.cell(ONE), (true, true, true));
}

#[test]
fn a_drain_of_no_time_moves_the_flows_at_once() {
    let mut world = running(WEB);
    let outcome = world.done(drain_until(ONE, 0, Then::Keep));
    assert_eq!(
        outcome.notes,
        ["backend web/10.0.0.1: its tracked flows go now, as on_loss says; it stays drained"]
    );
    // The timer is due already: no time passes.
    world.wait(0);
    assert_eq!(world.cell(ONE), (false, false, true));
    world.done(enable(ONE));
    assert_eq!(world.cell(ONE), (true, true, true));
    let outcome = world.done(drain_until(ONE, 0, Then::Disable));
    assert!(outcome.notes[0].ends_with("as on_loss says; it is disabled"), "{:?}", outcome.notes);
    world.wait(0);
    assert_eq!(world.cell(ONE), (false, false, false));
    // A removal after a drain of no time is a removal.
    world.done(add("web", "10.0.0.3"));
    let now = Some(Duration::ZERO);
    let remove = Operation::BackendRemove { pool: name("web"), address: address("10.0.0.3"), drain: now };
    assert_eq!(world.done(remove).notes, ["backend web/10.0.0.3 removed"]);
    assert_eq!(world.backends("web"), [ONE, TWO]);
}

#[test]
fn drain_then_disable() {
    let mut world = running(WEB);
    world.done(drain_until(ONE, 60, Then::Disable));
    let outcome = world.wait(60);
    assert_eq!(world.cell(ONE), (false, false, false));
    assert_eq!(world.view("web", ONE).state, Commanded::Disabled);
    assert_eq!(outcome.checks_removed, [id("web", ONE)]);
}

#[test]
fn drain_then_remove() {
    let mut world = running(WEB);
    world.done(add("web", "10.0.0.3"));
    world.all_well();
    world.done(drain_until("10.0.0.3", 60, Then::Remove));
    world.wait(59);
    assert_eq!(world.cell("10.0.0.3"), (false, true, true));
    let outcome = world.wait(1);
    assert_eq!(world.backends("web"), [ONE, TWO]);
    assert_eq!(outcome.checks_removed, [id("web", "10.0.0.3")]);
    assert!(outcome.revised && world.membership.cli_objects().is_empty());
    assert!(world.membership.overrides().is_empty());
}

#[test]
fn drain_under_hold_keeps_flows_beyond_its_deadline() {
    let mut world = holding();
    world.done(drain_until(ONE, 60, Then::Keep));
    world.wait(61);
    assert_eq!(world.cell(ONE), (false, true, true));
}

#[test]
fn enable_before_the_deadline_ends_the_drain() {
    let mut world = running(WEB);
    world.done(drain_until(ONE, 60, Then::Disable));
    world.wait(30);
    world.done(enable(ONE));
    assert_eq!(world.membership.next_timer(), None);
    world.wait(60);
    assert_eq!(world.cell(ONE), (true, true, true));
}

#[test]
fn disable() {
    let mut world = running(WEB);
    let outcome = world.done(super::disable(ONE));
    assert_eq!(world.cell(ONE), (false, false, false));
    assert_eq!(world.reason(ONE), "disabled by override");
    assert_eq!(outcome.checks_removed, [id("web", ONE)]);
    // A result that was on its way.
    assert!(world.health("web", ONE, Health::Healthy).events.is_empty());
    let outcome = world.done(enable(ONE));
    // Nobody looked in the meantime: it is as good as new.
    assert_eq!(world.cell(ONE), (false, true, true));
    assert_eq!(outcome.checks_put.len(), 1);
    assert_eq!(outcome.checks_put[0].initial, Health::Unknown);
    world.health("web", ONE, Health::Healthy);
    assert_eq!(world.cell(ONE), (true, true, true));
}

#[test]
fn disable_under_hold_keeps_flows() {
    let mut world = holding();
    world.done(super::disable(ONE));
    assert_eq!(world.cell(ONE), (false, true, false));
}

#[test]
fn remove_at_once() {
    let mut world = running(WEB);
    world.done(add("web", "10.0.0.3"));
    world.all_well();
    let outcome = world.done(remove("web", "10.0.0.3"));
    assert!(!world.table("web", Variant::V4).backends.contains_key(&address("10.0.0.3")));
    assert_eq!(outcome.checks_removed, [id("web", "10.0.0.3")]);
    // It ends by `add`: new again.
    world.done(add("web", "10.0.0.3"));
    assert_eq!(world.cell("10.0.0.3"), (false, true, true));
}

#[test]
fn remove_after_a_drain() {
    let mut world = running(WEB);
    world.done(add("web", "10.0.0.3"));
    world.all_well();
    let drain = Some(Duration::from_secs(60));
    world.done(Operation::BackendRemove { pool: name("web"), address: address("10.0.0.3"), drain });
    assert_eq!(world.cell("10.0.0.3"), (false, true, true));
    world.wait(60);
    assert_eq!(world.backends("web"), [ONE, TWO]);
}

#[test]
fn unhealthy() {
    let mut world = running(WEB);
    let outcome = world.health("web", ONE, Health::Unhealthy);
    assert_eq!(world.cell(ONE), (false, false, true));
    assert_eq!(world.reason(ONE), "unhealthy: connection refused");
    assert!(outcome.desired_changed && !outcome.revised);
    let kinds: Vec<EventKind> = outcome.events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::BackendHealth, EventKind::BackendIneligible]);
    // `rise` successes are the engine's to count.
    world.health("web", ONE, Health::Healthy);
    assert_eq!(world.cell(ONE), (true, true, true));
}

#[test]
fn unhealthy_under_hold_keeps_flows() {
    let mut world = holding();
    world.health("web", ONE, Health::Unhealthy);
    assert_eq!(world.cell(ONE), (false, true, true));
}

#[test]
fn unhealthy_while_draining_loses_its_flows() {
    let mut world = running(WEB);
    world.done(drain(ONE));
    world.health("web", ONE, Health::Unhealthy);
    assert_eq!(world.cell(ONE), (false, false, true));
    world.health("web", ONE, Health::Healthy);
    assert_eq!(world.cell(ONE), (false, true, true));
}

#[test]
fn unknown_takes_flows_after_its_first_success() {
    let mut world = running(WEB);
    let outcome = world.done(add("web", "10.0.0.3"));
    assert_eq!(outcome.checks_put.len(), 1);
    world.way("10.0.0.3", known("192.0.2.1"));
    assert_eq!(world.cell("10.0.0.3"), (false, true, true));
    assert_eq!(world.reason("10.0.0.3"), "waiting for first check");
    // A check has run; it is no longer waited for.
    world.finding("web", "10.0.0.3", Health::Unknown, "connection refused (1 of 3 bad checks)");
    assert_eq!(world.reason("10.0.0.3"), "no good check yet: connection refused (1 of 3 bad checks)");
    assert_eq!(world.cell("10.0.0.3"), (false, true, true));
    world.health("web", "10.0.0.3", Health::Healthy);
    assert_eq!(world.cell("10.0.0.3"), (true, true, true));
}

#[test]
fn unknown_that_fails_never_takes_a_flow() {
    let mut world = running(WEB);
    world.done(add("web", "10.0.0.3"));
    world.way("10.0.0.3", known("192.0.2.1"));
    world.health("web", "10.0.0.3", Health::Unhealthy);
    assert_eq!(world.cell("10.0.0.3"), (false, false, true));
    world.finding("web", "10.0.0.3", Health::Unhealthy, "connected (1 of 2 good checks)");
    assert_eq!(world.reason("10.0.0.3"), "unhealthy: connected (1 of 2 good checks)");
}

#[test]
fn unknown_waits_for_its_next_hop() {
    let mut world = running(WEB);
    world.done(add("web", "10.0.0.3"));
    world.health("web", "10.0.0.3", Health::Healthy);
    assert_eq!(world.reason("10.0.0.3"), "next hop unresolved: not looked up yet");
    world.way("10.0.0.3", unresolved("neighbour not answering"));
    assert_eq!(world.cell("10.0.0.3"), (false, true, true));
    assert_eq!(world.reason("10.0.0.3"), "next hop unresolved: neighbour not answering");
    let outcome = world.way("10.0.0.3", known("192.0.2.1"));
    assert_eq!(world.cell("10.0.0.3"), (true, true, true));
    assert!(outcome.desired_changed);
    assert_eq!(world.membership.desired().next_hops[&"10.0.0.3".parse::<IpAddr>().unwrap()], hop(3));
}

#[test]
fn without_a_check_it_takes_flows_once_its_way_is_known() {
    let text = WEB.replace("forward =", "health = { type = \"none\" }\nforward =");
    let mut world = start(&text);
    assert_eq!(world.cell(ONE), (false, true, false));
    world.way("10.0.0.1", WayState::Unneeded { source: None });
    assert_eq!(world.cell(ONE), (true, true, false));
    assert_eq!(
        (world.view("web", ONE).health, world.reason(ONE)),
        (Health::Healthy, "not checked".to_owned())
    );
    // The neighbour is all that can be known of it.
    world.way("10.0.0.1", unresolved("neighbour not answering"));
    assert_eq!(world.cell(ONE), (false, false, false));
}
