//! `plan` and `apply`: what the file would do, exit codes, what is refused, what is waited for.

use std::io::Write as _;
use std::process::Stdio;

use lb_userspace::health::Health;
use serde_json::Value;

use super::assert_fields;
use super::daemon::{CONFIG, Daemon, stderr, stdout};

/// The file with a backend more.
fn changed() -> String {
    CONFIG.replace("backends = [\"10.0.0.11\"", "backends = [\"10.0.0.14\", \"10.0.0.11\"")
}

fn code(daemon: &Daemon, words: &[&str]) -> Option<i32> {
    daemon.run(words).status.code()
}

#[test]
fn a_plan_ends_with_0_without_a_change_and_with_10_with_one() {
    let daemon = Daemon::start();
    let output = daemon.run(&["plan"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), ""), "{}", stderr(&output));
    assert!(stderr(&output).contains("no change"), "{}", stderr(&output));
    daemon.rewrite(&format!("# moved\n\n{CONFIG}"));
    assert_eq!(code(&daemon, &["plan"]), Some(0), "what only moved is no change");
    daemon.rewrite(&changed());
    let output = daemon.run(&["plan"]);
    assert_eq!(output.status.code(), Some(10), "{}", stderr(&output));
    for part in ["pool web: backend 10.0.0.14 is added, weight 1", "25 (25.0 %) are selected again", "web"] {
        assert!(stdout(&output).contains(part), "{}", stdout(&output));
    }
    let output = daemon.run(&["-j", "plan"]);
    assert_eq!(output.status.code(), Some(10));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["api_version"], "v1");
    let fixed = ["changes", "slots_moved", "collateral", "flows_kept", "flows_moved", "slots", "map_writes"];
    assert_fields(&answer, &fixed);
    assert_fields(
        &answer["pools"][0],
        &["pool", "slots", "slots_moved", "collateral", "flows_kept", "flows_moved"],
    );
    assert_eq!(code(&daemon, &["apply"]), Some(0));
    assert_eq!(code(&daemon, &["plan"]), Some(0), "it is in force now");
}

#[test]
fn a_candidate_is_judged_by_its_content_wherever_it_lies() {
    let daemon = Daemon::start();
    let directory = tempfile::tempdir().unwrap();
    let candidate = directory.path().join("candidate.toml");
    let path = candidate.to_str().unwrap();
    std::fs::write(&candidate, CONFIG).unwrap();
    assert_eq!(code(&daemon, &["plan", "-f", path]), Some(0));
    std::fs::write(&candidate, changed()).unwrap();
    assert_eq!(code(&daemon, &["plan", "-f", path]), Some(10));
    let mut process = daemon.command(&["plan", "-f", "-"]);
    let mut process = process.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(changed().as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(10));
    assert!(stdout(&output).contains("10.0.0.14"), "{}", stdout(&output));
    std::fs::write(&candidate, "[datapath]\nflowz = 1\n").unwrap();
    let said = daemon.fails(5, &["plan", "-f", path]);
    assert!(said.contains("candidate.toml:2: ") && said.contains("flowz"), "{said}");
    daemon.fails(2, &["plan", "-f", "/nonexistent/lbd.toml"]);
}

#[test]
fn apply_moves_no_more_than_allowed() {
    let daemon = Daemon::start();
    daemon.rewrite(&changed());
    let before = daemon.json(&["status"])["revision"].clone();
    let said = daemon.fails(5, &["apply", "--max-moved", "5%"]);
    assert!(said.contains("25%"), "{said}");
    let error = daemon.run(&["-j", "apply", "--max-moved", "5%"]);
    let error: Value = serde_json::from_str(&stderr(&error)).unwrap();
    assert_eq!(error["error"]["code"], "max_moved");
    daemon.fails(5, &["apply", "--if-revision", "99"]);
    let judged = daemon.run(&["apply", "--dry-run"]);
    assert!(stdout(&judged).contains("10.0.0.14") && judged.status.success(), "{}", stderr(&judged));
    assert_eq!(daemon.json(&["status"])["revision"], before, "nothing was changed by any of them");
    let done = daemon.json(&["apply", "--max-moved", "25%"]);
    assert_eq!(done["changed"], true);
    assert_eq!(done["revision"].as_u64(), before.as_u64().map(|before| before + 1));
    let again = daemon.run(&["apply"]);
    assert!(again.status.success() && stderr(&again).contains("unchanged"), "{}", stderr(&again));
}

#[test]
fn apply_waits_for_the_backends_that_the_file_adds() {
    let daemon = Daemon::start();
    daemon.rewrite(&changed());
    let said = daemon.fails(6, &["apply", "--wait=100ms"]);
    assert!(said.contains("10.0.0.14"), "{said}");
    daemon.rewrite(&changed().replace("10.0.0.14", "10.0.0.15"));
    let mut applying = daemon.command(&["-q", "apply", "--wait=30s"]).spawn().unwrap();
    let added = || daemon.json(&["backend", "list"])["backends"].to_string().contains("10.0.0.15");
    while !added() {
        assert!(applying.try_wait().unwrap().is_none(), "it has not waited");
    }
    daemon.report("web", "10.0.0.15", Health::Healthy);
    assert!(applying.wait().unwrap().success());
}
