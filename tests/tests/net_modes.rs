//! Every mode and family on real traffic: right bytes both ways, UDP flows that stay, true addresses, right checksums.
//!
//! One network each: client, balancer with the real lbd, three backends with nginx, an upload sink and a UDP echo.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lbd_tests::capture::Capture;
use lbd_tests::client::{self, Round, UdpFlows};
use lbd_tests::load::{Body, Load, LoadPlan, OpenLoop};
use lbd_tests::netns::counters::Counters;
use lbd_tests::netns::output_of;
use lbd_tests::root_or_skip;
use lbd_tests::server::echo::UdpEcho;
use lbd_tests::server::nginx::{LARGE_FILE_LEN, Nginx, SMALL_FILE_LEN, make_large_file};
use lbd_tests::server::sink::Sink;
use lbd_tests::topology::{Family, Lbd, Mode, Plan, Settings, Topology};

const HTTP: u16 = 80;
const SINK: u16 = 8080;
const ECHO: u16 = 7;

const CONNECTIONS: u64 = 10_000;
const CONNECTIONS_PER_SECOND: u32 = 1_500;
const CONNECTIONS_AT_ONCE: usize = 200;
const CAPTURED_CONNECTIONS: u64 = 200;
const UDP_FLOWS: usize = 10_000;
const ROUNDS_BEFORE_AND_AFTER: usize = 5;
const DATAGRAM_TIMEOUT: Duration = Duration::from_secs(10);
const HEALTHY_TIMEOUT: Duration = Duration::from_secs(60);

/// Two CPUs do not measure two of these at once.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

macro_rules! modes {
    ($($name:ident: $mode:ident, $family:ident, $backend_family:ident;)*) => {$(
        #[test]
        fn $name() -> Result<()> {
            carries_everything(stringify!($name), Mode::$mode, Family::$family, Family::$backend_family)
        }
    )*};
}

modes! {
    full_nat_v4: FullNat, V4, V4;
    full_nat_v6: FullNat, V6, V6;
    nat_v4: Nat, V4, V4;
    nat_v6: Nat, V6, V6;
    dsr_v4: Dsr, V4, V4;
    dsr_v6: Dsr, V6, V6;
    ipip_v4: Ipip, V4, V4;
    ipip_v6: Ipip, V6, V6;
    ipip_v4_in_v6: Ipip, V4, V6;
    ipip_v6_in_v4: Ipip, V6, V4;
}

fn carries_everything(name: &str, mode: Mode, family: Family, backend_family: Family) -> Result<()> {
    if !root_or_skip(name) {
        return Ok(());
    }
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let plan = Plan { backend_family, ..Plan::new(&name.replace('_', ""), mode, family) };
    let mut stage = Stage::build(plan)?;
    stage.carries().map_err(|error| error.context(stage.traces()))?;
    stage.lbd.stop()
}

struct Stage {
    lbd: Lbd,
    nginx: Vec<Nginx>,
    _sinks: Vec<Sink>,
    echoes: Vec<UdpEcho>,
    topology: Topology,
}

impl Stage {
    fn build(plan: Plan) -> Result<Stage> {
        let topology = Topology::build(plan)?;
        make_large_file(&topology.client)?;
        let (mut nginx, mut sinks, mut echoes) = (Vec::new(), Vec::new(), Vec::new());
        for (index, backend) in topology.backends.iter().enumerate() {
            nginx.push(Nginx::start(&backend.namespace, &backend.name, HTTP)?);
            sinks.push(Sink::start(&backend.namespace, &backend.name, SINK)?);
            echoes.push(echo(&topology, index)?);
        }
        // No server fails here. A busy machine must not look like one that does: its flows would be reset.
        let checked = r#"{ type = "http", port = 80, path = "/healthz", interval = "500ms", timeout = "5s", fall = 3 }"#;
        let services = [
            topology.service("web", &["80/tcp"], checked),
            topology.service(
                "sink",
                &["8080/tcp"],
                r#"{ type = "tcp", interval = "500ms", timeout = "5s", fall = 3 }"#,
            ),
            topology.service("echo", &["7/udp"], checked),
        ];
        let mut lbd = Lbd::start(&topology, &Settings::new(services.concat()))?;
        for pool in ["web", "sink", "echo"] {
            lbd.wait_eligible(pool, 3, HEALTHY_TIMEOUT)?;
        }
        Ok(Stage { lbd, nginx, _sinks: sinks, echoes, topology })
    }

    fn carries(&mut self) -> Result<()> {
        self.small_transfers_have_right_checksums().context("a capture at the client")?;
        self.large_transfers_arrive().context("100 MiB each way")?;
        self.connections_bring_right_bytes().context("many connections")?;
        self.udp_flows_stay().context("UDP flows")?;
        self.no_kernel_complains()
    }

    fn small_transfers_have_right_checksums(&self) -> Result<()> {
        let capture = Capture::start(&self.topology.client, "eth0")?;
        self.connections(CAPTURED_CONNECTIONS)?;
        let up = client::upload(&self.topology.client, self.topology.vip_port(SINK), 1024 * 1024)?;
        up.expect_content(1024 * 1024)?;
        let mut flows = UdpFlows::open(&self.topology.client, self.topology.vip_port(ECHO), 100)?;
        let round = flows.round(0..100, DATAGRAM_TIMEOUT)?;
        ensure!(round == Round { answered: 100, ..Round::default() }, "{round:?}");
        let report = capture.finish()?;
        ensure!(report.faulty == 0 && report.unfinished == 0, "{report:?}");
        ensure!(report.lost == 0, "the capture lost {} frames", report.lost);
        // At least handshake, request, body, end of every connection, in both directions.
        ensure!(report.frames > 10 * CAPTURED_CONNECTIONS, "the capture saw only {} frames", report.frames);
        Ok(())
    }

    fn large_transfers_arrive(&self) -> Result<()> {
        let down =
            client::download(&self.topology.client, self.topology.vip_port(HTTP), "/100m").context("down")?;
        down.expect_content(LARGE_FILE_LEN)?;
        let up = client::upload(&self.topology.client, self.topology.vip_port(SINK), LARGE_FILE_LEN)
            .context("up")?;
        up.expect_content(LARGE_FILE_LEN)
    }

    fn connections_bring_right_bytes(&self) -> Result<()> {
        let before = self.logged()?.len();
        self.connections(CONNECTIONS)?;
        let logged = self.logged()?;
        let new = logged.len() - before;
        ensure!(new as u64 == CONNECTIONS, "the servers logged {new} of {CONNECTIONS} requests");
        let sources = match self.topology.plan.mode {
            Mode::FullNat => self.topology.balancer_addresses(),
            Mode::Nat | Mode::Dsr | Mode::Ipip => vec![self.topology.client_address()],
        };
        let stranger = logged.iter().find(|source| !sources.contains(&source.ip()));
        ensure!(stranger.is_none(), "a server saw {stranger:?}, none of {sources:?}");
        Ok(())
    }

    /// Where packets may have been lost.
    fn traces(&self) -> String {
        let drops =
            self.lbd.lbctl(&["drops"]).map_or_else(|error| error.to_string(), |drops| drops.to_string());
        let spaces = [&self.topology.client, &self.topology.balancer].into_iter();
        let spaces = spaces.chain(self.topology.backends.iter().map(|backend| &backend.namespace));
        let counted = spaces.map(|space| {
            let lines = output_of(
                space.command("sh").args(["-c", "grep ^Udp: /proc/net/snmp; ip -s -s link; tc -s qdisc"]),
            );
            format!("{}:\n{}\n", space.name(), lines.unwrap_or_else(|error| error.to_string()))
        });
        let counted: String = counted.collect();
        // Of the whole host: its second column is what found the queue of a CPU full.
        let queues =
            std::fs::read_to_string("/proc/net/softnet_stat").unwrap_or_else(|error| error.to_string());
        format!("drops: {drops}\n{counted}softnet_stat:\n{queues}lbd's log ends:\n{}", self.lbd.log_tail())
    }

    fn udp_flows_stay(&mut self) -> Result<()> {
        let target = self.topology.vip_port(ECHO);
        let mut flows = UdpFlows::open(&self.topology.client, target, UDP_FLOWS)?;
        let all_stay = Round { answered: UDP_FLOWS as u64, ..Round::default() };
        for _ in 0..ROUNDS_BEFORE_AND_AFTER {
            let round = flows.round(0..UDP_FLOWS, DATAGRAM_TIMEOUT)?;
            ensure!(round == all_stay, "before the change: {round:?}");
        }
        ensure!(flows.shares().len() == 3, "not every backend has flows: {:?}", flows.shares());
        self.add_echo()?;
        for _ in 0..ROUNDS_BEFORE_AND_AFTER {
            let round = flows.round(0..UDP_FLOWS, DATAGRAM_TIMEOUT)?;
            ensure!(round == all_stay, "after the change: {round:?}");
        }
        let mut newcomers = UdpFlows::open(&self.topology.client, target, UDP_FLOWS / 10)?;
        let round = newcomers.round(0..UDP_FLOWS / 10, DATAGRAM_TIMEOUT)?;
        ensure!(round.lost == 0 && round.crossed == 0, "new flows: {round:?}");
        ensure!(
            newcomers.shares().contains_key("b4"),
            "the new backend has no flow: {:?}",
            newcomers.shares()
        );
        Ok(())
    }

    fn add_echo(&mut self) -> Result<()> {
        self.topology.add_backend()?;
        let backend = self.topology.backends.last().context("a backend was just added")?;
        // Its health is asked of nginx.
        self.nginx.push(Nginx::start(&backend.namespace, &backend.name, HTTP)?);
        self.echoes.push(echo(&self.topology, 3)?);
        self.lbd.lbctl(&["backend", "add", "echo", &self.topology.backend_address(3).to_string()])?;
        self.lbd.wait_eligible("echo", 4, HEALTHY_TIMEOUT)
    }

    fn connections(&self, total: u64) -> Result<()> {
        let mut plan = LoadPlan::new(self.topology.vip_port(HTTP));
        let body = Body::Content(SMALL_FILE_LEN);
        plan.open_loop = Some(OpenLoop {
            per_second: CONNECTIONS_PER_SECOND,
            path: "/64k".to_owned(),
            body,
            total: Some(total),
        });
        plan.most_at_once = Some(CONNECTIONS_AT_ONCE);
        plan.timeout = Duration::from_secs(60);
        let begin = Instant::now();
        let recorder = Load::start(&self.topology.client, plan)?.wait()?;
        let summary = recorder.summary(begin, Instant::now());
        ensure!(summary.ok == total && summary.failures() == 0, "{summary:?}");
        ensure!(summary.answered.len() == 3, "not every backend answered: {:?}", summary.answered);
        Ok(())
    }

    /// Who asked the three first servers for `/64k`, as they saw it.
    fn logged(&self) -> Result<Vec<SocketAddr>> {
        let mut sources = Vec::new();
        for nginx in self.nginx.iter().take(3) {
            let accesses = nginx.accesses()?;
            sources
                .extend(accesses.iter().filter(|access| access.path == "/64k").map(|access| access.remote));
        }
        Ok(sources)
    }

    fn no_kernel_complains(&self) -> Result<()> {
        for namespace in self.topology.namespaces() {
            let faults = Counters::read(namespace)?.faults();
            ensure!(faults.is_empty(), "in {}: {faults:?}", namespace.name());
        }
        Ok(())
    }
}

/// An echo server on the backend's own address and, where backends have the vip, on that.
fn echo(topology: &Topology, index: usize) -> Result<UdpEcho> {
    let backend = &topology.backends[index];
    let mut addresses = vec![SocketAddr::new(topology.backend_address(index), ECHO)];
    if topology.plan.mode.is_direct_return() {
        addresses.push(topology.vip_port(ECHO));
    }
    UdpEcho::start(&backend.namespace, &backend.name, &addresses)
}
