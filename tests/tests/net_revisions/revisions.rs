//! Rollback, backup and restore against the flows of clients, across restarts.

use std::fs;

use anyhow::{Context, Result, ensure};
use lbd_tests::root_or_skip;
use serde_json::Value;

use super::{Stage, number};

/// What counts of the pool: address and weight.
fn picture(stage: &Stage) -> Result<Vec<(Value, Value)>> {
    let backends = stage.lbd.backends("echo")?;
    Ok(backends.into_iter().map(|mut row| (row["address"].take(), row["weight"].take())).collect())
}

fn revision(stage: &Stage) -> Result<u64> {
    number(&stage.lbctl(0, &["status"])?["revision"])
}

/// What `status` says beside what is wrong.
fn notices(stage: &Stage) -> Result<String> {
    Ok(stage.lbctl(0, &["status"])?["notices"].to_string())
}

#[test]
fn a_rollback_outlives_restarts_and_moves_no_flow_that_need_not() -> Result<()> {
    if !root_or_skip("a_rollback_outlives_restarts_and_moves_no_flow_that_need_not") {
        return Ok(());
    }
    let mut stage = Stage::build("rollback", 4, 3)?;
    let first = stage.topology.backend_address(0).to_string();
    stage.lbctl(0, &["backend", "set", "echo", &first, "--weight", "3"])?;
    let (good, wanted) = (revision(&stage)?, picture(&stage)?);
    let mut flows = stage.flows()?;
    stage.rewrite(4, "")?;
    stage.lbctl(0, &["apply", "--wait"])?;
    stage.lbctl(0, &["override", "clear", "--all", "--yes"])?;
    ensure!(picture(&stage)? != wanted);
    ensure!(stage.round(&mut flows)?.moved == 0);

    let done = stage.lbctl(0, &["rollback", &good.to_string()])?;
    ensure!(number(&done["revision"])? == good + 3, "{done}");
    ensure!(done["plan"]["flows_moved"] == 0, "{done}");
    ensure!(picture(&stage)? == wanted, "{:?}", picture(&stage)?);
    ensure!(stage.round(&mut flows)?.moved == 0, "a flow moved");
    let said = format!("revision {good} is in force");
    ensure!(notices(&stage)?.contains(&said), "{}", notices(&stage)?);

    // A reload, a restart and a crash with the same file: it stays.
    let reloaded = stage.lbd.reloaded()?;
    ensure!(
        reloaded.contains("reload: ") && reloaded.contains(&format!("revision {good} stays")),
        "{reloaded}"
    );
    ensure!(picture(&stage)? == wanted && revision(&stage)? == good + 3, "{:?}", picture(&stage)?);
    stage.lbd.kill()?;
    stage.lbd.start_again(&stage.topology)?;
    stage.lbd.stop()?;
    stage.lbd.start_again(&stage.topology)?;
    ensure!(picture(&stage)? == wanted && revision(&stage)? == good + 3, "{:?}", picture(&stage)?);
    ensure!(notices(&stage)?.contains(&said), "{}", notices(&stage)?);
    ensure!(stage.round(&mut flows)?.moved == 0, "a flow moved by a restart");

    // A changed file wins, at a start too.
    stage.lbd.stop()?;
    stage.rewrite(2, "")?;
    stage.lbd.start_again(&stage.topology)?;
    ensure!(picture(&stage)?.len() == 2, "{:?}", picture(&stage)?);
    ensure!(!notices(&stage)?.contains("is in force"), "{}", notices(&stage)?);
    Ok(())
}

#[test]
fn a_backup_is_restored_into_an_empty_state_directory() -> Result<()> {
    if !root_or_skip("a_backup_is_restored_into_an_empty_state_directory") {
        return Ok(());
    }
    let mut stage = Stage::build("backup", 3, 3)?;
    let first = stage.topology.backend_address(0).to_string();
    let vip = format!("{}:99/udp", stage.topology.vip());
    stage.lbctl(0, &["service", "add", "own", &vip, "--pool", "echo"])?;
    stage.lbctl(0, &["backend", "set", "echo", &first, "--weight", "7"])?;
    let wanted = picture(&stage)?;
    let state = stage.lbd.config_path().with_file_name("state");
    let backup = stage.lbd.config_path().with_file_name("lbd.backup");
    let file = backup.to_str().context("a path that is no text")?.to_owned();
    stage.lbctl(0, &["backup", &file])?;
    let mut flows = stage.flows()?;
    stage.lbd.stop()?;
    for directory in ["revisions", "configurations"] {
        fs::remove_dir_all(state.join(directory))?;
    }
    stage.lbd.start_again(&stage.topology)?;
    ensure!(picture(&stage)? != wanted, "the state directory was not what had it");
    // Damaged: refused whole.
    let whole = fs::read_to_string(&backup)?;
    fs::write(&backup, &whole[..whole.len() / 2])?;
    let before = (picture(&stage)?, revision(&stage)?);
    ensure!(stage.lbctl(5, &["restore", &file])?["error"]["code"] == "invalid");
    ensure!((picture(&stage)?, revision(&stage)?) == before);
    fs::write(&backup, &whole)?;
    stage.lbctl(0, &["restore", &file])?;
    ensure!(picture(&stage)? == wanted, "{:?}", picture(&stage)?);
    ensure!(stage.lbctl(0, &["service", "show", "own"])?["service"]["name"] == "own");
    ensure!(stage.round(&mut flows)?.moved == 0, "a flow moved");
    Ok(())
}

#[test]
fn a_start_with_an_invalid_file_runs_the_last_good_revision() -> Result<()> {
    if !root_or_skip("a_start_with_an_invalid_file_runs_the_last_good_revision") {
        return Ok(());
    }
    let mut stage = Stage::build("invalid", 3, 3)?;
    let first = stage.topology.backend_address(0).to_string();
    stage.lbctl(0, &["backend", "set", "echo", &first, "--weight", "7"])?;
    let (wanted, good) = (picture(&stage)?, revision(&stage)?);
    let mut flows = stage.flows()?;
    stage.lbd.stop()?;
    let path = stage.lbd.config_path();
    let text = fs::read_to_string(&path)?;
    fs::write(&path, text.replace("[[pool]]", "[[pool]]\nwieght = 1"))?;
    let output = std::process::Command::new(lbd_tests::topology::Binaries::find()?.lbd)
        .args(["run", "--strict", "--config"])
        .arg(&path)
        .output()?;
    ensure!(output.status.code() == Some(78), "--strict ended with {}", output.status);
    stage.lbd.start_again(&stage.topology)?;
    let status = stage.lbctl(7, &["status", "--check"])?;
    let degraded = status["degraded"].to_string();
    ensure!(
        degraded.contains("wieght") && degraded.contains(&format!("revision {good} is in force")),
        "{degraded}"
    );
    ensure!(picture(&stage)? == wanted, "{:?}", picture(&stage)?);
    ensure!(stage.round(&mut flows)?.moved == 0, "a flow moved");
    fs::write(&path, text)?;
    stage.lbctl(0, &["apply"])?;
    ensure!(stage.lbctl(0, &["status", "--check"])?["degraded"].as_array().is_some_and(Vec::is_empty));
    Ok(())
}
