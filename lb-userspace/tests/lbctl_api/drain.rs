//! `backend drain --wait`: what is left is shown, and how it ends.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use super::daemon::{Daemon, stderr, stdout};

#[test]
fn a_drain_is_counted_down_until_no_flow_is_left() {
    let daemon = Daemon::start();
    daemon.flows("web", "10.0.0.11", 37);
    let listed = || stdout(&daemon.run(&["backend", "list", "web"]));
    let mut draining = daemon.command(&["backend", "drain", "web", "10.0.0.11", "--wait=30s"]);
    let mut draining = draining.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(draining.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "backend web/10.0.0.11: draining, 37 flows left");
    assert!(listed().contains("draining, 37 flows left"), "{}", listed());
    daemon.flows("web", "10.0.0.11", 1);
    assert_eq!(lines.next().unwrap(), "backend web/10.0.0.11: draining, 1 flow left");
    daemon.flows("web", "10.0.0.11", 0);
    let rest: Vec<String> = lines.collect();
    assert_eq!(rest.last().unwrap(), "backend web/10.0.0.11: draining, 0 flows left");
    assert_eq!(draining.wait().unwrap().code(), Some(0));
}

#[test]
fn a_drain_ends_with_its_deadline_and_what_follows() {
    for (then, state) in [("keep", "drained"), ("disable", "disabled"), ("remove", "removed")] {
        let daemon = Daemon::start();
        assert!(daemon.run(&["backend", "add", "web", "10.0.0.13"]).status.success());
        daemon.flows("web", "10.0.0.13", 5);
        let words =
            ["-j", "backend", "drain", "web", "10.0.0.13", "--deadline", "1h", "--then", then, "--wait"];
        let mut draining = daemon.command(&words).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(draining.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut answers = lines.map(|line| serde_json::from_str::<Value>(&line).unwrap());
        assert_eq!(answers.next().unwrap()["changed"], true, "the change first");
        let first = answers.next().unwrap();
        assert_eq!((&first["api_version"], &first["flows"]), (&"v1".into(), &5.into()), "{first}");
        assert!(first["seconds_left"].is_number() && first["done"] == false, "{first}");
        daemon.pass_deadlines();
        let last = answers.last().unwrap();
        assert_eq!((&last["state"], &last["done"]), (&state.into(), &true.into()), "{then}: {last}");
        assert_eq!(draining.wait().unwrap().code(), Some(0), "{then}");
    }
}

#[test]
fn a_wait_in_vain_ends_with_6_and_the_drain_goes_on() {
    let daemon = Daemon::start();
    daemon.flows("web", "10.0.0.11", 2);
    let said = daemon.fails(6, &["backend", "drain", "web", "10.0.0.11", "--wait=100ms"]);
    assert!(said.contains("still has 2 flows") && said.contains("goes on draining"), "{said}");
    assert!(daemon.json(&["backend", "list"])["backends"].to_string().contains("draining"));
    daemon.fails(4, &["backend", "drain", "web", "10.0.0.99", "--wait"]);
    daemon.fails(2, &["backend", "set", "web", "10.0.0.11", "--weight", "1", "--wait=2m"]);
    let dry = daemon.run(&["backend", "drain", "web", "10.0.0.11", "--wait", "--dry-run"]);
    assert!(dry.status.success(), "{}", stderr(&dry));
}
