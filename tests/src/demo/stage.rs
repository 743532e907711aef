//! What the demo plays on: the network, four web servers to be, lbd, the load.
//!
//! In: options. Out: everything running, and the operator's and fate's hands on it (add, drain, kill, bring back). Invariant:
//! the fields are dropped in the order they must end in: load, lbd, servers, network.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use super::Options;
use crate::load::{Body, Downloads, KeepAlive, Load, LoadPlan, OpenLoop, Recorder};
use crate::netns::counters::Counters;
use crate::screen::Screen;
use crate::server::nginx::{Nginx, make_large_file};
use crate::signals::Signals;
use crate::topology::{Binaries, Family, Lbd, Mode, Plan, Settings, Topology};

/// The pool and the service.
pub(super) const POOL: &str = "web";
/// New connections a second; a little over what is promised, so that the promise is kept on a busy machine.
pub(super) const OFFERED_PER_SECOND: u32 = 520;
/// New connections a second that are promised.
pub(super) const PROMISED_PER_SECOND: f64 = 500.0;

const HTTP: u16 = 80;
const HEALTH_INTERVAL: Duration = Duration::from_millis(500);
/// A killed server refuses at once and need not be waited for; a living one on a busy machine may be slow and shall not be taken out.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
const HEALTH_FALL: u32 = 2;
const HEALTHY_TIMEOUT: Duration = Duration::from_secs(15);

/// How long after a server's death no connection may be lost to it any more.
pub(super) fn detection_time() -> Duration {
    HEALTH_INTERVAL * HEALTH_FALL + Duration::from_millis(400)
}

/// The running whole.
#[derive(Debug)]
pub(super) struct Stage {
    load: Option<Load>,
    lbd: Lbd,
    nginx: Vec<Nginx>,
    topology: Topology,
}

impl Stage {
    /// Builds everything and starts the load.
    pub(super) fn build(options: &Options, signals: &Signals, screen: &mut Screen) -> Result<Stage> {
        Binaries::find()?;
        let family = if options.family == Family::V6 { ", IPv6" } else { "" };
        screen.say(&format!(
            "lbd demo, mode {}{family}: three web servers behind one address",
            options.mode.name()
        ));
        screen.say(&screen.dim(&picture(options.mode)));
        let topology = Topology::build(Plan::new("demo", options.mode, options.family))?;
        signals.check()?;
        make_large_file(&topology.client)?;
        let mut nginx = Vec::new();
        for backend in &topology.backends {
            nginx.push(Nginx::start(&backend.namespace, &backend.name, HTTP)?);
            signals.check()?;
        }
        let lbd = Lbd::start(&topology, &settings(&topology))?;
        let mut stage = Stage { load: None, lbd, nginx, topology };
        signals.check()?;
        stage.lbd.wait_eligible(POOL, stage.topology.backends.len(), HEALTHY_TIMEOUT)?;
        signals.check()?;
        screen.say(&format!(
            "lbd runs on {}; load: {OFFERED_PER_SECOND} new connections a second, 50 keep-alive, 50 long downloads to http://{}/",
            stage.topology.interfaces().join(" and "),
            stage.topology.vip_port(HTTP)
        ));
        stage.load = Some(Load::start(&stage.topology.client, load_plan(&stage.topology))?);
        Ok(stage)
    }

    /// The load's book.
    pub(super) fn recorder(&self) -> Result<&Recorder> {
        Ok(self.load.as_ref().context("the load is over")?.recorder())
    }

    /// `b1` and on, as many as there are.
    pub(super) fn backend_names(&self) -> Vec<String> {
        self.topology.backends.iter().map(|backend| backend.name.clone()).collect()
    }

    /// What lbd says of its backends: name and what is not plain about it ("draining", "unhealthy").
    pub(super) fn states(&self) -> Result<Vec<(String, String)>> {
        let listed = self.lbd.backends(POOL)?;
        let state_of = |index: usize| {
            let address = self.topology.backend_address(index).to_string();
            let entry = listed
                .iter()
                .find(|entry| entry["address"].as_str().is_some_and(|text| names(text, &address)));
            entry.map_or_else(|| "not in the pool".to_owned(), describe)
        };
        Ok(self
            .backend_names()
            .into_iter()
            .enumerate()
            .map(|(index, name)| (name, state_of(index)))
            .collect())
    }

    /// A fourth server, and `lbctl backend add`.
    pub(super) fn add(&mut self) -> Result<()> {
        self.topology.add_backend()?;
        let backend = self.topology.backends.last().context("a backend was just added")?;
        self.nginx.push(Nginx::start(&backend.namespace, &backend.name, HTTP)?);
        self.lbctl("add", self.nginx.len() - 1)
    }

    /// `lbctl backend drain`.
    pub(super) fn drain(&mut self, index: usize) -> Result<()> {
        self.lbctl("drain", index)
    }

    /// `lbctl backend enable`.
    pub(super) fn enable(&mut self, index: usize) -> Result<()> {
        self.lbctl("enable", index)
    }

    /// SIGKILL to the server; the moment before it.
    pub(super) fn kill(&mut self, index: usize) -> Result<Instant> {
        let before = Instant::now();
        self.nginx[index].kill()?;
        Ok(before)
    }

    /// Starts the killed server again.
    pub(super) fn bring_back(&mut self, index: usize) -> Result<()> {
        self.nginx[index].start_again(&self.topology.backends[index].namespace, HTTP)
    }

    /// Checksum and header faults that any kernel here counted.
    pub(super) fn faults(&self) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        for namespace in self.topology.namespaces() {
            for (name, count) in Counters::read(namespace)?.faults() {
                faults.push(format!("{name} is {count} in {}", namespace.label()));
            }
        }
        Ok(faults)
    }

    /// An error if lbd is no longer there.
    pub(super) fn check(&mut self) -> Result<()> {
        self.lbd.process().check_running()
    }

    /// The end of lbd's log.
    pub(super) fn log_tail(&self) -> String {
        format!("lbd's log ends:\n{}", self.lbd.log_tail())
    }

    /// Ends everything in order; lbd by SIGTERM, and it must end well and take its pins with it.
    pub(super) fn take_down(mut self) -> Result<()> {
        self.load = None;
        self.lbd.stop()?;
        let pin = self.lbd.pin();
        anyhow::ensure!(!pin.exists(), "lbd ended with on_exit = \"detach\" and left {}", pin.display());
        Ok(())
    }

    /// Ends the load and leaves the rest standing; says what one may do with it.
    pub(super) fn keep(mut self, screen: &mut Screen) -> Result<()> {
        self.load = None;
        self.topology.client.run_dir().keep()?;
        let lbctl = format!("{} --socket {}", self.lbd.lbctl_path().display(), self.lbd.socket().display());
        let first = self.topology.backend_address(0);
        let client = format!("nsenter --net={}", self.topology.client.path().display());
        screen.say("");
        screen.say("It stands. To play with:");
        for words in
            ["status", "backend list", &format!("backend drain {POOL} {first}"), "stats", "flows --limit 10"]
        {
            screen.say(&format!("  {lbctl} {words}"));
        }
        screen.say(&format!("  {client} curl -s http://{}/", self.topology.vip_port(HTTP)));
        screen.say(&format!("lbd's log: {}", self.lbd.process().log_path().display()));
        screen.say("To take it down: cargo xtask demo --clean");
        Ok(())
    }

    fn lbctl(&self, verb: &str, index: usize) -> Result<()> {
        let address = self.topology.backend_address(index).to_string();
        self.lbd.lbctl(&["backend", verb, POOL, &address]).map(drop)
    }
}

fn settings(topology: &Topology) -> Settings {
    let health = format!(
        "{{ type = \"http\", path = \"/healthz\", interval = \"{}ms\", timeout = \"{}ms\", rise = 2, fall = {HEALTH_FALL} }}",
        HEALTH_INTERVAL.as_millis(),
        HEALTH_TIMEOUT.as_millis()
    );
    Settings::new(topology.service(POOL, &["80/tcp"], &health))
}

fn load_plan(topology: &Topology) -> LoadPlan {
    let mut plan = LoadPlan::new(topology.vip_port(HTTP));
    let path = "/".to_owned();
    plan.open_loop =
        Some(OpenLoop { per_second: OFFERED_PER_SECOND, path: path.clone(), body: Body::Any, total: None });
    let interval = Duration::from_millis(100);
    plan.keep_alive = Some(KeepAlive { connections: 50, interval, path, body: Body::Any });
    plan.downloads = Some(Downloads { connections: 50, path: "/slow/100m".to_owned() });
    plan
}

fn picture(mode: Mode) -> String {
    let (way, back) = match mode {
        Mode::FullNat | Mode::Nat => ("client ── lbd ── switch ── b1 b2 b3", "answers come back through lbd"),
        Mode::Dsr | Mode::Ipip => {
            ("client ── router ─┬─ lbd\n                   └─ b1 b2 b3", "answers go straight to the client")
        }
    };
    format!("  {way}   ({back})")
}

/// Whether an address as lbctl prints it (with or without a port) is this one.
fn names(printed: &str, address: &str) -> bool {
    let with_port = printed.rsplit_once(':').map(|(host, _)| host.trim_matches(['[', ']']));
    printed == address || with_port == Some(address)
}

fn describe(entry: &Value) -> String {
    let word = |key: &str, plain: &str| entry[key].as_str().filter(|word| *word != plain).map(str::to_owned);
    let words: Vec<String> =
        [word("state", "active"), word("health", "healthy")].into_iter().flatten().collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn an_address_is_known_with_and_without_its_port() {
        assert!(names("198.51.100.11", "198.51.100.11"));
        assert!(names("198.51.100.11:80", "198.51.100.11"));
        assert!(names("[2001:db8:2::11]:80", "2001:db8:2::11"));
        assert!(names("2001:db8:2::11", "2001:db8:2::11"));
        assert!(!names("2001:db8:2::12", "2001:db8:2::11"));
        assert!(!names("198.51.100.12:80", "198.51.100.11"));
    }
}
