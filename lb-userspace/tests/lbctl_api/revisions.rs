//! `history`, `rollback`, `backup` and `restore`.

use std::fs;

use serde_json::Value;

use super::assert_fields;
use super::daemon::{CONFIG, Daemon, stderr, stdout};

fn revision(daemon: &Daemon) -> u64 {
    daemon.json(&["status"])["revision"].as_u64().unwrap()
}

/// What counts of the backends: who, state, weight.
fn picture(daemon: &Daemon) -> Vec<String> {
    let list = daemon.json(&["backend", "list"]);
    let rows = list["backends"].as_array().unwrap().iter();
    rows.map(|row| format!("{} {} {} {}", row["pool"], row["address"], row["state"], row["weight"])).collect()
}

fn done(daemon: &Daemon, words: &[&str]) {
    let output = daemon.run(words);
    assert!(output.status.success(), "{words:?}: {}", stderr(&output));
}

#[test]
fn history_says_who_did_what_and_what_is_otherwise() {
    let daemon = Daemon::start();
    done(&daemon, &["backend", "add", "web", "10.0.0.13"]);
    done(&daemon, &["backend", "drain", "web", "10.0.0.11"]);
    let current = revision(&daemon);
    let list = daemon.json(&["history"]);
    let revisions = list["revisions"].as_array().unwrap();
    assert_eq!(revisions.len() as u64, current);
    assert_fields(&revisions[0], &["revision", "time", "who", "what", "current"]);
    assert_eq!((&revisions[0]["revision"], &revisions[0]["current"]), (&current.into(), &true.into()));
    let text = stdout(&daemon.run(&["history"]));
    for part in ["REVISION", "current", "backend web/10.0.0.11: draining", "taken over at the start"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let added = (current - 1).to_string();
    let shown = stdout(&daemon.run(&["history", "show", &added]));
    assert!(shown.contains("pool web: backend 10.0.0.13 is added, weight 1"), "{shown}");
    let detail = daemon.json(&["history", "show", &added, "--against", &added]);
    assert_eq!(detail["changes"].as_array().map(Vec::len), Some(0));
    assert_fields(&detail, &["revision", "against", "configuration", "cli", "overrides"]);
    let said = daemon.fails(4, &["history", "show", "99"]);
    assert!(said.contains("revision 99 is not kept") && said.contains("lbctl history"), "{said}");
    daemon.fails(4, &["rollback", "99"]);
    daemon.fails(2, &["rollback", "soon"]);
}

#[test]
fn a_rollback_brings_the_whole_back_and_stays_until_the_file_changes() {
    let daemon = Daemon::start();
    done(&daemon, &["backend", "add", "web", "10.0.0.13"]);
    let (wanted, good) = (picture(&daemon), revision(&daemon));
    daemon.rewrite(&CONFIG.replace("10.0.0.12:8443", "10.0.0.22:8443"));
    done(&daemon, &["apply", "--force"]);
    done(&daemon, &["backend", "set", "web", "10.0.0.13", "--weight", "0"]);
    let number = good.to_string();
    let judged = daemon.run(&["rollback", &number, "--dry-run"]);
    assert!(
        stdout(&judged).contains("backend 10.0.0.22:8443 is removed"),
        "{}{}",
        stdout(&judged),
        stderr(&judged)
    );
    daemon.fails(5, &["rollback", &number, "--max-moved", "5%"]);
    let before = revision(&daemon);
    done(&daemon, &["rollback", &number, "--force"]);
    assert_eq!((picture(&daemon), revision(&daemon)), (wanted.clone(), before + 1));
    // The same file is not put in force by itself, nor on request.
    for words in [&["plan"][..], &["apply"]] {
        let output = daemon.run(words);
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert!(
            stderr(&output).contains(&format!("revision {good} stays")),
            "{words:?}: {}",
            stderr(&output)
        );
    }
    assert_eq!((picture(&daemon), revision(&daemon)), (wanted, before + 1));
    let again = daemon.run(&["rollback", &number]);
    assert!(stderr(&again).contains("unchanged"), "{}", stderr(&again));
    // Changes of lbctl's go on from there, and a changed file wins.
    done(&daemon, &["backend", "add", "web", "10.0.0.14"]);
    daemon.rewrite(&CONFIG.replace("10.0.0.12:8443", "10.0.0.32:8443"));
    assert_eq!(daemon.run(&["plan"]).status.code(), Some(10));
    done(&daemon, &["apply", "--force"]);
    let now = picture(&daemon).join("\n");
    assert!(now.contains("10.0.0.32:8443") && now.contains("10.0.0.14"), "{now}");
}

#[test]
fn the_file_that_was_left_can_be_put_in_force_by_force() {
    let daemon = Daemon::start();
    daemon.rewrite(&CONFIG.replace("weight = 10", "weight = 20"));
    done(&daemon, &["apply"]);
    done(&daemon, &["rollback", "1"]);
    assert!(picture(&daemon).concat().contains("active\" 10"), "{:?}", picture(&daemon));
    done(&daemon, &["apply", "--force"]);
    assert!(picture(&daemon).concat().contains("active\" 20"), "{:?}", picture(&daemon));
}

#[test]
fn a_backup_comes_back_whole_and_a_damaged_one_not_at_all() {
    let daemon = Daemon::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lbd.backup");
    let file = path.to_str().unwrap();
    done(&daemon, &["service", "add", "own", "203.0.113.53:53/tcp", "--backend", "10.0.0.21"]);
    done(&daemon, &["backend", "set", "web", "10.0.0.12:8443", "--weight", "3"]);
    let wanted = picture(&daemon);
    done(&daemon, &["backup", file]);
    let said = daemon.fails(5, &["backup", file]);
    assert!(said.contains("there already") && said.contains("--force"), "{said}");
    done(&daemon, &["backup", file, "--force"]);
    let whole = fs::read_to_string(&path).unwrap();
    assert_eq!(stdout(&daemon.run(&["backup", "-"])), whole);
    done(&daemon, &["service", "remove", "own", "--yes"]);
    done(&daemon, &["override", "clear", "--all", "--yes"]);
    let before = (picture(&daemon), revision(&daemon));
    for damaged in [&whole[..whole.len() - 10], &whole.replace("10.0.0.21", "10.0.0.99"), "", "{}"] {
        fs::write(&path, damaged).unwrap();
        let said = daemon.fails(5, &["restore", file]);
        assert!(said.contains("cannot be used") && said.contains("nothing has changed"), "{said}");
    }
    fs::write(&path, &whole).unwrap();
    assert!(daemon.run(&["restore", file, "--dry-run"]).status.success());
    assert_eq!((picture(&daemon), revision(&daemon)), before, "none of them has changed anything");
    let answer = daemon.json(&["restore", file]);
    assert_eq!(answer["revision"].as_u64(), Some(before.1 + 1));
    assert_eq!(picture(&daemon), wanted);
    daemon.fails(2, &["restore", "/nonexistent/backup"]);
    let error: Value =
        serde_json::from_str(&stderr(&daemon.run(&["-j", "backup", "/nonexistent/x"]))).unwrap();
    assert_eq!(error["error"]["code"], "internal");
}
