//! A host that forwards nothing, as most are: nat and full-nat work there too, because their replies are sent by the program.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lbd_tests::client::download;
use lbd_tests::root_or_skip;
use lbd_tests::server::nginx::Nginx;
use lbd_tests::topology::{Family, Lbd, Mode, Plan, Settings, Topology};
use lbd_tests::web::{HTTP, PATIENCE, POOL};

const HEALTH: &str = r#"{ type = "http", port = 80, path = "/healthz", interval = "500ms", timeout = "2s" }"#;
/// How long neighbours are forgotten again and again.
const FORGOTTEN: Duration = Duration::from_secs(5);
const FORWARDING: [&str; 2] = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];

macro_rules! plain_hosts {
    ($($name:ident: $mode:ident, $family:ident;)*) => {$(
        #[test]
        fn $name() -> Result<()> {
            if !root_or_skip(stringify!($name)) {
                return Ok(());
            }
            serves(&stringify!($name).replace('_', ""), Mode::$mode, Family::$family)
        }
    )*};
}

plain_hosts! {
    full_nat_v4: FullNat, V4;
    full_nat_v6: FullNat, V6;
    nat_v4: Nat, V4;
    nat_v6: Nat, V6;
}

fn serves(name: &str, mode: Mode, family: Family) -> Result<()> {
    let topology = Topology::build(Plan::new(&format!("plain{name}"), mode, family))?;
    for switch in FORWARDING {
        topology.balancer.sysctl(switch, "0")?;
    }
    let servers = topology.backends.iter();
    let _servers: Vec<Nginx> = servers
        .map(|backend| Nginx::start(&backend.namespace, &backend.name, HTTP))
        .collect::<Result<_>>()?;
    let mut lbd = Lbd::start(&topology, &Settings::new(topology.service(POOL, &["80/tcp"], HEALTH)))?;
    lbd.wait_eligible(POOL, topology.backends.len(), PATIENCE)?;
    for _ in 0..50 {
        download(&topology.client, topology.vip_port(HTTP), "/")?;
    }
    let status = lbd.lbctl(&["status"])?;
    ensure!(status["degraded"] == serde_json::json!([]), "{status}");
    ensure!(status["drops"]["next_hop_unknown"].as_u64().unwrap_or(0) == 0, "{status}");
    forgotten(&topology)?;
    lbd.stop()
}

/// The kernel forgets neighbours that only the program uses, and a client that knows this host has no reason to say anew who it is.
fn forgotten(topology: &Topology) -> Result<()> {
    for family in ["-4", "-6"] {
        let known = topology.client.ip(&format!("{family} neigh show dev eth0"))?;
        for line in known.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let [address, "lladdr", mac, ..] = words[..] {
                topology
                    .client
                    .ip(&format!("{family} neigh replace {address} lladdr {mac} dev eth0 nud permanent"))?;
            }
        }
    }
    // Longer than the program believes what it was told last.
    let end = Instant::now() + FORGOTTEN;
    while Instant::now() < end {
        for family in ["-4", "-6"] {
            topology.balancer.ip(&format!("{family} neigh flush dev front"))?;
        }
        download(&topology.client, topology.vip_port(HTTP), "/")?;
    }
    Ok(())
}
