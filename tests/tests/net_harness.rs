//! The harness itself, without lbd: networks stand and route, wrong checksums are seen, nothing is left behind.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbd_tests::capture::Capture;
use lbd_tests::client::{self, Round, UdpFlows};
use lbd_tests::netns::counters::Counters;
use lbd_tests::netns::{Namespace, output_of};
use lbd_tests::process::Process;
use lbd_tests::server::echo::{self, UdpEcho};
use lbd_tests::server::nginx::{Nginx, SMALL_FILE_LEN};
use lbd_tests::server::sink::Sink;
use lbd_tests::topology::{Family, Mode, Plan, Topology};
use lbd_tests::{root_or_skip, run_dir};

const HTTP: u16 = 80;
const SINK: u16 = 8080;
const ECHO: u16 = 7;
const UPLOAD_LEN: u64 = 300_000;
const UDP_FLOWS: usize = 1000;

#[test]
fn a_namespace_and_its_processes_end_with_their_handle() -> Result<()> {
    if !root_or_skip("a_namespace_and_its_processes_end_with_their_handle") {
        return Ok(());
    }
    let namespace = Namespace::new("gone")?;
    let path = namespace.path();
    // Started past the harness, as a daemon that forks away would be.
    let mut stray = namespace.command("sleep").arg("1000").spawn()?;
    ensure!(path.exists(), "{} is not there", path.display());
    drop(namespace);
    ensure!(!path.exists(), "{} is still there", path.display());
    ensure!(!stray.wait()?.success(), "a process lived on in the namespace");
    Ok(())
}

#[test]
fn a_panic_leaves_no_namespace() -> Result<()> {
    if !root_or_skip("a_panic_leaves_no_namespace") {
        return Ok(());
    }
    let thread = std::thread::spawn(|| {
        let namespace = Namespace::new("panic").expect("a namespace");
        namespace.run(|| panic!("as a failing assertion would")).expect("not reached");
    });
    ensure!(thread.join().is_err(), "the panic inside the namespace did not reach the test");
    let path = format!("/run/netns/lbd-{}-panic", std::process::id());
    ensure!(!Path::new(&path).exists(), "{path} is still there");
    Ok(())
}

#[test]
fn the_living_are_not_swept() -> Result<()> {
    if !root_or_skip("the_living_are_not_swept") {
        return Ok(());
    }
    let namespace = Namespace::new("living")?;
    run_dir::sweep(false)?;
    ensure!(namespace.path().exists(), "the sweep took a namespace of a living process");
    ensure!(namespace.run_dir().path().exists(), "the sweep took a living process's directory");
    Ok(())
}

#[test]
fn what_a_dead_process_left_is_swept() -> Result<()> {
    if !root_or_skip("what_a_dead_process_left_is_swept") {
        return Ok(());
    }
    let mut child = std::process::Command::new("true").spawn()?;
    let pid = child.id();
    child.wait()?;
    let name = format!("lbd-{pid}-dead");
    ensure!(
        std::process::Command::new("ip").args(["netns", "add", &name]).status()?.success(),
        "no namespace made"
    );
    let swept = run_dir::sweep(false)?;
    ensure!(swept.contains(&pid), "the sweep did not see pid {pid}: {swept:?}");
    ensure!(!Path::new("/run/netns").join(&name).exists(), "{name} is still there");
    Ok(())
}

#[test]
fn a_process_that_ends_too_early_is_told_with_its_log() -> Result<()> {
    if !root_or_skip("a_process_that_ends_too_early_is_told_with_its_log") {
        return Ok(());
    }
    let namespace = Namespace::new("early")?;
    let mut command = namespace.command("sh");
    command.args(["-c", "echo no such interface >&2; exit 3"]);
    let mut process = Process::spawn("early", &mut command, namespace.run_dir())?;
    ensure!(process.wait(Duration::from_secs(10))?.is_some(), "it did not end");
    let error = process.check_running().expect_err("it has ended").to_string();
    ensure!(error.contains("exit code 3") && error.contains("no such interface"), "{error}");
    Ok(())
}

/// What a test counts of datagrams does not hang on when their server gets to run.
#[test]
fn a_burst_waits_for_a_server_that_does_not_run() -> Result<()> {
    if !root_or_skip("a_burst_waits_for_a_server_that_does_not_run") {
        return Ok(());
    }
    // Of loopback, a datagram this long takes up little less than the page it would in what an XDP program redirected.
    const BURST: usize = 1_000;
    const LEN: usize = 1_400;
    let namespace = Namespace::new("burst")?;
    let received = namespace.run(|| -> std::io::Result<usize> {
        let server = echo::bind(([127, 0, 0, 1], ECHO).into())?;
        let client = std::net::UdpSocket::bind("127.0.0.1:0")?;
        for _ in 0..BURST {
            client.send_to(&[0; LEN], server.local_addr()?)?;
        }
        Ok(std::iter::from_fn(|| server.recv(&mut [0; LEN]).ok()).count())
    })??;
    ensure!(received == BURST, "{received} of {BURST} datagrams waited");
    Ok(())
}

/// Both families through both layouts, straight to a backend: what lbd will stand on is right before lbd is there.
#[test]
fn every_network_carries_right_bytes_and_right_checksums() -> Result<()> {
    if !root_or_skip("every_network_carries_right_bytes_and_right_checksums") {
        return Ok(());
    }
    for (mode, family) in
        [(Mode::Nat, Family::V4), (Mode::Nat, Family::V6), (Mode::Dsr, Family::V4), (Mode::Dsr, Family::V6)]
    {
        let name = format!("plain-{}-{family:?}", mode.name()).to_lowercase();
        let topology = Topology::build(Plan { backends: 2, ..Plan::new(&name, mode, family) })?;
        let capture = Capture::start(&topology.client, "eth0")?;
        talk_to_second_backend(&topology).with_context(|| format!("{mode:?} {family:?}"))?;
        let report = capture.finish()?;
        ensure!(report.frames > 100, "the capture saw {} frames", report.frames);
        ensure!(report.faulty == 0 && report.unfinished == 0 && report.lost == 0, "{report:?}");
        for namespace in topology.namespaces() {
            let faults = Counters::read(namespace)?.faults();
            ensure!(faults.is_empty(), "{}: {faults:?}", namespace.name());
        }
    }
    Ok(())
}

/// The other way round: a client that leaves checksums to hardware is not what lbd is tested with, and a capture says so.
#[test]
fn a_capture_sees_unfinished_checksums() -> Result<()> {
    if !root_or_skip("a_capture_sees_unfinished_checksums") {
        return Ok(());
    }
    let topology = Topology::build(Plan { backends: 1, ..Plan::new("offload", Mode::Dsr, Family::V4) })?;
    let backend = &topology.backends[0];
    let _nginx = Nginx::start(&backend.namespace, &backend.name, HTTP)?;
    output_of(topology.client.command("ethtool").args(["-K", "eth0", "tx", "on"]))?;
    let capture = Capture::start(&topology.client, "eth0")?;
    client::download(&topology.client, SocketAddr::new(topology.backend_address(0), HTTP), "/64k")?;
    let report = capture.finish()?;
    ensure!(report.unfinished > 0, "{report:?}");
    Ok(())
}

fn talk_to_second_backend(topology: &Topology) -> Result<()> {
    let backend = &topology.backends[1];
    let address = topology.backend_address(1);
    let nginx = Nginx::start(&backend.namespace, &backend.name, HTTP)?;
    let _sink = Sink::start(&backend.namespace, &backend.name, SINK)?;
    let echo = UdpEcho::start(&backend.namespace, &backend.name, &[SocketAddr::new(address, ECHO)])?;

    let down = client::download(&topology.client, SocketAddr::new(address, HTTP), "/64k")?;
    ensure!(down.backend == "b2", "{down:?}");
    down.expect_content(SMALL_FILE_LEN)?;
    let up = client::upload(&topology.client, SocketAddr::new(address, SINK), UPLOAD_LEN)?;
    ensure!(up.backend == "b2", "{up:?}");
    up.expect_content(UPLOAD_LEN)?;
    ensure!(up.expect_content(UPLOAD_LEN - 1).is_err(), "a wrong length went unseen");

    let mut flows = UdpFlows::open(&topology.client, SocketAddr::new(address, ECHO), UDP_FLOWS)?;
    for _ in 0..2 {
        let round = flows.round(0..UDP_FLOWS, Duration::from_secs(5))?;
        ensure!(round == Round { answered: UDP_FLOWS as u64, ..Round::default() }, "{round:?}");
    }
    ensure!(flows.shares() == [("b2".to_owned(), UDP_FLOWS as u64)].into(), "{:?}", flows.shares());
    let mut dead = UdpFlows::open(&topology.client, SocketAddr::new(address, ECHO + 1), 2)?;
    let round = dead.round(0..2, Duration::from_millis(100))?;
    ensure!(round == Round { lost: 2, ..Round::default() }, "an echo from nowhere: {round:?}");
    ensure!(echo.received() == 2 * UDP_FLOWS as u64, "{} datagrams counted", echo.received());

    let accesses = nginx.accesses()?;
    ensure!(accesses.len() == 1 && accesses[0].remote.ip() == topology.client_address(), "{accesses:?}");
    ensure!(accesses[0].path == "/64k" && accesses[0].body_len == SMALL_FILE_LEN, "{accesses:?}");
    Ok(())
}
