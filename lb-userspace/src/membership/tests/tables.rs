//! Which tables there are, and what is in them.

use super::*;
use crate::spec::maglev_size;

const BOTH: &str = r#"
[datapath]
interfaces = ["eth0"]
[[pool]]
name = "servers"
backends = ["10.0.0.1", "10.0.0.2", "2001:db8::1"]
[[service]]
name = "web"
forward = "full-nat"
listen = ["203.0.113.10:80/tcp", "203.0.113.10:443/udp", "[2001:db8:1::10]:80/tcp"]
pool = "servers"
"#;

fn tunnel() -> String {
    BOTH.replace("full-nat", "ipip")
}

#[test]
fn each_family_has_its_table() {
    let world = running(BOTH);
    assert_eq!(world.membership.desired().pools.len(), 2);
    assert_eq!(world.table("servers", Variant::V4).backends.len(), 2);
    assert_eq!(world.table("servers", Variant::V6).backends.len(), 1);
    for (listener, service) in &world.membership.desired().services {
        let wanted = if listener.addr.is_ipv4() { Variant::V4 } else { Variant::V6 };
        assert_eq!(service.pool, PoolKey { name: "servers".to_owned(), variant: wanted });
    }
}

#[test]
fn a_tunnel_has_one_table_for_all() {
    let world = running(&tunnel());
    assert_eq!(world.membership.desired().pools.len(), 1);
    assert_eq!(world.table("servers", Variant::Any).backends.len(), 3);
}

#[test]
fn sources_are_of_the_backends_family() {
    let with = |line: &str, text: &str| text.replace("[[pool]]", &format!("{line}\n[[pool]]"));
    let sources = |world: &World, variant, backend: &str| -> Vec<String> {
        let backends = &world.table("servers", variant).backends;
        backends[&address(backend)].sources.iter().map(ToString::to_string).collect()
    };
    let world = running(BOTH);
    assert_eq!(sources(&world, Variant::V4, "10.0.0.1"), ["192.0.2.1"]);
    let world = running(&with("snat = [\"192.0.2.10\", \"192.0.2.11\"]", BOTH));
    assert_eq!(sources(&world, Variant::V4, "10.0.0.1"), ["192.0.2.10", "192.0.2.11"]);
    assert_eq!(sources(&world, Variant::V6, "2001:db8::1"), ["2001:db8:ffff::1"]);
    let world = running(&with("tunnel_source = [\"192.0.2.20\", \"2001:db8::20\"]", &tunnel()));
    assert_eq!(sources(&world, Variant::Any, "10.0.0.1"), ["192.0.2.20"]);
    assert_eq!(sources(&world, Variant::Any, "2001:db8::1"), ["2001:db8::20"]);
    let world = running(&BOTH.replace("full-nat", "dsr"));
    assert!(sources(&world, Variant::V4, "10.0.0.1").is_empty());
}

#[test]
fn without_a_source_it_takes_nothing() {
    let mut world = running(BOTH);
    world.way("10.0.0.1", WayState::Resolved { hop: hop(3), source: None });
    let view = world.view("servers", "10.0.0.1");
    assert_eq!((view.eligible, view.reason.as_str()), (false, "this host has no address to send to it from"));
}

#[test]
fn the_table_grows_with_its_members_whatever_their_health() {
    let world = running(BOTH);
    assert_eq!(world.table("servers", Variant::V4).table_len, maglev_size(2));
    let many: Vec<String> = (1..=20).map(|n| format!("\"10.0.0.{n}\"")).collect();
    let text = BOTH.replace("\"10.0.0.1\", \"10.0.0.2\"", &many.join(", "));
    assert_eq!(start(&text).table("servers", Variant::V4).table_len, 16_381);
    let fixed = BOTH.replace("name = \"servers\"", "name = \"servers\"\nmaglev = 4093");
    assert_eq!(start(&fixed).table("servers", Variant::V4).table_len, 4093);
}

#[test]
fn a_service_on_lo_is_marked() {
    let text = r#"
[datapath]
interfaces = ["lo"]
[[service]]
name = "web"
listen = ["127.0.0.100:80/tcp"]
backends = ["127.0.0.1:8081"]
"#;
    let mut world = start(text);
    assert!(world.membership.desired().services.values().all(|service| service.loopback));
    let local =
        DesiredNextHop { local: true, interface: 0, destination_mac: [0; 6], source_mac: [0; 6], mtu: 0 };
    world.way("127.0.0.1", WayState::Resolved { hop: local, source: Some("127.0.0.1".parse().unwrap()) });
    world.health("web", "127.0.0.1:8081", Health::Healthy);
    assert!(world.desired("127.0.0.1:8081").takes_new);
    assert!(running(WEB).membership.desired().services.values().all(|service| !service.loopback));
}

#[test]
fn spread_uses_everybody_when_nobody_is_well() {
    let mut world = running(&WEB.replace("forward =", "when_none = \"spread\"\nforward ="));
    world.health("web", ONE, Health::Unhealthy);
    assert_eq!(world.cell(ONE), (false, false, true));
    let outcome = world.health("web", TWO, Health::Unhealthy);
    assert!(outcome.desired_changed);
    assert_eq!((world.cell(ONE), world.cell(TWO)), ((true, true, true), (true, true, true)));
    assert!(world.reason(ONE).contains("when_none = \"spread\""), "{}", world.reason(ONE));
    // Not those that an operator has taken out.
    world.done(drain(ONE));
    assert_eq!((world.cell(ONE).0, world.cell(TWO).0), (false, true));
    world.done(enable(ONE));
    // One that is well is enough.
    world.health("web", TWO, Health::Healthy);
    assert_eq!((world.cell(ONE), world.cell(TWO)), ((false, false, true), (true, true, true)));
}

#[test]
fn without_spread_nobody_is_used_when_nobody_is_well() {
    let mut world = running(WEB);
    world.health("web", ONE, Health::Unhealthy);
    world.health("web", TWO, Health::Unhealthy);
    assert_eq!((world.cell(ONE).0, world.cell(TWO).0), (false, false));
}

#[test]
fn udp_alone_is_not_checked_unless_it_says_so() {
    let udp = WEB.replace("80/tcp", "53/udp");
    assert!(start(&udp).membership.health_targets().is_empty());
    let said = udp.replace("forward =", "health = { type = \"tcp\" }\nforward =");
    let targets = start(&said).membership.health_targets();
    assert_eq!(targets.len(), 2);
    assert!(targets.iter().all(|target| target.spec.kind == HealthKind::Tcp));
}

#[test]
fn a_pool_that_several_services_share_is_one_table() {
    let text = format!(
        "{BOTH}[[service]]\nname = \"other\"\nforward = \"nat\"\nlisten = [\"203.0.113.12:80/tcp\"]\npool = \"servers\"\n"
    );
    let world = running(&text);
    assert_eq!(world.membership.desired().pools.len(), 2);
    // Checked once, at the same port.
    assert_eq!(world.membership.health_targets().len(), 3);
}

#[test]
fn the_order_of_events_leaves_no_trace() {
    let forward = running(BOTH);
    let mut backward = start(BOTH);
    let targets = backward.membership.health_targets();
    for target in targets.iter().rev() {
        backward.health("servers", &target.id.member.address.to_string(), Health::Unhealthy);
    }
    backward.all_well();
    backward.done(add("servers", "10.0.0.9"));
    backward.done(remove("servers", "10.0.0.9"));
    assert_eq!(forward.membership.desired(), backward.membership.desired());
}
