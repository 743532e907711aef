//! lbctl with a person at a terminal: how wide its tables are, what it asks.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::Command;

use super::daemon::{Daemon, stdout};

/// Both ends of a terminal: the person's and the program's.
fn terminal(columns: u16) -> (File, OwnedFd) {
    let size = libc::winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let (mut person, mut program) = (-1, -1);
    // SAFETY: both numbers and the size live until the call returns; no name and no settings are asked for.
    let made = unsafe {
        libc::openpty(
            &raw mut person,
            &raw mut program,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            &raw const size as *mut _,
        )
    };
    assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: openpty has made both just now, and nobody else knows them.
    unsafe { (File::from_raw_fd(person), OwnedFd::from_raw_fd(program)) }
}

/// Runs lbctl at a terminal where somebody types this; its exit code and what they see.
fn at_terminal(mut command: Command, columns: u16, typed: &str) -> (Option<i32>, String) {
    let (mut person, program) = terminal(columns);
    person.write_all(typed.as_bytes()).unwrap();
    command.env("NO_COLOR", "1");
    command.stdin(program.try_clone().unwrap()).stdout(program.try_clone().unwrap()).stderr(program);
    let mut lbctl = command.spawn().unwrap();
    // It holds the program's end too.
    drop(command);
    let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match person.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => seen.extend_from_slice(&piece[..count]),
            // How a terminal ends whose last program has gone.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("{error}"),
        }
    }
    (lbctl.wait().unwrap().code(), String::from_utf8_lossy(&seen).replace('\r', ""))
}

#[test]
fn a_table_is_as_wide_as_the_terminal_and_whole_in_a_pipe() {
    let daemon = Daemon::start();
    let listeners = ["203.0.113.20:443/tcp", "203.0.113.20:443/udp", "203.0.113.20:8443/tcp"];
    let added = daemon.run(&[&["service", "add", "many"], &listeners[..], &["--pool", "web"]].concat());
    assert!(added.status.success());
    let words = ["service", "list"];
    let (code, seen) = at_terminal(daemon.command(&words), 80, "");
    assert_eq!(code, Some(0), "{seen}");
    assert!(seen.contains('…') && seen.lines().all(|line| line.chars().count() <= 80), "{seen}");
    assert!(seen.contains("203.0.113.20:443/tcp"), "{seen}");
    let piped = stdout(&daemon.run(&words));
    assert!(piped.contains(&listeners.join(" ")) && piped.contains("PACKETS"), "{piped}");
    // Who asks for more gets it.
    let (_, wide) = at_terminal(daemon.command(&["-o", "wide", "service", "list"]), 80, "");
    assert!(wide.contains(&listeners.join(" ")) && wide.contains("ORIGIN"), "{wide}");
}

#[test]
fn the_question_comes_after_the_judgement() {
    let daemon = Daemon::start();
    assert!(daemon.run(&["backend", "add", "web", "10.0.0.13"]).status.success());
    let remove =
        |address: &str, typed| at_terminal(daemon.command(&["backend", "remove", "web", address]), 80, typed);
    for refused in ["10.0.0.11", "10.0.0.99"] {
        let (code, seen) = remove(refused, "y\n");
        assert!(matches!(code, Some(4 | 5)) && !seen.contains("[y/N]"), "{code:?}: {seen}");
    }
    let (code, seen) = remove("10.0.0.13", "n\n");
    assert!(code == Some(1) && seen.contains("removes backend web/10.0.0.13. Go on? [y/N]"), "{seen}");
    let count = || daemon.json(&["backend", "list", "web"])["backends"].as_array().unwrap().len();
    assert_eq!(count(), 3);
    let (code, seen) = remove("10.0.0.13", "y\n");
    assert_eq!((code, count()), (Some(0), 2), "{seen}");
}
