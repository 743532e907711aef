//! What outlives the daemon, or lets it be spoken to, is taken away while it runs: pins, and the socket's name.

use std::fs::{self, File};

use anyhow::{Context, Result, ensure};
use lbd_tests::client::download;
use lbd_tests::root_or_skip;
use lbd_tests::run_dir::pins;
use lbd_tests::topology::{Family, Mode, Plan, Settings, Topology};
use lbd_tests::web::{HTTP, PATIENCE, POOL, Web, until};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;

const HEALTH: &str = r#"{ type = "tcp", port = 80, interval = "500ms", timeout = "400ms" }"#;

fn web(name: &str) -> Result<Web> {
    let settings = |topology: &Topology| Settings {
        on_exit: "keep".to_owned(),
        ..Settings::new(topology.service(POOL, &["80/tcp"], HEALTH))
    };
    Web::start(Plan { backends: 1, ..Plan::new(name, Mode::FullNat, Family::V4) }, settings)
}

fn ask(web: &Web) -> Result<()> {
    download(&web.topology.client, web.topology.vip_port(HTTP), "/").map(drop)
}

/// Names and contents of a directory's directories.
fn names(web: &Web) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for part in ["maps", "links", "programs"] {
        for entry in fs::read_dir(pins(web.lbd.pin()).join(part))? {
            names.push(format!("{part}/{}", entry?.file_name().display()));
        }
    }
    names.sort();
    Ok(names)
}

/// All of them; again if the daemon makes some meanwhile.
fn remove_pins(web: &Web) -> Result<()> {
    until("the pins are gone", || Ok(fs::remove_dir_all(web.lbd.pin()).is_ok()))
}

#[test]
fn pins_and_socket_that_are_removed_are_made_again() -> Result<()> {
    if !root_or_skip("pins_and_socket_that_are_removed_are_made_again") {
        return Ok(());
    }
    let mut web = web("unpinned")?;
    let before = names(&web)?;
    remove_pins(&web)?;
    until("the pins are there again", || Ok(names(&web).is_ok_and(|now| now == before)))?;
    fs::remove_file(pins(web.lbd.pin()).join("links/front"))?;
    until("one pin is there again", || Ok(names(&web)? == before))?;
    until("it is said", || Ok(web.lbd.log_tail().contains("/links/front is gone: somebody removed")))?;
    fs::remove_file(web.lbd.socket())?;
    until("lbctl is answered again", || {
        Ok(web.lbd.lbctl(&["status"]).is_ok_and(|status| status["degraded"] == serde_json::json!([])))
    })?;
    // At the very last moment too.
    remove_pins(&web)?;
    web.lbd.stop()?;
    ensure!(web.lbd.log_tail().contains("the kernel goes on forwarding"), "{}", web.lbd.log_tail());
    ensure!(names(&web)? == before, "not all is pinned: {:?}", names(&web)?);
    ask(&web).context("after the end of the daemon")?;
    web.lbd.start_again(&web.topology)?;
    web.lbd.wait_eligible(POOL, 1, PATIENCE)?;
    ask(&web).context("after the restart")
}

#[test]
fn pins_that_cannot_be_made_again_are_said_and_so_is_the_end() -> Result<()> {
    if !root_or_skip("pins_that_cannot_be_made_again_are_said_and_so_is_the_end") {
        return Ok(());
    }
    let mut web = web("unpinnable")?;
    let mut lock = None;
    // Somebody else takes the place; the daemon may be quicker for once.
    until("the pin path is another's", || {
        remove_pins(&web)?;
        let taken = fs::create_dir(web.lbd.pin()).and_then(|()| File::open(web.lbd.pin()));
        lock = taken.ok().and_then(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock).ok());
        Ok(lock.is_some())
    })?;
    until("it is said", || {
        let output = web.lbd.lbctl_output(&["status", "--check"])?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(output.status.code() == Some(7)
            && said.contains("cannot be made again")
            && said.contains(&format!("in use by process {}", std::process::id())))
    })?;
    ask(&web).context("the daemon holds the program")?;
    web.lbd.process().signal(Signal::SIGTERM)?;
    let status = web.lbd.process().wait(PATIENCE)?.context("lbd does not end")?;
    let log = web.lbd.log_tail();
    let last = log.trim_end().lines().last().unwrap_or_default();
    ensure!(status.code() == Some(1) && last.contains("nothing is balanced any more"), "{status}: {log}");
    ensure!(!web.topology.balancer.ip("-details link show")?.contains("prog/xdp"), "that is not true");
    Ok(())
}

#[test]
fn without_the_pins_of_its_maps_the_program_goes_on_and_that_is_said() -> Result<()> {
    if !root_or_skip("without_the_pins_of_its_maps_the_program_goes_on_and_that_is_said") {
        return Ok(());
    }
    let mut web = web("mapless")?;
    let maps = pins(web.lbd.pin()).join("maps");
    // Where the maps were pinned nothing can be; the daemon may be quicker for once.
    until("the maps' directory is none", || {
        let is_gone = fs::remove_dir_all(&maps).is_ok();
        Ok(is_gone && std::os::unix::fs::symlink("nowhere/at/all", &maps).is_ok())
    })?;
    web.lbd.process().signal(Signal::SIGTERM)?;
    let status = web.lbd.process().wait(PATIENCE)?.context("lbd does not end")?;
    let log = web.lbd.log_tail();
    let last = log.trim_end().lines().last().unwrap_or_default();
    ensure!(
        status.code() == Some(1) && last.contains("the kernel goes on forwarding WITHOUT HEALTH CHECKS"),
        "{status}: {log}"
    );
    ask(&web).context("that is not true")
}
