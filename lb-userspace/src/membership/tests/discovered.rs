//! What discovery sources add, change and remove.

mod histories;

use super::*;

pub(super) const FOUND: &str = r#"
[datapath]
interfaces = ["eth0"]
[[pool]]
name = "web"
backends = ["10.0.0.1"]
[[pool.discover]]
type = "dns"
name = "a.example"
[[pool.discover]]
type = "file"
path = "/b"
[[service]]
name = "web"
forward = "nat"
listen = ["203.0.113.10:80/tcp"]
pool = "web"
"#;
pub(super) const DNS: &str = "dns:a.example";
pub(super) const FILE: &str = "file:/b";

/// The same pool with nobody in it but those that are discovered.
fn alone() -> String {
    FOUND.replace("backends = [\"10.0.0.1\"]\n", "")
}

pub(super) fn source(name: &str) -> SourceId {
    SourceId { pool: "web".parse().unwrap(), source: name.to_owned() }
}

pub(super) fn said(entries: &[(&str, u16)]) -> Backends {
    entries.iter().map(|(text, weight)| (address(text), *weight)).collect()
}

impl World {
    pub(super) fn hear(&mut self, from: &str, entries: &[(&str, u16)]) -> Outcome {
        let event = Event::Discovered { id: source(from), backends: said(entries) };
        self.membership.handle(self.now, event)
    }

    fn answer(&self, from: &str) -> Answer {
        Answer::clone(self.membership.answer(&source(from)).unwrap())
    }

    /// What is refused of the last answer, as it is said.
    fn left_out(&self, from: &str) -> Vec<String> {
        self.answer(from).refused.iter().map(ToString::to_string).collect()
    }
}

#[test]
fn what_a_source_names_is_a_member_by_that_origin_and_no_revision() {
    let mut world = running(FOUND);
    let revision = world.membership.revision();
    let outcome = world.hear(DNS, &[("10.0.0.2", 5), ("10.0.0.3:81", 1)]);
    assert!(!outcome.revised && outcome.desired_changed && outcome.members_changed);
    assert_eq!(world.membership.revision(), revision);
    assert_eq!(outcome.checks_put.len(), 2);
    assert_eq!(world.backends("web"), [ONE, "10.0.0.2", "10.0.0.3:81"]);
    let claim = Claim { origin: crate::spec::Origin::Discovery { source: DNS.to_owned() }, weight: 5 };
    assert_eq!(world.view("web", "10.0.0.2").claims, [claim]);
    assert_eq!(world.cell("10.0.0.2"), (false, true, true));
    world.all_well();
    assert_eq!(world.cell("10.0.0.2"), (true, true, true));
    // The same again is nothing new; another weight is.
    assert!(!world.hear(DNS, &[("10.0.0.2", 5), ("10.0.0.3:81", 1)]).desired_changed);
    let outcome = world.hear(DNS, &[("10.0.0.2", 7)]);
    assert!(outcome.desired_changed);
    assert_eq!(outcome.checks_removed, [id("web", "10.0.0.3:81")]);
    assert_eq!(world.desired("10.0.0.2").weight, 7);
    assert_eq!(world.cell("10.0.0.2"), (true, true, true), "what is known of it stays known");
}

#[test]
fn a_backend_of_two_origins_goes_when_the_last_lets_go() {
    let mut world = running(FOUND);
    world.hear(DNS, &[("10.0.0.2", 5), (ONE, 9)]);
    world.hear(FILE, &[("10.0.0.2", 3)]);
    world.done(add("web", "10.0.0.2"));
    world.all_well();
    let claims = world.view("web", "10.0.0.2").claims;
    let origins: Vec<String> = claims.iter().map(|claim| claim.origin.to_string()).collect();
    assert_eq!(origins, ["cli", "discovery:dns:a.example", "discovery:file:/b"]);
    assert_eq!((world.desired("10.0.0.2").weight, world.desired(ONE).weight), (1, 1), "the first origin's");
    world.done(remove("web", "10.0.0.2"));
    assert_eq!(world.desired("10.0.0.2").weight, 5);
    world.hear(DNS, &[("10.0.0.4", 1)]);
    assert_eq!(world.desired("10.0.0.2").weight, 3);
    assert_eq!(world.backends("web"), [ONE, "10.0.0.2", "10.0.0.4"], "the file still has its own");
    world.hear(FILE, &[("10.0.0.4", 1)]);
    assert_eq!(world.backends("web"), [ONE, "10.0.0.4"]);
}

#[test]
fn lbctl_cannot_remove_a_discovered_backend_and_may_lay_its_hand_on_it() {
    let mut world = running(FOUND);
    world.hear(DNS, &[("10.0.0.2", 5)]);
    world.all_well();
    let refusal = world.refused(remove("web", "10.0.0.2"));
    assert_eq!(refusal.code, RefusalCode::Owner);
    assert_eq!(
        refusal.to_string(),
        "discovery:dns:a.example: backend web/10.0.0.2 is defined by the discovery source dns:a.example, so lbctl cannot remove it: \
         change it in dns:a.example; for now, lbctl backend disable web 10.0.0.2 would do"
    );
    world.done(weight("10.0.0.2", 50));
    world.done(drain("10.0.0.2"));
    let revision = world.membership.revision();
    // The override lives as long as its backend, whatever else the source says.
    world.hear(DNS, &[("10.0.0.2", 6), ("10.0.0.3", 1)]);
    assert_eq!((world.desired("10.0.0.2").weight, world.cell("10.0.0.2").0), (50, false));
    assert_eq!(world.membership.revision(), revision);
    let outcome = world.hear(DNS, &[("10.0.0.3", 1)]);
    assert!(outcome.revised, "an override has ended, which is to be written down");
    assert_eq!(world.membership.revision(), revision + 1);
    assert!(outcome.events.iter().any(|event| event.kind == EventKind::OverrideCleared));
    world.hear(DNS, &[("10.0.0.2", 6), ("10.0.0.3", 1)]);
    assert_eq!(world.desired("10.0.0.2").weight, 6);
}

#[test]
fn an_answer_of_nothing_empties_no_pool_that_does_not_allow_it() {
    let mut world = running(&alone());
    world.hear(DNS, &[("10.0.0.2", 1)]);
    world.all_well();
    let outcome = world.hear(DNS, &[]);
    assert!(!outcome.desired_changed && outcome.events.is_empty());
    assert_eq!(world.cell("10.0.0.2"), (true, true, true));
    world.reload(&alone().replace("type = \"dns\"", "type = \"dns\"\nallow_empty = true")).unwrap();
    assert_eq!(world.cell("10.0.0.2"), (true, true, true), "what it said stays over a reload");
    let outcome = world.hear(DNS, &[]);
    assert!(outcome.events.iter().any(|event| event.kind == EventKind::PoolDown));
    assert_eq!(world.backends("web"), [] as [&str; 0]);
}

#[test]
fn entries_that_cannot_work_are_left_out_and_named() {
    let mut world = running(FOUND);
    let bad = [
        ("224.0.0.1", "it is a multicast address"),
        ("203.0.113.10", "the address of service \"web\" itself"),
        ("2001:db8::1", "no listener of its services is IPv6"),
        ("127.0.0.1", "cannot be reached from eth0"),
        ("169.254.1.1", "link-local"),
    ];
    let mut entries: Vec<(&str, u16)> = bad.iter().map(|(text, _)| (*text, 1)).collect();
    entries.push(("10.0.0.2", 4));
    world.hear(DNS, &entries);
    assert_eq!(world.backends("web"), [ONE, "10.0.0.2"]);
    let left_out = world.left_out(DNS);
    assert_eq!(left_out.len(), bad.len(), "{left_out:?}");
    for (text, why) in bad {
        let named = left_out.iter().find(|sentence| sentence.contains(text) && sentence.contains(why));
        assert!(
            named.is_some_and(|sentence| sentence.starts_with("discovery:dns:a.example: ")),
            "{text}: {left_out:?}"
        );
    }
    // Nothing of it can be taken: that is as if nothing were said.
    world.hear(DNS, &[("224.0.0.1", 1)]);
    assert_eq!(world.backends("web"), [ONE, "10.0.0.2"]);
    assert_eq!(world.left_out(DNS).len(), 1);
    world.hear(DNS, &[("10.0.0.2", 4)]);
    assert_eq!(world.left_out(DNS), [] as [&str; 0]);
}

#[test]
fn entries_that_contradict_something_only_together_are_left_out_one_by_one() {
    // Flows of a listener for every port and of one with a port must not meet at one endpoint.
    let text = FOUND.to_owned()
        + "[[service]]\nname = \"all\"\nforward = \"nat\"\nlisten = [\"203.0.113.11:any/tcp\"]\nbackends = [\"10.0.0.50\", \"10.0.0.66\"]\nhealth = { port = 80 }\n";
    let mut world = running(&text);
    let many: Vec<String> = (60..80).map(|n| format!("10.0.0.{n}")).collect();
    let entries: Vec<(&str, u16)> = many.iter().map(|text| (text.as_str(), 1)).collect();
    world.hear(DNS, &entries);
    let wanted: Vec<&str> = std::iter::once(ONE)
        .chain(many.iter().map(String::as_str).filter(|text| *text != "10.0.0.66"))
        .collect();
    assert_eq!(world.backends("web"), wanted);
    let left_out = world.left_out(DNS);
    assert!(
        matches!(&left_out[..], [only] if only.contains("10.0.0.66") && only.contains("kept apart")),
        "{left_out:?}"
    );
    world.all_well();
    // A reload that would contradict a discovered backend takes the backend away and is done.
    let other = text.replace("10.0.0.66", "10.0.0.70").replace("[\"10.0.0.1\"]", "[\"10.0.0.9\"]");
    world.reload(&other).unwrap();
    assert!(world.backends("web").contains(&"10.0.0.66".to_owned()), "it contradicts nothing any more");
    assert!(!world.backends("web").contains(&"10.0.0.70".to_owned()));
    // A file that contradicts itself is refused as ever.
    let service = ServiceAdd::new(name("api"), vec!["203.0.113.12:80/tcp".parse().unwrap()]);
    world.done(Operation::ServiceAdd(Box::new(service)));
    let wrong = other.replace("203.0.113.11:any/tcp", "203.0.113.12:80/tcp");
    assert_eq!(world.reload(&wrong).unwrap_err().code, RefusalCode::Invalid);
    assert!(world.backends("web").contains(&"10.0.0.66".to_owned()));
}

#[test]
fn the_last_usable_backends_stay_until_others_can_take_their_place() {
    let mut world = running(&alone());
    world.hear(DNS, &[("10.0.0.2", 1), ("10.0.0.3", 1)]);
    world.all_well();
    // A whole new set, of which nobody has been checked yet.
    let outcome = world.hear(DNS, &[("10.0.0.4", 1), ("10.0.0.5", 1)]);
    assert!(!outcome.events.iter().any(|event| event.kind == EventKind::PoolDown));
    assert_eq!(world.backends("web"), ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"]);
    assert_eq!(world.cell("10.0.0.2"), (true, true, true));
    assert_eq!(world.answer(DNS).lingering, [address("10.0.0.2"), address("10.0.0.3")].into());
    // The same answer again changes nothing.
    world.hear(DNS, &[("10.0.0.4", 1), ("10.0.0.5", 1)]);
    assert_eq!(world.answer(DNS).lingering.len(), 2);
    world.way("10.0.0.4", known("192.0.2.1"));
    let outcome = world.health("web", "10.0.0.4", Health::Healthy);
    assert_eq!(outcome.checks_removed.len(), 2);
    assert!(!outcome.events.iter().any(|event| event.kind == EventKind::PoolDown));
    assert_eq!(world.backends("web"), ["10.0.0.4", "10.0.0.5"]);
    assert!(world.answer(DNS).lingering.is_empty());
}

#[test]
fn a_backend_that_lingers_goes_when_it_is_of_no_use_itself() {
    let mut world = running(&alone());
    world.hear(DNS, &[("10.0.0.2", 1)]);
    world.all_well();
    world.hear(DNS, &[("10.0.0.4", 1)]);
    assert_eq!(world.backends("web"), ["10.0.0.2", "10.0.0.4"]);
    world.health("web", "10.0.0.2", Health::Unhealthy);
    assert_eq!(world.backends("web"), ["10.0.0.4"]);
}

#[test]
fn a_source_that_the_file_no_longer_names_takes_its_backends_with_it() {
    let mut world = running(FOUND);
    world.hear(DNS, &[("10.0.0.2", 1)]);
    world.hear(FILE, &[("10.0.0.3", 1)]);
    world.all_well();
    let without = FOUND.replace("[[pool.discover]]\ntype = \"dns\"\nname = \"a.example\"\n", "");
    world.reload(&without).unwrap();
    assert_eq!(world.backends("web"), [ONE, "10.0.0.3"]);
    assert_eq!(world.membership.answer(&source(DNS)), None);
    // What it says on its way out is heard by nobody.
    assert!(!world.hear(DNS, &[("10.0.0.4", 1)]).desired_changed);
    // It comes back with nothing.
    world.reload(FOUND).unwrap();
    assert_eq!(world.backends("web"), [ONE, "10.0.0.3"]);
    let sources: Vec<(String, bool)> =
        world.membership.sources().into_iter().map(|view| (view.id.source, view.answer.is_some())).collect();
    assert_eq!(sources, [(DNS.to_owned(), false), (FILE.to_owned(), true)]);
}

#[test]
fn a_start_goes_on_with_what_was_said_before() {
    let held = Held { takes_new: true, keeps: true };
    let pinned = Pinned { members: [(id("web", "10.0.0.2"), held)].into(), ..Pinned::default() };
    let recalled = |entries| Recalled { said: said(entries), ..Recalled::default() };
    let discovered = [
        (source(DNS), recalled(&[("10.0.0.2", 3), ("203.0.113.10", 1)])),
        (source("dns:gone.example"), recalled(&[("10.0.0.8", 1)])),
    ];
    let file = spec(&alone());
    let saved = Some((7, Arc::clone(&file)));
    let start = Start { file, saved, pinned, discovered: discovered.into(), ..Start::default() };
    let candidate = Membership::start(Millis(0), start).unwrap();
    assert!(!candidate.outcome.revised);
    let mut world = World { membership: candidate.membership, now: Millis(0) };
    assert_eq!(world.membership.revision(), 7);
    assert_eq!(world.backends("web"), ["10.0.0.2"]);
    assert_eq!(world.left_out(DNS).len(), 1);
    world.way("10.0.0.2", known("192.0.2.1"));
    assert_eq!(world.cell("10.0.0.2"), (true, true, true), "it took flows before the restart");
}

#[test]
fn answers_that_come_together_do_what_they_do_one_by_one() {
    let answers: [(SourceId, Backends); 2] =
        [(source(DNS), said(&[("10.0.0.2", 5), ("224.0.0.1", 1)])), (source(FILE), said(&[("10.0.0.3", 2)]))];
    let together = |world: &mut World, answers: &[(SourceId, Backends)]| {
        world.membership.take_answers(world.now, answers.to_vec())
    };
    let (mut one, mut other) = (running(FOUND), running(FOUND));
    let outcome = together(&mut one, &answers);
    assert!(outcome.desired_changed && !outcome.revised && outcome.checks_put.len() == 2);
    for (id, backends) in &answers {
        other.membership.handle(other.now, Event::Discovered { id: id.clone(), backends: backends.clone() });
    }
    assert_eq!(one.membership.pool_views(&[]), other.membership.pool_views(&[]));
    assert_eq!(one.membership.desired(), other.membership.desired());
    assert_eq!(one.membership.sources(), other.membership.sources());
    assert_eq!(one.left_out(DNS).len(), 1);
    // Together they would take the last usable backend: each is looked at by itself.
    let mut world = running(&alone());
    together(&mut world, &answers);
    world.all_well();
    together(
        &mut world,
        &[(source(DNS), said(&[("10.0.0.4", 1)])), (source(FILE), said(&[("10.0.0.5", 1)]))],
    );
    assert!(world.view("web", "10.0.0.3").eligible, "the last one stays");
    assert_eq!(world.backends("web"), ["10.0.0.3", "10.0.0.4", "10.0.0.5"]);
    // One that says nothing takes nothing from the other.
    together(&mut world, &[(source(DNS), said(&[])), (source(FILE), said(&[("10.0.0.6", 1)]))]);
    assert_eq!(world.backends("web"), ["10.0.0.3", "10.0.0.4", "10.0.0.6"]);
    assert!(!together(&mut world, &[]).desired_changed);
}

#[test]
fn one_that_lingers_does_so_after_a_reload_that_contradicts_another_source() {
    let all = "[[service]]\nname = \"all\"\nforward = \"nat\"\nlisten = [\"203.0.113.11:any/tcp\"]\nbackends = [\"10.0.0.50\"]\nhealth = { port = 80 }\n";
    let text = alone() + all;
    let mut world = running(&text);
    world.hear(DNS, &[("10.0.0.2", 1)]);
    world.all_well();
    world.hear(DNS, &[("10.0.0.4", 1)]);
    world.hear(FILE, &[("10.0.0.66", 1)]);
    assert_eq!(world.backends("web"), ["10.0.0.2", "10.0.0.4", "10.0.0.66"]);
    world.reload(&text.replace("\"10.0.0.50\"", "\"10.0.0.50\", \"10.0.0.66\"")).unwrap();
    assert_eq!(world.backends("web"), ["10.0.0.2", "10.0.0.4"]);
    assert_eq!(world.answer(DNS).lingering, [address("10.0.0.2")].into());
    world.hear(DNS, &[("10.0.0.4", 1)]);
    world.all_well();
    assert_eq!(world.backends("web"), ["10.0.0.4"], "it goes when another takes flows");
}

#[test]
fn one_that_lingers_does_so_after_a_start() {
    let held = Held { takes_new: true, keeps: true };
    let way = ("10.0.0.2".parse().unwrap(), known("192.0.2.1"));
    let pinned = Pinned { members: [(id("web", "10.0.0.2"), held)].into(), ways: [way].into() };
    let recalled = Recalled { said: said(&[("10.0.0.4", 1)]), lingering: said(&[("10.0.0.2", 3)]) };
    let discovered = [(source(DNS), recalled)].into();
    let start = Start { file: spec(&alone()), pinned, discovered, ..Start::default() };
    let membership = Membership::start(Millis(0), start).unwrap().membership;
    let mut world = World { membership, now: Millis(0) };
    assert_eq!(world.cell("10.0.0.2"), (true, true, true));
    assert_eq!(world.answer(DNS).who_lingers(), said(&[("10.0.0.2", 3)]));
    world.hear(DNS, &[("10.0.0.4", 1)]);
    world.health("web", "10.0.0.4", Health::Unhealthy);
    world.health("web", "10.0.0.2", Health::Healthy);
    assert_eq!(world.cell("10.0.0.2"), (true, true, true));
    world.all_well();
    assert_eq!(world.backends("web"), ["10.0.0.4"]);
}

#[test]
fn an_answer_with_contradictions_is_judged_once_until_something_is_defined_otherwise() {
    let all = "[[service]]\nname = \"all\"\nforward = \"nat\"\nlisten = [\"203.0.113.11:any/tcp\"]\nbackends = [\"10.0.0.50\", \"10.0.0.66\"]\nhealth = { port = 80 }\n";
    let mut world = running(&(FOUND.to_owned() + all));
    let entries = [("10.0.0.2", 1), ("10.0.0.66", 1)];
    world.hear(DNS, &entries);
    assert_eq!(world.left_out(DNS).len(), 1);
    let defined = world.membership.defined;
    assert_eq!(world.membership.sifted.get(&source(DNS)), Some(&defined));
    let before = Arc::clone(world.membership.answer(&source(DNS)).unwrap());
    world.hear(DNS, &entries);
    assert!(Arc::ptr_eq(&before, world.membership.answer(&source(DNS)).unwrap()), "nothing was done");
    world.reload(&(FOUND.to_owned() + &all.replace("66", "67"))).unwrap();
    world.hear(DNS, &entries);
    assert_eq!(world.backends("web"), [ONE, "10.0.0.2", "10.0.0.66"]);
}

/// Found by `joined`: in panic a table uses who is not well, so it stays as it is when the last one is lost that it could use by itself.
#[test]
fn who_lingers_goes_when_it_is_of_no_use_although_the_table_stays_as_it_is() {
    let mut world = running(
        &FOUND.replace("name = \"web\"\nbackends", "name = \"web\"\npanic_below = \"60%\"\nbackends"),
    );
    world.hear(FILE, &[("10.0.0.2", 1)]);
    world.all_well();
    world.health("web", "10.0.0.1", Health::Unhealthy);
    world.hear(FILE, &[("10.0.0.3", 1)]);
    assert_eq!(
        world.backends("web"),
        ["10.0.0.1", "10.0.0.2", "10.0.0.3"],
        "the only one that is well stays"
    );
    world.health("web", "10.0.0.2", Health::Unhealthy);
    assert_eq!(world.backends("web"), ["10.0.0.1", "10.0.0.3"]);
}
