//! Changes as people make them, on the real kernel: what `plan` says moves is what moves; what is refused moves nothing; revisions
//! come back whole; drains are counted down by the flows themselves.

mod drain;
mod faults;
mod plan;
mod revisions;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lbd_tests::client::{Round, UdpFlows};
use lbd_tests::server::echo::UdpEcho;
use lbd_tests::topology::{Family, Lbd, Mode, Plan, Settings, Topology};
use lbd_tests::web::until;
use serde_json::Value;

const ECHO: u16 = 7;
const POOL: &str = "echo";
const ANSWER: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(20);
/// Flows of a client; each is a fraction of a per cent.
const FLOWS: usize = 400;

/// Echo servers behind lbd, and a client's flows through it. Dropped in the order in which they must end.
struct Stage {
    lbd: Lbd,
    _servers: Vec<UdpEcho>,
    topology: Topology,
}

impl Stage {
    /// `backends` hosts, of which the first `used` are in the pool.
    fn build(name: &str, backends: u8, used: usize) -> Result<Stage> {
        Stage::build_with(name, backends, used, "")
    }

    /// The same with more lines of the file.
    fn build_with(name: &str, backends: u8, used: usize, more: &str) -> Result<Stage> {
        let topology = Topology::build(Plan { backends, ..Plan::new(name, Mode::FullNat, Family::V4) })?;
        let start = |(index, backend): (usize, &lbd_tests::topology::Backend)| {
            UdpEcho::start(
                &backend.namespace,
                &backend.name,
                &[(topology.backend_address(index), ECHO).into()],
            )
        };
        let servers = topology.backends.iter().enumerate().map(start).collect::<Result<_>>()?;
        let mut lbd = Lbd::start(&topology, &settings(&topology, used, more))?;
        lbd.wait_eligible(POOL, used, PATIENCE)?;
        Ok(Stage { lbd, _servers: servers, topology })
    }

    /// The file says from now on that the first `used` hosts are in the pool, and `more`.
    fn rewrite(&self, used: usize, more: &str) -> Result<()> {
        self.lbd.rewrite_config(&self.topology, &settings(&self.topology, used, more))
    }

    fn flows(&self) -> Result<UdpFlows> {
        let mut flows = UdpFlows::open(&self.topology.client, self.topology.vip_port(ECHO), FLOWS)?;
        self.round(&mut flows)?;
        // The second packet of its client establishes a flow.
        self.round(&mut flows)?;
        // A count stands for another for four times as long as it took.
        until("all flows are counted", || {
            Ok(self.lbctl(0, &["status"])?["flows"]["v4"]["used"] == FLOWS as u64)
        })?;
        Ok(flows)
    }

    /// A datagram on each flow, all of which must be answered, each at its own.
    fn round(&self, flows: &mut UdpFlows) -> Result<Round> {
        let round = flows.round(0..FLOWS, ANSWER)?;
        ensure!(round.lost == 0 && round.crossed == 0, "{round:?}");
        Ok(round)
    }

    /// Runs `lbctl -j`, which must end with this code; what it printed.
    fn lbctl(&self, code: i32, words: &[&str]) -> Result<Value> {
        let output = self.lbd.lbctl_output(&[&["-j"], words].concat())?;
        let said = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
        let said = String::from_utf8_lossy(said);
        ensure!(
            output.status.code() == Some(code),
            "lbctl {} ended with {}: {said}",
            words.join(" "),
            output.status
        );
        serde_json::from_str(&said).with_context(|| format!("no JSON: {said}"))
    }
}

fn settings(topology: &Topology, used: usize, more: &str) -> Settings {
    let backends: Vec<String> =
        (0..used).map(|index| format!("\"{}\"", topology.backend_address(index))).collect();
    let services = format!(
        "[[pool]]\nname = \"{POOL}\"\nbackends = [{}]\nhealth = {{ type = \"none\" }}\n\n\
         [[service]]\nname = \"{POOL}\"\nlisten = [\"{}:{ECHO}/udp\"]\npool = \"{POOL}\"\n{more}",
        backends.join(", "),
        topology.vip(),
    );
    Settings { on_exit: "keep".to_owned(), ..Settings::new(services) }
}

fn number(value: &Value) -> Result<u64> {
    value.as_u64().with_context(|| format!("{value} is no number"))
}
