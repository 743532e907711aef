//! What is left when lbd goes for good: nothing.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use lbd_tests::netns::output_of;
use lbd_tests::root_or_skip;
use lbd_tests::topology::{Binaries, Family, Mode, Plan, Settings, Topology};
use lbd_tests::web::{POOL, Web, until};

const HEALTH: &str = r#"{ type = "http", path = "/healthz", interval = "500ms", timeout = "400ms" }"#;

fn settings(topology: &Topology, on_exit: &str) -> Settings {
    Settings { on_exit: on_exit.to_owned(), ..Settings::new(topology.service(POOL, &["80/tcp"], HEALTH)) }
}

fn web(name: &str, on_exit: &str) -> Result<Web> {
    let plan = Plan { backends: 2, ..Plan::new(name, Mode::FullNat, Family::V4) };
    Web::start(plan, |topology| settings(topology, on_exit))
}

/// Neighbours that the kernel keeps resolved because somebody asked for it.
fn managed(web: &Web) -> Result<usize> {
    Ok(web.topology.balancer.ip("neighbour show dev back")?.matches(" managed").count())
}

fn nothing_is_left(web: &Web) -> Result<()> {
    let links = web.topology.balancer.ip("-details link show")?;
    ensure!(!links.contains("prog/xdp"), "{links}");
    ensure!(!web.lbd.pin().exists(), "{} is left", web.lbd.pin().display());
    ensure!(managed(web)? == 0, "{}", web.topology.balancer.ip("neighbour show dev back")?);
    Ok(())
}

#[test]
fn detach_takes_program_pins_and_neighbours_and_is_refused_while_a_daemon_runs() -> Result<()> {
    if !root_or_skip("detach_takes_program_pins_and_neighbours_and_is_refused_while_a_daemon_runs") {
        return Ok(());
    }
    let mut web = web("detach", "keep")?;
    ensure!(managed(&web)? == 2, "{}", web.topology.balancer.ip("neighbour show dev back")?);
    let binary = Binaries::find()?.lbd;
    let detach = |web: &Web| -> Result<Command> {
        let mut command = web.topology.balancer.command(Binaries::find()?.lbd);
        command.args(["detach", "--config"]).arg(web.lbd.config_path());
        Ok(command)
    };
    let refused = detach(&web)?.output()?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success() && said.contains(&web.lbd.process().pid().to_string()), "{said}");
    let state = web.lbd.config_path().with_file_name("state");
    let nowhere = web.topology.balancer.run_dir().path().join("nowhere");
    // The directory that is named is not the one of the daemon that runs.
    let mistaken = detach(&web)?.arg("--state").arg("--pin").arg(&nowhere).output()?;
    ensure!(mistaken.status.code() == Some(1) && state.is_dir() && managed(&web)? == 2, "{mistaken:?}");
    web.lbd.stop()?;
    ensure!(managed(&web)? == 2, "on_exit = keep lets the neighbours go");
    let said = output_of(&mut detach(&web)?)?;
    ensure!(said.contains("detached from back, front") && said.contains("2 neighbours"), "{said}");
    nothing_is_left(&web)?;
    let again = output_of(&mut detach(&web)?)?;
    ensure!(again.contains("nothing was attached"), "{again}");
    let at = |pin: &Path| web.topology.balancer.command(&binary).args(["detach", "--pin"]).arg(pin).output();
    let empty = at(web.topology.balancer.run_dir().path())?;
    ensure!(empty.status.success(), "a directory without pins: {empty:?}");
    let wrong = at(web.lbd.pin())?;
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    ensure!(wrong.status.code() == Some(1) && said.contains("there is no directory"), "{said}");
    // The rest is done all the same, and was what there was to do.
    let state_too =
        || Ok::<_, anyhow::Error>(detach(&web)?.arg("--state").arg("--pin").arg(&nowhere).output()?);
    let gone = state_too()?;
    let said = String::from_utf8_lossy(&gone.stderr).into_owned();
    ensure!(gone.status.success() && said.contains("there is no directory") && !state.exists(), "{gone:?}");
    let again = state_too()?;
    ensure!(again.status.code() == Some(1), "nothing was there: {again:?}");
    Ok(())
}

#[test]
fn on_exit_detach_leaves_nothing() -> Result<()> {
    if !root_or_skip("on_exit_detach_leaves_nothing") {
        return Ok(());
    }
    let mut web = web("exit", "detach")?;
    ensure!(managed(&web)? == 2, "{}", web.topology.balancer.ip("neighbour show dev back")?);
    web.lbd.stop()?;
    nothing_is_left(&web)
}

#[test]
fn on_exit_is_what_is_in_force_at_the_end() -> Result<()> {
    if !root_or_skip("on_exit_is_what_is_in_force_at_the_end") {
        return Ok(());
    }
    let mut web = web("exit-reload", "keep")?;
    let settings = settings(&web.topology, "detach");
    web.lbd.rewrite_config(&web.topology, &settings)?;
    let said = web.lbd.reloaded()?;
    ensure!(said.contains("reload: "), "{said}");
    ensure!(web.lbd.lbctl(&["status"])?["on_exit"] == "detach");
    web.lbd.stop()?;
    nothing_is_left(&web)
}

#[test]
fn while_the_kernel_looks_at_the_programs_lbctl_is_told_so() -> Result<()> {
    if !root_or_skip("while_the_kernel_looks_at_the_programs_lbctl_is_told_so") {
        return Ok(());
    }
    let mut web = web("starting", "detach")?;
    web.lbd.stop()?;
    let topology = &web.topology;
    let mut said = Vec::new();
    std::thread::scope(|scope| {
        let lbd = &mut web.lbd;
        let (socket, lbctl) = (lbd.socket(), lbd.lbctl_path().to_owned());
        let start = scope.spawn(|| lbd.start_again(topology));
        until("the daemon answers", || {
            let output = Command::new(&lbctl).arg("--socket").arg(&socket).arg("status").output()?;
            said.push((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()));
            Ok(output.status.success())
        })?;
        start.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let starting =
        said.iter().filter(|(code, said)| *code == Some(3) && said.contains("lbd is starting")).count();
    ensure!(starting > 0, "nobody was told: {said:?}");
    let hung = said.iter().find(|(_, said)| said.contains("has not answered"));
    ensure!(hung.is_none(), "{hung:?}");
    Ok(())
}
