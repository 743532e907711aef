//! The demo ends in order whenever it is told to, and what a killed one leaves is swept.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use lbd_tests::topology::Binaries;
use lbd_tests::{root_or_skip, run_dir};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Exit code after a signal, as shells count.
const INTERRUPTED: i32 = 130;

fn can_run(test: &str) -> bool {
    if let Err(error) = Binaries::find() {
        println!("SKIP: {test}: {error}");
        return false;
    }
    root_or_skip(test)
}

/// Starts the demo, reads until a line holds `marker`, sends the signal; the child and what it said after.
fn signalled(marker: &str, signal: Signal) -> Result<(Child, String)> {
    let binaries = Binaries::find()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_lbd-demo"));
    // Short phases: what is judged in them does not matter here.
    command.args(["--phase", "2"]);
    command.env("LBD_BIN", binaries.lbd).env("LBCTL_BIN", binaries.lbctl);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
    let mut said = String::new();
    loop {
        let line = lines.next().with_context(|| format!("it ended before {marker:?}: {said}"))??;
        said += &line;
        said += "\n";
        if line.contains(marker) {
            break;
        }
    }
    kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
    for line in lines {
        said += &line?;
        said += "\n";
    }
    Ok((child, said))
}

fn ends_in_order(marker: &str, signal: Signal) -> Result<()> {
    let (mut child, said) = signalled(marker, signal)?;
    let status = child.wait()?;
    ensure!(status.code() == Some(INTERRUPTED), "{status} after {signal} at {marker:?}:\n{said}");
    ensure!(said.contains("interrupted; nothing left behind"), "after {signal} at {marker:?}:\n{said}");
    let left = run_dir::leftovers(child.id())?;
    ensure!(left.is_empty(), "after {signal} at {marker:?} there is left: {left:?}");
    Ok(())
}

#[test]
fn a_signal_in_any_part_of_the_demo_ends_it_in_order() -> Result<()> {
    if !can_run("a_signal_in_any_part_of_the_demo_ends_it_in_order") {
        return Ok(());
    }
    ends_in_order("lbd demo", Signal::SIGINT).context("while the network is built")?;
    ends_in_order("lbd runs on", Signal::SIGTERM).context("in the first phase")?;
    ends_in_order("baseline", Signal::SIGHUP).context("while a server is added")?;
    ends_in_order("add b4", Signal::SIGINT).context("while a server drains")?;
    ends_in_order("drain b2", Signal::SIGINT).context("while a server is dead")?;
    ends_in_order("kill b3", Signal::SIGINT).context("while a server comes back")
}

#[test]
fn what_a_killed_demo_leaves_is_swept() -> Result<()> {
    if !can_run("what_a_killed_demo_leaves_is_swept") {
        return Ok(());
    }
    let (mut child, _) = signalled("lbd runs on", Signal::SIGKILL)?;
    child.wait()?;
    let pid = child.id();
    ensure!(!run_dir::leftovers(pid)?.is_empty(), "a killed demo left nothing: then this test shows nothing");
    run_dir::sweep(false)?;
    let left = run_dir::leftovers(pid)?;
    ensure!(left.is_empty(), "after the sweep there is left: {left:?}");
    ensure!(!Path::new(&format!("/run/lbd-tests/{pid}")).exists(), "its directory is still there");
    Ok(())
}
