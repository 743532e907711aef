//! What goes through a listed interface and is for no service: unchanged. What is to a vip and for no flow: passed or dropped by name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lbd_tests::capture::Capture;
use lbd_tests::client;
use lbd_tests::netns::counters::Counters;
use lbd_tests::netns::output_of;
use lbd_tests::process::Process;
use lbd_tests::root_or_skip;
use lbd_tests::server::sink::Sink;
use lbd_tests::topology::{Family, Mode, Settings, Topology};
use socket2::{Domain, Protocol, Socket, Type};

use super::stage::Stage;
use super::{HEALTH, HTTP, LOOK_INTERVAL, PATIENCE};

const SSH: u16 = 22;
const ELSEWHERE: u16 = 9090;
const UPLOAD_LEN: u64 = 4 * 1024 * 1024;
const MESSAGES: u64 = 5;

fn passes_by(test: &str, family: Family) -> Result<()> {
    if !root_or_skip(test) {
        return Ok(());
    }
    let name = if family == Family::V4 { "notours4" } else { "notours6" };
    let mut stage = Stage::build(name, (Mode::Nat, family), 1, |topology| {
        Settings::new(topology.service("web", &["80/tcp", "7/udp"], HEALTH))
    })?;
    stage.lbd.wait_eligible("web", 1, PATIENCE)?;
    let before = stage.settled()?;
    let capture = Capture::start(&stage.topology.client, "eth0")?;
    neighbours_and_echoes(&stage.topology, family).context("ping, ARP, ND")?;
    streams(&stage.topology, family).context("TCP to the balancer and through it")?;
    let report = capture.finish()?;
    ensure!(report.faulty == 0 && report.unfinished == 0 && report.frames > 1000, "{report:?}");
    if family == Family::V4 {
        a_lease(&stage.topology).context("DHCP")?;
    }
    ensure!(stage.totals()? == before, "counted as a service's: {:?}, before {before:?}", stage.totals()?);
    let drops = stage.lbd.lbctl(&["drops"])?;
    ensure!(drops["reasons"].as_array().is_some_and(Vec::is_empty), "none of it has a reason: {drops}");
    to_a_vip_and_no_flow(&stage, family)?;
    for namespace in stage.topology.namespaces() {
        let faults = Counters::read(namespace)?.faults();
        ensure!(faults.is_empty(), "in {}: {faults:?}", namespace.name());
    }
    stage.lbd.stop()
}

/// The balancer's address on the client's side.
fn front(family: Family) -> IpAddr {
    match family {
        Family::V4 => [192, 0, 2, 1].into(),
        Family::V6 => [0x2001, 0xdb8, 1, 0, 0, 0, 0, 1].into(),
    }
}

/// Echoes to the balancer and through it; the neighbours are asked for anew before.
fn neighbours_and_echoes(topology: &Topology, family: Family) -> Result<()> {
    for (namespace, interface) in
        [(&topology.client, "eth0"), (&topology.balancer, "front"), (&topology.balancer, "back")]
    {
        // What the daemon has the kernel keep (NTF_EXT_MANAGED) may come back before the flush is through.
        let _ = namespace.ip(&format!("neighbour flush dev {interface}"));
    }
    for target in [front(family), topology.backend_address(0)] {
        let mut ping = topology.client.command("ping");
        let said = output_of(ping.args(["-n", "-c", "3", "-i", "0.2", "-W", "10", &target.to_string()]))?;
        ensure!(said.contains(" 3 received") && said.contains(" 0% packet loss"), "{said}");
        // One router on the way, none to the router itself: a hop is counted as ever.
        let ttl = if target == front(family) { "ttl=64" } else { "ttl=63" };
        ensure!(said.contains(ttl), "no {ttl}: {said}");
    }
    Ok(())
}

/// As ssh to the balancer, and as anything that is routed through it.
fn streams(topology: &Topology, family: Family) -> Result<()> {
    let _ssh = Sink::start(&topology.balancer, "balancer", SSH)?;
    let backend = &topology.backends[0];
    let _elsewhere = Sink::start(&backend.namespace, &backend.name, ELSEWHERE)?;
    for (address, port, name) in
        [(front(family), SSH, "balancer"), (topology.backend_address(0), ELSEWHERE, "b1")]
    {
        let up = client::upload(&topology.client, SocketAddr::new(address, port), UPLOAD_LEN)?;
        ensure!(up.backend == name, "{up:?}");
        up.expect_content(UPLOAD_LEN)?;
    }
    Ok(())
}

/// A DHCP server on the balancer's listed interface offers a lease to a client that asks by broadcast.
fn a_lease(topology: &Topology) -> Result<()> {
    let mut command = topology.balancer.command("dnsmasq");
    command.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--interface=front",
        "--bind-interfaces",
    ]);
    command.args([
        "--dhcp-range=192.0.2.100,192.0.2.150,1h",
        "--leasefile-ro",
        "--no-ping",
        "--log-dhcp",
        "--user=root",
    ]);
    command.args(["--log-facility=-", "--pid-file="]);
    let mut server = Process::spawn("dnsmasq", &mut command, topology.balancer.run_dir())
        .context("dnsmasq does not start: apt-get install dnsmasq-base")?;
    let asking = topology.client.run(|| -> Result<UdpSocket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        socket.bind_device(Some(b"eth0"))?;
        socket.set_broadcast(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 68)).into())?;
        socket.set_read_timeout(Some(LOOK_INTERVAL * 10))?;
        Ok(socket.into())
    })??;
    let deadline = Instant::now() + PATIENCE;
    let mut answer = [0; 1500];
    loop {
        server.check_running()?;
        // Asked again until the server has come up.
        asking.send_to(&discover(), (Ipv4Addr::BROADCAST, 67))?;
        if let Ok(len) = asking.recv(&mut answer) {
            let offered = Ipv4Addr::from(<[u8; 4]>::try_from(&answer[16..20])?);
            ensure!(len > 240 && answer[0] == 2 && offered.octets()[..3] == [192, 0, 2], "offered {offered}");
            ensure!((100..=150).contains(&offered.octets()[3]), "offered {offered}");
            return server.stop(PATIENCE).map(drop);
        }
        ensure!(Instant::now() < deadline, "no offer. The server's log ends:\n{}", server.log_tail());
    }
}

/// DHCPDISCOVER (RFC 2131) of a client that wants the answer as a broadcast.
fn discover() -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..4].copy_from_slice(&[1, 1, 6, 0]);
    message[4..8].copy_from_slice(b"lbd!");
    message[10] = 0x80;
    message[28..34].copy_from_slice(&[2, 0x1b, 0xd0, 0, 9, 9]);
    message[236..].copy_from_slice(&[99, 130, 83, 99]);
    message.extend([53, 1, 1, 255]);
    message
}

/// Echoes, ICMP errors and fragments for a vip: each counted under its name.
fn to_a_vip_and_no_flow(stage: &Stage, family: Family) -> Result<()> {
    let vip = stage.topology.vip();
    let client = &stage.topology.client;
    let (domain, protocol, echo, error) = match family {
        Family::V4 => (Domain::IPV4, Protocol::ICMPV4, [8, 0], [3, 4]),
        Family::V6 => (Domain::IPV6, Protocol::ICMPV6, [128, 0], [2, 0]),
    };
    client.run(|| -> Result<()> {
        let raw = Socket::new(domain, Type::RAW, Some(protocol))?;
        for kind in [echo, error] {
            for _ in 0..MESSAGES {
                raw.send_to(&icmp(kind), &SocketAddr::new(vip, 0).into())?;
            }
        }
        Ok(())
    })??;
    expect_reason(stage, "icmp_to_vip", "pass", MESSAGES)?;
    expect_reason(stage, "icmp_error_to_vip", "pass", MESSAGES)?;
    client.run(|| -> Result<()> {
        let any: IpAddr =
            if vip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        for _ in 0..MESSAGES {
            socket.send_to(&[7; 4000], (vip, 7))?;
        }
        Ok(())
    })??;
    // Three frames of 1,500 bytes each.
    expect_reason(stage, "fragment", "drop", 3 * MESSAGES)?;
    // And the service goes on.
    client::download(client, SocketAddr::new(vip, HTTP), "/64k").map(drop)
}

/// Type and code, then as much of a packet as an error has to quote; IPv6's checksum is the kernel's work.
fn icmp(kind: [u8; 2]) -> Vec<u8> {
    let mut message = vec![0; 56];
    message[..2].copy_from_slice(&kind);
    message[8] = 0x45;
    let sum: u32 = message.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or_default();
    message[2..4].copy_from_slice(&(!folded).to_be_bytes());
    message
}

/// Waits until exactly so many packets are counted for this reason, and of this kind.
fn expect_reason(stage: &Stage, reason: &str, kind: &str, packets: u64) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while stage.reason(reason)? < packets {
        ensure!(Instant::now() < deadline, "{} of {packets} counted as {reason}", stage.reason(reason)?);
        std::thread::sleep(LOOK_INTERVAL);
    }
    let drops = stage.lbd.lbctl(&["drops"])?;
    let row = drops["reasons"].as_array().and_then(|rows| rows.iter().find(|row| row["reason"] == reason));
    let row = row.with_context(|| format!("no {reason} in {drops}"))?;
    ensure!(row["kind"] == kind && row["packets"] == packets && row["services"]["web"] == packets, "{row}");
    Ok(())
}

#[test]
fn what_is_no_services_passes_unchanged_over_ipv4() -> Result<()> {
    passes_by("not_ours::what_is_no_services_passes_unchanged_over_ipv4", Family::V4)
}

#[test]
fn what_is_no_services_passes_unchanged_over_ipv6() -> Result<()> {
    passes_by("not_ours::what_is_no_services_passes_unchanged_over_ipv6", Family::V6)
}
