//! What a soak plays on: the network, a server of ours on each backend, lbd, and the hands that change them.
//!
//! In: [`super::Options`], changes. Out: everything running; each change made for real. Invariant: the fields are dropped in the
//! order they must end in: watcher, lbd, servers, network.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::change::{Change, File, Hand, How, Index, name};
use super::clock;
use super::judge::Evidence;
use super::server::Said;
use super::watcher::Watcher;
use super::{CHECK, CHECK_INTERVAL, CHECK_TIMEOUT, ECHO, FALL, HTTP, Options, POOL, Via};
use crate::netns::counters::Counters;
use crate::netns::link::Mac;
use crate::netns::output_of;
use crate::process::Process;
use crate::topology::{Lbd, Plan, Settings, Topology};

const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// The running whole.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) watcher: Watcher,
    lbd: Lbd,
    servers: Vec<Process>,
    pub(super) topology: Topology,
    options: Options,
    /// The revision before the last change of the configuration.
    before: u64,
    macs: u8,
}

impl Stage {
    pub(super) fn build(options: &Options, file: &File) -> Result<Stage> {
        let mut plan = Plan::new("soak", options.mode, options.family);
        plan.backends = u8::try_from(options.hosts).context("too many hosts")?;
        let topology = Topology::build(plan)?;
        let servers = topology.backends.iter().enumerate();
        let servers = servers.map(|(index, _)| serve(&topology, options, index)).collect::<Result<_>>()?;
        for backend in &topology.backends {
            // A host with a new MAC announces it.
            backend.namespace.sysctl("net/ipv4/conf/eth0/arp_notify", "1")?;
            backend.namespace.sysctl("net/ipv6/conf/eth0/ndisc_notify", "1")?;
        }
        let mut lbd = Lbd::start(&topology, &settings(&topology, options, file))?;
        lbd.wait_eligible(POOL, file.len(), PATIENCE)?;
        let watcher = Watcher::start(lbd.socket(), POOL)?;
        Ok(Stage { watcher, lbd, servers, topology, options: options.clone(), before: 0, macs: 0 })
    }

    /// Makes a change; for those of lbd's configuration the caller waits until it is in force.
    pub(super) fn make(&mut self, change: &Change) -> Result<()> {
        if matches!(change, Change::Hand(..) | Change::Batch(_) | Change::Reload(_)) {
            self.before = self.revision()?;
        }
        match change {
            Change::Hand(backend, hand) => self.lbctl(&self.words(*backend, *hand)),
            Change::Batch(all) => self.batch(all),
            Change::Rollback => {
                self.lbctl(&["rollback", &self.before.to_string(), "--yes"].map(str::to_owned))
            }
            Change::Reload(file) => {
                let settings = settings(&self.topology, &self.options, file);
                self.lbd.rewrite_config(&self.topology, &settings)?;
                self.lbd.reload()
            }
            Change::Kill(backend) => self.servers[*backend].kill(),
            Change::Revive(backend) => {
                self.servers[*backend] = serve(&self.topology, &self.options, *backend)?;
                Ok(())
            }
            Change::Cut(backend, how) => {
                let verdict = if *how == How::Drop { "drop" } else { "reject with tcp reset" };
                let chain = "add chain inet cut in { type filter hook input priority 0; }";
                let rule = format!("add rule inet cut in tcp dport {HTTP} {verdict}");
                self.nft(*backend, &format!("add table inet cut; {chain}; {rule}"))
            }
            Change::Heal(backend) => self.nft(*backend, "delete table inet cut"),
            Change::Mac(backend) => self.change_mac(*backend),
            Change::Crash(down) => {
                self.lbd.kill()?;
                // There is nothing to wait for: this is how long there is no daemon.
                std::thread::sleep(*down);
                self.lbd.start_again(&self.topology)
            }
            Change::Upgrade => self.upgrade(),
        }
    }

    /// An error if lbd or a server that should live does not.
    pub(super) fn check(&mut self, is_dead: impl Fn(Index) -> bool) -> Result<()> {
        self.lbd.process().check_running()?;
        let living = self.servers.iter_mut().enumerate().filter(|(index, _)| !is_dead(*index));
        living.map(|(_, server)| server).try_for_each(Process::check_running)
    }

    /// What servers said, as evidence.
    pub(super) fn hear(&self, evidence: &mut Evidence) -> Result<()> {
        for (index, server) in self.servers.iter().enumerate() {
            let text = std::fs::read_to_string(server.log_path()).context("cannot read a server's log")?;
            for line in text.lines() {
                match serde_json::from_str(line) {
                    Ok(Said::Stream { number, fault, .. }) => {
                        evidence.servers.push((name(index), number, fault));
                    }
                    Ok(Said::Late(stretch)) => evidence.late.push(stretch),
                    Err(_) => anyhow::bail!("{}'s server said: {line}", name(index)),
                }
            }
        }
        Ok(())
    }

    /// Checksum and header faults that any kernel here counted.
    pub(super) fn faults(&self) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        for namespace in self.topology.namespaces() {
            for (counter, count) in Counters::read(namespace)?.faults() {
                faults.push(format!("{counter} is {count} in {}", namespace.label()));
            }
        }
        Ok(faults)
    }

    /// All that lbd wrote.
    pub(super) fn log(&mut self) -> String {
        std::fs::read_to_string(self.lbd.process().log_path()).unwrap_or_default()
    }

    /// Reloads that lbd has said are in force.
    pub(super) fn reloads(&mut self) -> usize {
        self.log().matches(" reload: the configuration is at revision ").count()
    }

    fn words(&self, backend: Index, hand: Hand) -> Vec<String> {
        hand.words(POOL, &self.topology.backend_address(backend).to_string())
    }

    fn lbctl(&self, words: &[String]) -> Result<()> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.lbd.lbctl(&words).map(drop)
    }

    fn batch(&self, all: &[(Index, Hand)]) -> Result<()> {
        let line = |(backend, hand): &(Index, Hand)| self.words(*backend, *hand).join(" ") + "\n";
        let file = self.lbd.config_path().with_file_name("batch");
        std::fs::write(&file, all.iter().map(line).collect::<String>()).context("cannot write a batch")?;
        self.lbctl(&["batch".to_owned(), "-f".to_owned(), file.display().to_string()])
    }

    fn revision(&self) -> Result<u64> {
        let status = self.lbd.lbctl(&["status"])?;
        status["revision"].as_u64().with_context(|| format!("no revision in {status}"))
    }

    fn nft(&self, backend: Index, rules: &str) -> Result<()> {
        output_of(self.topology.backends[backend].namespace.command("nft").arg(rules)).map(drop)
    }

    fn change_mac(&mut self, backend: Index) -> Result<()> {
        self.macs = self.macs.wrapping_add(1);
        let member = u8::try_from(backend + 1).context("too many backends")?;
        // The group tells which change it was; the high bit keeps it apart from those of the network.
        let mac = Mac([0x02, 0x1b, 0xd1, self.macs, 3, member]);
        self.topology.backends[backend].namespace.ip(&format!("link set dev eth0 address {mac}")).map(drop)
    }

    /// Stop and start: the program on each interface must be another, loaded anew.
    fn upgrade(&mut self) -> Result<()> {
        let before = self.programs()?;
        self.lbd.stop()?;
        self.lbd.start_again(&self.topology)?;
        let after = self.programs()?;
        ensure!(
            !after.is_empty() && after.iter().all(|id| id.is_some() && !before.contains(id)),
            "after the upgrade the programs are {after:?}, before it {before:?}"
        );
        Ok(())
    }

    fn programs(&self) -> Result<Vec<Option<u64>>> {
        let status = self.lbd.lbctl(&["status"])?;
        let interfaces = status["interfaces"].as_array().context("status without interfaces")?;
        Ok(interfaces.iter().map(|interface| interface["program_id"].as_u64()).collect())
    }
}

/// Starts a backend's server and waits until it takes connections.
fn serve(topology: &Topology, options: &Options, index: Index) -> Result<Process> {
    let backend = &topology.backends[index];
    // Behind a vip on `lo` the answer has to leave from the vip.
    let address =
        if options.mode.is_direct_return() { topology.vip() } else { topology.backend_address(index) };
    let mut command = backend.namespace.command(&options.program);
    command.args(["serve", "--name", &backend.name]);
    command.args(["--tcp", &HTTP.to_string(), "--check", &CHECK.to_string()]);
    command.args(["--udp", &SocketAddr::new(address, ECHO).to_string()]);
    command.env(clock::EPOCH, clock::epoch().as_nanos().to_string());
    let mut process =
        Process::spawn(&format!("server-{}", backend.name), &mut command, backend.namespace.run_dir())?;
    let begun = std::time::Instant::now();
    while backend.namespace.run(|| std::net::TcpStream::connect(("127.0.0.1", HTTP)))?.is_err() {
        process.wait(LOOK_INTERVAL)?;
        process.check_running()?;
        ensure!(begun.elapsed() < PATIENCE, "{}'s server takes no connections", backend.name);
    }
    Ok(process)
}

fn settings(topology: &Topology, options: &Options, file: &File) -> Settings {
    let way = match options.via {
        Via::Direct => format!("port = {CHECK}"),
        // To where clients go.
        Via::Service => "via = \"service\"".to_owned(),
    };
    let health = format!(
        "{{ type = \"http\", {way}, path = \"/healthz\", interval = \"{}ms\", timeout = \"{}ms\", rise = 2, fall = {FALL} }}",
        CHECK_INTERVAL.as_millis(),
        CHECK_TIMEOUT.as_millis()
    );
    let backends: Vec<String> = file
        .iter()
        .map(|(index, weight)| {
            format!("{{ address = \"{}\", weight = {weight} }}", topology.backend_address(*index))
        })
        .collect();
    let vip = match topology.vip() {
        std::net::IpAddr::V4(vip) => vip.to_string(),
        std::net::IpAddr::V6(vip) => format!("[{vip}]"),
    };
    let services = format!(
        "[[pool]]\nname = \"{POOL}\"\nbackends = [{}]\nhealth = {health}\npassive = {{ eject = \"{}ms\", max_ejected = \"100%\" }}\n\n\
         [[service]]\nname = \"{POOL}\"\nlisten = [\"{vip}:{HTTP}/tcp\", \"{vip}:{ECHO}/udp\"]\npool = \"{POOL}\"\n\
         forward = \"{}\"\non_loss = \"{}\"\n",
        backends.join(", "),
        super::model::EJECT.as_millis(),
        options.mode.name(),
        // Either is a promise; which is a matter of the seed.
        if options.seed.is_multiple_of(2) { "reselect" } else { "reset" },
    );
    Settings { on_exit: "keep".to_owned(), ..Settings::new(services) }
}
