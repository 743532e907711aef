//! The real `lbctl` against the real API: fields of the contract, exit codes, streams, questions.

mod batch;
mod daemon;
mod drain;
mod plan;
mod revisions;
mod terminal;
mod trouble;

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use daemon::{Daemon, lbctl, stderr, stdout};
use lb_userspace::health::Health;
use serde_json::Value;

fn assert_fields(value: &Value, fields: &[&str]) {
    for field in fields {
        assert!(value.get(field).is_some(), "{field} is missing in {value}");
    }
}

#[test]
fn every_field_of_the_contract_is_there() {
    let daemon = Daemon::start();
    let backends = daemon.json(&["backend", "list"]);
    assert_fields(
        &backends["backends"][0],
        &[
            "pool",
            "address",
            "origin",
            "weight",
            "state",
            "health",
            "eligible",
            "reason",
            "reach",
            "slots",
            "flows",
            "packets",
            "bytes",
            "new_flows",
        ],
    );
    let services = daemon.json(&["service", "list"]);
    assert_fields(
        &services["services"][0],
        &["name", "listen", "pool", "forward", "origin", "backends", "eligible", "packets", "bytes", "drops"],
    );
    assert_fields(&services["pools"][0], &["name", "generation", "table_hash", "slots"]);
    let status = daemon.json(&["status"]);
    assert_fields(&status, &["version", "uptime", "revision", "degraded", "interfaces", "flows", "drops"]);
    assert_fields(&status["interfaces"][0], &["name", "mode", "attached", "program_id"]);
    for family in ["v4", "v6"] {
        assert_fields(&status["flows"][family], &["used", "capacity"]);
    }
    let explained = daemon.json(&["explain", "tcp", "198.51.100.7:1", "203.0.113.10:443"]);
    assert_fields(
        &explained,
        &["verdict", "reason", "service", "pool", "backend", "selected_by", "interface", "next_hop"],
    );
    let judged = daemon.json(&["backend", "add", "web", "10.0.0.13", "--dry-run"]);
    assert_fields(&judged["plan"], &["changes", "slots_moved", "collateral", "flows_kept", "flows_moved"]);
    let listed = [("flows", "flows"), ("stats", "services"), ("drops", "reasons"), ("events", "events")];
    for (verb, list) in listed {
        assert!(daemon.json(&[verb])[list].as_array().is_some_and(|rows| !rows.is_empty()), "{verb}");
    }
    assert_fields(&daemon.json(&["override", "list"]), &["overrides"]);
    assert_fields(&daemon.json(&["service", "show", "web"]), &["service", "pools", "backends"]);
    assert_eq!(daemon.json(&["flows", "count"])["count"], 3);
}

#[test]
fn a_pool_of_lbctls_is_what_it_is_told_to_be() {
    let daemon = Daemon::start();
    let done = |words: &[&str]| {
        let output = daemon.run(words);
        assert!(output.status.success(), "{words:?}: {}", stderr(&output));
    };
    done(&["pool", "add", "sorry", "--backend", "10.0.9.1:8080", "--passive", "off"]);
    let service = ["service", "add", "own", "203.0.113.10:80/tcp", "--backend", "10.0.0.21"];
    done(&[&service[..], &["--slow-start", "30s", "--backup", "sorry", "--maglev", "4093"]].concat());
    let listed = stdout(&daemon.run(&["pool", "list"]));
    for part in ["NAME", "sorry", "own", "web"] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    let own = &daemon.json(&["pool", "show", "own"])["pools"][0];
    assert_fields(own, &["maglev", "panic_below", "slow_start", "backup", "passive"]);
    assert_eq!(
        (&own["slow_start"], &own["backup"]["pool"], &own["maglev"]),
        (&30.into(), &"sorry".into(), &4093.into())
    );
    let shown = stdout(&daemon.run(&["service", "show", "own"]));
    assert!(shown.contains("slow start 30s; backup sorry"), "{shown}");
    let sorry = stdout(&daemon.run(&["pool", "show", "sorry"]));
    assert!(sorry.contains("passive health is off") && sorry.contains("no service uses it"), "{sorry}");

    done(&["pool", "set", "own", "--no-backup", "--passive", "off"]);
    let own = &daemon.json(&["pool", "show", "own"])["pools"][0];
    assert!(own["backup"].is_null() && own["passive"].is_null() && own["slow_start"] == 30, "{own}");
    done(&["pool", "remove", "sorry", "--yes"]);
    daemon.fails(5, &["pool", "set", "web", "--passive", "off"]);
    daemon.fails(4, &["pool", "set", "none", "--passive", "off"]);
    daemon.fails(2, &["pool", "set", "own"]);
    daemon.fails(2, &["service", "add", "b", "203.0.113.10:81/tcp", "--pool", "web", "--slow-start", "1s"]);
    let batch = daemon.run(&["batch", "-f", "/dev/null"]);
    assert!(batch.status.success(), "{}", stderr(&batch));
}

#[test]
fn each_kind_of_failure_has_its_exit_code() {
    let daemon = Daemon::start();
    let cases: [(i32, &[&str], &str); 11] = [
        (2, &["backend", "frobnicate"], "frobnicate"),
        (2, &["backend", "add", "web", "10.0.0.300"], "10.0.0.300"),
        (2, &["service", "set", "web"], "what to change"),
        (2, &["backend", "add", "web", "10.0.0.13", "--wait=2m"], "longest wait"),
        (2, &["explain", "tcp", "198.51.100.7:1", "[2001:db8::1]:443"], "families"),
        (4, &["backend", "list", "wbe"], "did you mean \"web\"?"),
        (4, &["service", "show", "wbe"], "wbe"),
        (5, &["backend", "remove", "web", "10.0.0.11", "--yes"], "lbd.toml:7"),
        (5, &["backend", "drain", "web", "10.0.0.11", "--if-revision", "99"], "revision"),
        (5, &["service", "add", "web", "203.0.113.11:80/tcp"], "web"),
        (6, &["backend", "add", "web", "10.0.0.13", "--wait=100ms"], "10.0.0.13"),
    ];
    for (code, words, part) in cases {
        let said = daemon.fails(code, words);
        assert!(said.contains(part), "{words:?} says {said}");
    }
}

#[test]
fn the_last_backend_goes_only_by_force() {
    let daemon = Daemon::start();
    assert!(daemon.run(&["backend", "drain", "web", "10.0.0.11"]).status.success());
    daemon.fails(5, &["backend", "drain", "web", "10.0.0.12:8443"]);
    assert!(daemon.run(&["backend", "drain", "web", "10.0.0.12:8443", "--force"]).status.success());
}

#[test]
fn errors_under_json_are_the_error_object_on_stderr() {
    let daemon = Daemon::start();
    let output = daemon.run(&["-j", "backend", "remove", "web", "10.0.0.11", "--yes"]);
    assert_eq!(stdout(&output), "");
    let said = stderr(&output);
    assert!(said.starts_with("{\n  \"api_version\": \"v1\""), "{said}");
    let error: Value = serde_json::from_str(&said).unwrap();
    assert_fields(&error["error"], &["code", "message", "hint", "file", "line"]);
    assert_eq!(error["error"]["code"], "owner");
    assert_eq!((&error["error"]["file"], &error["error"]["line"]), (&"lbd.toml".into(), &7.into()));
}

#[test]
fn nobody_at_the_socket_is_said_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| lbctl(directory.path().join("none.sock")).args(words).output().unwrap();
    let output = run(&["backend", "list"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("systemctl start lbd"), "{}", stderr(&output));
    let pin = directory.path().display().to_string();
    let output = run(&["status", "--check", "--pin", &pin]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains(&format!("nothing is pinned under {pin}")), "{}", stderr(&output));
    let output = run(&["-j", "status", "--pin", &pin]);
    let error: Value =
        serde_json::from_str(&stderr(&output)).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    assert_eq!(error["error"]["code"], "unreachable");
    let hint = error["error"]["hint"].as_str().unwrap();
    assert!(hint.contains("systemctl start lbd") && hint.contains("nothing is pinned"), "{hint}");
}

#[test]
fn what_is_so_already_is_no_failure() {
    let daemon = Daemon::start();
    let revision = |answer: Value| answer["revision"].as_u64().unwrap();
    let added = daemon.json(&["backend", "add", "web", "10.0.0.13"]);
    assert_eq!(added["changed"], true);
    let again = daemon.run(&["backend", "add", "web", "10.0.0.13"]);
    assert!(again.status.success() && stderr(&again).contains("unchanged"), "{}", stderr(&again));
    assert_eq!(revision(added), revision(daemon.json(&["backend", "add", "web", "10.0.0.13"])));
}

#[test]
fn a_dry_run_changes_nothing() {
    let daemon = Daemon::start();
    let before = daemon.json(&["status"])["revision"].clone();
    let output = daemon.run(&["backend", "disable", "web", "10.0.0.11", "--dry-run"]);
    assert!(output.status.success() && stdout(&output).contains("slots:"), "{}", stderr(&output));
    assert_eq!(daemon.json(&["status"])["revision"], before);
}

#[test]
fn what_destroys_is_not_done_unasked() {
    let daemon = Daemon::start();
    let made: [&[&str]; 3] = [
        &["backend", "add", "web", "10.0.0.13"],
        &["service", "add", "own", "203.0.113.53:53/tcp", "--backend", "10.0.0.21"],
        &["backend", "drain", "web", "10.0.0.12:8443"],
    ];
    for words in made {
        assert!(daemon.run(words).status.success(), "{words:?}");
    }
    let destructive: [&[&str]; 5] = [
        &["backend", "disable", "web", "10.0.0.12:8443"],
        &["backend", "remove", "web", "10.0.0.13"],
        &["service", "remove", "own"],
        &["override", "clear", "--all"],
        &["flows", "flush"],
    ];
    for words in destructive {
        let said = daemon.fails(2, words);
        assert!(said.contains("--yes"), "{words:?} says {said}");
    }
    let flushed = daemon.run(&["flows", "flush", "--yes"]);
    assert_eq!((stdout(&flushed).as_str(), flushed.status.code()), ("3\n", Some(0)));
}

#[test]
fn an_override_is_seen_beside_the_definition_until_it_is_cleared() {
    let daemon = Daemon::start();
    let backends = || stdout(&daemon.run(&["backend", "list", "web"]));
    assert!(daemon.run(&["backend", "set", "web", "10.0.0.12:8443", "--weight", "0"]).status.success());
    assert!(backends().contains("0 (file: 10)"), "{}", backends());
    assert!(stdout(&daemon.run(&["override", "ls"])).contains("10.0.0.12:8443"));
    assert!(daemon.run(&["override", "clear", "web", "10.0.0.12:8443"]).status.success());
    assert!(!backends().contains("file: 10"), "{}", backends());
    assert_eq!(stdout(&daemon.run(&["override", "ls"])), "");
}

#[test]
fn a_service_of_ones_own_comes_and_goes() {
    let daemon = Daemon::start();
    let add = [
        "service",
        "add",
        "dns",
        "203.0.113.53:53/udp",
        "--backend",
        "10.0.0.21,weight=3",
        "--forward",
        "nat",
    ];
    assert!(daemon.run(&add).status.success(), "{}", stderr(&daemon.run(&add)));
    let shown = stdout(&daemon.run(&["service", "show", "dns"]));
    for part in ["203.0.113.53:53/udp", "by cli", "nat", "10.0.0.21"] {
        assert!(shown.contains(part), "{shown}");
    }
    assert!(daemon.run(&["service", "set", "dns", "--affinity", "client"]).status.success());
    assert_eq!(daemon.json(&["service", "show", "dns"])["service"]["affinity"], "client");
    assert!(daemon.run(&["service", "rm", "dns", "-y"]).status.success());
    daemon.fails(4, &["service", "show", "dns"]);
}

#[test]
fn check_tells_well_from_degraded() {
    let daemon = Daemon::start();
    assert_eq!(daemon.run(&["status", "--check"]).status.code(), Some(0));
    daemon.degrade("pool web has no usable backend");
    let output = daemon.run(&["status", "--check"]);
    assert_eq!(output.status.code(), Some(7));
    assert!(stdout(&output).contains("pool web has no usable backend"));
    assert_eq!(daemon.run(&["status"]).status.code(), Some(0));
}

#[test]
fn quiet_leaves_the_data_alone() {
    let daemon = Daemon::start();
    let loud = daemon.run(&["flows", "--limit", "1"]);
    assert!(stderr(&loud).contains("more than 1"), "{}", stderr(&loud));
    let quiet = daemon.run(&["-q", "flows", "--limit", "1"]);
    assert_eq!((stderr(&quiet).as_str(), stdout(&quiet)), ("", stdout(&loud)));
}

#[test]
fn explain_tells_the_steps() {
    let daemon = Daemon::start();
    let text = stdout(&daemon.run(&["explain", "tcp", "198.51.100.7:1", "203.0.113.10:443"]));
    for part in [
        "service   web, full-nat, pool web",
        "slot 512",
        "10.0.0.11 (healthy, active, weight 1)",
        "full-nat:",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn wait_ends_with_the_first_check() {
    let daemon = Daemon::start();
    let mut adding =
        daemon.command(&["-q", "backend", "add", "web", "10.0.0.13", "--wait=30s"]).spawn().unwrap();
    // Following the events, one learns that it has been added.
    let mut following = daemon.command(&["-j", "events", "--follow"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let added = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let event =
        added.into_iter().find(|event| event["type"] == "backend_added" && event["backend"] == "10.0.0.13");
    assert_eq!(event.unwrap()["api_version"], "v1");
    assert!(adding.try_wait().unwrap().is_none(), "it has not waited");
    daemon.report("web", "10.0.0.13", Health::Healthy);
    assert!(adding.wait().unwrap().success());
    following.kill().unwrap();
    following.wait().unwrap();
}

#[test]
fn watch_prints_an_answer_a_second() {
    let daemon = Daemon::start();
    let mut watching = daemon.command(&["-j", "stats", "--watch"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(watching.stdout.take().unwrap()).lines().take(2);
    let times: Vec<String> = lines
        .map(|line| {
            serde_json::from_str::<Value>(&line.unwrap()).unwrap()["time"].as_str().unwrap().to_owned()
        })
        .collect();
    assert!(times[0] < times[1], "{times:?}");
    watching.kill().unwrap();
    watching.wait().unwrap();
}

#[test]
fn a_reader_that_goes_away_is_a_normal_end() {
    let daemon = Daemon::start();
    let mut script = daemon.command(&["completions", "bash"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 1];
    script.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert!(script.wait().unwrap().success());
}
