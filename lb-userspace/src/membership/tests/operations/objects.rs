//! Services and pools that lbctl has added.

use super::*;

#[test]
fn a_service_comes_and_goes_with_its_pool() {
    let mut world = running(WEB);
    let before = world.membership.desired().clone();
    let outcome = world.done(api_add());
    assert!(outcome.revised && outcome.desired_changed && outcome.members_changed);
    assert_eq!(world.membership.desired().services.len(), 2);
    let outcome = world.done(Operation::ServiceRemove { name: name("api") });
    assert_eq!(outcome.checks_removed, [id("api", "10.0.0.9")]);
    assert_eq!(world.membership.desired(), &before);
    assert!(world.membership.cli_objects().is_empty());
    assert_eq!(world.refused(Operation::ServiceRemove { name: name("api") }).code, RefusalCode::NotFound);
}

#[test]
fn a_service_may_begin_without_backends() {
    let mut world = running(WEB);
    let outcome = world.done(Operation::ServiceAdd(Box::new(ServiceAdd { backends: Vec::new(), ..api() })));
    assert!(outcome.warnings.iter().any(|warning| warning.message.contains("has no backends")));
    world.done(add("api", "10.0.0.9"));
    world.all_well();
    assert!(world.view("api", "10.0.0.9").eligible);
}

/// See `spec/validate/endpoints.rs`: what a file may not say, lbctl may not add.
#[test]
fn an_endpoint_that_two_indexes_would_know_is_refused() {
    let mut world = running(WEB);
    let listen = vec!["203.0.113.11:any/tcp".parse().unwrap()];
    let health = Some(HealthSpec { port: Some(80), ..HealthSpec::default() });
    let any = ServiceAdd { listen, health, forward: Forward::Nat, ..api() };
    world.done(Operation::ServiceAdd(Box::new(any)));
    let refusal = world.refused(add("api", "10.0.0.1"));
    assert_eq!(refusal.code, RefusalCode::Invalid);
    let said = refusal.to_string();
    for part in ["service \"api\"", "service \"web\"", "10.0.0.1:", "add the listener 203.0.113.11:"] {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    // As the refusal says: a service of its own for that port keeps the two apart, and may not go while they need it.
    let listen = vec!["203.0.113.11:80/tcp".parse().unwrap()];
    let between = ServiceAdd { name: name("between"), listen, forward: Forward::Nat, ..api() };
    world.done(Operation::ServiceAdd(Box::new(between)));
    world.done(add("api", "10.0.0.1"));
    let refusal = world.refused(Operation::ServiceRemove { name: name("between") });
    assert!(refusal.to_string().contains("add the listener 203.0.113.11:80/tcp"), "{refusal}");
}

#[test]
fn a_service_of_lbctls_may_use_a_pool_of_the_file() {
    let mut world = running(WEB);
    let add = ServiceAdd { pool: Some(name("web")), backends: Vec::new(), ..api() };
    world.done(Operation::ServiceAdd(Box::new(ServiceAdd { forward: Forward::FullNat, ..add })));
    assert_eq!(world.membership.service_views()[0].eligible, 2);
    // The file cannot take the pool away from under it.
    let without = WEB.replace("name = \"web\"", "name = \"www\"");
    let refusal = world.reload(&without).unwrap_err();
    assert!(refusal.to_string().contains("names the pool \"web\""), "{refusal}");
    // Nor is it lbctl's to remove with the service.
    world.done(Operation::ServiceRemove { name: name("api") });
    assert_eq!(world.backends("web"), [ONE, TWO]);
}

#[test]
fn a_service_is_changed_in_place() {
    let mut world = running(WEB);
    world.done(api_add());
    world.all_well();
    let set = ServiceSet {
        listen: Some(vec!["203.0.113.12:80/tcp".parse().unwrap()]),
        forward: Some(Forward::Dsr),
        ..ServiceSet::new(name("api"))
    };
    world.done(Operation::ServiceSet(Box::new(set.clone())));
    let services = &world.membership.desired().services;
    assert!(services.contains_key(&"203.0.113.12:80/tcp".parse().unwrap()));
    assert!(!services.contains_key(&"203.0.113.11:80/tcp".parse().unwrap()));
    assert!(world.view("api", "10.0.0.9").eligible);
    assert!(!world.done(Operation::ServiceSet(Box::new(set))).revised);
    let health = HealthSpec { port: Some(8080), ..HealthSpec::default() };
    let set = ServiceSet { health: Some(health), ..ServiceSet::new(name("api")) };
    let outcome = world.done(Operation::ServiceSet(Box::new(set)));
    assert_eq!(outcome.checks_put[0].address.to_string(), "10.0.0.9:8080");
    assert_eq!(outcome.checks_put[0].initial, Health::Healthy);
}

#[test]
fn pools_of_lbctls() {
    let mut world = running(WEB);
    let backends = vec![NewBackend { address: address("10.0.1.1"), weight: 1 }];
    let pool = PoolAdd::new(name("spare"), backends);
    world.done(Operation::PoolAdd(Box::new(pool.clone())));
    assert!(!world.done(Operation::PoolAdd(Box::new(pool))).revised);
    assert_eq!(world.view("spare", "10.0.1.1").reason, "no service uses its pool");
    assert!(world.membership.health_targets().iter().all(|target| target.id.member.pool != name("spare")));
    let user = ServiceAdd { pool: Some(name("spare")), backends: Vec::new(), ..api() };
    world.done(Operation::ServiceAdd(Box::new(user)));
    let refusal = world.refused(Operation::PoolRemove { name: name("spare") });
    assert!(refusal.to_string().contains("lbctl service remove api"), "{refusal}");
    world.done(Operation::ServiceRemove { name: name("api") });
    world.done(Operation::PoolRemove { name: name("spare") });
    assert!(world.membership.cli_objects().is_empty());
}

#[test]
fn lbctl_says_of_a_pool_what_the_file_can() {
    let mut world = running(WEB);
    let keys = r#"{"maglev":4093,"panic_below":"30%","slow_start":30,"backup":"web","passive":false}"#;
    let operation = |op: &str, more: &str, keys: &str| -> Operation {
        serde_json::from_str(&format!(r#"{{"op":"{op}","name":"spare"{more},{}"#, &keys[1..])).unwrap()
    };
    let backends = r#","backends":[{"address":"10.0.1.1"}]"#;
    world.done(operation("pool_add", backends, keys));
    let pool = |world: &World| world.membership.cli_objects().pools[&name("spare")].clone();
    let (file, lbctl) = {
        let toml = "[[pool]]\nname = \"spare\"\nbackends = [\"10.0.1.1\"]\nmaglev = 4093\npanic_below = \"30%\"\n\
                    slow_start = \"30s\"\nbackup = \"web\"\npassive = false\n";
        (spec(&format!("{WEB}{toml}")).pool(&name("spare")).unwrap().clone(), pool(&world))
    };
    let same = PoolSpec { origin: Origin::Cli, backends: Vec::new(), ..file };
    assert_eq!(lbctl, same, "the same words mean the same");
    // What is not said stays; what was switched off can be had again, and the other way round.
    world.done(operation("pool_set", "", r#"{"backup":false,"passive":{"eject":60}}"#));
    let set = pool(&world);
    assert_eq!((set.backup.clone(), set.maglev, set.slow_start), (None, Some(4093), Duration::from_secs(30)));
    assert_eq!(set.passive.unwrap().eject, Duration::from_secs(60));
    assert!(world.done(operation("pool_set", "", r#"{"maglev":4093}"#)).notes[0].ends_with("unchanged"));
    for (op, more, bad) in [
        ("pool_set", "", r#"{"backup":"none-such"}"#),
        ("pool_set", "", r#"{"maglev":7}"#),
        ("pool_set", "", r#"{"slow_start":1e9}"#),
        ("pool_add", backends, r#"{"passive":true}"#),
    ] {
        assert_eq!(world.refused(operation(op, more, bad)).code, RefusalCode::Invalid, "{bad}");
    }
    let foreign = PoolSet { maglev: Some(4093), ..PoolSet::new(name("web")) };
    assert_eq!(world.refused(Operation::PoolSet(Box::new(foreign))).code, RefusalCode::Owner);
    let nobody = PoolSet { maglev: Some(4093), ..PoolSet::new(name("spar")) };
    let refusal = world.refused(Operation::PoolSet(Box::new(nobody)));
    assert!(refusal.code == RefusalCode::NotFound && refusal.to_string().contains("spare"), "{refusal}");
    for bad in [r#"{"op":"pool_set","name":"a","wieght":1}"#, r#"{"op":"pool_set","name":"a","backup":true}"#]
    {
        assert!(serde_json::from_str::<Operation>(bad).is_err(), "{bad}");
    }
    // A service's own pool, at its beginning and later.
    let add = ServiceAdd { slow_start: Some(Duration::from_secs(5)), ..api() };
    world.done(Operation::ServiceAdd(Box::new(add)));
    let set = ServiceSet {
        passive: Some(PassiveKey::Is(false)),
        shadow_local: Some(true),
        ..ServiceSet::new(name("api"))
    };
    world.done(Operation::ServiceSet(Box::new(set)));
    let own = world.membership.cli_objects().pools[&name("api")].clone();
    assert_eq!((own.slow_start, own.passive), (Duration::from_secs(5), None));
    assert!(world.membership.cli_objects().services[&name("api")].shadow_local);
}

#[test]
fn families_that_a_mode_cannot_join_are_refused() {
    let mut world = running(WEB);
    let mut service = api();
    service.listen = vec!["[2001:db8::10]:80/tcp".parse().unwrap()];
    let refusal = world.refused(Operation::ServiceAdd(Box::new(service.clone())));
    assert_eq!(refusal.code, RefusalCode::Invalid);
    service.forward = Forward::Ipip;
    world.done(Operation::ServiceAdd(Box::new(service)));
}
