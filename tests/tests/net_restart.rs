//! The daemon stops, dies, starts again: packets do not notice.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lbd_tests::client::{Round, UdpFlows};
use lbd_tests::root_or_skip;
use lbd_tests::server::echo::UdpEcho;
use lbd_tests::topology::{Family, Lbd, Mode, Plan, Settings, Topology};
use lbd_tests::web::{
    PATIENCE, POOL, Web, expect_no_failure, standing_connections_stayed, until, until_answered,
};

const HEALTH: &str =
    r#"{ type = "http", port = 80, path = "/healthz", interval = "500ms", timeout = "400ms" }"#;
const PER_SECOND: u32 = 200;
/// Requests answered in each part of a test.
const ANSWERS: u64 = 400;

fn web(topology: &Topology) -> Settings {
    let services = topology.service(POOL, &["80/tcp"], HEALTH);
    Settings { on_exit: "keep".to_owned(), ..Settings::new(services) }
}

#[test]
fn connections_go_on_when_the_daemon_is_stopped_and_started() -> Result<()> {
    goes_on(&Plan::new("stop", Mode::FullNat, Family::V4), web, Lbd::stop)
}

#[test]
fn connections_go_on_when_the_daemon_is_killed_and_started() -> Result<()> {
    goes_on(&Plan::new("kill", Mode::FullNat, Family::V4), web, Lbd::kill)
}

/// As a file is without `snat`: the source is the host's own address, which a new daemon has to be told of by the kernel. Until then it
/// goes on with what is in the tables.
#[test]
fn connections_go_on_where_no_source_is_configured() -> Result<()> {
    goes_on(&Plan::new("plain", Mode::FullNat, Family::V4), without_sources, Lbd::kill)
}

/// The same of `tunnel_source`.
#[test]
fn connections_go_on_where_no_source_of_tunnels_is_configured() -> Result<()> {
    goes_on(&Plan::new("tunnel", Mode::Ipip, Family::V4), without_sources, Lbd::kill)
}

fn without_sources(topology: &Topology) -> Settings {
    Settings { snat_sources: 0, ..web(topology) }
}

/// full-nat without `snat` sends from this host's own address, which the kernel is asked for: until it has answered, what the tables
/// have stands.
#[test]
fn no_backend_stands_aside_while_its_source_is_asked_for_again() -> Result<()> {
    const NAME: &str = "no_backend_stands_aside_while_its_source_is_asked_for_again";
    if !root_or_skip(NAME) {
        return Ok(());
    }
    let settings = |topology: &Topology| Settings { snat_sources: 0, ..web(topology) };
    let mut web = Web::start(Plan::new("source", Mode::FullNat, Family::V4), settings)?;
    web.lbd.kill()?;
    web.lbd.start_again(&web.topology)?;
    web.lbd.wait_eligible(POOL, 3, PATIENCE)?;
    until("the first checks", || {
        let backends = web.lbd.backends(POOL)?;
        Ok(backends.iter().all(|backend| backend["health"] == "healthy"))
    })?;
    let events = web.lbd.lbctl(&["events"])?;
    let events = events["events"].as_array().context("a list of events")?;
    ensure!(events.iter().any(|event| event["type"] == "backend_added"), "{events:?}");
    // Had they stood aside, the pool would have been without a backend, and come back.
    let again: Vec<_> = events.iter().filter(|event| event["type"] == "pool_up").collect();
    ensure!(again.is_empty(), "{again:?}");
    Ok(())
}

fn goes_on(
    plan: &Plan,
    settings: impl Fn(&Topology) -> Settings,
    end: impl Fn(&mut Lbd) -> Result<()>,
) -> Result<()> {
    if !root_or_skip(&plan.name) {
        return Ok(());
    }
    let mut web = Web::start(plan.clone(), settings)?;
    let load = web.load(PER_SECOND)?;
    let (recorder, begin) = (load.recorder(), Instant::now());
    until_answered(recorder, begin, ANSWERS).with_context(|| format!("{}: before any end", plan.name))?;
    for _ in 0..2 {
        end(&mut web.lbd)?;
        until_answered(recorder, Instant::now(), ANSWERS).context("without a daemon")?;
        web.lbd.start_again(&web.topology)?;
        web.lbd.wait_eligible(POOL, 3, PATIENCE)?;
        until_answered(recorder, Instant::now(), ANSWERS)?;
    }
    expect_no_failure(recorder, begin)?;
    standing_connections_stayed(recorder, begin)
}

const ECHO: u16 = 7;
/// Idle time of a UDP flow: in ticks of about a second, rounded up.
const UDP_TIMEOUT: Duration = Duration::from_secs(2);
/// After this long without a packet a flow is past its time for sure.
const PAST: Duration = Duration::from_millis(3_300);
/// Flows the table is made for; it has twice as many slots.
const TABLE: u32 = 1024;
/// Flows of one generation: a third of the slots, so that each finds room; without expiry the fourth would not.
const GENERATION: usize = 600;
const DATAGRAM_TIMEOUT: Duration = Duration::from_secs(2);
/// Flows that never rest.
const LASTING: usize = 20;

#[test]
fn without_a_daemon_flows_expire_and_new_ones_are_made() -> Result<()> {
    if !root_or_skip("without_a_daemon_flows_expire_and_new_ones_are_made") {
        return Ok(());
    }
    let settings = |topology: &Topology| Settings {
        flows: TABLE,
        on_exit: "keep".to_owned(),
        datapath: format!("[datapath.timeouts]\nudp = \"{}s\"\n", UDP_TIMEOUT.as_secs()),
        ..Settings::new(topology.service(POOL, &["80/tcp", "7/udp"], HEALTH))
    };
    let mut web = Web::start(Plan::new("expire", Mode::FullNat, Family::V4), settings)?;
    let echoes = web.topology.backends.iter().enumerate().map(|(index, backend)| {
        let address = SocketAddr::new(web.topology.backend_address(index), ECHO);
        UdpEcho::start(&backend.namespace, &backend.name, &[address])
    });
    let _echoes: Vec<UdpEcho> = echoes.collect::<Result<_>>()?;
    web.lbd.stop()?;
    let stopped = Instant::now();
    let target = web.topology.vip_port(ECHO);
    let mut lasting = UdpFlows::open(&web.topology.client, target, LASTING)?;
    while stopped.elapsed() < 10 * UDP_TIMEOUT {
        let mut generation = UdpFlows::open(&web.topology.client, target, GENERATION)?;
        // The first datagram makes a flow, the second establishes it: it gives way to nobody before its time.
        for what in ["made", "established"] {
            let round = generation.round(0..GENERATION, DATAGRAM_TIMEOUT)?;
            ensure!(
                round == Round { answered: GENERATION as u64, ..Round::default() },
                "{:?} after the stop flows are not {what}: {round:?}",
                stopped.elapsed()
            );
        }
        let begun = Instant::now();
        while begun.elapsed() < PAST {
            let round = lasting.round(0..LASTING, DATAGRAM_TIMEOUT)?;
            ensure!(
                round == Round { answered: LASTING as u64, ..Round::default() },
                "lasting flows: {round:?}"
            );
            // Time passing is what is waited for.
            std::thread::sleep(PAST / 10);
        }
    }
    web.lbd.start_again(&web.topology)?;
    web.lbd.wait_eligible(POOL, 3, PATIENCE)?;
    let round = lasting.round(0..LASTING, DATAGRAM_TIMEOUT)?;
    ensure!(round == Round { answered: LASTING as u64, ..Round::default() }, "after the start: {round:?}");
    let drops = web.lbd.lbctl(&["drops"])?;
    ensure!(!drops.to_string().contains("flow_table_full"), "{drops}");
    web.lbd.stop().context("the second stop")
}
