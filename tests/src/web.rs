//! What most tests of the daemon's life stand on: web servers behind lbd, and requests that go on meanwhile.
//!
//! In: a network and wishes for lbd. Out: nginx on every backend, lbd in front of them and in service, a load, and waiting for
//! what a load or a daemon comes to. Invariant: the fields are dropped in the order they must end in: lbd, servers, network.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::load::{Body, KeepAlive, Kind, Load, LoadPlan, OpenLoop, Recorder};
use crate::server::nginx::Nginx;
use crate::topology::{Lbd, Plan, Settings, Topology};

/// The port of nginx and of the service.
pub const HTTP: u16 = 80;
/// The pool and the service.
pub const POOL: &str = "web";
/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Time between two looks at something that announces itself in no way.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// A request of the load without an end after this long has failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// Standing connections of the load, and the time between two requests of one.
const STANDING: u32 = 20;
const STANDING_INTERVAL: Duration = Duration::from_millis(200);

/// A network with web servers and lbd at work.
#[derive(Debug)]
pub struct Web {
    /// The daemon.
    pub lbd: Lbd,
    /// nginx of every backend, in the order of the backends.
    pub servers: Vec<Nginx>,
    /// The network.
    pub topology: Topology,
}

impl Web {
    /// Builds the network with nginx on each backend, and starts lbd with the settings made of it, which have the pool [`POOL`].
    /// Returns when all its backends take flows.
    pub fn start(plan: Plan, settings: impl FnOnce(&Topology) -> Settings) -> Result<Web> {
        Web::start_in(Topology::build(plan)?, settings)
    }

    /// The same in a network that is there.
    pub fn start_in(topology: Topology, settings: impl FnOnce(&Topology) -> Settings) -> Result<Web> {
        let servers = topology.backends.iter();
        let servers = servers
            .map(|backend| Nginx::start(&backend.namespace, &backend.name, HTTP))
            .collect::<Result<_>>()?;
        let mut lbd = Lbd::start(&topology, &settings(&topology))?;
        lbd.wait_eligible(POOL, topology.backends.len(), PATIENCE)?;
        Ok(Web { lbd, servers, topology })
    }

    /// New connections at this rate, and standing ones beside them, until it is dropped.
    pub fn load(&self, per_second: u32) -> Result<Load> {
        let mut plan = LoadPlan::new(self.topology.vip_port(HTTP));
        plan.timeout = REQUEST_TIMEOUT;
        plan.open_loop = Some(OpenLoop { per_second, path: "/".to_owned(), body: Body::Any, total: None });
        plan.keep_alive = Some(KeepAlive {
            connections: STANDING,
            interval: STANDING_INTERVAL,
            path: "/".to_owned(),
            body: Body::Any,
        });
        Load::start(&self.topology.client, plan)
    }
}

/// Waits until it holds; an error is passed on.
pub fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds()? {
        ensure!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(LOOK_INTERVAL);
    }
    Ok(())
}

/// Waits until so many requests that were due since `mark` have been answered.
pub fn until_answered(recorder: &Recorder, mark: Instant, count: u64) -> Result<()> {
    until(&format!("{count} answers"), || Ok(recorder.summary(mark, Instant::now()).ok >= count))
}

/// Fails if any request that was due in the time from `from` until now failed; those under way are waited for.
pub fn expect_no_failure(recorder: &Recorder, from: Instant) -> Result<()> {
    let now = Instant::now();
    until("the end of all requests", || Ok(recorder.unfinished(now) == 0))?;
    let failed: Vec<_> =
        recorder.attempts(from, now).into_iter().filter(|attempt| attempt.outcome.is_err()).collect();
    ensure!(failed.is_empty(), "{} requests failed, the first is {:?}", failed.len(), failed.first());
    Ok(())
}

/// Holds every standing connection since `begin` against this: one server answered it all the time.
pub fn standing_connections_stayed(recorder: &Recorder, begin: Instant) -> Result<()> {
    let mut backends = BTreeMap::new();
    let attempts = recorder.attempts(begin, Instant::now()).into_iter();
    for attempt in attempts.filter(|attempt| attempt.kind == Kind::KeepAlive) {
        let first = backends.entry(attempt.local_port).or_insert(attempt.backend.clone());
        ensure!(*first == attempt.backend, "a connection moved from {first:?}: {attempt:?}");
    }
    ensure!(!backends.is_empty(), "no standing connection was looked at");
    Ok(())
}
