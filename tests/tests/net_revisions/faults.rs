//! A state directory whose disk is full, and one that can only be read: what cannot be written down is not done, and said.
//!
//! The disk is a small tmpfs in a mount namespace of the thread that starts the daemon.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use lbd_tests::root_or_skip;
use lbd_tests::web::until;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::{Stage, number};

/// Bytes of the disk.
const DISK: &str = "size=128k";

/// A disk of its own for the state directory, with what is in it; seen by this thread and those it starts.
fn give_disk(state: &Path) -> Result<()> {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).context("no mount namespace")?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).context("/ is not made private")?;
    let mut kept = Vec::new();
    collect(state, &mut kept)?;
    mount(Some("tmpfs"), state, Some("tmpfs"), MsFlags::empty(), Some(DISK)).context("no tmpfs")?;
    for (path, content) in kept {
        fs::create_dir_all(path.parent().context("a file without a directory")?)?;
        fs::write(path, content)?;
    }
    Ok(())
}

fn collect(directory: &Path, kept: &mut Vec<(std::path::PathBuf, Vec<u8>)>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        match path.is_dir() {
            true => collect(&path, kept)?,
            false => kept.push((path.clone(), fs::read(&path)?)),
        }
    }
    Ok(())
}

fn read_only(state: &Path, is_read_only: bool) -> Result<()> {
    let none: Option<&str> = None;
    let flag = if is_read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
    mount(none, state, none, MsFlags::MS_REMOUNT | flag, none).context("not remounted")
}

/// What counts: the revision, and each backend with its weight.
fn picture(stage: &Stage) -> Result<(u64, Vec<String>)> {
    let rows = stage.lbd.backends("echo")?;
    let rows = rows.iter().map(|row| format!("{} {} {}", row["address"], row["weight"], row["state"]));
    Ok((number(&stage.lbctl(0, &["status"])?["revision"])?, rows.collect()))
}

#[test]
fn what_cannot_be_written_down_is_not_done_and_said() -> Result<()> {
    if !root_or_skip("what_cannot_be_written_down_is_not_done_and_said") {
        return Ok(());
    }
    let mut stage = Stage::build("faults", 3, 3)?;
    let mut flows = stage.flows()?;
    stage.lbd.stop()?;
    // The namespace ends with the thread and the daemon.
    std::thread::scope(|scope| scope.spawn(|| faults(&mut stage)).join())
        .map_err(|_| anyhow::anyhow!("the thread has panicked"))??;
    ensure!(stage.round(&mut flows)?.moved == 0, "a flow moved");
    Ok(())
}

fn faults(stage: &mut Stage) -> Result<()> {
    let state = stage.lbd.config_path().with_file_name("state");
    give_disk(&state)?;
    stage.lbd.start_again(&stage.topology)?;
    let first = stage.topology.backend_address(0).to_string();
    let set = |stage: &Stage, code: i32, weight: &str| {
        stage.lbctl(code, &["backend", "set", "echo", &first, "--weight", weight])
    };
    set(stage, 0, "2")?;
    let before = picture(stage)?;

    // A full disk.
    let filler = state.join("filler");
    let mut file = File::create(&filler)?;
    while file.write_all(&[0; 512]).is_ok() {}
    drop(file);
    let refused = set(stage, 1, "3")?;
    ensure!(refused["error"]["code"] == "not_saved", "{refused}");
    ensure!(picture(stage)? == before, "{:?}", picture(stage)?);
    stage.lbd.kill()?;
    stage.lbd.start_again(&stage.topology)?;
    ensure!(picture(stage)? == before, "after a crash: {:?}", picture(stage)?);
    fs::remove_file(&filler)?;
    set(stage, 0, "4")?;
    what_happens_by_itself(stage, &state)?;
    let before = picture(stage)?;

    // One that can only be read.
    stage.lbd.kill()?;
    read_only(&state, true)?;
    stage.lbd.start_again(&stage.topology)?;
    ensure!(picture(stage)? == before, "after a start that can only read: {:?}", picture(stage)?);
    let refused = set(stage, 1, "5")?;
    ensure!(refused["error"]["code"] == "not_saved", "{refused}");
    ensure!(picture(stage)? == before, "{:?}", picture(stage)?);
    read_only(&state, false)?;
    set(stage, 0, "6")?;
    let before = picture(stage)?;
    stage.lbd.kill()?;
    stage.lbd.start_again(&stage.topology)?;
    ensure!(picture(stage)? == before, "what was done is kept: {:?}", picture(stage)?);
    Ok(())
}

/// What nobody is there to be refused is done all the same: that it is not written down is said until it is, and no longer.
fn what_happens_by_itself(stage: &Stage, state: &Path) -> Result<()> {
    let degraded =
        |stage: &Stage| Ok::<_, anyhow::Error>(stage.lbctl(0, &["status"])?["degraded"].to_string());
    let cannot = |text: &str| text.contains("cannot write");
    let second = stage.topology.backend_address(1).to_string();
    // It is given back by itself, or with the next change, whichever comes first.
    for by_change in [false, true] {
        stage.lbctl(0, &["backend", "enable", "echo", &second])?;
        stage.lbctl(0, &["backend", "drain", "echo", &second, "--deadline", "3s", "--then", "disable"])?;
        let filler = state.join("filler");
        let mut file = File::create(&filler)?;
        while file.write_all(&[0; 512]).is_ok() {}
        drop(file);
        until("the drain is over, and not written down", || Ok(cannot(&degraded(stage)?)))?;
        fs::remove_file(&filler)?;
        if by_change {
            stage.lbctl(0, &["backend", "enable", "echo", &second])?;
            ensure!(!cannot(&degraded(stage)?), "{}", degraded(stage)?);
        }
        until("it is written down", || Ok(!cannot(&degraded(stage)?)))?;
    }
    Ok(())
}
