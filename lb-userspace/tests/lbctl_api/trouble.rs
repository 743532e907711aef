//! What a person meets when something is not as they think: a name that is none, a path that is no socket, a right they
//! lack, a reader that goes away.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::assert_fields;
use super::daemon::{Daemon, lbctl, stderr, stdout};

/// `nobody` on most systems; all that counts is that it is not root.
const SOMEBODY_ELSE: u32 = 65_534;

#[test]
fn a_name_that_is_none_is_not_found_by_any_verb() {
    let daemon = Daemon::start();
    let verbs: [&[&str]; 8] = [
        &["flows", "wbe"],
        &["flows", "count", "wbe"],
        &["flows", "flush", "wbe", "--yes"],
        &["stats", "wbe"],
        &["drops", "wbe"],
        &["service", "show", "wbe"],
        &["backend", "list", "wbe"],
        &["backend", "drain", "wbe", "10.0.0.11"],
    ];
    for words in verbs {
        let said = daemon.fails(4, words);
        assert!(said.contains("\"wbe\"") && said.contains("did you mean \"web\"?"), "{words:?} says {said}");
    }
    assert!(daemon.run(&["flows", "web"]).status.success());
}

#[test]
fn what_is_refused_is_not_asked_about() {
    let daemon = Daemon::start();
    // Nobody is there to be asked: a question that is reached ends with 2.
    let cases: [(i32, &[&str]); 6] = [
        (4, &["service", "remove", "wbe"]),
        (4, &["backend", "remove", "web", "10.0.0.99"]),
        (4, &["flows", "flush", "wbe"]),
        (5, &["service", "remove", "web"]),
        (5, &["backend", "remove", "web", "10.0.0.11"]),
        (5, &["backend", "disable", "web", "10.0.0.11", "--if-revision", "99"]),
    ];
    for (code, words) in cases {
        let said = daemon.fails(code, words);
        assert!(!said.contains("--yes"), "{words:?} says {said}");
    }
    // Nor is what is so already.
    assert!(daemon.run(&["backend", "disable", "web", "10.0.0.11", "--yes"]).status.success());
    let again = daemon.run(&["backend", "disable", "web", "10.0.0.11"]);
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    assert!(stderr(&again).contains("unchanged"), "{}", stderr(&again));
    let answer = daemon.json(&["backend", "disable", "web", "10.0.0.11"]);
    assert_eq!((&answer["changed"], &answer["dry_run"]), (&false.into(), &false.into()));
}

#[test]
fn a_usage_error_under_json_is_the_error_object() {
    let daemon = Daemon::start();
    let cases: [&[&str]; 7] = [
        &["-j", "backend", "frobnicate"],
        &["backend", "frobnicate", "--json"],
        &["-qj", "backend", "list", "web", "and", "more"],
        &["-o", "json", "backend", "add", "web", "10.0.0.300"],
        &["-ojson", "stats", "--nonsense"],
        &["stats", "--output=json", "Not A Name"],
        &["-j"],
    ];
    for words in cases {
        let output = daemon.run(words);
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(2), ""), "{words:?}");
        let error: Value = serde_json::from_str(&stderr(&output))
            .unwrap_or_else(|error| panic!("{words:?}: {error}: {}", stderr(&output)));
        assert_eq!(error["api_version"], "v1", "{words:?}");
        assert_fields(&error["error"], &["code", "message", "hint", "file", "line"]);
        assert_eq!(error["error"]["code"], "usage", "{words:?}");
        let message = error["error"]["message"].as_str().unwrap();
        assert!(!message.contains('\n') && !message.starts_with("error"), "{words:?}: {message}");
    }
    let said = daemon.fails(2, &["backend", "frobnicate"]);
    assert!(said.starts_with("error: "), "people still read clap's words: {said}");
    assert!(daemon.run(&["-j", "--help"]).status.success());
}

#[test]
fn a_path_that_is_no_socket_is_named_for_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("lbd.toml");
    std::fs::write(&file, "").unwrap();
    let said = |path: &Path| {
        let output = lbctl(path.to_owned()).args(["backend", "list"]).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
        stderr(&output)
    };
    let said_of_directory = said(directory.path());
    assert!(said_of_directory.contains("is a directory, not a socket"), "{said_of_directory}");
    assert!(said_of_directory.contains("lbd.sock"), "{said_of_directory}");
    let said_of_file = said(&file);
    assert!(said_of_file.contains("is a file, not a socket"), "{said_of_file}");
    assert!(said_of_file.contains("--socket"), "{said_of_file}");
}

/// Runs lbctl as a user who is not root; `None`: only root may become another user.
fn as_somebody_else(socket: &Path, words: &[&str]) -> Option<Output> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    // That user need not be able to come as far as the built one.
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("lbctl");
    // By a process of its own: a file that this one has open for writing, other tests' children hold too, and cannot be run.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_lbctl")).arg(&program).status().unwrap();
    assert!(copied.success());
    for path in [directory.path(), &program] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new(&program);
    command.env("LBD_CONFIG", "/nonexistent/lbd.toml").stdin(Stdio::null()).arg("--socket").arg(socket);
    Some(command.args(words).current_dir("/").uid(SOMEBODY_ELSE).gid(SOMEBODY_ELSE).output().unwrap())
}

#[test]
fn a_right_that_is_missing_is_said_and_nothing_else() {
    let daemon = Daemon::start();
    let Some(output) = as_somebody_else(&daemon.open_socket(), &["status"]) else { return };
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("this user may not open") && said.contains("sudo lbctl"), "{said}");
    assert!(!said.contains("pinned"), "nothing is known of the pins: {said}");
    assert_eq!(stdout(&output), "");
}

#[test]
fn pins_that_may_not_be_looked_at_are_not_called_absent() {
    let directory = tempfile::tempdir().unwrap();
    let closed = directory.path().join("bpf");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let (socket, pin) = (directory.path().join("none.sock"), closed.join("lbd"));
    let Some(output) = as_somebody_else(&socket, &["status", "--pin", pin.to_str().unwrap()]) else { return };
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(!said.contains("nothing is pinned"), "{said}");
    assert!(said.contains("this user may not read the pins") && said.contains("sudo lbctl status"), "{said}");
}

/// As many lines of a stream are read, and no more; lbctl must end although nothing happens any more.
fn ends_with_its_reader(daemon: &Daemon, words: &[&str], lines: usize) {
    let mut following = daemon.command(words).stdout(Stdio::piped()).spawn().unwrap();
    let read = BufReader::new(following.stdout.take().unwrap()).lines().take(lines).count();
    assert_eq!(read, lines, "{words:?}");
    assert!(following.wait().unwrap().success(), "{words:?}");
}

#[test]
fn a_stream_ends_when_its_reader_goes_away() {
    let daemon = Daemon::start();
    // All there is: one line less, and the next would find the pipe broken.
    let events = daemon.json(&["events"])["events"].as_array().unwrap().len();
    ends_with_its_reader(&daemon, &["-j", "events", "--follow"], events);
    ends_with_its_reader(&daemon, &["events", "--follow"], events);
    ends_with_its_reader(&daemon, &["-j", "stats", "--watch"], 1);
}
