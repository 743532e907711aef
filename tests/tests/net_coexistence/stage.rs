//! What these tests stand on, and how they ask what lbd counts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lbd_tests::load::{Body, Load, LoadPlan, OpenLoop};
use lbd_tests::netns::Namespace;
use lbd_tests::netns::counters::Counters;
use lbd_tests::server::nginx::{Nginx, SMALL_FILE_LEN};
use lbd_tests::topology::{Family, Lbd, Mode, Plan, Settings, Topology};
use serde_json::Value;

use super::{HTTP, LOOK_INTERVAL, PATIENCE};

/// Client, balancer with lbd, backends with nginx.
pub(crate) struct Stage {
    pub(crate) lbd: Lbd,
    pub(crate) nginx: Vec<Nginx>,
    pub(crate) topology: Topology,
}

impl Stage {
    /// Backends with nginx, and the services that `services` writes for them.
    pub(crate) fn build(
        name: &str,
        (mode, family): (Mode, Family),
        backends: u8,
        services: impl FnOnce(&Topology) -> Settings,
    ) -> Result<Stage> {
        let topology = Topology::build(Plan { backends, ..Plan::new(name, mode, family) })?;
        let mut nginx = Vec::new();
        for backend in &topology.backends {
            nginx.push(Nginx::start(&backend.namespace, &backend.name, HTTP)?);
        }
        let lbd = Lbd::start(&topology, &services(&topology))?;
        Ok(Stage { lbd, nginx, topology })
    }

    /// Where a backend runs.
    pub(crate) fn backend(&self, index: usize) -> &Namespace {
        &self.topology.backends[index].namespace
    }

    /// Every counter of every service and backend, once nothing moves them any more.
    pub(crate) fn settled(&self) -> Result<BTreeMap<String, Vec<u64>>> {
        const STILL: usize = 5;
        let deadline = Instant::now() + PATIENCE;
        let (mut last, mut same) = (self.totals()?, 0);
        while same < STILL {
            ensure!(Instant::now() < deadline, "counters still move: {last:?}");
            std::thread::sleep(LOOK_INTERVAL);
            let now = self.totals()?;
            same = if now == last { same + 1 } else { 0 };
            last = now;
        }
        Ok(last)
    }

    /// Every counter of every service and backend: packets, bytes, new flows, reply packets and bytes.
    pub(crate) fn totals(&self) -> Result<BTreeMap<String, Vec<u64>>> {
        let stats = self.lbd.lbctl(&["stats"])?;
        let rows = ["services", "backends"].into_iter().filter_map(|key| stats[key].as_array()).flatten();
        let row = |row: &Value| {
            let name = format!("{}{}{}", text(&row["name"]), text(&row["pool"]), text(&row["address"]));
            let counter = |key| row[key].as_u64().unwrap_or(u64::MAX);
            (name, ["packets", "bytes", "new_flows", "reply_packets", "reply_bytes"].map(counter).to_vec())
        };
        let totals: BTreeMap<_, _> = rows.map(row).collect();
        ensure!(!totals.is_empty(), "no counters in {stats}");
        Ok(totals)
    }

    /// New flows of a service so far.
    pub(crate) fn new_flows(&self, service: &str) -> Result<u64> {
        Ok(self.totals()?.get(service).with_context(|| format!("no service {service}"))?[2])
    }

    /// The clients of every flow that lbd tracks, and where they went.
    pub(crate) fn flows(&self) -> Result<BTreeSet<(SocketAddr, SocketAddr)>> {
        let answer = self.lbd.lbctl(&["flows", "--limit", "100000"])?;
        let address = |value: &Value| text(value).parse::<SocketAddr>().context("an address");
        let flows = answer["flows"].as_array().context("flows")?;
        flows.iter().map(|flow| Ok((address(&flow["source"])?, address(&flow["destination"])?))).collect()
    }

    /// How often something was dropped, passed or noted for this reason.
    pub(crate) fn reason(&self, reason: &str) -> Result<u64> {
        let answer = self.lbd.lbctl(&["drops"])?;
        let rows = answer["reasons"].as_array().context("reasons")?;
        Ok(rows.iter().filter(|row| row["reason"] == reason).filter_map(|row| row["packets"].as_u64()).sum())
    }

    /// Waits until the backend has accepted `count` connections more than now: asked of its kernel.
    pub(crate) fn wait_accepted(&mut self, index: usize, since: u64, count: u64) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while accepted(self.backend(index))? < since + count {
            ensure!(Instant::now() < deadline, "no {count} connections reach b{} in {PATIENCE:?}", index + 1);
            self.lbd.process().check_running()?;
            std::thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }
}

/// A JSON string, or nothing.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// TCP connections that a host has accepted.
pub(crate) fn accepted(namespace: &Namespace) -> Result<u64> {
    Counters::read(namespace)?.get("TcpPassiveOpens").context("no counter TcpPassiveOpens")
}

/// Many connections, each for 64 KiB that are compared.
pub(crate) fn get_small(
    namespace: &Namespace,
    target: SocketAddr,
    per_second: u32,
    total: u64,
) -> Result<Load> {
    let mut plan = LoadPlan::new(target);
    let (path, body) = ("/64k".to_owned(), Body::Content(SMALL_FILE_LEN));
    plan.open_loop = Some(OpenLoop { per_second, path, body, total: Some(total) });
    // Whether all arrives is asked, not how fast.
    plan.most_at_once = Some(100);
    plan.timeout = 3 * PATIENCE;
    Load::start(namespace, plan)
}

/// Waits for a load; every attempt brought the right bytes from one of these. The ports it used.
pub(crate) fn all_right(load: Load, total: u64, from: &[&str]) -> Result<BTreeSet<u16>> {
    let begin = Instant::now() - Duration::from_secs(600);
    let attempts = load.wait()?.attempts(begin, Instant::now());
    let wrong = attempts.iter().find(|attempt| {
        attempt.outcome.is_err() || !attempt.backend.as_deref().is_some_and(|name| from.contains(&name))
    });
    ensure!(attempts.len() as u64 == total && wrong.is_none(), "{} of {total}; {wrong:?}", attempts.len());
    Ok(attempts.iter().filter_map(|attempt| attempt.local_port).collect())
}
