//! A state directory that is damaged: what lbctl had changed is lost, and that stays to be seen.

use std::fs;

use anyhow::{Context, Result, ensure};
use lbd_tests::root_or_skip;
use lbd_tests::topology::{Family, Mode, Plan, Settings, Topology};
use lbd_tests::web::{POOL, Web, until};

const HEALTH: &str = r#"{ type = "tcp", port = 80, interval = "500ms", timeout = "400ms" }"#;
/// `lbctl status --check` when something needs attention.
const DEGRADED: i32 = 7;

/// The exit code of `status --check`, and what it shows.
fn check(web: &Web) -> Result<(Option<i32>, String)> {
    let output = web.lbd.lbctl_output(&["status", "--check"])?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

#[test]
fn a_lost_override_is_said_until_the_damaged_file_is_removed() -> Result<()> {
    if !root_or_skip("a_lost_override_is_said_until_the_damaged_file_is_removed") {
        return Ok(());
    }
    let settings = |topology: &Topology| Settings::new(topology.service(POOL, &["80/tcp"], HEALTH));
    let mut web =
        Web::start(Plan { backends: 2, ..Plan::new("damage", Mode::FullNat, Family::V4) }, settings)?;
    let address = web.topology.backend_address(0).to_string();
    web.lbd.lbctl(&["backend", "set", POOL, &address, "--weight", "3"])?;
    let revision = web.lbd.lbctl(&["status"])?["revision"].to_string();
    web.lbd.stop()?;
    let revisions = web.lbd.config_path().with_file_name("state").join("revisions");
    for entry in fs::read_dir(&revisions)? {
        fs::write(entry?.path(), "damaged")?;
    }
    let aside = revisions.join(format!("{revision}.damaged"));

    web.lbd.start_again(&web.topology)?;
    let is_said = || -> Result<bool> {
        let (code, said) = check(&web)?;
        Ok(code == Some(DEGRADED) && said.contains(&aside.display().to_string()))
    };
    ensure!(is_said()?, "{:?}", check(&web)?);
    ensure!(check(&web)?.1.contains("what lbctl had added and overridden is lost"), "{:?}", check(&web)?);
    // What is saved from now on does not bring back what is lost.
    web.lbd.lbctl(&["backend", "set", POOL, &address, "--weight", "5"])?;
    ensure!(is_said()?, "a save has hidden it: {:?}", check(&web)?);
    let now = web.lbd.lbctl(&["status"])?["revision"].as_u64().context("no revision")?;
    ensure!(now > revision.parse()?, "revision {now} was given before");
    web.lbd.stop()?;
    web.lbd.start_again(&web.topology)?;
    let (code, said) = check(&web)?;
    ensure!(
        code == Some(DEGRADED) && said.contains("by an earlier start"),
        "a restart has hidden it: {said}"
    );
    for entry in fs::read_dir(&revisions)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "damaged") {
            fs::remove_file(path)?;
        }
    }
    until("all is well", || Ok(check(&web)?.0 == Some(0)))
}
