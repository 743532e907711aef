//! What docs/decisions/0002-checks-through-the-service.md stands on: a socket of the balancer's own host, on a veth whose peer runs the
//! program, reaches one backend as a client's packet would, by a service that only it knows; and fails where a client would.
//!
//! No part of lbd makes such a veth yet: the test does.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbd_tests::netns::{Namespace, output_of};
use lbd_tests::root_or_skip;
use lbd_tests::server::nginx::Nginx;
use lbd_tests::topology::{Family, Lbd, Mode, Plan, Settings, Topology};
use socket2::{Domain, Socket, Type};

const PATIENCE: Duration = Duration::from_secs(20);
/// The prober's side of the veth, and the program's.
const INNER: &str = "lbd-probe0";
const OUTER: &str = "lbd-probe1";
/// Where the prober is, and the name it has for the first backend; RFC 2544's prefix, which nobody routes.
const PROBER: &str = "198.19.0.1";
const FIRST: &str = "198.18.0.1";
/// A table of the prober's own.
const TABLE: u32 = 77;

fn link_address(namespace: &Namespace, interface: &str) -> Result<String> {
    let shown = namespace.ip(&format!("-o link show dev {interface}"))?;
    let found = shown.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next());
    Ok(found.with_context(|| format!("no link address in {shown}"))?.to_owned())
}

/// The prober's address is not one of this host to anybody but what comes in by its own interface, so the program finds a way to it, and
/// no other packet is affected.
fn prepare(namespace: &Namespace) -> Result<()> {
    namespace.ip(&format!("link add {INNER} type veth peer name {OUTER}"))?;
    for interface in [INNER, OUTER] {
        namespace.ip(&format!("link set {interface} up"))?;
        output_of(namespace.command("ethtool").args(["-K", interface, "tx", "off", "gro", "on"]))?;
    }
    namespace.ip(&format!("rule add pref 100 iif {INNER} lookup {TABLE}"))?;
    namespace.ip(&format!("route add local {PROBER} dev {INNER} table {TABLE}"))?;
    namespace.ip(&format!("route add {FIRST} dev {INNER}"))?;
    namespace.ip(&format!("route add {PROBER} dev {OUTER}"))?;
    let (inner, outer) = (link_address(namespace, INNER)?, link_address(namespace, OUTER)?);
    namespace.ip(&format!("neigh add {PROBER} lladdr {inner} dev {OUTER} nud permanent"))?;
    namespace.ip(&format!("neigh add {FIRST} lladdr {outer} dev {INNER} nud permanent"))?;
    Ok(())
}

/// What the first backend answers on port 80, asked by its probe address.
fn probe(namespace: &Namespace) -> Result<String> {
    let (from, to): (SocketAddr, SocketAddr) =
        (format!("{PROBER}:0").parse()?, format!("{FIRST}:80").parse()?);
    namespace.run(move || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_ip_transparent_v4(true)?;
        socket.bind_device(Some(INNER.as_bytes()))?;
        socket.bind(&from.into())?;
        socket.connect_timeout(&to.into(), Duration::from_secs(1))?;
        let mut stream: TcpStream = socket.into();
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text.lines().last().unwrap_or_default().to_owned())
    })?
}

/// The service by which the prober reaches the first backend. For dsr: full-nat to the vip, by the backend's link address.
fn hidden(topology: &Topology) -> String {
    let (forward, to): (_, IpAddr) = match topology.plan.mode {
        Mode::Dsr => ("full-nat", topology.vip()),
        mode => (mode.name(), topology.backend_address(0)),
    };
    format!(
        "[[service]]\nname = \"probe\"\nlisten = [\"{FIRST}:80/tcp\"]\nforward = \"{forward}\"\nbackends = [\"{to}\"]\n\
         health = {{ type = \"none\" }}\n"
    )
}

fn reaches_and_fails(name: &str, mode: Mode, break_it: impl FnOnce(&Topology) -> Result<()>) -> Result<()> {
    let topology = Topology::build(Plan { backends: 2, ..Plan::new(name, mode, Family::V4) })?;
    let servers = topology.backends.iter();
    let _servers: Vec<Nginx> =
        servers.map(|backend| Nginx::start(&backend.namespace, &backend.name, 80)).collect::<Result<_>>()?;
    let balancer = &topology.balancer;
    prepare(balancer)?;
    if mode == Mode::Dsr {
        // The next hop that lbd would give the backend entry.
        let first = link_address(&topology.backends[0].namespace, "eth0")?;
        balancer.ip(&format!("route add {} dev front", topology.vip()))?;
        balancer.ip(&format!("neigh add {} lladdr {first} dev front nud permanent", topology.vip()))?;
    }
    let web = topology.service("web", &["80/tcp"], r#"{ type = "tcp", interval = "200ms", fall = 1 }"#);
    let mut lbd = Lbd::start(&topology, &Settings::new(format!("{web}{}", hidden(&topology))))?;
    lbd.stop()?;
    let config = std::fs::read_to_string(lbd.config_path())?;
    let config = config.replace("interfaces = [", &format!("interfaces = [\"{OUTER}\", "));
    std::fs::write(lbd.config_path(), config)?;
    lbd.start_again(&topology)?;
    lbd.wait_eligible("web", 2, PATIENCE)?;
    lbd.wait_eligible("probe", 1, PATIENCE)?;
    ensure!(probe(balancer)? == "b1" && probe(balancer)? == "b1", "another backend answers");
    break_it(&topology)?;
    let broken = probe(balancer);
    ensure!(broken.is_err(), "{broken:?}");
    ensure!(
        lbd.backends("web")?[0]["health"] == "healthy",
        "a check by the host's own way sees nothing of it"
    );
    Ok(())
}

#[test]
fn dsr_without_the_vip_at_the_backend() -> Result<()> {
    if !root_or_skip("dsr_without_the_vip_at_the_backend") {
        return Ok(());
    }
    reaches_and_fails("probe-dsr", Mode::Dsr, |topology| {
        let vip = topology.vip();
        topology.backends[0].namespace.ip(&format!("addr del {vip}/32 dev lo")).map(drop)
    })
}

#[test]
fn nat_without_a_way_back_through_the_balancer() -> Result<()> {
    if !root_or_skip("nat_without_a_way_back_through_the_balancer") {
        return Ok(());
    }
    reaches_and_fails("probe-nat", Mode::Nat, |topology| {
        topology.backends[0].namespace.ip("route del default").map(drop)
    })
}
