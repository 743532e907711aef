//! The daemon as another user, with the capabilities it needs and no more.

use anyhow::{Result, ensure};
use lbd_tests::client::download;
use lbd_tests::root_or_skip;
use lbd_tests::server::nginx::Nginx;
use lbd_tests::topology::{Family, Lbd, Mode, Plan, Settings, Topology};
use lbd_tests::web::{HTTP, PATIENCE, POOL};

/// The capabilities that the daemon needs (docs/kernel.md).
const NEEDED: [&str; 3] = ["bpf", "net_admin", "net_raw"];
const HEALTH: &str =
    r#"{ type = "http", port = 80, path = "/healthz", interval = "500ms", timeout = "400ms" }"#;

#[test]
fn another_user_with_three_capabilities_runs_dsr() -> Result<()> {
    if !root_or_skip("another_user_with_three_capabilities_runs_dsr") {
        return Ok(());
    }
    runs("nobody", Mode::Dsr, &NEEDED)
}

#[test]
fn another_user_with_three_capabilities_runs_full_nat() -> Result<()> {
    if !root_or_skip("another_user_with_three_capabilities_runs_full_nat") {
        return Ok(());
    }
    runs("nobodynat", Mode::FullNat, &NEEDED)
}

/// What makes the program faster (docs/kernel.md).
#[test]
fn another_user_with_one_capability_more_runs_full_nat() -> Result<()> {
    if !root_or_skip("another_user_with_one_capability_more_runs_full_nat") {
        return Ok(());
    }
    runs("nobody4", Mode::FullNat, &["bpf", "net_admin", "net_raw", "perfmon"])
}

fn runs(name: &str, mode: Mode, capabilities: &[&str]) -> Result<()> {
    let topology = Topology::build(Plan::new(name, mode, Family::V4))?;
    let servers = topology.backends.iter();
    let _servers: Vec<Nginx> = servers
        .map(|backend| Nginx::start(&backend.namespace, &backend.name, HTTP))
        .collect::<Result<_>>()?;
    let settings =
        Settings { on_exit: "keep".to_owned(), ..Settings::new(topology.service(POOL, &["80/tcp"], HEALTH)) };
    let mut lbd = Lbd::start_as_nobody(&topology, &settings, capabilities)?;
    let owner =
        std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(format!("/proc/{}", lbd.process().pid()))?);
    ensure!(owner != 0, "the daemon runs as root");
    let vip = topology.vip_port(HTTP);
    // The backends of dsr are on the client's side of the balancer.
    let verdict = if mode == Mode::Dsr { "transmit" } else { "redirect" };
    for pools in [&[POOL][..], &[POOL, "more"]] {
        for pool in pools {
            lbd.wait_eligible(pool, 3, PATIENCE)?;
        }
        let status = lbd.lbctl(&["status"])?;
        ensure!(status["degraded"] == serde_json::json!([]), "{status}");
        download(&topology.client, vip, "/")?;
        let found = lbd.lbctl(&["explain", "tcp", "192.0.2.77:4321", &vip.to_string()])?;
        ensure!(found["verdict"] == verdict, "{found}");
        // Another configuration is another program, and a second start replaces it on its links.
        let more = format!("{}{}", settings.services, topology.service("more", &["81/udp"], HEALTH));
        lbd.rewrite_config(&topology, &Settings { services: more, ..settings.clone() })?;
        lbd.stop()?;
        lbd.start_again(&topology)?;
    }
    lbd.stop()
}
