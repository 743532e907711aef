//! Backends whose new connections do not go on.

use super::*;

const FIVE: &str = r#"
[datapath]
interfaces = ["eth0"]
[[service]]
name = "web"
forward = "nat"
listen = ["203.0.113.10:80/tcp"]
backends = ["10.0.0.1", "10.0.0.2:81", "10.0.0.3", "10.0.0.4", "10.0.0.5"]
"#;

impl World {
    fn takes(&self, backend: &str) -> bool {
        self.cell(backend).0
    }
}

#[test]
fn a_suspect_gets_no_new_flows_keeps_those_it_has_and_comes_back() {
    let mut world = running(WEB);
    let outcome = world.suspect(ONE);
    assert!(outcome.desired_changed && !outcome.revised);
    assert_eq!(world.cell(ONE), (false, true, true), "it goes on being checked");
    assert!(
        world.reason(ONE).contains("ejected until 1970-01-01T00:00:10.000Z: 0 of 12 new"),
        "{}",
        world.reason(ONE)
    );
    assert!(world.view("web", ONE).ejected);
    world.wait(9);
    assert!(!world.takes(ONE));
    world.wait(2);
    assert_eq!((world.cell(ONE), world.reason(ONE)), ((true, true, true), String::new()));
    assert!(!world.view("web", ONE).ejected);
    assert_eq!(world.membership.next_timer(), None);
}

#[test]
fn each_time_is_longer_until_it_has_been_well_for_long() {
    let mut world = running(WEB);
    let mut lengths = Vec::new();
    for _ in 0..8 {
        world.suspect(ONE);
        let until = world.membership.next_timer().unwrap();
        lengths.push(until.since(world.now).as_secs());
        world.wait(lengths[lengths.len() - 1] + 1);
        assert!(world.takes(ONE));
    }
    assert_eq!(lengths, [10, 20, 40, 80, 160, 300, 300, 300]);
    world.wait(300);
    world.suspect(ONE);
    assert_eq!(world.membership.next_timer().unwrap().since(world.now).as_secs(), 10);
}

#[test]
fn the_last_one_of_a_table_is_never_ejected() {
    let mut world = running(WEB);
    world.suspect(ONE);
    assert!(world.suspect(TWO).is_nothing());
    assert!(world.takes(TWO) && !world.takes(ONE));
    let mut world = running(WEB);
    world.health("web", TWO, Health::Unhealthy);
    assert!(!world.suspect(ONE).desired_changed);
}

#[test]
fn no_more_than_a_share_is_ejected() {
    let mut world = running(FIVE);
    world.suspect(ONE);
    assert!(!world.suspect("10.0.0.3").desired_changed, "two of five are more than 34 %");
    let half = FIVE.replace("backends =", "passive = { max_ejected = \"60%\", eject = \"30s\" }\nbackends =");
    let mut world = running(&half);
    for backend in [ONE, TWO, "10.0.0.3"] {
        assert!(world.suspect(backend).desired_changed);
    }
    assert!(!world.suspect("10.0.0.4").desired_changed);
    world.wait(29);
    assert!(!world.takes(ONE));
    world.wait(2);
    assert!(world.takes(ONE) && world.takes(TWO));
}

#[test]
fn who_has_turned_it_off_is_not_touched() {
    for key in ["passive = false", "affinity = \"client\""] {
        let mut world = running(&WEB.replace("forward =", &format!("{key}\nforward =")));
        assert!(!world.suspect(ONE).desired_changed, "{key}");
        assert_eq!(world.membership.passive(&name("web")), None);
    }
    // Turned off while somebody is out: it is in at once.
    let mut world = running(WEB);
    world.suspect(ONE);
    world.reload(&WEB.replace("forward =", "passive = false\nforward =")).unwrap();
    assert!(world.takes(ONE));
}

#[test]
fn one_that_comes_back_starts_slowly_if_the_pool_says_so() {
    let mut world = running(&WEB.replace("forward =", "slow_start = \"20s\"\nforward ="));
    world.wait(30);
    world.suspect(ONE);
    world.wait(11);
    assert_eq!(world.reason(ONE), "slow start: 10% of its weight");
}

#[test]
fn the_ill_the_drained_and_the_unknown_are_no_suspects() {
    let mut world = running(FIVE);
    world.health("web", ONE, Health::Unhealthy);
    world.done(drain(TWO));
    for backend in [ONE, TWO, "10.0.0.77"] {
        assert!(!world.suspect(backend).desired_changed, "{backend}");
    }
    world.health("web", ONE, Health::Healthy);
    assert!(world.takes(ONE));
}
