//! What lbctl's operations accept, refuse, and leave unchanged.

use super::*;
use crate::spec::{Forward, HealthSpec, Origin, PoolSpec};

mod objects;

fn api() -> ServiceAdd {
    let mut add = ServiceAdd::new(name("api"), vec!["203.0.113.11:80/tcp".parse().unwrap()]);
    add.backends = vec![NewBackend { address: address("10.0.0.9"), weight: 2 }];
    add
}

fn api_add() -> Operation {
    Operation::ServiceAdd(Box::new(api()))
}

#[test]
fn what_is_exactly_so_is_unchanged() {
    let mut world = running(WEB);
    world.done(api_add());
    world.done(add("web", "10.0.0.3"));
    world.done(drain(ONE));
    world.done(weight(TWO, 4));
    world.done(disable("10.0.0.3"));
    let revision = world.membership.revision();
    for operation in
        [api_add(), add("web", "10.0.0.3"), drain(ONE), weight(TWO, 4), disable("10.0.0.3"), enable(TWO)]
    {
        let outcome = world.done(operation.clone());
        assert!(outcome.notes[0].ends_with(": unchanged"), "{operation:?} {:?}", outcome.notes);
        assert!(!outcome.revised && !outcome.desired_changed && outcome.events.is_empty());
        assert!(outcome.checks_put.is_empty() && outcome.checks_removed.is_empty());
    }
    assert_eq!(world.membership.revision(), revision);
}

#[test]
fn what_is_there_but_otherwise_is_refused() {
    let mut world = running(WEB);
    world.done(api_add());
    world.done(add("web", "10.0.0.3"));
    let other = Operation::BackendAdd { pool: name("web"), address: address("10.0.0.3"), weight: 2 };
    let refusal = world.refused(other);
    assert_eq!(refusal.code, RefusalCode::Invalid);
    assert!(refusal.to_string().contains("lbctl backend set web 10.0.0.3 --weight 2"), "{refusal}");
    let other = ServiceAdd { forward: Forward::Dsr, ..api() };
    assert_eq!(world.refused(Operation::ServiceAdd(Box::new(other))).code, RefusalCode::Invalid);
    let other = ServiceAdd { name: name("web"), ..api() };
    assert_eq!(world.refused(Operation::ServiceAdd(Box::new(other))).code, RefusalCode::Owner);
    let other = ServiceAdd { pool: Some(name("web")), ..api() };
    assert_eq!(world.refused(Operation::ServiceAdd(Box::new(other))).code, RefusalCode::Invalid);
}

#[test]
fn a_pool_is_found_by_its_services_name_and_a_backend_without_its_port() {
    let text = r#"
[datapath]
interfaces = ["eth0"]
[[pool]]
name = "servers"
backends = ["10.0.0.1:81", "10.0.0.2:81", "10.0.0.2:82"]
[[service]]
name = "web"
listen = ["203.0.113.10:80/tcp"]
pool = "servers"
"#;
    let mut world = running(text);
    world.done(drain("10.0.0.1"));
    assert_eq!(world.view("servers", "10.0.0.1:81").state, Commanded::Draining);
    let refusal = world.refused(drain("10.0.0.2"));
    assert_eq!(refusal.code, RefusalCode::NotFound);
    assert!(refusal.to_string().contains("name the port: 10.0.0.2:81, 10.0.0.2:82"), "{refusal}");
    let refusal = world.refused(add("sevrers", "10.0.0.3"));
    assert!(refusal.to_string().contains("did you mean \"servers\"?"), "{refusal}");
}

#[test]
fn a_batch_is_done_whole_or_not_at_all() {
    let mut world = running(WEB);
    let before = (world.membership.desired().clone(), world.membership.revision());
    let operations = vec![add("web", "10.0.0.3"), drain(ONE), drain("10.0.0.99")];
    let refusal = world.change(&Change { operations, options: Options::default() }).unwrap_err();
    assert_eq!((refusal.code, refusal.operation), (RefusalCode::NotFound, Some(2)));
    assert_eq!((world.membership.desired().clone(), world.membership.revision()), before);
    let operations = vec![add("web", "10.0.0.3"), drain("10.0.0.3"), weight(ONE, 5)];
    let outcome = world.change(&Change { operations, options: Options::default() }).unwrap();
    assert_eq!((outcome.notes.len(), world.membership.revision()), (3, before.1 + 1));
}

#[test]
fn a_stale_revision_is_refused() {
    let mut world = running(WEB);
    let revision = world.membership.revision();
    let at = |revision| Change {
        operations: vec![drain(ONE)],
        options: Options { if_revision: Some(revision), ..Options::default() },
    };
    world.change(&at(revision)).unwrap();
    let refusal = world.change(&at(revision)).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::StaleRevision);
}

#[test]
fn a_drain_that_cannot_end_is_refused() {
    let mut world = running(WEB);
    let operation = Operation::BackendDrain {
        pool: name("web"),
        address: address(ONE),
        deadline: None,
        then: Then::Disable,
    };
    assert!(world.refused(operation).to_string().contains("--deadline"));
}

#[test]
fn lengths_that_no_clock_has_are_refused() {
    let mut world = running(WEB);
    let year = Duration::from_secs(366 * 86_400);
    let target = || (name("web"), address(ONE));
    for length in [year + Duration::from_secs(1), Duration::from_secs(1_000_000_000_000), Duration::MAX] {
        let (pool, address) = target();
        let drain = Operation::BackendDrain { pool, address, deadline: Some(length), then: Then::Keep };
        let refusal = world.refused(drain);
        assert_eq!(refusal.code, RefusalCode::Invalid);
        assert!(refusal.to_string().contains("366d"), "{refusal}");
    }
    world.done(add("web", "10.0.0.3"));
    let (pool, address) = (name("web"), address("10.0.0.3"));
    let remove = Operation::BackendRemove { pool, address, drain: Some(Duration::MAX) };
    assert_eq!(world.refused(remove).code, RefusalCode::Invalid);
    world.done(drain_until(ONE, year.as_secs(), Then::Keep));
    for rhythm in ["interval", "timeout", "fast_interval"] {
        let health = format!("{{\"type\":\"tcp\",\"{rhythm}\":1e19}}");
        let health = Some(serde_json::from_str::<HealthSpec>(&health).unwrap());
        let refusal = world.refused(Operation::ServiceAdd(Box::new(ServiceAdd { health, ..api() })));
        assert!(refusal.to_string().contains(rhythm) && refusal.to_string().contains("1h"), "{refusal}");
    }
}

#[test]
fn overrides_are_listed_and_cleared() {
    let mut world = running(WEB);
    world.now = Millis(1000);
    world.done(drain(ONE));
    world.done(weight(ONE, 9));
    world.done(weight(TWO, 3));
    let list = world.membership.overrides();
    let one = &list[0].value;
    assert_eq!((one.weight, one.state, one.since, one.by.as_str()), (Some(9), None, Millis(1000), "uid 0"));
    world.done(Operation::OverrideClear { pool: name("web"), address: address(ONE) });
    assert_eq!(world.membership.overrides().len(), 1);
    world.done(Operation::OverrideClearAll);
    assert!(world.membership.overrides().is_empty());
    assert_eq!(world.cell(ONE), (true, true, true));
}

#[test]
fn a_change_reads_as_json() {
    let text = r#"[{"op":"backend_drain","pool":"web","address":"10.0.0.1","deadline":60,"then":"disable"},
        {"op":"service_add","name":"api","listen":["203.0.113.11:80/tcp"],"backends":[{"address":"10.0.0.9"}]},
        {"op":"backend_remove","pool":"web","address":"10.0.0.1","drain":"1m"},
        {"op":"override_clear_all"}]"#;
    let operations: Vec<Operation> = serde_json::from_str(text).unwrap();
    let again: Vec<Operation> = serde_json::from_str(&serde_json::to_string(&operations).unwrap()).unwrap();
    assert_eq!(operations, again);
    assert_eq!(operations[0], drain_until("10.0.0.1", 60, Then::Disable));
    for typo in [
        r#"{"op":"backend_drain","pool":"web","address":"10.0.0.1","deadlin":60}"#,
        r#"{"op":"service_add","name":"api","listen":[],"forwrad":"dsr"}"#,
    ] {
        assert!(serde_json::from_str::<Operation>(typo).is_err(), "{typo}");
    }
}

#[test]
fn what_is_named_twice_in_one_change_is_refused_as_such() {
    let mut world = running(WEB);
    let mut twice = |operations: Vec<Operation>| {
        world
            .change(&Change { operations, options: Options::default() })
            .map_err(|refusal| refusal.to_string())
    };
    let heavier = Operation::BackendAdd { pool: name("web"), address: address("10.0.0.3"), weight: 5 };
    for second in [add("web", "10.0.0.3"), heavier] {
        let refusal = twice(vec![add("web", "10.0.0.3"), second]).unwrap_err();
        assert_eq!(
            refusal,
            "backend web/10.0.0.3 is named twice in one change: name it once; a larger share is a larger weight"
        );
    }
    // A change that takes it back in between means it.
    twice(vec![add("web", "10.0.0.3"), remove("web", "10.0.0.3"), add("web", "10.0.0.3")]).unwrap();
    // What is there already is as wrong twice.
    twice(vec![add("web", "10.0.0.3"), add("web", "10.0.0.3")]).unwrap_err();
    let mut service = api();
    service.backends.push(service.backends[0]);
    let refusal = twice(vec![Operation::ServiceAdd(Box::new(service))]).unwrap_err();
    assert!(
        refusal.starts_with("backend 10.0.0.9 is named twice for pool \"api\": name it once"),
        "{refusal}"
    );
    let listen = vec!["203.0.113.11:80/tcp".parse().unwrap(); 2];
    let refusal = twice(vec![Operation::ServiceAdd(Box::new(ServiceAdd { listen, ..api() }))]).unwrap_err();
    assert_eq!(refusal, "cli: listener 203.0.113.11:80/tcp is in service \"api\" twice: name it once");
    // A service that goes takes its backends along.
    let service = || Operation::ServiceAdd(Box::new(api()));
    let gone = Operation::ServiceRemove { name: name("api") };
    let more = || add("api", "10.0.0.8");
    twice(vec![service(), more(), gone, service(), more()]).unwrap();
}

#[test]
fn a_change_warns_of_what_it_brought_and_of_nothing_else() {
    let mut world = running(WEB);
    let mut warnings = |operation: Operation| -> Vec<String> {
        world.done(operation).warnings.iter().map(ToString::to_string).collect()
    };
    let of = |backend: &str| {
        format!(
            "cli: backend {backend} of pool \"web\" gets no packet: no listener of its services is IPv6: add an IPv6 listener, or use forward = \"ipip\""
        )
    };
    assert_eq!(warnings(add("web", "2001:db8::1")), [of("2001:db8::1")]);
    // It is still so, and was said when it came about.
    assert_eq!(warnings(add("web", "10.0.0.3")), [] as [&str; 0]);
    assert_eq!(warnings(remove("web", "10.0.0.3")), [] as [&str; 0]);
    assert_eq!(warnings(weight(ONE, 3)), [] as [&str; 0]);
}

#[test]
fn addresses_that_get_no_packet_are_refused_as_in_the_file() {
    let text = WEB.replace("interfaces = [\"eth0\"]", "interfaces = [\"eth0\"]\nsnat = [\"192.0.2.9\"]");
    let mut world = running(&text);
    for (backend, why) in [
        ("127.0.0.1", "127.0.0.1 cannot be reached from eth0: service \"web\" is there"),
        ("224.0.0.1", "backend 224.0.0.1 of pool \"web\" cannot be reached: it is a multicast address"),
        ("255.255.255.255", "it is the broadcast address"),
        ("0.0.0.0", "it is no single address"),
        ("169.254.1.1", "a link-local address is never routed"),
        ("fe80::1", "a link-local address is never routed"),
    ] {
        let refusal = world.refused(add("web", backend)).to_string();
        assert!(refusal.starts_with("cli: ") && refusal.contains(why), "{refusal}");
    }
    world.done(Operation::ServiceAdd(Box::new(ServiceAdd { forward: Forward::FullNat, ..api() })));
    for (listener, why) in [
        ("127.0.0.9:80/tcp", "which is reached from this host only, by lo: add \"lo\" to interfaces"),
        ("[::1]:80/tcp", "which is reached from this host only, by lo: add \"lo\" to interfaces"),
        ("224.0.0.1:80/tcp", "it is a multicast address: name one unicast address"),
        ("255.255.255.255:80/tcp", "it is the broadcast address"),
        ("[::]:80/tcp", "it is no single address"),
        (
            "192.0.2.9:any/tcp",
            "192.0.2.9 is in snat, and answers of full-nat backends come back to its ports",
        ),
    ] {
        let add = ServiceAdd::new(name("dns"), vec![listener.parse().unwrap()]);
        let refusal = world.refused(Operation::ServiceAdd(Box::new(add))).to_string();
        assert!(refusal.starts_with("cli: ") && refusal.contains(why), "{refusal}");
    }
}
