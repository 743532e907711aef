//! Ejections over a restart, by fast-forward.

use super::*;

/// A day, in milliseconds.
const DAY: u64 = 86_400_000;
/// When the daemon of the first run started.
const BEGIN: Millis = Millis(1_795_248_000_000);

/// A run that begins at this moment, with what is kept and what the tables say of backends: (address, takes new flows).
fn begun(text: &str, now: Millis, ejections: Vec<Ejected>, pinned: &[(&str, bool)]) -> (World, Outcome) {
    let held = |(backend, takes_new): &(&str, bool)| {
        (id("web", backend), Held { takes_new: *takes_new, keeps: true })
    };
    let pinned = Pinned { members: pinned.iter().map(held).collect(), ..Pinned::default() };
    let start = Start { file: spec(text), ejections, pinned, ..Start::default() };
    let Candidate { membership, outcome } = Membership::start(now, start).unwrap();
    let mut world = World { membership, now };
    world.all_well();
    (world, outcome)
}

/// A first run in which ONE was ejected so often; where it stands then.
fn ejected(text: &str, times: usize) -> World {
    let (mut world, _) = begun(text, BEGIN, Vec::new(), &[]);
    for time in 0..times {
        if time > 0 {
            let timer = world.membership.next_timer().unwrap();
            world.wait(timer.since(world.now).as_secs() + 1);
        }
        world.suspect(ONE);
    }
    assert!(!takes(&world, ONE));
    world
}

fn takes(world: &World, backend: &str) -> bool {
    world.view("web", backend).eligible
}

/// The next run: so much later by its clock.
fn restarted(text: &str, world: &World, now: Millis) -> World {
    begun(text, now, world.membership.ejections(world.now), &[(ONE, false), (TWO, true)]).0
}

/// From now until ONE takes flows.
fn left(world: &mut World) -> u64 {
    let begin = world.now;
    while !takes(world, ONE) {
        let timer = world.membership.next_timer().expect("it is out for ever");
        world.now = world.now.max(timer);
        world.membership.handle(world.now, Event::Tick);
    }
    world.now.since(begin).as_secs()
}

#[test]
fn who_is_ejected_stays_out_over_a_restart_for_the_rest_of_its_time() {
    let before = ejected(WEB, 1);
    let mut world = restarted(WEB, &before, before.now.after(Duration::from_secs(3)));
    assert!(!takes(&world, ONE) && takes(&world, TWO));
    let view = world.view("web", ONE);
    assert!(view.ejected && view.health == Health::Healthy, "its check is well, and that is no way in");
    assert!(view.reason.contains("ejected until 2026-11-21T08:00:10.000Z: 0 of 12 new"), "{}", view.reason);
    assert_eq!(left(&mut world), 7);
    assert_eq!(world.membership.next_timer(), None);
}

#[test]
fn its_back_off_goes_on_and_ends_as_without_a_restart() {
    for (times, next) in [(1, 20), (3, 80), (9, 300)] {
        // Once while it is out, once when it is in again.
        for is_over in [false, true] {
            let mut before = ejected(WEB, times);
            let timer = before.membership.next_timer().unwrap();
            if is_over {
                before.wait(timer.since(before.now).as_secs() + 299);
            }
            let mut world = restarted(WEB, &before, before.now);
            assert_eq!(takes(&world, ONE), is_over);
            left(&mut world);
            world.suspect(ONE);
            assert_eq!(left(&mut world), next, "after {times}");
        }
        // Well for as long as the longest: it counts from one again, and nothing is kept of it.
        let mut before = ejected(WEB, times);
        left(&mut before);
        before.wait(300);
        assert_eq!(before.membership.ejections(before.now), []);
        let old = ejected(WEB, times);
        let until = old.membership.next_timer().unwrap();
        let mut world = restarted(WEB, &old, until.after(Duration::from_secs(300)));
        world.suspect(ONE);
        assert_eq!(left(&mut world), 10);
    }
}

#[test]
fn a_clock_that_was_set_by_days_keeps_nobody_out_for_longer_than_the_ejection_was() {
    for (times, length) in [(1, 10), (2, 20), (9, 300)] {
        let before = ejected(WEB, times);
        // A day back: the end lies a day ahead.
        let mut world = restarted(WEB, &before, Millis(before.now.0 - DAY));
        assert_eq!(left(&mut world), length, "{times}");
        // A day ahead, or a day off: it is over.
        let mut world = restarted(WEB, &before, before.now.after(Duration::from_millis(DAY)));
        assert_eq!(left(&mut world), 0, "{times}");
        // At the beginning of time, as a board without a battery.
        let mut world = restarted(WEB, &before, Millis(0));
        assert_eq!(left(&mut world), length, "{times}");
    }
    // As long as somebody has asked for, where that is longer.
    let hour = WEB.replace("forward =", "passive = { eject = \"1h\" }\nforward =");
    let before = ejected(&hour, 1);
    let mut world = restarted(&hour, &before, Millis(before.now.0 - DAY));
    assert_eq!(left(&mut world), 3600);
    // What says that it was ejected more often than one can count.
    let kept = Ejected {
        times: u32::MAX,
        until: Millis(u64::MAX),
        ..before.membership.ejections(before.now).remove(0)
    };
    let (mut world, _) = begun(WEB, BEGIN, vec![kept], &[(ONE, false)]);
    assert_eq!(left(&mut world), 300);
}

/// What was kept may be of long ago, by a clock that was set back: the tables know better.
#[test]
fn who_took_new_flows_is_not_taken_out_by_what_was_kept() {
    let before = ejected(WEB, 2);
    let kept = before.membership.ejections(before.now);
    let (mut world, _) = begun(WEB, before.now, kept.clone(), &[(ONE, true), (TWO, true)]);
    assert!(takes(&world, ONE));
    // But how often it was counts.
    world.suspect(ONE);
    assert_eq!(left(&mut world), 40);
    // After a reboot nothing is in the tables, and what was kept holds.
    assert!(!takes(&begun(WEB, before.now, kept, &[]).0, ONE));
}

#[test]
fn no_pool_is_left_without_anybody_by_what_was_kept() {
    let before = ejected(WEB, 1);
    let kept = before.membership.ejections(before.now);
    let of_two = Ejected { address: address(TWO), ..kept[0].clone() };
    let (world, _) = begun(WEB, before.now, vec![kept[0].clone(), of_two], &[]);
    assert!(!takes(&world, ONE) && takes(&world, TWO), "one of two at most");
    // Meanwhile it has become the only one, or the only one that may.
    let alone = WEB.replace(", \"10.0.0.2:81\"", "");
    assert!(takes(&begun(&alone, before.now, kept.clone(), &[]).0, ONE));
    let weightless = WEB.replace("\"10.0.0.2:81\"", "{ address = \"10.0.0.2:81\", weight = 0 }");
    assert!(takes(&begun(&weightless, before.now, kept.clone(), &[]).0, ONE));
    // Whoever has switched it off, or has no such backend or pool, has nothing of it.
    let off = WEB.replace("forward =", "passive = false\nforward =");
    let (world, _) = begun(&off, before.now, kept.clone(), &[]);
    assert!(takes(&world, ONE) && world.membership.ejections(world.now).is_empty());
    let others = WEB.replace("\"10.0.0.1\"", "\"10.0.0.3\"");
    assert!(takes(&begun(&others, before.now, kept.clone(), &[]).0, "10.0.0.3"));
    let another = WEB.replace("name = \"web\"", "name = \"other\"");
    assert_eq!(begun(&another, before.now, kept, &[]).0.membership.ejections(before.now), []);
}

const THROUGH: &str = r#"
[datapath]
interfaces = ["eth0"]
[[service]]
name = "web"
forward = "nat"
listen = ["203.0.113.10:80/tcp"]
backends = ["10.0.0.1", "10.0.0.2"]
health = { via = "service" }
"#;

fn through_check() -> CheckId {
    CheckId { member: id("web", ONE), through: Some("203.0.113.10:80/tcp".parse().unwrap()) }
}

#[test]
fn who_waits_for_a_check_through_the_service_goes_on_waiting() {
    let before = ejected(THROUGH, 1);
    let kept = before.membership.ejections(before.now);
    let start = Start { file: spec(THROUGH), ejections: kept, ..Start::default() };
    // Long after its time.
    let now = before.now.after(Duration::from_secs(250));
    let Candidate { membership, .. } = Membership::start(now, start).unwrap();
    let mut world = World { membership, now };
    // The check leaves when the way is known: its first success is to be told as what ends the ejection.
    let outcome = world.way(ONE, known("192.0.2.1"));
    assert_eq!((outcome.checks_put.len(), &outcome.checks_doubted[..]), (1, &[through_check()][..]));
    world.all_well();
    assert!(!takes(&world, ONE) && takes(&world, "10.0.0.2"));
    let confirmed = |world: &mut World| {
        let event = Event::Confirmed { id: through_check(), detail: Arc::from("connected") };
        world.membership.handle(world.now, event)
    };
    assert!(confirmed(&mut world).ejections_changed);
    assert!(takes(&world, ONE));
    // What has succeeded before is not waited for again.
    let world = begun(THROUGH, world.now, world.membership.ejections(world.now), &[(ONE, true)]).0;
    assert!(takes(&world, ONE));
}

/// A check that begins anew says its first success as any news; what waits for it has to hear of it.
#[test]
fn a_check_that_begins_anew_is_doubted_where_an_ejection_waits_for_it() {
    let mut world = ejected(THROUGH, 1);
    world.done(disable(ONE));
    let outcome = world.done(enable(ONE));
    assert_eq!((outcome.checks_put.len(), &outcome.checks_doubted[..]), (1, &[through_check()][..]));
    let outcome = world.reload(&THROUGH.replace("via =", "interval = \"1s\", via =")).unwrap();
    assert_eq!(&outcome.checks_doubted[..], [through_check()]);
    // Who is not ejected is asked as ever.
    world.forced(disable("10.0.0.2"));
    assert!(world.done(enable("10.0.0.2")).checks_doubted.is_empty());
}

#[test]
fn whatever_changes_ejections_says_so() {
    let (mut world, outcome) = begun(WEB, BEGIN, Vec::new(), &[]);
    assert!(!outcome.ejections_changed);
    assert!(world.suspect(ONE).ejections_changed);
    assert!(!world.suspect(TWO).ejections_changed, "the last one is not ejected");
    assert!(!world.forced(drain(TWO)).ejections_changed);
    let outcome = world.reload(&WEB.replace("\"10.0.0.1\", ", "\"10.0.0.3\", ")).unwrap();
    assert!(outcome.ejections_changed && world.membership.ejections(world.now).is_empty());
}
