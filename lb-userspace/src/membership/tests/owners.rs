//! Interface.md, *Who owns what*, rules 1 to 3.

use super::*;

#[test]
fn a_new_backend_is_checked_at_once_and_takes_nothing() {
    let world = start(WEB);
    let targets = world.membership.health_targets();
    let addresses: Vec<String> = targets.iter().map(|target| target.address.to_string()).collect();
    assert_eq!(addresses, ["10.0.0.1:80", "10.0.0.2:81"]);
    assert!(world.table("web", Variant::V4).backends.values().all(|backend| !backend.takes_new));
}

#[test]
fn lbctl_cannot_remove_what_the_file_defines() {
    let mut world = running(WEB);
    let refusal = world.refused(remove("web", ONE));
    assert_eq!(refusal.code, RefusalCode::Owner);
    assert_eq!(
        refusal.to_string(),
        "lbd.toml:8: backend web/10.0.0.1 is defined by lbd.toml:8, so lbctl cannot remove it: \
         edit lbd.toml line 8, then `lbctl apply`; for now, lbctl backend disable web 10.0.0.1 would do"
    );
    let refusal = world.refused(drain_until(ONE, 60, Then::Remove));
    assert_eq!(refusal.code, RefusalCode::Owner);
    for operation in [
        Operation::ServiceRemove { name: name("web") },
        Operation::ServiceSet(Box::new(ServiceSet {
            forward: Some(crate::spec::Forward::Dsr),
            ..ServiceSet::new(name("web"))
        })),
        Operation::PoolRemove { name: name("web") },
    ] {
        let refusal = world.refused(operation);
        assert_eq!(refusal.code, RefusalCode::Owner);
        assert!(refusal.to_string().starts_with("lbd.toml:4: "), "{refusal}");
    }
}

#[test]
fn a_reload_touches_nothing_of_lbctls() {
    let mut world = running(WEB);
    world.done(add("web", "10.0.0.3"));
    let mut service = ServiceAdd::new(name("api"), vec!["203.0.113.11:80/tcp".parse().unwrap()]);
    service.backends = vec![NewBackend { address: address("10.0.0.9"), weight: 1 }];
    world.done(Operation::ServiceAdd(Box::new(service)));
    world.all_well();
    let cli = world.membership.cli_objects().clone();
    world.reload(&WEB.replace("\"10.0.0.2:81\"", "\"10.0.0.4\"")).unwrap();
    assert_eq!(world.membership.cli_objects(), &cli);
    assert_eq!(world.backends("web"), [ONE, "10.0.0.3", "10.0.0.4"]);
    assert_eq!(world.backends("api"), ["10.0.0.9"]);
    // What is known of those that stay stays known.
    assert_eq!(world.cell("10.0.0.3"), (true, true, true));
    assert_eq!(world.cell("10.0.0.4"), (false, true, true));
}

#[test]
fn a_reload_that_contradicts_lbctl_is_refused_naming_both() {
    let mut world = running(WEB);
    let service = ServiceAdd::new(name("api"), vec!["203.0.113.11:80/tcp".parse().unwrap()]);
    world.done(Operation::ServiceAdd(Box::new(service)));
    let other = WEB.replace("203.0.113.10", "203.0.113.11");
    let before = world.membership.desired().clone();
    let refusal = world.reload(&other).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Invalid);
    let text = refusal.to_string();
    assert!(text.contains("203.0.113.11:80/tcp") && text.contains("\"web\" at lbd.toml:7"), "{text}");
    assert_eq!(world.membership.desired(), &before);
}

#[test]
fn a_listener_belongs_to_one_service() {
    let mut world = running(WEB);
    let service = ServiceAdd::new(name("api"), vec!["203.0.113.10:80/tcp".parse().unwrap()]);
    let refusal = world.refused(Operation::ServiceAdd(Box::new(service)));
    assert_eq!(refusal.code, RefusalCode::Invalid);
    let text = refusal.to_string();
    assert!(text.contains("\"web\" at lbd.toml:7") || text.starts_with("lbd.toml:7"), "{text}");
    assert!(text.contains("\"api\""), "{text}");
}

#[test]
fn one_address_of_two_origins_is_one_backend_that_goes_with_the_last() {
    let mut world = running(WEB);
    world.done(Operation::BackendAdd { pool: name("web"), address: address(ONE), weight: 9 });
    assert_eq!(world.backends("web"), [ONE, TWO]);
    let view = world.view("web", ONE);
    let origins: Vec<&str> = view.claims.iter().map(|claim| claim.origin.kind()).collect();
    // The file's weight counts, and nothing was interrupted.
    assert_eq!((origins, view.weight, view.eligible), (vec!["file", "cli"], 1, true));
    world.reload(&WEB.replace("\"10.0.0.1\", ", "")).unwrap();
    let view = world.view("web", ONE);
    assert_eq!((view.claims.len(), view.weight, view.eligible), (1, 9, true));
    world.done(remove("web", ONE));
    assert_eq!(world.backends("web"), [TWO]);
    // The other way round: lbctl lets go first.
    world.done(add("web", TWO));
    let outcome = world.done(remove("web", TWO));
    assert_eq!(world.backends("web"), [TWO]);
    assert!(outcome.notes[0].contains("it stays, by lbd.toml:8"), "{:?}", outcome.notes);
}

#[test]
fn a_drained_removal_of_one_of_two_origins_ends_disabled() {
    let mut world = running(WEB);
    world.done(add("web", ONE));
    world.done(drain_until(ONE, 60, Then::Remove));
    world.wait(60);
    assert_eq!(world.view("web", ONE).claims.len(), 1);
    assert_eq!(world.cell(ONE), (false, false, false));
}

#[test]
fn overrides_survive_reload_and_restart_and_end_with_their_backend() {
    let mut world = running(WEB);
    world.done(drain(ONE));
    world.done(weight(TWO, 5));
    world.reload(&format!("# moved\n{WEB}")).unwrap();
    world.reload(&WEB.replace("\"10.0.0.2:81\"", "\"10.0.0.2:81\", \"10.0.0.3\"")).unwrap();
    let overrides = world.membership.overrides();
    assert_eq!(overrides.len(), 2);
    let again = Start { file: spec(WEB), overrides: overrides.clone(), ..Start::default() };
    let restarted = Membership::start(Millis(5), again).unwrap().membership;
    assert_eq!(restarted.overrides(), overrides);
    let outcome = world.reload(&WEB.replace("\"10.0.0.1\", ", "")).unwrap();
    assert!(outcome.events.iter().any(|event| event.kind == EventKind::OverrideCleared));
    assert_eq!(world.membership.overrides().len(), 1);
    // It is another backend that comes back.
    world.reload(WEB).unwrap();
    world.all_well();
    assert_eq!(world.cell(ONE), (true, true, true));
}

#[test]
fn an_override_whose_backend_is_gone_at_start_has_ended() {
    let entry = OverrideEntry {
        pool: name("web"),
        address: address("10.0.0.77"),
        value: Override { state: Some(StateOverride::DRAIN), ..Override::default() },
    };
    let start = Start { file: spec(WEB), overrides: vec![entry], ..Start::default() };
    let candidate = Membership::start(Millis(0), start).unwrap();
    assert!(candidate.membership.overrides().is_empty());
    assert!(candidate.outcome.events.iter().any(|event| event.kind == EventKind::OverrideCleared));
}

#[test]
fn members_of_lbctls_wait_for_their_pool() {
    let text =
        WEB.replace("[[service]]", "[[pool]]\nname = \"spare\"\nbackends = [\"10.0.1.1\"]\n[[service]]");
    let mut world = running(&text);
    world.done(add("spare", "10.0.1.2"));
    let outcome = world.reload(WEB).unwrap();
    assert!(outcome.warnings.iter().any(|warning| warning.message.contains("\"spare\"")));
    assert!(world.membership.pool_view(&name("spare")).is_none());
    world.reload(&text).unwrap();
    assert_eq!(world.backends("spare"), ["10.0.1.1", "10.0.1.2"]);
    world.reload(WEB).unwrap();
    world.done(remove("spare", "10.0.1.2"));
    assert!(world.membership.cli_objects().is_empty());
    assert_eq!(world.refused(add("spare", "10.0.1.3")).code, RefusalCode::NotFound);
}

#[test]
fn the_last_usable_backend_is_not_taken_without_force() {
    let mut world = running(WEB);
    world.done(drain(ONE));
    for operation in [drain(TWO), disable(TWO), weight(TWO, 0)] {
        let refusal = world.refused(operation.clone());
        assert_eq!(refusal.code, RefusalCode::LastBackend);
        assert!(refusal.to_string().contains("service \"web\""), "{refusal}");
        let mut forced = World { membership: world.membership.clone(), now: world.now };
        let outcome = forced.forced(operation);
        assert!(outcome.events.iter().any(|event| event.kind == EventKind::PoolDown));
    }
    // Unhealthy ones are no way out.
    world.done(enable(ONE));
    world.health("web", ONE, Health::Unhealthy);
    assert_eq!(world.refused(drain(TWO)).code, RefusalCode::LastBackend);
    // Nothing is lost by draining what takes nothing.
    world.health("web", TWO, Health::Unhealthy);
    world.done(drain(TWO));
}

#[test]
fn the_last_usable_backend_of_lbctls_is_not_removed_without_force() {
    let mut world = running(WEB);
    world.done(add("web", "10.0.0.3"));
    world.all_well();
    world.health("web", ONE, Health::Unhealthy);
    world.health("web", TWO, Health::Unhealthy);
    assert_eq!(world.refused(remove("web", "10.0.0.3")).code, RefusalCode::LastBackend);
    world.forced(remove("web", "10.0.0.3"));
    assert_eq!(world.backends("web"), [ONE, TWO]);
}

#[test]
fn a_replacement_must_be_healthy_before_the_last_goes() {
    let mut world = running(WEB);
    world.done(drain(ONE));
    let both = Change { operations: vec![add("web", "10.0.0.3"), drain(TWO)], options: Options::default() };
    assert_eq!(world.change(&both).unwrap_err().code, RefusalCode::LastBackend);
    assert_eq!(world.backends("web"), [ONE, TWO]);
    world.done(add("web", "10.0.0.3"));
    world.all_well();
    world.done(drain(TWO));
}
