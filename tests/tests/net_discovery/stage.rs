//! Web servers behind lbd whose pool is discovered, and how the source is doing.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lbd_tests::netns::Namespace;
use lbd_tests::process::Process;
use lbd_tests::server::nginx::Nginx;
use lbd_tests::topology::{Family, Lbd, Mode, Plan, Settings, Topology};
use lbd_tests::web::{HTTP, POOL, Web, until};
use serde_json::Value;

pub(super) const HEALTH: &str =
    r#"{ type = "http", path = "/healthz", interval = "300ms", timeout = "250ms" }"#;
/// `status --check` when something needs attention.
pub(super) const DEGRADED: i32 = 7;

/// A network, not yet balanced, and a directory for what sources say.
pub(super) struct Stage {
    pub(super) servers: Vec<Nginx>,
    pub(super) topology: Topology,
    pub(super) dir: PathBuf,
}

impl Stage {
    pub(super) fn new(name: &str) -> Result<Stage> {
        let topology = Topology::build(Plan::new(name, Mode::FullNat, Family::V4))?;
        let nginx =
            |backend: &lbd_tests::topology::Backend| Nginx::start(&backend.namespace, &backend.name, HTTP);
        let servers = topology.backends.iter().map(nginx).collect::<Result<_>>()?;
        let dir = topology.balancer.run_dir().path().join(format!("sources-{name}"));
        fs::create_dir_all(&dir)?;
        Ok(Stage { servers, topology, dir })
    }

    /// The address of backend `index`, counted from 0.
    pub(super) fn backend(&self, index: usize) -> String {
        self.topology.backend_address(index).to_string()
    }

    /// Starts lbd with one pool of this definition.
    pub(super) fn balanced(self, discover: &str) -> Result<Web> {
        let settings = Settings::new(pool(&self.topology, discover));
        let lbd = Lbd::start(&self.topology, &settings)?;
        Ok(Web { lbd, servers: self.servers, topology: self.topology })
    }
}

/// A pool and its service.
pub(super) fn pool(topology: &Topology, discover: &str) -> String {
    format!(
        "[[pool]]\nname = \"{POOL}\"\nhealth = {HEALTH}\n{discover}\n\
         [[service]]\nname = \"{POOL}\"\nlisten = [\"{}:{HTTP}/tcp\"]\npool = \"{POOL}\"\nforward = \"full-nat\"\n",
        topology.vip()
    )
}

/// Puts a file in place whole, as whoever writes such files should.
pub(super) fn put(path: &Path, text: &str) -> Result<()> {
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, text)?;
    fs::rename(&fresh, path).with_context(|| format!("cannot write {}", path.display()))
}

/// How the source whose name begins so is doing.
pub(super) fn source(lbd: &Lbd, name: &str) -> Result<Value> {
    let status = lbd.lbctl(&["status"])?;
    let sources = status["discovery"].as_array().context("no sources")?;
    let is_it = |source: &&Value| source["source"].as_str().is_some_and(|source| source.starts_with(name));
    sources.iter().find(is_it).cloned().with_context(|| format!("no source {name}: {status}"))
}

/// Waits until the pool has exactly these backends, all taking flows.
pub(super) fn until_eligible(lbd: &Lbd, addresses: &[String]) -> Result<()> {
    until(&format!("{addresses:?} take flows"), || {
        let backends = lbd.backends(POOL)?;
        let mut found: Vec<&str> = backends
            .iter()
            .filter(|row| row["eligible"] == true)
            .filter_map(|row| row["address"].as_str())
            .collect();
        found.sort_unstable();
        let mut wanted: Vec<&str> = addresses.iter().map(String::as_str).collect();
        wanted.sort_unstable();
        Ok(found == wanted && backends.len() == wanted.len())
    })
}

/// Waits until the source fails for a reason that contains this, which is then said in status and by its exit code.
pub(super) fn until_failing(lbd: &Lbd, name: &str, why: &str) -> Result<()> {
    until(&format!("{name} fails: {why}"), || {
        let source = source(lbd, name)?;
        Ok(source["state"] == "failing" && source["error"].as_str().is_some_and(|error| error.contains(why)))
    })?;
    // How sources are doing is read at once, what needs attention a moment later, with the next picture of everything.
    until(&format!("it is said that {name} fails"), || {
        let output = lbd.lbctl_output(&["status", "--check"])?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(output.status.code() == Some(DEGRADED) && said.contains(&format!("discovery by {name}")))
    })
}

/// Waits until the source answers and nothing needs attention.
pub(super) fn until_well(lbd: &Lbd, name: &str) -> Result<()> {
    until(&format!("{name} answers"), || Ok(source(lbd, name)?["state"] == "ok"))?;
    until("nothing needs attention", || Ok(lbd.lbctl_output(&["status", "--check"])?.status.success()))
}

/// The kinds of events so far.
pub(super) fn events(lbd: &Lbd) -> Result<Vec<String>> {
    let events = lbd.lbctl(&["events"])?;
    let kinds = events["events"].as_array().context("no events")?.iter();
    Ok(kinds.filter_map(|event| event["type"].as_str().map(str::to_owned)).collect())
}

/// A program that listens in the balancer's namespace.
pub(super) fn spawn(name: &str, namespace: &Namespace, program: &str, arguments: &[&str]) -> Result<Process> {
    let mut command = namespace.command(program);
    command.args(arguments);
    Process::spawn(name, &mut command, namespace.run_dir())
}
