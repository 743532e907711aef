//! A veth whose peer does not take what XDP sends: said as long as it is so, and gone with the remedy that is named.

use anyhow::{Context, Result, ensure};
use lbd_tests::client::download;
use lbd_tests::netns::link::set_gro;
use lbd_tests::process::Process;
use lbd_tests::root_or_skip;
use lbd_tests::topology::{Binaries, Family, Mode, Plan, Settings, Topology};
use lbd_tests::web::{HTTP, PATIENCE, POOL, Web, until};
use serde_json::Value;

const HEALTH: &str = r#"{ type = "tcp", port = 80, interval = "500ms", timeout = "400ms", fall = 2 }"#;
/// `lbctl status --check` when something needs attention.
const DEGRADED: i32 = 7;

fn settings(topology: &Topology) -> Settings {
    Settings::new(topology.service(POOL, &["80/tcp"], HEALTH))
}

/// The exit code of `status --check`, and the sentences under a key of its answer.
fn check(web: &Web, key: &str) -> Result<(Option<i32>, String)> {
    let output = web.lbd.lbctl_output(&["-j", "status", "--check"])?;
    let status: Value = serde_json::from_slice(&output.stdout).context("no JSON")?;
    Ok((output.status.code(), status[key].to_string()))
}

fn until_degraded(web: &Web, sentence: &str) -> Result<()> {
    until(&format!("degraded: {sentence}"), || {
        let (code, degraded) = check(web, "degraded")?;
        Ok(code == Some(DEGRADED) && degraded.contains(sentence))
    })
}

fn is_served(web: &Web) -> bool {
    download(&web.topology.client, web.topology.vip_port(HTTP), "/").is_ok()
}

/// Where one interface is all there is, everything goes back out of it: GRO on the peer does not help.
#[test]
fn one_interface_whose_peer_has_no_program_is_degraded_until_it_has_one() -> Result<()> {
    if !root_or_skip("one_interface_whose_peer_has_no_program_is_degraded_until_it_has_one") {
        return Ok(());
    }
    let mut web = Web::start(Plan { backends: 1, ..Plan::new("peer1", Mode::Dsr, Family::V4) }, settings)?;
    let (peer, port) = (&web.topology.switch, "balancer");
    ensure!(check(&web, "degraded")? == (Some(0), "[]".to_owned()) && is_served(&web));
    peer.ip(&format!("link set dev {port} xdp off"))?;
    until_degraded(&web, "front loses all that lbd sends")?;
    ensure!(!is_served(&web), "nothing is lost: what is said is wrong");
    set_gro(peer, port, true)?;
    until_degraded(&web, "front delays or loses all that lbd sends")?;
    let log = web.lbd.log_tail();
    ensure!(log.contains("WARN") && log.contains("degraded: front loses"), "{log}");
    let (_, degraded) = check(&web, "degraded")?;
    let remedy = format!("lbd decap --interface {port} --from ");
    ensure!(degraded.contains(&remedy), "{degraded}");

    let mut decap = peer.command(Binaries::find()?.lbd);
    decap.args(["decap", "--interface", port, "--from", &web.topology.balancer_addresses()[0].to_string()]);
    let mut decap = Process::spawn("remedy", &mut decap, peer.run_dir())?;
    until("all is well again", || {
        decap.check_running()?;
        Ok(check(&web, "degraded")? == (Some(0), "[]".to_owned()))
    })?;
    ensure!(is_served(&web), "the remedy that was named is none");
    decap.stop(PATIENCE)?;
    until("it is said again", || Ok(check(&web, "degraded")?.0 == Some(DEGRADED)))?;

    let generic = Settings { attach: "generic".to_owned(), ..settings(&web.topology) };
    web.lbd.rewrite_config(&web.topology, &generic)?;
    web.lbd.stop()?;
    web.lbd.start_again(&web.topology)?;
    web.lbd.wait_eligible(POOL, 1, PATIENCE)?;
    ensure!(check(&web, "degraded")? == (Some(0), "[]".to_owned()));
    ensure!(is_served(&web), "generic mode is no remedy either");
    Ok(())
}

/// Where packets come in by one interface and leave by another, GRO on the peer takes them; lbd's own answers go back.
#[test]
fn with_two_interfaces_gro_is_enough_until_something_goes_back() -> Result<()> {
    if !root_or_skip("with_two_interfaces_gro_is_enough_until_something_goes_back") {
        return Ok(());
    }
    let keep = |topology: &Topology| Settings { on_exit: "keep".to_owned(), ..settings(topology) };
    let mut web = Web::start(Plan { backends: 1, ..Plan::new("peer2", Mode::FullNat, Family::V4) }, keep)?;
    let (peer, port) = (&web.topology.client, "eth0");
    peer.ip(&format!("link set dev {port} xdp off"))?;
    until_degraded(&web, "neither an XDP program nor GRO")?;
    ensure!(!is_served(&web), "nothing is lost: what is said is wrong");
    set_gro(peer, port, true)?;
    until("only a notice is left", || {
        Ok(check(&web, "degraded")? == (Some(0), "[]".to_owned())
            && check(&web, "notices")?.1.contains("front would delay or lose what"))
    })?;
    ensure!(is_served(&web), "GRO takes nothing");

    web.topology.set_backend_up(0, false)?;
    until("nobody is left", || {
        Ok(web.lbd.backends(POOL)?.iter().all(|backend| backend["eligible"] == false))
    })?;
    ensure!(!is_served(&web), "by whom?");
    until_degraded(&web, "front delays or loses what goes back out of it")?;
    // The counter is pinned: what it had counted before is no news to the next lbd.
    web.lbd.stop()?;
    web.lbd.start_again(&web.topology)?;
    let (degraded, notices) = (check(&web, "degraded")?.1, check(&web, "notices")?.1);
    ensure!(!degraded.contains("what goes back out of it"), "an answer of an earlier lbd: {degraded}");
    ensure!(notices.contains("front would delay or lose what"), "{notices}");
    Ok(())
}
