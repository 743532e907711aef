//! What a person meets when something is not as they think: a name that is none, a path that is no socket, a right they
//! lack, a reader that goes away.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use lb_userspace::spec::DaemonSpec;
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

/// Runs lbctl as a user who is not root, with these groups beside the own one; `None`: only root may become another user.
fn as_somebody_in(groups: &[u32], socket: &Path, words: &[&str]) -> Option<Output> {
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
    let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={SOMEBODY_ELSE}")).arg(format!("--regid={SOMEBODY_ELSE}"));
    match groups.is_empty() {
        true => command.arg("--clear-groups"),
        false => command.arg(format!("--groups={}", groups.join(","))),
    };
    command.arg(&program).env("LBD_CONFIG", "/nonexistent/lbd.toml").stdin(Stdio::null());
    Some(command.arg("--socket").arg(socket).args(words).current_dir("/").output().unwrap())
}

fn as_somebody_else(socket: &Path, words: &[&str]) -> Option<Output> {
    as_somebody_in(&[], socket, words)
}

/// Groups that every host has.
const OPS: u32 = 1;
const WATCH: u32 = 2;

#[test]
fn groups_let_others_in_as_far_as_they_go() {
    let name = |gid: u32| nix::unistd::Group::from_gid(gid.into()).unwrap().unwrap().name;
    let drain = ["backend", "drain", "web", "10.0.0.11"];
    let one = Daemon::start_for(&DaemonSpec { read: Some(name(WATCH)), ..DaemonSpec::default() });
    let socket = one.open_socket();
    let outcome = |socket: &Path, groups: &[u32], words: &[&str]| {
        let output = as_somebody_in(groups, socket, words)?;
        Some((output.status.code(), stderr(&output)))
    };
    let Some((code, said)) = outcome(&socket, &[WATCH], &["status"]) else { return };
    assert_eq!(code, Some(0), "{said}");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o660, "one group is let in by the file system already");
    let (code, said) = outcome(&socket, &[WATCH], &drain).unwrap();
    assert!(code == Some(1) && said.contains("may not change anything here"), "{code:?} {said}");
    let (code, said) = outcome(&socket, &[OPS], &["status"]).unwrap();
    assert!(code == Some(3) && said.contains("this user may not open"), "{code:?} {said}");

    let (admin, read) = (Some(name(OPS)), Some(name(WATCH)));
    let both = Daemon::start_for(&DaemonSpec { admin, read, ..DaemonSpec::default() });
    let socket = both.open_socket();
    let backup = ["backup", "-"];
    for (groups, words, code, part) in [
        (&[WATCH][..], &["status"][..], 0, ""),
        (&[WATCH], &drain, 1, "(daemon.admin)"),
        (&[OPS], &drain, 0, ""),
        (&[OPS], &["backend", "list"], 0, ""),
        (&[OPS], &backup, 1, "as root"),
        (&[], &["status"], 1, "(daemon.read)"),
    ] {
        let (found, said) = outcome(&socket, groups, words).unwrap();
        assert!(found == Some(code) && said.contains(part), "{groups:?} {words:?}: {found:?} {said}");
    }
    let done = both.json(&["history"])["revisions"][0]["who"].to_string();
    assert_eq!(done, format!("\"uid {SOMEBODY_ELSE}\""), "what an admin does is theirs");
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
