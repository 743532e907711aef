//! The harness itself, without lbd: networks stand and route, wrong checksums are seen, nothing is left behind.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbd_tests::capture::Capture;
use lbd_tests::netns::Namespace;
use lbd_tests::netns::counters::Counters;
use lbd_tests::process::Process;
use lbd_tests::server::echo::UdpEcho;
use lbd_tests::server::nginx::{Nginx, SMALL_FILE_LEN};
use lbd_tests::server::sink::Sink;
use lbd_tests::topology::{Family, Mode, Plan, Topology};
use lbd_tests::{content, root_or_skip, run_dir};

const HTTP: u16 = 80;
const SINK: u16 = 8080;
const ECHO: u16 = 7;

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

fn talk_to_second_backend(topology: &Topology) -> Result<()> {
    let backend = &topology.backends[1];
    let address = topology.backend_address(1);
    let nginx = Nginx::start(&backend.namespace, &backend.name, HTTP)?;
    let _sink = Sink::start(&backend.namespace, &backend.name, SINK)?;
    let echo = UdpEcho::start(&backend.namespace, &backend.name, &[SocketAddr::new(address, ECHO)])?;

    let answer = exchange(
        topology,
        SocketAddr::new(address, HTTP),
        b"GET /64k HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )?;
    let (head, body) = split_head(&answer)?;
    ensure!(head.contains("X-Backend: b2"), "{head}");
    ensure!(body.len() as u64 == SMALL_FILE_LEN, "{} bytes came", body.len());
    content::Verifier::new(0).push(body).map_err(|at| anyhow::anyhow!("byte {at} is wrong"))?;

    let mut upload = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n".to_vec();
    let head_len = upload.len();
    upload.resize(head_len + 300_000, 0);
    content::fill(0, &mut upload[head_len..]);
    let answer = exchange(topology, SocketAddr::new(address, SINK), &upload)?;
    let (_, body) = split_head(&answer)?;
    let wanted =
        format!("{{\"backend\":\"b2\",\"len\":300000,\"sha256\":\"{}\"}}\n", content::sha256(300_000));
    ensure!(String::from_utf8_lossy(body) == wanted, "{} instead of {wanted}", String::from_utf8_lossy(body));

    let datagram = topology.client.run(|| -> Result<Vec<u8>> {
        let socket = UdpSocket::bind(SocketAddr::new(topology.client_address(), 0))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.send_to(b"hello", SocketAddr::new(address, ECHO))?;
        let mut buffer = [0; 100];
        let len = socket.recv(&mut buffer)?;
        Ok(buffer[..len].to_vec())
    })??;
    ensure!(datagram == b"b2 hello", "{}", String::from_utf8_lossy(&datagram));
    ensure!(echo.received() == 1, "{} datagrams counted", echo.received());

    let accesses = nginx.accesses()?;
    ensure!(accesses.len() == 1 && accesses[0].remote.ip() == topology.client_address(), "{accesses:?}");
    ensure!(accesses[0].path == "/64k" && accesses[0].body_len == SMALL_FILE_LEN, "{accesses:?}");
    Ok(())
}

/// Sends `request` from the client and reads until the server is done or the answer's Content-Length is there.
fn exchange(topology: &Topology, server: SocketAddr, request: &[u8]) -> Result<Vec<u8>> {
    topology.client.run(|| -> Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(request)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    })?
}

fn split_head(answer: &[u8]) -> Result<(String, &[u8])> {
    let at = answer.windows(4).position(|window| window == b"\r\n\r\n").context("no HTTP head")?;
    Ok((String::from_utf8_lossy(&answer[..at]).into_owned(), &answer[at + 4..]))
}
