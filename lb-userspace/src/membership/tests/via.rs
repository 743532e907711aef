//! Checks that go through services.

use super::*;
use crate::desired::{DesiredService, Tunnel, hidden_name, is_hidden};
use crate::spec::{Forward, Listener, Protocol};

/// One service of each mode over a pool of its own, checked through it.
fn world(forward: &str, more: &str) -> World {
    start(&format!(
        "[datapath]\ninterfaces = [\"eth0\"]\n{more}\n[[service]]\nname = \"web\"\nforward = \"{forward}\"\n\
         listen = [\"203.0.113.10:80/tcp\", \"203.0.113.10:443/udp\"]\nbackends = [\"10.0.0.1\", \"10.0.0.2\"]\n\
         health = {{ via = \"service\" }}\n"
    ))
}

fn hidden(world: &World) -> Vec<(Listener, DesiredService)> {
    let services = world.membership.desired().services.iter();
    services.filter(|(_, s)| is_hidden(&s.name)).map(|(key, s)| (*key, s.clone())).collect()
}

/// The one backend of a hidden service.
fn backend_of(world: &World, service: &DesiredService) -> (String, DesiredBackend) {
    let pool = &world.membership.desired().pools[&service.pool];
    assert_eq!(pool.backends.len(), 1);
    let (key, backend) = pool.backends.first_key_value().unwrap();
    (key.to_string(), backend.clone())
}

fn heard(world: &mut World, backend: &str, listener: &str, health: Health, detail: &str) -> Outcome {
    let id = CheckId { member: id("web", backend), through: Some(listener.parse().unwrap()) };
    world.membership.handle(world.now, Event::Health { id, health, detail: Arc::from(detail) })
}

const LISTENER: &str = "203.0.113.10:80/tcp";

#[test]
fn each_backend_has_a_hidden_service_that_forwards_as_its_own_does() {
    let (one, vip) = ("10.0.0.1", "203.0.113.10:80");
    for (forward, by, to, way) in [
        ("nat", Forward::Nat, "10.0.0.1:80", None),
        ("full-nat", Forward::FullNat, "10.0.0.1:80", None),
        ("dsr", Forward::FullNat, vip, Some(one)),
        ("ipip", Forward::FullNat, vip, Some(one)),
    ] {
        let mut world = world(forward, "");
        world.all_well();
        let hidden = hidden(&world);
        assert_eq!(hidden.len(), 2, "{forward}");
        let to_first = |(_, service): &&(Listener, DesiredService)| {
            let (key, backend) = backend_of(&world, service);
            backend.way.map_or_else(|| key.starts_with("10.0.0.1:"), |way| way.to_string() == one)
        };
        let (listener, service) = hidden.iter().find(to_first).unwrap();
        assert!(listener.addr.to_string().starts_with("198.18."), "{listener}");
        assert_eq!((listener.port, listener.protocol), (Some(80), Protocol::Tcp));
        assert_eq!((service.forward, &service.name), (by, &hidden_name(listener)));
        let tunnel = Tunnel { source: "192.0.2.1".parse().unwrap(), destination: one.parse().unwrap() };
        assert_eq!(service.tunnel, (forward == "ipip").then_some(tunnel), "{forward}");
        let (key, backend) = backend_of(&world, service);
        assert_eq!(key, to, "{forward}");
        assert_eq!(backend.way.map(|way| way.to_string()).as_deref(), way, "{forward}");
        let source: Vec<IpAddr> = if forward == "nat" { vec![] } else { vec!["192.0.2.1".parse().unwrap()] };
        assert_eq!(backend.sources, source, "{forward}");
        assert!(backend.takes_new && backend.keeps && backend.weight == 1);
        // Nobody is shown any of it.
        assert_eq!(world.membership.service_views().len(), 1);
        assert_eq!(world.membership.pool_views(&[]).len(), 1);
        assert_eq!(world.membership.merged_spec().services.len(), 1);
    }
}

#[test]
fn a_hidden_service_takes_packets_whatever_becomes_of_its_backend() {
    let mut world = world("dsr", "");
    world.all_well();
    let before = hidden(&world);
    heard(&mut world, ONE, LISTENER, Health::Unhealthy, "no answer");
    assert_eq!(world.cell(ONE), (false, false, false), "the cell looks for a direct check");
    let set = |world: &mut World, operation| {
        let change = Change { operations: vec![operation], options: Options::default() };
        let candidate = world.membership.prepare(world.now, "root", &change).unwrap();
        world.membership = candidate.membership;
        candidate.outcome
    };
    let outcome = set(&mut world, Operation::BackendDisable { pool: name("web"), address: address(ONE) });
    assert_eq!(outcome.checks_removed.len(), 1, "a disabled one is not checked");
    assert_eq!(hidden(&world), before);
}

#[test]
fn a_check_leaves_when_the_way_is_known_and_stays_when_it_is_lost() {
    let mut world = world("nat", "");
    assert!(world.membership.health_targets().is_empty());
    assert_eq!(world.reason(ONE), "next hop unresolved: not looked up yet");
    let outcome = world.way(ONE, known("192.0.2.1"));
    assert_eq!(outcome.checks_put.len(), 1);
    let target = &outcome.checks_put[0];
    assert_eq!(target.id.to_string(), "web/10.0.0.1 through 203.0.113.10:80/tcp");
    assert_eq!(target.address.to_string(), "10.0.0.1:80");
    let through = target.through.unwrap();
    assert_eq!((through.vip.to_string().as_str(), through.forward), ("203.0.113.10:80", Forward::Nat));
    assert!(world.membership.desired().services.keys().any(|key| key.addr == through.probe.ip()));
    assert_eq!(world.reason(ONE), "waiting for first check");
    assert!(world.way(ONE, WayState::Unresolved { reason: "no route".into() }).checks_removed.is_empty());
    assert_eq!(world.membership.health_targets().len(), 1);
    assert!(world.way(ONE, known("192.0.2.1")).checks_put.is_empty(), "it is asked already");
}

#[test]
fn a_pool_of_two_services_is_asked_by_both_and_is_as_well_as_the_worse() {
    let text = "[datapath]\ninterfaces = [\"eth0\"]\n\
        [[pool]]\nname = \"web\"\nbackends = [\"10.0.0.1\"]\nhealth = { via = \"service\" }\n\
        [[service]]\nname = \"a\"\nforward = \"dsr\"\nlisten = [\"203.0.113.10:80/tcp\", \"203.0.113.10:443/tcp\"]\npool = \"web\"\n\
        [[service]]\nname = \"b\"\nforward = \"dsr\"\nlisten = [\"203.0.113.11:80/tcp\"]\npool = \"web\"\n";
    let mut world = start(text);
    world.way(ONE, known("192.0.2.1"));
    let ids: Vec<String> =
        world.membership.health_targets().iter().map(|target| target.id.to_string()).collect();
    assert_eq!(ids, ["web/10.0.0.1 through 203.0.113.10:80/tcp", "web/10.0.0.1 through 203.0.113.11:80/tcp"]);
    let (first, second) = (LISTENER, "203.0.113.11:80/tcp");
    heard(&mut world, ONE, first, Health::Healthy, "connected");
    assert_eq!(world.view("web", ONE).health, Health::Unknown, "the other has not been answered");
    heard(&mut world, ONE, second, Health::Healthy, "connected");
    assert!(world.view("web", ONE).eligible);
    let outcome = heard(&mut world, ONE, second, Health::Unhealthy, "no answer");
    assert_eq!(outcome.members(EventKind::BackendHealth).len(), 1);
    let view = world.view("web", ONE);
    assert_eq!((view.health, &*view.detail, view.eligible), (Health::Unhealthy, "no answer", false));
    // A check that has ended says nothing.
    assert!(heard(&mut world, ONE, "203.0.113.12:80/tcp", Health::Healthy, "connected").events.is_empty());
    // With its listener the bad news goes.
    let without = text.split("[[service]]\nname = \"b\"").next().unwrap().to_owned();
    let outcome = world.reload(&without).unwrap();
    assert_eq!(outcome.checks_removed.len(), 1);
    assert!(world.view("web", ONE).eligible, "{:?}", world.view("web", ONE));
    assert_eq!(hidden(&world).len(), 1);
}

#[test]
fn another_way_of_checking_keeps_what_is_known_until_it_has_spoken() {
    let direct = WEB.replace("\"10.0.0.2:81\"", "\"10.0.0.2\"");
    let mut world = start(&direct);
    world.all_well();
    let through = format!("{direct}health = {{ via = \"service\" }}\n");
    let outcome = world.reload(&through).unwrap();
    assert_eq!((outcome.checks_put.len(), outcome.checks_removed.len()), (2, 2));
    assert!(outcome.checks_put.iter().all(|target| target.initial == Health::Healthy));
    assert!(world.view("web", ONE).eligible && hidden(&world).len() == 2);
    assert_eq!(world.membership.probe_families(), [true, false]);
    let outcome = world.reload(&direct).unwrap();
    assert_eq!((outcome.checks_put.len(), outcome.checks_removed.len()), (2, 2));
    assert!(world.view("web", ONE).eligible && hidden(&world).is_empty());
    assert!(world.membership.desired().pools.keys().all(|key| !is_hidden(&key.name)));
    assert_eq!(world.membership.probe_families(), [false, false]);
}

#[test]
fn addresses_stay_while_others_come_and_go() {
    let text = |numbers: std::ops::Range<u32>| {
        let backends: Vec<String> =
            numbers.map(|n| format!("\"10.1.{}.{}\"", n / 200, n % 200 + 1)).collect();
        format!(
            "[datapath]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\nforward = \"nat\"\n\
             listen = [\"{LISTENER}\"]\nbackends = [{}]\nhealth = {{ via = \"service\" }}\n",
            backends.join(", ")
        )
    };
    let by_backend = |world: &World| -> std::collections::BTreeMap<String, Listener> {
        hidden(world).iter().map(|(key, service)| (backend_of(world, service).0, *key)).collect()
    };
    let mut world = start(&text(0..400));
    let before = by_backend(&world);
    assert_eq!(before.len(), 400);
    world.reload(&text(100..500)).unwrap();
    let after = by_backend(&world);
    assert_eq!(after.len(), 400);
    let moved = before.iter().filter(|(backend, key)| after.get(*backend).is_some_and(|now| now != *key));
    assert!(moved.count() < 3, "but for those that had wanted one that was taken");
    assert_eq!(after, by_backend(&start(&text(100..500))), "the order in which they came leaves no trace");
}

#[test]
fn a_tunnel_of_the_other_family_is_asked_from_a_source_of_the_vips() {
    let text = "[datapath]\ninterfaces = [\"eth0\"]\nsnat = [\"2001:db8::99\"]\n[[service]]\nname = \"web\"\nforward = \"ipip\"\n\
        listen = [\"[2001:db8::10]:80/tcp\"]\nbackends = [\"10.0.0.1\"]\nhealth = { via = \"service\" }\n";
    let mut world = start(text);
    world.way(ONE, known("192.0.2.1"));
    let hidden = hidden(&world);
    let (listener, service) = &hidden[0];
    assert!(listener.addr.is_ipv6());
    assert_eq!(service.tunnel.unwrap().source.to_string(), "192.0.2.1");
    let (key, backend) = backend_of(&world, service);
    assert_eq!(
        (key.as_str(), backend.sources[0].to_string().as_str()),
        ("[2001:db8::10]:80", "2001:db8::99")
    );
    assert_eq!(world.membership.probe_families(), [false, true]);
}

/// A backend of two is ejected, and its check is doubted.
fn ejected(world: &mut World) {
    let outcome = world.suspect(ONE);
    let doubted: Vec<String> = outcome.checks_doubted.iter().map(ToString::to_string).collect();
    assert_eq!(doubted, [format!("web/{ONE} through {LISTENER}")]);
    assert!(!world.view("web", ONE).eligible);
}

fn confirmed(world: &mut World) -> Outcome {
    let id = CheckId { member: id("web", ONE), through: Some(LISTENER.parse().unwrap()) };
    world.membership.handle(world.now, Event::Confirmed { id, detail: Arc::from("connected") })
}

#[test]
fn an_ejected_backend_is_readmitted_by_its_check_and_by_nothing_else() {
    let mut world = world("nat", "");
    world.all_well();
    ejected(&mut world);
    assert!(
        world.reason(ONE).contains("ejected until a check through the service succeeds: 0 of 12"),
        "{}",
        world.reason(ONE)
    );
    assert_eq!(world.membership.next_timer(), None, "no time ends it");
    world.wait(3600);
    // What was held already is no confirmation, nor is another sentence.
    heard(&mut world, ONE, LISTENER, Health::Healthy, "connected again");
    assert!(!world.view("web", ONE).eligible && world.view("web", ONE).ejected);
    let outcome = confirmed(&mut world);
    assert!(outcome.desired_changed && outcome.members(EventKind::BackendEligible).len() == 1);
    assert!(world.view("web", ONE).eligible && !world.view("web", ONE).ejected);
}

#[test]
fn a_check_that_does_not_see_what_clients_see_is_not_believed_alone_a_second_time() {
    let mut world = world("nat", "");
    world.all_well();
    ejected(&mut world);
    confirmed(&mut world);
    assert!(world.view("web", ONE).eligible);
    world.wait(1);
    ejected(&mut world);
    confirmed(&mut world);
    assert!(world.reason(ONE).contains("ejected until 1970-01-01T00:00:21.000Z"), "{}", world.reason(ONE));
    world.wait(21);
    assert!(world.view("web", ONE).eligible);
}

#[test]
fn without_such_a_check_time_alone_ends_an_ejection_as_before() {
    let through = "health = { via = \"service\" }\n";
    let direct = WEB.replace("\"10.0.0.2:81\"", "\"10.0.0.2\"");
    let mut world = start(&format!("{direct}{through}"));
    world.all_well();
    ejected(&mut world);
    // The check that it waits for is gone.
    world.reload(&direct).unwrap();
    assert!(world.reason(ONE).contains("ejected until 1970-01-01T00:00:10.000Z"), "{}", world.reason(ONE));
    world.wait(11);
    assert!(world.view("web", ONE).eligible);
}
