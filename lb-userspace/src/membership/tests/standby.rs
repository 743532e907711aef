//! Panic, backup pools and slow start.

use super::*;
use crate::spec::Percent;

const THREE: &str = "10.0.0.3";
const SORRY: &str = "10.0.9.1";

/// Three backends and a pool that stands in for them.
fn web(keys: &str) -> String {
    format!(
        r#"
[datapath]
interfaces = ["eth0"]
[[service]]
name = "web"
forward = "nat"
listen = ["203.0.113.10:80/tcp"]
pool = "web"
[[pool]]
name = "web"
backends = ["10.0.0.1", "10.0.0.2:81", "10.0.0.3"]
{keys}
[[pool]]
name = "sorry"
backends = ["10.0.9.1", "10.0.9.2"]
"#
    )
}

impl World {
    /// The members that take new flows in the table of a pool.
    fn takers(&self, pool: &str) -> Vec<String> {
        let table = self.table(pool, Variant::V4).backends.iter();
        table.filter(|(_, one)| one.table_weight() > 0).map(|(address, _)| address.to_string()).collect()
    }

    fn weights(&self, pool: &str) -> Vec<u32> {
        self.table(pool, Variant::V4).backends.values().map(|one| one.weight).collect()
    }

    fn plights(&self, pool: &str) -> Vec<String> {
        let view = self.membership.pool_view(&name(pool)).unwrap();
        view.plights.iter().map(ToString::to_string).collect()
    }

    fn all_ill(&mut self, pool: &str) {
        for address in self.backends(pool) {
            self.health(pool, &address, Health::Unhealthy);
        }
    }
}

fn kinds(outcome: &Outcome) -> Vec<EventKind> {
    outcome.events.iter().map(|event| event.kind).collect()
}

#[test]
fn the_backup_has_the_flows_while_nobody_else_can() {
    let mut world = running(&web("backup = \"sorry\""));
    assert_eq!(world.takers("web"), [ONE, TWO, THREE]);
    world.health("web", ONE, Health::Unhealthy);
    world.health("web", TWO, Health::Unhealthy);
    assert_eq!(world.takers("web"), [THREE]);
    let outcome = world.health("web", THREE, Health::Unhealthy);
    assert!(outcome.desired_changed && kinds(&outcome).contains(&EventKind::PoolOnBackup));
    assert_eq!(world.takers("web"), [SORRY, "10.0.9.2"]);
    assert_eq!(world.plights("web"), ["0% of its weight is healthy: backup pool sorry gets its new flows"]);
    let view = world.membership.pool_view(&name("web")).unwrap();
    assert!(view.stand_ins.iter().all(|backend| backend.eligible && backend.id.pool == name("web")));
    assert_eq!(world.membership.service_views()[0].eligible, 2);
    // One that stands in and falls ill is out as any other.
    world.health("sorry", SORRY, Health::Unhealthy);
    assert_eq!(world.takers("web"), ["10.0.9.2"]);
}

#[test]
fn tracked_flows_stay_when_the_backup_comes_and_when_it_goes() {
    let mut world = running(&web("backup = { pool = \"sorry\", below = \"50%\", hold = \"10s\" }"));
    let keeps = |world: &World, address: &str| {
        world.table("web", Variant::V4).backends[&super::address(address)].keeps
    };
    assert!(keeps(&world, SORRY));
    world.health("web", ONE, Health::Unhealthy);
    world.health("web", TWO, Health::Unhealthy);
    assert_eq!(world.takers("web"), [SORRY, "10.0.9.2"]);
    assert!(keeps(&world, THREE) && keeps(&world, SORRY) && !keeps(&world, ONE));
    assert_eq!(world.reason(THREE), "backup pool sorry has its flows");
    world.health("web", ONE, Health::Healthy);
    world.health("web", TWO, Health::Healthy);
    world.wait(11);
    assert_eq!(world.takers("web"), [ONE, TWO, THREE]);
    assert!(keeps(&world, SORRY));
}

#[test]
fn the_way_back_takes_its_share_and_its_time() {
    let mut world = running(&web("backup = { pool = \"sorry\", above = \"60%\", hold = \"10s\" }"));
    world.all_ill("web");
    world.health("web", ONE, Health::Healthy);
    world.wait(100);
    assert_eq!(world.takers("web").len(), 2, "a third is not yet enough");
    world.health("web", TWO, Health::Healthy);
    world.wait(9);
    assert_eq!(world.takers("web"), [SORRY, "10.0.9.2"]);
    world.health("web", TWO, Health::Unhealthy);
    world.health("web", TWO, Health::Healthy);
    world.wait(9);
    assert_eq!(world.takers("web"), [SORRY, "10.0.9.2"], "it begins anew");
    let outcome = world.wait(2);
    assert!(outcome.desired_changed && kinds(&outcome).contains(&EventKind::PoolBack));
    assert_eq!(world.takers("web"), [ONE, TWO]);
    assert_eq!(world.membership.next_timer(), None);
}

#[test]
fn a_backup_that_is_ill_itself_is_none() {
    let mut world = running(&web("backup = \"sorry\"\npanic_below = \"40%\""));
    world.all_ill("sorry");
    world.all_ill("web");
    assert_eq!(world.takers("web"), [ONE, TWO, THREE], "panic");
    let outcome = world.health("sorry", SORRY, Health::Healthy);
    assert_eq!(world.takers("web"), [SORRY]);
    assert!(kinds(&outcome).contains(&EventKind::PoolPanicOver));
}

#[test]
fn nobody_is_relieved_before_anybody_has_spoken() {
    let mut world = start(&web("backup = \"sorry\"\npanic_below = \"100%\""));
    for ip in world.membership.next_hop_targets() {
        world.way(&ip.to_string(), known("192.0.2.1"));
    }
    world.health("sorry", SORRY, Health::Healthy);
    assert_eq!(world.takers("web"), [] as [&str; 0]);
    assert_eq!(world.plights("web"), [] as [&str; 0]);
    // Of the others nothing is known: they are neither well nor in panic.
    world.health("web", ONE, Health::Healthy);
    assert_eq!(world.takers("web"), [ONE]);
}

#[test]
fn a_drained_pool_has_its_backup() {
    let mut world = running(&web("backup = \"sorry\""));
    world.done(drain(ONE));
    world.done(disable(TWO));
    world.done(drain(THREE));
    assert_eq!(world.takers("web"), [SORRY, "10.0.9.2"]);
    let out = |backend: &str| Operation::BackendDisable { pool: name("sorry"), address: address(backend) };
    world.done(out(SORRY));
    assert_eq!(world.refused(out("10.0.9.2")).code, RefusalCode::LastBackend);
}

#[test]
fn all_are_used_in_panic_but_those_that_people_took_out() {
    let mut world = running(&web("panic_below = \"50%\""));
    world.done(drain(THREE));
    world.health("web", ONE, Health::Unhealthy);
    assert_eq!(world.takers("web"), [TWO], "half is not less than half");
    let outcome = world.health("web", TWO, Health::Unhealthy);
    assert!(kinds(&outcome).contains(&EventKind::PoolPanic), "{outcome:?}");
    assert_eq!(world.takers("web"), [ONE, TWO]);
    assert_eq!(
        world.plights("web"),
        ["0% of its weight is healthy, less than panic_below: all its backends get new flows"]
    );
    assert!(world.reason(ONE).contains("panic_below"), "{}", world.reason(ONE));
    let outcome = world.health("web", TWO, Health::Healthy);
    assert!(kinds(&outcome).contains(&EventKind::PoolPanicOver));
    assert_eq!(world.takers("web"), [TWO]);
}

#[test]
fn one_that_comes_back_starts_slowly_and_moves_no_other() {
    let mut world = running(&web("slow_start = \"30s\""));
    world.wait(60);
    assert_eq!((world.weights("web"), world.membership.next_timer()), (vec![1, 1, 1], None));
    world.health("web", ONE, Health::Unhealthy);
    world.wait(5);
    world.health("web", ONE, Health::Healthy);
    assert_eq!(world.weights("web"), [1, 10, 10]);
    assert_eq!(world.reason(ONE), "slow start: 10% of its weight");
    let mut seen = Vec::new();
    for _ in 0..31 {
        let outcome = world.wait(1);
        seen.push(world.weights("web")[0]);
        assert!(outcome.events.is_empty(), "a step is no event");
    }
    assert_eq!(seen[..8], [1, 1, 1, 1, 1, 2, 2, 2]);
    assert!(seen.iter().max() == Some(&9));
    assert_eq!((world.weights("web"), world.membership.next_timer()), (vec![1, 1, 1], None));
    assert_eq!(world.reason(ONE), "");
}

#[test]
fn a_large_weight_needs_no_scale() {
    let mut world = running(&web("slow_start = \"30s\""));
    world.wait(60);
    world.done(weight(TWO, 60_000));
    world.health("web", THREE, Health::Unhealthy);
    world.health("web", THREE, Health::Healthy);
    assert_eq!(world.weights("web"), [1, 60_000, 1], "a tenth of one is one at least");
}

#[test]
fn what_served_before_a_restart_goes_on_with_all_of_its_weight() {
    let mut pinned = Pinned::default();
    for backend in [ONE, TWO, THREE] {
        pinned.members.insert(id("web", backend), Held { takes_new: true, keeps: true });
    }
    pinned.ways =
        ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|ip| (ip.parse().unwrap(), known("192.0.2.1"))).into();
    let start = Start { file: spec(&web("slow_start = \"30s\"")), pinned, ..Start::default() };
    let mut world =
        World { membership: Membership::start(Millis(0), start).unwrap().membership, now: Millis(0) };
    assert_eq!((world.takers("web").len(), world.weights("web")), (3, vec![1, 1, 1]));
    world.all_well();
    assert_eq!((world.takers("web").len(), world.weights("web")), (3, vec![1, 1, 1]));
}

#[test]
fn a_restart_goes_on_with_the_backup() {
    let mut pinned = Pinned::default();
    for backend in [ONE, TWO, THREE] {
        pinned.members.insert(id("web", backend), Held { takes_new: false, keeps: true });
    }
    pinned.members.insert(id("web", SORRY), Held { takes_new: true, keeps: true });
    let ips = ["10.0.0.1", "10.0.0.2", "10.0.0.3", SORRY];
    pinned.ways = ips.map(|ip| (ip.parse().unwrap(), known("192.0.2.1"))).into();
    let start = Start { file: spec(&web("backup = \"sorry\"")), pinned, ..Start::default() };
    let mut world =
        World { membership: Membership::start(Millis(0), start).unwrap().membership, now: Millis(0) };
    assert_eq!(world.takers("web"), [SORRY]);
    world.all_well();
    assert_eq!(world.takers("web"), [SORRY, "10.0.9.2"], "not before the hold is over");
    world.wait(11);
    assert_eq!(world.takers("web"), [ONE, TWO, THREE]);
}

#[test]
fn a_reload_gives_and_takes_a_backup() {
    let mut world = running(&web(""));
    assert_eq!(world.membership.health_targets().len(), 3, "nobody uses the other pool");
    world.reload(&web("backup = \"sorry\"")).unwrap();
    assert_eq!(world.membership.health_targets().len(), 5);
    world.all_well();
    world.all_ill("web");
    assert_eq!(world.takers("web"), [SORRY, "10.0.9.2"]);
    assert_eq!(world.reload(&web("")).unwrap_err().code, RefusalCode::LastBackend);
    world.health("web", TWO, Health::Healthy);
    world.reload(&web("")).unwrap();
    assert_eq!(world.takers("web"), [TWO]);
    assert_eq!(world.table("web", Variant::V4).backends.len(), 3);
    assert_eq!(world.membership.health_targets().len(), 3);
}

#[test]
fn a_share_is_of_weights() {
    let mut world = running(&web("panic_below = \"50%\""));
    world.done(weight(ONE, 8));
    world.health("web", TWO, Health::Unhealthy);
    world.health("web", THREE, Health::Unhealthy);
    assert_eq!(world.takers("web"), [ONE]);
    world.health("web", TWO, Health::Healthy);
    world.health("web", ONE, Health::Unhealthy);
    assert_eq!(world.takers("web"), [ONE, TWO, THREE]);
    let view = world.membership.pool_view(&name("web")).unwrap();
    assert_eq!(view.plights[0].healthy, Percent::new(10));
}

/// Three backends of which one is out until 10 s, and it is a moment later; the clock's own event has not been taken yet.
fn late() -> World {
    let mut world = running(&web("backup = \"sorry\"\npassive = { eject = \"10s\" }"));
    assert!(world.suspect(ONE).desired_changed);
    world.now = world.now.after(Duration::from_millis(10_001));
    world
}

#[test]
fn an_ejection_ends_although_something_else_comes_before_the_clock() {
    let mut world = late();
    world.health("sorry", SORRY, Health::Unhealthy);
    world.wait(1);
    assert_eq!(
        (world.takers("web"), world.reason(ONE)),
        (vec![ONE.into(), TWO.into(), THREE.into()], String::new())
    );
    let mut world = late();
    world.done(Operation::BackendDrain {
        pool: name("sorry"),
        address: address(SORRY),
        deadline: None,
        then: Then::Keep,
    });
    world.wait(1);
    assert_eq!(world.takers("web"), [ONE, TWO, THREE]);
}

#[test]
fn a_slow_start_ends_although_something_else_comes_before_the_clock() {
    let mut world = running(&web("backup = \"sorry\"\nslow_start = \"30s\""));
    world.wait(60);
    world.health("web", ONE, Health::Unhealthy);
    world.health("web", ONE, Health::Healthy);
    world.now = world.now.after(Duration::from_millis(30_001));
    world.way(SORRY, unresolved("neighbour not answering"));
    world.wait(1);
    assert_eq!((world.weights("web")[0], world.reason(ONE)), (1, String::new()));
}

#[test]
fn a_backend_that_the_file_no_longer_has_is_no_backup() {
    let gone = "10.0.0.4";
    let took = Held { takes_new: true, keeps: true };
    let members = [ONE, TWO, THREE, gone].map(|backend| (id("web", backend), took)).into();
    let ways = ["10.0.0.1", "10.0.0.2", "10.0.0.3", gone, SORRY];
    let ways = ways.map(|ip| (ip.parse().unwrap(), known("192.0.2.1"))).into();
    let mut pinned = Pinned { members, ways };
    // It serves a service of its own.
    pinned.members.insert(id("sorry", SORRY), took);
    let own = "[[service]]\nname = \"own\"\nforward = \"nat\"\nlisten = [\"203.0.113.11:80/tcp\"]\npool = \"sorry\"\n";
    let start = Start { file: spec(&(web("backup = \"sorry\"") + own)), pinned, ..Start::default() };
    let Candidate { membership, outcome } = Membership::start(Millis(0), start).unwrap();
    assert!(!kinds(&outcome).contains(&EventKind::PoolOnBackup), "{outcome:?}");
    let world = World { membership, now: Millis(0) };
    assert_eq!(world.takers("web"), [ONE, TWO, THREE]);
}

#[test]
fn one_that_is_not_checked_and_comes_back_after_a_restart_starts_slowly() {
    let took = Held { takes_new: true, keeps: true };
    let members = [ONE, TWO, THREE].map(|backend| (id("web", backend), took)).into();
    let ways =
        ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|ip| (ip.parse().unwrap(), known("192.0.2.1"))).into();
    let file = spec(&web("slow_start = \"30s\"\nhealth = { type = \"none\" }"));
    let start = Start { file, pinned: Pinned { members, ways }, ..Start::default() };
    let membership = Membership::start(Millis(0), start).unwrap().membership;
    let mut world = World { membership, now: Millis(0) };
    assert_eq!(world.weights("web"), [1, 1, 1]);
    world.done(drain(ONE));
    world.done(enable(ONE));
    assert_eq!(world.weights("web"), [1, 10, 10]);
}

/// A pool of a nat and of an ipip service has a table for each, and each has its own backup and panic.
#[test]
fn one_table_on_its_backup_takes_nobody_from_another() {
    let text = web("backup = { pool = \"sorry\", hold = \"10s\" }")
        .replace("\"10.0.0.1\", \"10.0.0.2:81\", \"10.0.0.3\"", "\"10.0.0.1\", \"2001:db8::1\"")
        + "[[service]]\nname = \"tunnel\"\nforward = \"ipip\"\nlisten = [\"203.0.113.11:80/tcp\"]\npool = \"web\"\n";
    let mut world = running(&text);
    let takers = |world: &World, variant| -> Vec<String> {
        let table = world.table("web", variant).backends.iter();
        table.filter(|(_, one)| one.table_weight() > 0).map(|(address, _)| address.to_string()).collect()
    };
    world.health("web", ONE, Health::Unhealthy);
    assert_eq!(takers(&world, Variant::V4), [SORRY, "10.0.9.2"]);
    assert_eq!(takers(&world, Variant::Any), ["2001:db8::1"]);
    world.health("web", ONE, Health::Healthy);
    assert_eq!(takers(&world, Variant::V4), [SORRY, "10.0.9.2"], "until the hold is over");
    assert_eq!(takers(&world, Variant::Any), [ONE, "2001:db8::1"]);
    world.health("web", "2001:db8::1", Health::Unhealthy);
    assert_eq!(takers(&world, Variant::Any), [ONE]);
}
