//! nat and full-nat beside traffic that is not lbd's, to and from the very same endpoints.
//!
//! A reply is known by the backend's address and port, and much else comes from there: answers to health checks, to clients that
//! went to the backend directly, and what the backend itself begins. None of it may be touched, and none may be taken for a flow.

mod limits;
mod not_ours;
mod stage;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbd_tests::root_or_skip;
use lbd_tests::server::nginx::Nginx;
use lbd_tests::topology::{Family, Mode, Settings};
use stage::{Stage, accepted, all_right, get_small};

const HTTP: u16 = 80;
const HEALTH: &str = r#"{ type = "http", port = 80, path = "/healthz", interval = "200ms", timeout = "5s" }"#;
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

fn lives_beside(test: &str, mode: Mode) -> Result<()> {
    if !root_or_skip(test) {
        return Ok(());
    }
    let mut stage = Stage::build(&format!("beside{}", mode.name()), (mode, Family::V4), 2, |topology| {
        Settings::new(topology.service("web", &["80/tcp"], HEALTH))
    })?;
    stage.lbd.wait_eligible("web", 2, PATIENCE)?;
    // nat keeps the client's address and port: a client that asks the backend directly from the port of a flow of its own would
    // have one 4-tuple for two connections. From another address it cannot.
    let direct_client = "192.0.2.11";
    stage.topology.client.ip(&format!("address add {direct_client}/24 dev eth0"))?;
    let (vip, b1) = (stage.topology.vip_port(HTTP), SocketAddr::new(stage.topology.backend_address(0), HTTP));
    stage.topology.client.ip(&format!("route add {} via 192.0.2.1 src {direct_client}", b1.ip()))?;
    let _client_nginx = Nginx::start(&stage.topology.client, "client", HTTP)?;
    let client = SocketAddr::new(stage.topology.client_address(), HTTP);

    beside_traffic(&stage, vip, b1, client).context("while traffic runs")?;
    beside_nothing(&mut stage, b1, client).context("in the quiet")?;
    checks_still_tell(&mut stage)?;
    stage.lbd.stop()
}

/// All at once: through the vip, directly to a backend through this host, and from that backend to the client.
fn beside_traffic(stage: &Stage, vip: SocketAddr, b1: SocketAddr, client: SocketAddr) -> Result<()> {
    const THROUGH: u64 = 1500;
    const BESIDE: u64 = 500;
    let through = get_small(&stage.topology.client, vip, 300, THROUGH)?;
    let direct = get_small(&stage.topology.client, b1, 100, BESIDE)?;
    let opened = get_small(stage.backend(0), client, 100, BESIDE)?;
    let ports = all_right(through, THROUGH, &["b1", "b2"]).context("through the vip")?;
    all_right(direct, BESIDE, &["b1"]).context("directly to the backend")?;
    all_right(opened, BESIDE, &["client"]).context("from the backend to the client")?;

    ensure!(stage.new_flows("web")? == THROUGH, "{} flows for {THROUGH}", stage.new_flows("web")?);
    let flows = stage.flows()?;
    ensure!(!flows.is_empty(), "no flow is tracked");
    let own = |source: &SocketAddr| source.ip() == client.ip() && ports.contains(&source.port());
    let stranger = flows.iter().find(|(source, destination)| !own(source) || *destination != vip);
    ensure!(stranger.is_none(), "{stranger:?} is tracked and went through no vip");
    let direct_client = "192.0.2.11".parse::<std::net::IpAddr>()?;
    let seen = stage.nginx[0].accesses()?;
    let count = seen.iter().filter(|access| access.remote.ip() == direct_client).count();
    ensure!(count as u64 == BESIDE, "the backend saw {count} of {BESIDE} direct requests from their client");
    Ok(())
}

/// With nothing through the vip, nothing of lbd's moves.
fn beside_nothing(stage: &mut Stage, b1: SocketAddr, client: SocketAddr) -> Result<()> {
    const BESIDE: u64 = 50;
    const CHECKS: u64 = 10;
    let (counters, flows) = (stage.settled()?, stage.flows()?);
    let since = accepted(stage.backend(0))?;
    let direct = get_small(&stage.topology.client, b1, 100, BESIDE)?;
    let opened = get_small(stage.backend(0), client, 100, BESIDE)?;
    all_right(direct, BESIDE, &["b1"])?;
    all_right(opened, BESIDE, &["client"])?;
    stage.wait_accepted(0, since, BESIDE + CHECKS).context("health checks")?;
    let (now, left) = (stage.totals()?, stage.flows()?);
    ensure!(now == counters, "moved from {counters:?} to {now:?}");
    // Flows may expire meanwhile, but none may come.
    ensure!(left.is_subset(&flows), "new: {:?}", left.difference(&flows).collect::<Vec<_>>());
    Ok(())
}

/// The checks that went on beside all this are real: they see a server go and come.
fn checks_still_tell(stage: &mut Stage) -> Result<()> {
    stage.nginx[1].kill()?;
    stage.lbd.wait_eligible("web", 1, PATIENCE)?;
    let namespace = &stage.topology.backends[1].namespace;
    stage.nginx[1].start_again(namespace, HTTP)?;
    stage.lbd.wait_eligible("web", 2, PATIENCE)
}

#[test]
fn nat_touches_nothing_that_is_not_its_own() -> Result<()> {
    lives_beside("nat_touches_nothing_that_is_not_its_own", Mode::Nat)
}

#[test]
fn full_nat_touches_nothing_that_is_not_its_own() -> Result<()> {
    lives_beside("full_nat_touches_nothing_that_is_not_its_own", Mode::FullNat)
}
