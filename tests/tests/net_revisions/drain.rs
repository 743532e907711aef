//! A drain that is counted down by the flows of a client.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbd_tests::root_or_skip;
use serde_json::Value;

use super::Stage;

#[test]
fn a_drain_is_over_when_its_last_flow_has_ended() -> Result<()> {
    if !root_or_skip("a_drain_is_over_when_its_last_flow_has_ended") {
        return Ok(());
    }
    // A flow ends when nobody has sent anything for so long.
    let stage = Stage::build_with("drain", 3, 3, "[datapath.timeouts]\nudp = \"10s\"\n")?;
    let address = stage.topology.backend_address(2).to_string();
    let mut flows = stage.flows()?;
    let of_last = flows.shares()["b3"];
    let mut draining = Command::new(stage.lbd.lbctl_path())
        .arg("--socket")
        .arg(stage.lbd.socket())
        .args(["-j", "backend", "drain", "echo", &address, "--wait=60s"])
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = draining.stdout.take().context("no stdout")?;
    let mut answers =
        BufReader::new(stdout).lines().map(|line| -> Result<Value> { Ok(serde_json::from_str(&line?)?) });
    ensure!(answers.next().context("no answer")??["changed"] == true);
    let first = answers.next().context("nothing is shown")??;
    ensure!(first["flows"] == of_last && first["done"] == false, "{first}, and b3 has {of_last}");
    // As long as they are used they stay, all of them, where they are.
    for _ in 0..5 {
        ensure!(stage.round(&mut flows)?.moved == 0, "a flow moved");
        std::thread::sleep(Duration::from_secs(1));
    }
    ensure!(draining.try_wait()?.is_none(), "it has not waited for flows that are used");
    let listed = stage.lbd.lbctl_output(&["backend", "list", "echo"])?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    ensure!(listed.contains(&format!("draining, {of_last} flows left")), "{listed}");
    // Nobody uses them any more.
    let last = answers.last().context("nothing more is shown")??;
    ensure!(last["flows"] == 0 && last["done"] == true, "{last}");
    ensure!(draining.wait()?.code() == Some(0));
    Ok(())
}
