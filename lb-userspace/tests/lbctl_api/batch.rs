//! `batch` and `import`: many changes as one, and a file made of another balancer's.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::daemon::{Daemon, lbctl, stderr, stdout};

/// Runs a command with this on its standard input.
fn fed(mut command: Command, text: &str) -> Output {
    let mut process =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    process.wait_with_output().unwrap()
}

fn batch(daemon: &Daemon, words: &[&str], lines: &str) -> Output {
    fed(daemon.command(&[&["batch"], words].concat()), lines)
}

#[test]
fn all_lines_are_one_revision() {
    let daemon = Daemon::start();
    let before = daemon.json(&["status"])["revision"].as_u64().unwrap();
    let lines = "# a deploy\nbackend add web 10.0.0.13 10.0.0.14 --weight 2\nbackend drain web '10.0.0.11'\n";
    let output = batch(&daemon, &[], lines);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(daemon.json(&["status"])["revision"].as_u64(), Some(before + 1));
    let listed = daemon.json(&["backend", "list", "web"])["backends"].to_string();
    assert!(listed.contains("10.0.0.14") && listed.contains("draining"), "{listed}");
    let again = batch(&daemon, &["-j"], "backend drain web 10.0.0.11\n");
    let answer: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!((&answer["api_version"], &answer["changed"]), (&"v1".into(), &false.into()));
    let nothing = batch(&daemon, &[], "# nothing\n\n");
    assert!(
        nothing.status.success() && stderr(&nothing).contains("nothing was done"),
        "{}",
        stderr(&nothing)
    );
}

#[test]
fn one_bad_line_undoes_all_and_is_named() {
    let daemon = Daemon::start();
    let backends = || daemon.json(&["backend", "list"])["backends"].take();
    let before = backends();
    for (code, line, part) in [
        (2, "backend frobnicate", "-:2: unrecognized subcommand 'frobnicate'"),
        (2, "backend add web 10.0.0.15 --force", "-:2: options of the change are for all lines"),
        (2, "status", "-:2: this changes nothing"),
        (4, "backend drain web 10.0.0.99", "-:2: pool \"web\" has no backend 10.0.0.99"),
        (5, "backend remove web 10.0.0.11 --yes", "-:2: lbd.toml:7: "),
        (2, "backend add web 'x", "-:2: a quotation"),
    ] {
        let output = batch(&daemon, &[], &format!("backend add web 10.0.0.13\n{line}\n"));
        assert_eq!(output.status.code(), Some(code), "{line}: {}", stderr(&output));
        assert!(stderr(&output).contains(part), "{line}: {}", stderr(&output));
        assert_eq!(backends(), before, "{line}: nothing is done");
    }
    let output = batch(&daemon, &["-j"], "\nbackend drain wbe 10.0.0.11\n");
    let error: Value = serde_json::from_str(&stderr(&output)).unwrap();
    assert_eq!((&error["error"]["file"], &error["error"]["line"]), (&"-".into(), &2.into()));
}

#[test]
fn a_batch_that_destroys_is_asked_about_and_a_dry_run_does_nothing() {
    let daemon = Daemon::start();
    assert!(daemon.run(&["backend", "add", "web", "10.0.0.13"]).status.success());
    let output = batch(&daemon, &[], "backend remove web 10.0.0.13\n");
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("line 1") && stderr(&output).contains("--yes"), "{}", stderr(&output));
    let dry = batch(&daemon, &["--dry-run"], "backend remove web 10.0.0.13\n");
    assert!(dry.status.success() && stdout(&dry).contains("slots:"), "{}", stderr(&dry));
    for (words, line) in
        [(&["--yes"][..], "backend remove web 10.0.0.13"), (&[], "backend rm web 10.0.0.14 -y")]
    {
        assert!(daemon.run(&["backend", "add", "web", "10.0.0.14"]).status.success());
        let output = batch(&daemon, words, &format!("{line}\n"));
        assert!(output.status.success(), "{line}: {}", stderr(&output));
    }
    let stale = batch(&daemon, &["--if-revision", "1"], "backend drain web 10.0.0.11\n");
    assert_eq!(stale.status.code(), Some(5));
}

const RULES: &str = "\
-A -t 203.0.113.10:80 -s wlc
-a -t 203.0.113.10:80 -r 10.0.0.11:8080 -m -w 1
-a -t 203.0.113.10:80 -r 10.0.0.12:8080 -m -w 5
";

#[test]
fn what_ipvsadm_saved_becomes_a_file_that_lbd_accepts() {
    let run = |words: &[&str], rules: &str| {
        let mut command = lbctl("/nonexistent/lbd.sock".into());
        command.args(["import", "ipvsadm"]).args(words);
        fed(command, rules)
    };
    let output = run(&["--interface", "ens3"], RULES);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("warning: -:1: scheduler wlc"), "{}", stderr(&output));
    let mut check = Command::new(env!("CARGO_BIN_EXE_lbd"));
    check.args(["check", "--config", "-"]);
    let checked = fed(check, &stdout(&output));
    assert!(checked.status.success(), "{}{}", stdout(&output), stderr(&checked));
    assert!(stdout(&checked).contains("203.0.113.10:80/tcp"), "{}", stdout(&checked));
    let refused = run(&["-j"], &format!("{RULES}-A -f 7 -s rr\n"));
    assert_eq!((refused.status.code(), stdout(&refused).as_str()), (Some(5), ""));
    let error: Value = serde_json::from_str(&stderr(&refused)).unwrap();
    assert_eq!((&error["error"]["code"], &error["error"]["line"]), (&"invalid".into(), &4.into()));
    let quiet = run(&["-q"], RULES);
    assert_eq!(stderr(&quiet), "");
    assert_eq!(run(&["/nonexistent/rules"], "").status.code(), Some(2));
}
