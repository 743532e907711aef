use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use lb_common::Reason;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::client::Client;
use super::types::*;
use super::*;
use crate::clock::Clock;
use crate::config;
use crate::desired::{PoolKey, Variant};
use crate::membership::{Event as Observation, MemberId, Membership, Start, WayState};
use crate::moment::Millis;
use crate::reach::Reach;
use crate::spec::Name;

mod answers;
mod changes;
mod connections;

const FILE: &str = r#"
[datapath]
interfaces = ["eth0"]
[[service]]
name = "web"
listen = ["203.0.113.10:80/tcp"]
backends = ["10.0.0.1", "10.0.0.2:81"]
"#;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Counters with a number of their own for everything.
struct Fixed;

impl Counters for Fixed {
    fn services(&self) -> BTreeMap<Name, Totals> {
        let totals =
            Totals { packets: 1 << 60, bytes: u64::MAX, new_flows: 7, reply_packets: 8, reply_bytes: 9 };
        [(name("web"), totals)].into()
    }

    fn backends(&self) -> BTreeMap<MemberId, Totals> {
        let totals = Totals { packets: 11, bytes: 12, new_flows: 13, reply_packets: 14, reply_bytes: 15 };
        [(MemberId { pool: name("web"), address: "10.0.0.1".parse().unwrap() }, totals)].into()
    }

    fn count_flows(&self) {}

    fn flows_counted(&self) -> Millis {
        Millis(17)
    }

    fn backend_flows(&self) -> BTreeMap<MemberId, u64> {
        [(MemberId { pool: name("web"), address: "10.0.0.1".parse().unwrap() }, 16)].into()
    }

    fn reasons(&self) -> Vec<(Option<Name>, Reason, u64)> {
        vec![
            (Some(name("web")), Reason::Truncated, 3),
            (None, Reason::Truncated, 2),
            (Some(name("web")), Reason::Fragment, 4),
            (Some(name("web")), Reason::BadHeader, 0),
        ]
    }

    fn flow_tables(&self) -> FlowTables {
        FlowTables {
            v4: FlowTable { used: 1, capacity: 2, not_stored: 3, evicted: 4 },
            v6: FlowTable::default(),
        }
    }

    fn interface(&self, _name: &str) -> BTreeMap<String, u64> {
        [("pass".to_owned(), 5)].into()
    }
}

/// A membership and its readers, without a datapath.
struct Controller {
    membership: Membership,
    /// Whether the maps take what they are given.
    in_force: Arc<AtomicBool>,
    now: Millis,
    snapshot: Arc<ArcSwap<Snapshot>>,
    published: watch::Sender<u64>,
    events: Arc<EventLog>,
}

impl Controller {
    fn publish(&self) {
        let membership = &self.membership;
        let key = PoolKey { name: "web".to_owned(), variant: Variant::V4 };
        let member = MemberId { pool: name("web"), address: "10.0.0.1".parse().unwrap() };
        self.snapshot.store(Arc::new(Snapshot {
            revision: membership.revision(),
            in_force: self.in_force.load(Ordering::Relaxed),
            services: membership.service_views(),
            pools: membership.pool_views(&[]),
            overrides: membership.overrides(),
            interfaces: vec![Interface {
                name: "eth0".to_owned(),
                mode: "native".to_owned(),
                attached: true,
                program_id: Some(42),
                ..Interface::default()
            }],
            tables: [(key, TableInfo { generation: 2, table_hash: 0xabc, slots: 1021 })].into(),
            placements: Placements {
                reach: Arc::new([(member.pool.clone(), [(member.address, Reach::Remote)].into())].into()),
                slots: [(member.pool.clone(), vec![Arc::from([(member.address, 500)])])].into(),
                lost: [member].into(),
            },
            config: "lbd.toml".to_owned(),
            ..Snapshot::default()
        }));
        self.published.send_modify(|count| *count += 1);
    }

    fn change(&mut self, who: &str, change: &crate::membership::Change) -> Result<ChangeDone, ApiError> {
        let candidate = self.membership.prepare(self.now, who, change)?;
        let outcome = candidate.outcome;
        let dry_run = change.options.dry_run;
        let done = ChangeDone {
            revision: if dry_run { self.membership.revision() } else { candidate.membership.revision() },
            changed: outcome.revised,
            dry_run,
            notes: outcome.notes,
            warnings: outcome.warnings,
            plan: Some(PlanReport::default()),
            admitted: Vec::new(),
        };
        if !dry_run {
            self.membership = candidate.membership;
            self.events.add(self.now, outcome.events);
            self.publish();
        }
        Ok(done)
    }

    fn observe(&mut self, observation: Observation) {
        let outcome = self.membership.handle(self.now, observation);
        self.events.add(self.now, outcome.events);
        self.publish();
    }

    fn answer(&mut self, command: Command) {
        // A client that went away wants no answer.
        match command {
            Command::Plan { candidate, reply } => {
                let file = candidate.map_or_else(|| "lbd.toml".to_owned(), |candidate| candidate.file);
                let revision = self.membership.revision();
                drop(reply.send(Ok(PlanAnswer { revision, file, ..PlanAnswer::default() })));
            }
            Command::Revisions { reply } => {
                let revisions =
                    vec![Revision { revision: self.membership.revision(), ..Revision::default() }];
                drop(reply.send(Ok(RevisionList { revisions })));
            }
            Command::Revision { number, reply, .. } => {
                drop(reply.send(Err(ApiError::new(ErrorCode::NotFound, format!("no revision {number}")))));
            }
            Command::PutBack { options, reply, .. } => {
                let done = ChangeDone { dry_run: options.dry_run, ..ChangeDone::default() };
                drop(reply.send(Ok(done)));
            }
            Command::Backup { reply } => {
                drop(reply.send(Err(ApiError::new(ErrorCode::Internal, "there is nothing to back up"))));
            }
            Command::Apply { options, reply, .. } => {
                let done = ChangeDone { dry_run: options.dry_run, ..ChangeDone::default() };
                drop(reply.send(Ok(done)));
            }
            Command::Change { who, change, reply } => drop(reply.send(self.change(&who, &change))),
            Command::Explain { request, reply } => {
                let sentence = format!("{} {} {}", request.protocol, request.source, request.destination);
                drop(reply.send(Ok(Explanation { sentence, ..Explanation::default() })));
            }
            Command::Flows { filter, reply } => {
                let truncated = filter.limit == Some(100);
                drop(reply.send(Ok(FlowList { flows: Vec::new(), truncated })));
            }
            Command::CountFlows { filter, reply } => {
                let services = filter.name.iter().map(|name| (name.to_string(), 1)).collect();
                drop(reply.send(Ok(FlowCounts { count: 1, services, ..FlowCounts::default() })));
            }
            Command::FlushFlows { filter, reply, .. } => {
                let flushed = if filter.backend.is_some() { 1 } else { 2 };
                drop(reply.send(Ok(FlowsFlushed { flushed })));
            }
        }
    }
}

/// What the API is served from when nothing has happened yet, and the sender of its revisions.
fn handle(commands: mpsc::Sender<Command>) -> (watch::Sender<u64>, Handle) {
    let published = watch::Sender::new(0);
    let handle = Handle {
        snapshot: Arc::default(),
        published: published.subscribe(),
        counters: Arc::new(Fixed),
        events: Arc::default(),
        sources: Arc::default(),
        clock: Clock::start(),
        commands,
    };
    (published, handle)
}

/// A served API.
struct Served {
    directory: TempDir,
    client: Client,
    handle: Handle,
    observe: mpsc::Sender<Observation>,
    in_force: Arc<AtomicBool>,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Served {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/lbd.sock");
        let file = Arc::new(config::parse(FILE, "lbd.toml").unwrap().spec);
        let start = Start { file, ..Start::default() };
        let membership = Membership::start(Millis(0), start).unwrap().membership;
        let (commands, mut inbox) = mpsc::channel(8);
        let (observe, mut observations) = mpsc::channel(8);
        let (published, handle) = handle(commands);
        let (snapshot, events) = (Arc::clone(&handle.snapshot), Arc::clone(&handle.events));
        let in_force = Arc::new(AtomicBool::new(true));
        let taken = Arc::clone(&in_force);
        let mut controller =
            Controller { membership, in_force: taken, now: Millis(1000), snapshot, published, events };
        controller.publish();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(command) = inbox.recv() => controller.answer(command),
                    Some(observation) = observations.recv() => controller.observe(observation),
                    else => return,
                }
            }
        });
        let (stop, stopping) = watch::channel(false);
        let socket = bind(&path, Rights::OWN).unwrap();
        let server = tokio::spawn(serve(socket, handle.clone(), Access::of_this_process(), stopping));
        Self { client: Client::new(&path), directory, handle, observe, in_force, stop, server }
    }

    fn path(&self) -> PathBuf {
        self.client.socket().to_owned()
    }

    /// Sends bytes as they are; everything that comes back until the connection ends.
    async fn raw(&self, request: &str) -> String {
        raw(&self.path(), request).await
    }
}

async fn raw(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // A server that closes without reading everything resets; what was answered before counts.
    let _reset = stream.read_to_string(&mut answer).await;
    answer
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: lbd\r\nConnection: close\r\n\r\n")
}

fn post(path: &str, headers: &str, body: &str) -> String {
    let len = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: lbd\r\nConnection: close\r\n{headers}Content-Length: {len}\r\n\r\n{body}"
    )
}
