//! A load that does not wait for answers, and what became of it.
//!
//! In: a target and how much of what: new connections at a fixed rate (open loop: a slow answer delays no later connection),
//! keep-alive connections with a request at a fixed interval, long downloads. Out: a [`Recorder`] that anybody may read while the
//! load runs. Invariant: latency counts from the moment a connection was due, so a client held up does not hide a stall;
//! every connection begun is recorded once, or was cut off by [`Load::stop`].

mod http;
mod outcome;
mod recorder;
mod streams;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

pub use http::{Body, Connection, Head};
pub use outcome::{Attempt, Failure, Kind, Summary};
pub use recorder::{InFlight, Recorder};

use crate::netns::Namespace;

/// Connections are made in batches this far apart.
const BATCH_INTERVAL: Duration = Duration::from_millis(2);

/// New connections at a fixed rate: each asks once and reads to the end.
#[derive(Clone, Debug)]
pub struct OpenLoop {
    /// Connections a second.
    pub per_second: u32,
    /// What is asked for.
    pub path: String,
    /// What must come.
    pub body: Body,
    /// How many connections in all; none: until stopped.
    pub total: Option<u64>,
}

/// Connections that stay open and ask again and again.
#[derive(Clone, Debug)]
pub struct KeepAlive {
    /// How many.
    pub connections: u32,
    /// Time between two requests of one connection.
    pub interval: Duration,
    /// What is asked for.
    pub path: String,
    /// What must come.
    pub body: Body,
}

/// Downloads that begin again when they end.
#[derive(Clone, Debug)]
pub struct Downloads {
    /// How many at a time.
    pub connections: u32,
    /// What is asked for; the body is compared with [`crate::content`].
    pub path: String,
}

/// What a client does.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    /// Where to.
    pub target: SocketAddr,
    /// An attempt without an end after this long has failed; for downloads, one without a byte.
    pub timeout: Duration,
    /// The most new connections under way at a time; those due meanwhile begin late. None: no limit, a true open loop. For a test
    /// that asks whether everything arrives and not how fast: a busy machine then makes it slow, not wrong.
    pub most_at_once: Option<usize>,
    /// New connections.
    pub open_loop: Option<OpenLoop>,
    /// Standing connections.
    pub keep_alive: Option<KeepAlive>,
    /// Long downloads.
    pub downloads: Option<Downloads>,
}

impl LoadPlan {
    /// Nothing yet, with a timeout of five seconds.
    pub fn new(target: SocketAddr) -> LoadPlan {
        LoadPlan {
            target,
            timeout: Duration::from_secs(5),
            most_at_once: None,
            open_loop: None,
            keep_alive: None,
            downloads: None,
        }
    }
}

/// A load at work inside a namespace; it ends when dropped.
#[derive(Debug)]
pub struct Load {
    recorder: Arc<Recorder>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Load {
    /// Starts the load on a thread of its own.
    pub fn start(namespace: &Namespace, plan: LoadPlan) -> Result<Load> {
        let recorder = Arc::new(Recorder::default());
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&recorder);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
        let thread = namespace.spawn("load", move || {
            runtime.block_on(async {
                tokio::select! {
                    () = run(plan, shared) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Load { recorder, stop: Some(stop), thread: Some(thread) })
    }

    /// What became of it so far.
    pub fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    /// Waits for the end of a load that has one (an open loop with a total and nothing else).
    pub fn wait(mut self) -> Result<Arc<Recorder>> {
        self.join()?;
        Ok(Arc::clone(&self.recorder))
    }

    /// Cuts everything off; what was in flight is not recorded.
    pub fn stop(mut self) -> Result<Arc<Recorder>> {
        self.stop = None;
        self.join()?;
        Ok(Arc::clone(&self.recorder))
    }

    fn join(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let ended = thread.join().map_err(|_| anyhow!("the load's thread panicked"))?;
        ended.context("cannot enter the client's namespace")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop = None;
        // Who drops a load does not want its outcome.
        let _ = self.join();
    }
}

async fn run(plan: LoadPlan, recorder: Arc<Recorder>) {
    let plan = Arc::new(plan);
    let mut tasks = JoinSet::new();
    if let Some(open_loop) = plan.open_loop.clone() {
        tasks.spawn(run_open_loop(Arc::clone(&plan), open_loop, Arc::clone(&recorder)));
    }
    if let Some(keep_alive) = &plan.keep_alive {
        for number in 0..keep_alive.connections {
            // Spread over the interval: fifty requests at once would be a burst, not a load.
            let first = keep_alive.interval * number / keep_alive.connections;
            let (plan, keep_alive) = (Arc::clone(&plan), keep_alive.clone());
            tasks.spawn(streams::keep_alive(plan, keep_alive, first, Arc::clone(&recorder)));
        }
    }
    if let Some(downloads) = &plan.downloads {
        for _ in 0..downloads.connections {
            tasks.spawn(streams::download(Arc::clone(&plan), downloads.path.clone(), Arc::clone(&recorder)));
        }
    }
    while tasks.join_next().await.is_some() {}
}

async fn run_open_loop(plan: Arc<LoadPlan>, open_loop: OpenLoop, recorder: Arc<Recorder>) {
    let mut tasks = JoinSet::new();
    let mut ticks = tokio::time::interval(BATCH_INTERVAL);
    let begin = Instant::now();
    let open_loop = Arc::new(open_loop);
    let (total, most) = (open_loop.total.unwrap_or(u64::MAX), plan.most_at_once.unwrap_or(usize::MAX));
    let mut started = 0;
    while started < total {
        ticks.tick().await;
        while started < total {
            let due =
                begin + Duration::from_secs(1).mul_f64(started as f64 / f64::from(open_loop.per_second));
            if due > Instant::now() {
                break;
            }
            while tasks.len() >= most {
                tasks.join_next().await;
            }
            started += 1;
            tasks.spawn(one_connection(
                Arc::clone(&plan),
                Arc::clone(&open_loop),
                due,
                Arc::clone(&recorder),
            ));
        }
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
}

async fn one_connection(
    plan: Arc<LoadPlan>,
    open_loop: Arc<OpenLoop>,
    due: Instant,
    recorder: Arc<Recorder>,
) {
    let mut attempt = recorder.begin(Kind::New, due);
    let outcome = tokio::time::timeout(plan.timeout, async {
        let mut connection = Connection::open(plan.target, plan.timeout).await?;
        attempt.local_port(connection.local_port());
        let head = connection.ask(&open_loop.path, true).await?;
        attempt.backend(head.backend.as_deref());
        connection.read_body(&head, open_loop.body, |_| ()).await?;
        connection.read_end().await
    });
    let outcome = outcome.await.unwrap_or(Err(Failure::TimedOut));
    attempt.finish(outcome);
}
