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

#[test]
fn a_count_that_stands_for_another_is_no_second_count() {
    let daemon = Daemon::start();
    // Counted before the drain, and never since: 50 flows have begun.
    daemon.count_no_more();
    daemon.flows("web", "10.0.0.11", 50);
    let said = daemon.fails(6, &["backend", "drain", "web", "10.0.0.11", "--wait=2s"]);
    assert!(said.contains("not been counted"), "{said}");
}

#[test]
fn a_drain_watches_the_backend_it_found_and_no_other() {
    let daemon = Daemon::start();
    for address in ["10.0.0.13", "10.0.0.13:8081"] {
        assert!(daemon.run(&["backend", "add", "web", address]).status.success());
    }
    daemon.flows("web", "10.0.0.13", 5);
    let words =
        ["-j", "backend", "drain", "web", "10.0.0.13", "--deadline", "1h", "--then", "remove", "--wait"];
    let mut draining = daemon.command(&words);
    let mut draining = draining.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(draining.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.nth(1).unwrap().contains("\"flows\":5"), "the change, then the count");
    daemon.pass_deadlines();
    let last: Value = serde_json::from_str(&lines.last().unwrap()).unwrap();
    assert_eq!((&last["state"], &last["done"]), (&"removed".into(), &true.into()), "{last}");
    assert_eq!(draining.wait().unwrap().code(), Some(0));
}

#[test]
fn a_wait_goes_on_over_a_restart_of_the_daemon() {
    let mut daemon = Daemon::start();
    daemon.flows("web", "10.0.0.11", 5);
    let mut draining = daemon.command(&["backend", "drain", "web", "10.0.0.11", "--wait=30s"]);
    let mut draining = draining.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(draining.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().contains("5 flows left"));
    daemon.go_and_come();
    daemon.flows("web", "10.0.0.11", 0);
    assert!(lines.last().unwrap().contains("0 flows left"));
    assert_eq!(draining.wait().unwrap().code(), Some(0));
}

#[test]
fn a_reader_that_goes_away_does_not_make_it_done() {
    let daemon = Daemon::start();
    daemon.flows("web", "10.0.0.11", 5);
    let mut draining = daemon.command(&["backend", "drain", "web", "10.0.0.11", "--wait=30s"]);
    let mut draining = draining.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(draining.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().contains("5 flows left"));
    drop(lines);
    assert_eq!(draining.wait().unwrap().code(), Some(1), "nobody knows whether it is drained");
    // A plan that nobody reads still says by its code that something would change.
    let daemon = Daemon::start();
    daemon.rewrite(&super::daemon::CONFIG.replace("10.0.0.12:8443", "10.0.0.22:8443"));
    for (words, code) in [(&["plan"][..], 10), (&["backend", "list"], 0)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let code_of = daemon.command(words).stdout(writer).stderr(Stdio::null()).status().unwrap().code();
        assert_eq!(code_of, Some(code), "{words:?}");
    }
}
