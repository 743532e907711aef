//! Who takes new flows, and when: a live backend as soon as it was asked, a dead one never, a lost one no longer.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lbd_tests::load::{Attempt, Kind};
use lbd_tests::netns::{Namespace, output_of};
use lbd_tests::root_or_skip;
use lbd_tests::topology::{Backend, Family, Lbd, Mode, Plan, Settings, Topology};
use lbd_tests::web::{POOL, Web, until, until_answered};
use nix::sys::signal::Signal;
use serde_json::Value;

const ECHO: u16 = 7;
const CHECKED: u16 = 80;
const PATIENCE: Duration = Duration::from_secs(20);
/// Backends added one after the other.
const ADDED: usize = 3;
/// Flows begun while nobody may come to a backend.
const FLOWS: u64 = 500;
/// Time between two new flows of the trickle.
const PAUSE: Duration = Duration::from_micros(500);

/// A backend's host: every datagram to its service is noted.
struct Host {
    /// What its health check finds.
    checked: Option<TcpListener>,
    arrivals: Receiver<()>,
    /// Ends with its socket's namespace.
    _thread: JoinHandle<std::io::Result<()>>,
}

impl Host {
    fn start(namespace: &Namespace, address: IpAddr, is_alive: bool) -> Result<Host> {
        let listen = || is_alive.then(|| TcpListener::bind((address, CHECKED))).transpose();
        let checked = namespace.run(listen)??;
        let socket = namespace.run(|| UdpSocket::bind((address, ECHO)))??;
        let (sender, arrivals) = channel();
        let thread = namespace.spawn("arrivals", move || {
            let mut datagram = [0; 64];
            while socket.recv(&mut datagram).is_ok() && sender.send(()).is_ok() {}
        })?;
        Ok(Host { checked, arrivals, _thread: thread })
    }

    /// Waits for the request of a check over HTTP.
    fn asked(&self) -> Result<Probe> {
        let listener = self.checked.as_ref().context("nobody listens")?;
        socket2::SockRef::from(listener).set_read_timeout(Some(PATIENCE))?;
        let (stream, _) = listener.accept().context("no check comes")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut probe = BufReader::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            ensure!(probe.read_line(&mut line)? > 0, "the check says nothing");
        }
        Ok(Probe(probe))
    }
}

/// A check that has asked and waits.
struct Probe(BufReader<TcpStream>);

impl Probe {
    fn answer(mut self) -> Result<()> {
        let answer = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
        self.0.get_mut().write_all(answer.as_bytes()).context("the check does not wait")
    }
}

/// A client that begins a UDP flow every now and then, until it is dropped.
struct Trickle {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<std::io::Result<std::io::Result<()>>>>,
}

impl Trickle {
    fn start(namespace: &Namespace, target: SocketAddr) -> Result<Trickle> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = namespace.spawn("trickle", move || {
            while !stopped.load(Ordering::Relaxed) {
                UdpSocket::bind(("0.0.0.0", 0))?.send_to(b"new", target)?;
                std::thread::sleep(PAUSE);
            }
            Ok(())
        })?;
        Ok(Trickle { stop, thread: Some(thread) })
    }
}

impl Drop for Trickle {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(Ok(Ok(()))))) || std::thread::panicking(), "the trickle: {ended:?}");
    }
}

/// lbd with three backends in the service, and more on the switch that it does not know of.
fn echo_service(
    name: &str,
    more: usize,
    health: &str,
    is_alive: impl Fn(usize) -> bool,
) -> Result<(Topology, Vec<Host>, Lbd)> {
    let mut topology = Topology::build(Plan::new(name, Mode::FullNat, Family::V4))?;
    let echo = topology.service("echo", &["7/udp"], health);
    for _ in 0..more {
        topology.add_backend()?;
    }
    let host = |(index, backend): (usize, &Backend)| {
        Host::start(&backend.namespace, topology.backend_address(index), is_alive(index))
    };
    let hosts: Vec<Host> = topology.backends.iter().enumerate().map(host).collect::<Result<_>>()?;
    let lbd = Lbd::start(&topology, &Settings::new(echo))?;
    Ok((topology, hosts, lbd))
}

/// Probes are asked for once an hour: whatever happens in a test happens because of the first one.
const RARELY: &str = "1h";

/// The first probe of a new backend leaves at once, no packet comes before it is answered, and packets come because it was: not with the
/// next probe, which is an hour away.
#[test]
fn a_new_backend_is_asked_at_once_and_has_flows_when_it_has_answered() -> Result<()> {
    if !root_or_skip("a_new_backend_is_asked_at_once_and_has_flows_when_it_has_answered") {
        return Ok(());
    }
    let health =
        format!(r#"{{ type = "http", port = {CHECKED}, interval = "{RARELY}", timeout = "1m", fall = 1 }}"#);
    let (topology, hosts, mut lbd) = echo_service("added", ADDED, &health, |_| true)?;
    for host in &hosts[..3] {
        host.asked()?.answer()?;
    }
    lbd.wait_eligible("echo", 3, PATIENCE)?;
    let _trickle = Trickle::start(&topology.client, topology.vip_port(ECHO))?;
    for (index, host) in hosts.iter().enumerate().skip(3) {
        let address = topology.backend_address(index).to_string();
        lbd.lbctl(&["backend", "add", "echo", &address])?;
        let probe = host.asked()?;
        let before = flows(&lbd)?;
        until(&format!("{FLOWS} flows"), || Ok(flows(&lbd)? >= before + FLOWS))?;
        ensure!(host.arrivals.try_recv().is_err(), "{address} got a packet before it had answered");
        probe.answer()?;
        host.arrivals.recv_timeout(PATIENCE).context("no packet comes")?;
    }
    Ok(())
}

#[test]
fn a_dead_backend_never_has_a_packet() -> Result<()> {
    if !root_or_skip("a_dead_backend_never_has_a_packet") {
        return Ok(());
    }
    // The fourth host is there and refuses the check, although its service would answer; the other address is nobody's.
    let health = format!(r#"{{ type = "tcp", port = {CHECKED}, interval = "500ms", timeout = "400ms" }}"#);
    let (topology, hosts, mut lbd) = echo_service("dead", 1, &health, |index| index < 3)?;
    lbd.wait_eligible("echo", 3, PATIENCE)?;
    let refusing = topology.backend_address(3).to_string();
    let nobody = topology.backend_address(50).to_string();
    let _trickle = Trickle::start(&topology.client, topology.vip_port(ECHO))?;
    lbd.lbctl(&["backend", "add", "echo", &refusing, &nobody])?;
    let before = flows(&lbd)?;
    for dead in [&refusing, &nobody] {
        until(&format!("{dead} is unhealthy"), || Ok(backend(&lbd, "echo", dead)?["health"] == "unhealthy"))?;
    }
    until(&format!("{FLOWS} flows"), || Ok(flows(&lbd)? >= before + FLOWS))?;
    for dead in [&refusing, &nobody] {
        let row = backend(&lbd, "echo", dead)?;
        ensure!(row["packets"] == 0 && row["new_flows"] == 0 && row["slots"] == 0, "{row}");
    }
    ensure!(hosts[3].arrivals.try_recv().is_err(), "a packet came to {refusing}");
    ensure!(hosts[0].arrivals.try_recv().is_ok(), "no packet came to a backend that lives");
    Ok(())
}

/// Flows of the service since the start.
fn flows(lbd: &Lbd) -> Result<u64> {
    number(&lbd.lbctl(&["stats", "echo"])?["services"][0]["new_flows"])
}

fn backend(lbd: &Lbd, pool: &str, address: &str) -> Result<Value> {
    let found = lbd.backends(pool)?.into_iter().find(|backend| backend["address"] == address);
    found.with_context(|| format!("{address} is not listed"))
}

fn number(value: &Value) -> Result<u64> {
    value.as_u64().with_context(|| format!("{value} is no number"))
}

const INTERVAL: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_millis(300);
const FALL: u32 = 2;
const PER_SECOND: u32 = 200;
/// Connections that are looked at before and after.
const LOOKED_AT: u64 = 300;

#[test]
fn no_flow_goes_to_a_backend_that_refuses() -> Result<()> {
    loses("refuses", |web| web.servers[2].kill())
}

#[test]
fn no_flow_goes_to_a_backend_whose_port_is_silent() -> Result<()> {
    loses("silent", |web| {
        let rules = "add table inet lost; add chain inet lost in { type filter hook input priority 0; }; \
                     add rule inet lost in tcp dport 80 drop";
        output_of(web.topology.backends[2].namespace.command("nft").arg(rules)).map(drop)
    })
}

#[test]
fn no_flow_goes_to_a_backend_whose_host_is_gone() -> Result<()> {
    loses("gone", |web| web.topology.set_backend_up(2, false))
}

#[test]
fn no_flow_goes_to_a_backend_that_accepts_and_does_not_answer() -> Result<()> {
    loses("mute", |web| web.servers[2].signal_group(Signal::SIGSTOP))
}

/// b3 is lost while connections are made: those due after the checks have found out, and have taken its slots, all succeed, and elsewhere.
/// How soon that is, `cargo xtask soak` measures.
fn loses(how: &str, lose: impl FnOnce(&mut Web) -> Result<()>) -> Result<()> {
    if !root_or_skip(how) {
        return Ok(());
    }
    let health = format!(
        r#"{{ type = "http", path = "/healthz", interval = "{}ms", timeout = "{}ms", fall = {FALL} }}"#,
        INTERVAL.as_millis(),
        TIMEOUT.as_millis()
    );
    let settings = |topology: &Topology| Settings::new(topology.service(POOL, &["80/tcp"], &health));
    let mut web = Web::start(Plan::new(how, Mode::FullNat, Family::V4), settings)?;
    let load = web.load(PER_SECOND)?;
    let recorder = load.recorder();
    let begin = Instant::now();
    until_answered(recorder, begin, LOOKED_AT)?;
    let lost = Instant::now();
    lose(&mut web)?;
    let third = web.topology.backend_address(2).to_string();
    until("the checks have found out", || {
        let row = backend(&web.lbd, POOL, &third)?;
        Ok(row["health"] == "unhealthy" && row["slots"] == 0)
    })?;
    let known = Instant::now();
    let flows = |web: &Web| number(&backend(&web.lbd, POOL, &third)?["new_flows"]);
    let then = flows(&web)?;
    until_answered(recorder, known, LOOKED_AT)?;
    let end = Instant::now();
    until("the end of all requests", || Ok(recorder.unfinished(end) == 0))?;
    ensure!(flows(&web)? == then, "flows were begun with b3: {then} and now {}", flows(&web)?);

    // What was under way with b3 when it was lost is lost with it.
    let before: Vec<Attempt> = recorder.attempts(begin, lost);
    let failed = before.iter().find(|attempt| attempt.outcome.is_err() && attempt.end < lost);
    ensure!(failed.is_none(), "before the loss: {failed:?}");
    ensure!(before.iter().any(|attempt| attempt.backend.as_deref() == Some("b3")), "b3 has no flows");
    let new = recorder.attempts(known, end).into_iter().filter(|attempt| attempt.kind == Kind::New);
    let new: Vec<Attempt> = new.collect();
    ensure!(new.len() as u64 >= LOOKED_AT / 2, "only {} connections were begun", new.len());
    for attempt in new {
        let elsewhere = attempt.outcome.is_ok() && attempt.backend.as_deref() != Some("b3");
        ensure!(elsewhere, "begun {:?} after the loss: {attempt:?}", attempt.start - lost);
    }
    Ok(())
}
