//! Where nat and full-nat come to an end: it is said by name, and nobody gets another's bytes.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lbd_tests::client::{self, Round, UdpFlows};
use lbd_tests::root_or_skip;
use lbd_tests::server::echo::UdpEcho;
use lbd_tests::server::nginx::SMALL_FILE_LEN;
use lbd_tests::topology::{Family, Mode, Settings, Topology};
use lbd_tests::web::until;

use super::stage::Stage;
use super::{HEALTH, HTTP, PATIENCE};

/// A second port of the vip that leads to the same port of the same backend.
const OTHER_HTTP: u16 = 81;
const ECHO: u16 = 7;

/// Two services of one vip that lead to the same port of the same backends.
fn two_doors(topology: &Topology) -> Settings {
    let (vip, mode) = (topology.vip(), topology.plan.mode.name());
    let backends: Vec<String> = (0..topology.backends.len())
        .map(|index| format!("\"{}:{HTTP}\"", topology.backend_address(index)))
        .collect();
    let door = |name: &str, port: u16| {
        format!(
            "[[pool]]\nname = \"{name}\"\nbackends = [{}]\nhealth = {HEALTH}\n\n[[service]]\nname = \"{name}\"\n\
             listen = [\"{vip}:{port}/tcp\"]\npool = \"{name}\"\nforward = \"{mode}\"\n\n",
            backends.join(", ")
        )
    };
    Settings::new(door("front", HTTP) + &door("side", OTHER_HTTP))
}

/// Ports of the client from which both services are asked at once.
const SHARED_PORTS: std::ops::Range<u16> = 3000..3020;

fn one_port_for_both(test: &str, mode: Mode, backends: u8) -> Result<(u64, u64)> {
    let mut stage =
        Stage::build(&format!("doors{}{backends}", mode.name()), (mode, Family::V4), backends, two_doors)?;
    for pool in ["front", "side"] {
        stage.lbd.wait_eligible(pool, usize::from(backends), PATIENCE)?;
    }
    let client = &stage.topology.client;
    let (front, side) = (stage.topology.vip_port(HTTP), stage.topology.vip_port(OTHER_HTTP));
    let (mut right, mut silent) = (0, 0);
    for port in SHARED_PORTS {
        let first = client.run(|| Door::open(port, front))??;
        client.run(|| first.ask())?.context("the first service")?;
        match client.run(|| Door::open(port, side).map(|second| second.ask()))? {
            Ok(asked) => {
                asked.context("the second service")?;
                right += 1;
            }
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => silent += 1,
            Err(error) => bail!("{test}: neither bytes nor silence from the second service: {error}"),
        }
        client.run(|| first.ask())?.context("the first service, after the second was asked")?;
    }
    let collisions = stage.reason("nat_collision")?;
    // A SYN that is dropped is sent again.
    ensure!(collisions >= silent, "{silent} silent connections and {collisions} collisions counted");
    ensure!(silent > 0 || collisions == 0, "{collisions} collisions counted and nobody was silent");
    stage.lbd.stop()?;
    Ok((right, silent))
}

/// A connection from a port of choice that stays open.
struct Door(std::net::TcpStream);

impl Door {
    fn open(port: u16, target: SocketAddr) -> std::io::Result<Door> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from(([0, 0, 0, 0], port)).into())?;
        socket.connect_timeout(&target.into(), Duration::from_millis(1500))?;
        // Closed by RST: the port is wanted again.
        socket.set_linger(Some(Duration::ZERO))?;
        let stream = std::net::TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Door(stream))
    }

    /// One request on it; the bytes are compared.
    fn ask(&self) -> Result<()> {
        use std::io::{Read, Write};
        let mut stream = &self.0;
        stream.write_all(b"GET /64k HTTP/1.1\r\nHost: vip\r\n\r\n")?;
        let (mut answer, len) = (Vec::new(), usize::try_from(SMALL_FILE_LEN)?);
        let head_len = loop {
            let mut piece = [0; 4096];
            let count = stream.read(&mut piece)?;
            ensure!(count > 0, "closed after {} bytes", answer.len());
            answer.extend_from_slice(&piece[..count]);
            if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let had = answer.len();
        answer.resize(head_len + len, 0);
        stream.read_exact(&mut answer[had..])?;
        let wrong = lbd_tests::content::Verifier::new(0).push(&answer[head_len..]);
        ensure!(wrong.is_ok(), "the body differs from byte {wrong:?} on");
        Ok(())
    }
}

#[test]
fn one_client_port_to_two_services_of_one_backend_is_told_apart_or_dropped_by_name() -> Result<()> {
    let test = "one_client_port_to_two_services_of_one_backend_is_told_apart_or_dropped_by_name";
    if !root_or_skip(test) {
        return Ok(());
    }
    let all = u64::from(SHARED_PORTS.end - SHARED_PORTS.start);
    // full-nat gives each its own source port.
    let full_nat = one_port_for_both(test, Mode::FullNat, 1)?;
    ensure!(full_nat == (all, 0), "full-nat: {full_nat:?} right and silent of {all}");
    // nat has nothing but the client's port: one backend cannot tell them apart.
    let nat = one_port_for_both(test, Mode::Nat, 1)?;
    ensure!(nat == (0, all), "nat, one backend: {nat:?} right and silent of {all}");
    // With another backend the next slot is taken. Eight slots in a row of the same backend are rare.
    let (right, silent) = one_port_for_both(test, Mode::Nat, 2)?;
    ensure!(
        right + silent == all && right > all / 2,
        "nat, two backends: {right} right, {silent} silent of {all}"
    );
    Ok(())
}

#[test]
fn a_nat_backend_that_answers_another_way_is_said() -> Result<()> {
    if !root_or_skip("a_nat_backend_that_answers_another_way_is_said") {
        return Ok(());
    }
    const CONNECTIONS: usize = 10;
    let mut stage = Stage::build("elsewhere", (Mode::Nat, Family::V4), 1, |topology| {
        Settings::new(topology.service("web", &["80/tcp"], HEALTH))
    })?;
    stage.lbd.wait_eligible("web", 1, PATIENCE)?;
    let gateway = stage.topology.balancer_addresses()[0];
    stage.backend(0).ip("route replace default via 198.51.100.1")?;
    let target = stage.topology.vip_port(HTTP);
    let open = || -> Result<Vec<socket2::Socket>> {
        (0..CONNECTIONS)
            .map(|_| {
                let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
                socket.set_nonblocking(true)?;
                // In progress: nobody waits for the end.
                let _ = socket.connect(&target.into());
                Ok(socket)
            })
            .collect()
    };
    let pending = stage.topology.client.run(open)??;
    // That it takes no longer than three seconds is shown where time can be made (`controller/return_path.rs`).
    until("a missing return path is said", || {
        Ok(stage.lbd.backends("web")?.iter().any(|backend| backend["no_return_path"] == true))
    })?;
    let status = stage.lbd.lbctl(&["status"])?["degraded"].to_string();
    for words in ["no_return_path", "198.51.100.11", "default route via this host", "full-nat"] {
        ensure!(status.contains(words), "{words:?} is not in {status}");
    }
    // The remedy that was told is one.
    drop(pending);
    stage.backend(0).ip(&format!("route replace default via {gateway}"))?;
    client::download(&stage.topology.client, target, "/64k")?.expect_content(SMALL_FILE_LEN)?;
    until("a reply came and it is no longer said", || {
        Ok(stage.lbd.backends("web")?.iter().all(|backend| backend["no_return_path"] != true))
    })?;
    stage.lbd.stop()
}

#[test]
fn full_nat_without_a_free_source_port_says_so_and_mistakes_nobody() -> Result<()> {
    if !root_or_skip("full_nat_without_a_free_source_port_says_so_and_mistakes_nobody") {
        return Ok(());
    }
    /// 61000 to 65535, of one source address.
    const SOURCE_PORTS: u64 = 4_536;
    const FLOWS: usize = 6_000;
    let mut stage = Stage::build("exhausted", (Mode::FullNat, Family::V4), 1, |topology| {
        let echo = topology.service("echo", &["7/udp"], HEALTH);
        Settings { snat_sources: 1, ..Settings::new(echo) }
    })?;
    let backend = &stage.topology.backends[0];
    let address = SocketAddr::new(stage.topology.backend_address(0), ECHO);
    let _echo = UdpEcho::start(&backend.namespace, &backend.name, &[address])?;
    stage.lbd.wait_eligible("echo", 1, PATIENCE)?;
    let mut flows = UdpFlows::open(&stage.topology.client, stage.topology.vip_port(ECHO), FLOWS)?;
    let first = flows.round(0..FLOWS, Duration::from_secs(1))?;
    let dropped = stage.reason("snat_exhausted")?;
    println!("{first:?}, {dropped} dropped");
    ensure!(first.crossed == 0 && first.moved == 0, "{first:?}");
    ensure!(first.answered <= SOURCE_PORTS, "{first:?}: more flows than source ports");
    // 32 attempts fail often only when nearly all ports are taken.
    ensure!(first.answered > SOURCE_PORTS * 9 / 10, "{first:?}: ports are left");
    ensure!(dropped == first.lost, "{first:?}, and {dropped} counted as snat_exhausted");
    let status = stage.lbd.lbctl(&["status"])?;
    ensure!(status["drops"]["snat_exhausted"].as_u64() == Some(dropped), "{status}");
    // Those that have a port keep it, whoever else asks for one.
    let second = flows.round(0..FLOWS, Duration::from_secs(1))?;
    ensure!(second.crossed == 0 && second.moved == 0 && second.answered >= first.answered, "{second:?}");
    let clean = Round { answered: second.answered, lost: second.lost, ..Round::default() };
    ensure!(second == clean, "{second:?}");
    stage.lbd.stop()
}
