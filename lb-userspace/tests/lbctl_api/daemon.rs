//! A daemon without a kernel: the real socket, the real API, the real membership; only the datapath's answers are given.
//!
//! In: a configuration. Out: a socket that the real `lbctl` speaks with. Invariant: what a change does is what the
//! membership says; checks speak when the test says so.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command as Process, Output, Stdio};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use lb_common::Reason;
use lb_userspace::api::types::{
    Back as BackTo, ChangeDone, Explanation, Flow, FlowCounts, FlowFilter, FlowList, FlowTable, FlowTables,
    FlowsFlushed, Interface, PlanAnswer, PlanReport, PoolMoves, Revision, RevisionDetail, RevisionList,
    Totals,
};
use lb_userspace::api::{self, Access, ApiError, Command, Counters, ErrorCode, EventLog, Handle, Snapshot};
use lb_userspace::backup::Backup;
use lb_userspace::clock::Clock;
use lb_userspace::config;
use lb_userspace::difference::differences;
use lb_userspace::health::Health;
use lb_userspace::membership::{
    Back, Candidate, CheckId, Event, EventKind, MemberId, Membership, Options, Outcome, Start, WayState,
    merged,
};
use lb_userspace::moment::Millis;
use lb_userspace::spec::{DaemonSpec, Name, Protocol, Spec};
use lb_userspace::state::{Record, StateDir};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub(crate) const CONFIG: &str = r#"
[datapath]
interfaces = ["eth0"]
[[service]]
name = "web"
listen = ["203.0.113.10:443/tcp"]
backends = ["10.0.0.11", { address = "10.0.0.12:8443", weight = 10 }]
"#;

/// The share of flows that every change of the whole moves here.
const MOVED: f64 = 0.25;

/// What changes, and what is published of it.
struct Core {
    membership: Membership,
    /// What the configuration file says by now.
    file: Spec,
    /// Every revision, as the daemon keeps it.
    state: StateDir,
    snapshot: Arc<ArcSwap<Snapshot>>,
    published: watch::Sender<u64>,
    events: Arc<EventLog>,
    degraded: Vec<String>,
}

/// A daemon and the lbctl that speaks with it.
pub(crate) struct Daemon {
    core: Arc<Mutex<Core>>,
    flows: Arc<Mutex<Flows>>,
    directory: tempfile::TempDir,
    handle: Handle,
    stop: watch::Sender<bool>,
    server: Option<JoinHandle<()>>,
    runtime: Runtime,
}

/// Flows of backends: as they are, and as last counted.
#[derive(Default)]
struct Flows {
    now: BTreeMap<MemberId, u64>,
    counted: BTreeMap<MemberId, u64>,
    counts: u64,
    /// The last count stands for those to come.
    stand: bool,
}

impl Flows {
    fn count(&mut self) {
        self.counted = self.now.clone();
        self.counts += 1;
    }
}

impl Daemon {
    /// Two backends in service `web`, both healthy and reachable.
    pub(crate) fn start() -> Self {
        Self::start_for(&DaemonSpec::default())
    }

    /// The same for the groups of a configuration.
    pub(crate) fn start_for(daemon: &DaemonSpec) -> Self {
        let access = Access::of_daemon(daemon).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let core = Arc::new(Mutex::new(Core::new(&directory.path().join("state"))));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (stop, stopping) = watch::channel(false);
        let (commands, inbox) = mpsc::channel(8);
        let flows = Arc::<Mutex<Flows>>::default();
        let handle = {
            let core = core.lock().unwrap();
            Handle {
                snapshot: Arc::clone(&core.snapshot),
                published: core.published.subscribe(),
                counters: Arc::new(Given { flows: Arc::clone(&flows) }),
                events: Arc::clone(&core.events),
                sources: Arc::default(),
                clock: Clock::start(),
                commands,
            }
        };
        let server = serve(&runtime, &directory.path().join("lbd.sock"), handle.clone(), access, stopping);
        runtime.spawn(answer(Arc::clone(&core), inbox));
        let daemon = Self { core, flows, directory, handle, stop, server: Some(server), runtime };
        for address in ["10.0.0.11", "10.0.0.12:8443"] {
            daemon.report("web", address, Health::Healthy);
        }
        daemon
    }

    /// What checks and neighbours say of a backend from now on.
    pub(crate) fn report(&self, pool: &str, address: &str, health: Health) {
        let mut core = self.core.lock().unwrap();
        let address: lb_userspace::spec::BackendAddress = address.parse().unwrap();
        let way = WayState::Unneeded { source: Some("10.0.0.1".parse().unwrap()) };
        core.handle(Event::Way { ip: address.ip, state: way });
        let id = MemberId { pool: pool.parse().unwrap(), address };
        core.handle(Event::Health { id: CheckId::direct(id), health, detail: "said by the test".into() });
    }

    /// What the configuration file says from now on.
    pub(crate) fn rewrite(&self, text: &str) {
        self.core.lock().unwrap().file = config::parse(text, "lbd.toml").unwrap().spec;
    }

    /// How many flows a backend has from now on.
    pub(crate) fn flows(&self, pool: &str, address: &str, count: u64) {
        let id = MemberId { pool: pool.parse().unwrap(), address: address.parse().unwrap() };
        self.flows.lock().unwrap().now.insert(id, count);
    }

    /// Counts the flows for the last time.
    pub(crate) fn count_no_more(&self) {
        let mut flows = self.flows.lock().unwrap();
        flows.count();
        flows.stand = true;
    }

    /// Goes away, as for a restart, until somebody has asked in vain; then it is there again.
    pub(crate) fn go_and_come(&mut self) {
        self.stop.send(true).unwrap();
        self.runtime.block_on(self.server.take().unwrap()).unwrap();
        let path = self.directory.path().join("lbd.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap().accept().unwrap());
        let (stop, stopping) = watch::channel(false);
        self.server =
            Some(serve(&self.runtime, &path, self.handle.clone(), Access::of_this_process(), stopping));
        self.stop = stop;
    }

    /// Every deadline there is has come.
    pub(crate) fn pass_deadlines(&self) {
        let mut core = self.core.lock().unwrap();
        let outcome = core.membership.handle(Millis(86_400_000), Event::Tick);
        core.done(outcome);
    }

    /// What status says needs attention from now on.
    pub(crate) fn degrade(&self, sentence: &str) {
        let mut core = self.core.lock().unwrap();
        core.degraded = vec![sentence.to_owned()];
        core.publish();
    }

    /// The socket, which from now on every user can come to; only its own rights keep them out.
    pub(crate) fn open_socket(&self) -> PathBuf {
        std::fs::set_permissions(self.directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        self.directory.path().join("lbd.sock")
    }

    /// The real lbctl, about to speak with this daemon.
    pub(crate) fn command(&self, words: &[&str]) -> Process {
        let mut command = lbctl(self.directory.path().join("lbd.sock"));
        command.args(words);
        command
    }

    /// Runs lbctl.
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Runs `lbctl -j`, which must succeed; its answer.
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let output = self.run(&[&["-j"], words].concat());
        assert!(output.status.success(), "{words:?}: {}", stderr(&output));
        assert!(
            stdout(&output).starts_with("{\n  \"api_version\": \"v1\""),
            "{words:?}: {}",
            stdout(&output)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs lbctl, which must end with this code; what it says on stderr.
    pub(crate) fn fails(&self, code: i32, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}{}", stdout(&output), stderr(&output));
        stderr(&output)
    }
}

/// Serves the API at `path`, where nobody listens any more.
fn serve(
    runtime: &Runtime,
    path: &std::path::Path,
    handle: Handle,
    access: Access,
    stop: watch::Receiver<bool>,
) -> JoinHandle<()> {
    let socket = {
        let _in_runtime = runtime.enter();
        api::bind(path, access.rights()).unwrap()
    };
    runtime.spawn(api::serve(socket, handle, access, stop))
}

/// The real lbctl with nobody at its keyboard.
pub(crate) fn lbctl(socket: PathBuf) -> Process {
    let mut command = Process::new(env!("CARGO_BIN_EXE_lbctl"));
    command.env_remove("LBD_SOCKET").env("LBD_CONFIG", "/nonexistent/lbd.toml").stdin(Stdio::null());
    command.arg("--socket").arg(socket);
    command
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

impl Core {
    fn new(state: &std::path::Path) -> Self {
        let file = config::parse(CONFIG, "lbd.toml").unwrap().spec;
        let start = Start { file: Arc::new(file.clone()), ..Start::default() };
        let membership = Membership::start(Millis(0), start).unwrap().membership;
        let mut core = Self {
            membership,
            file,
            state: StateDir::open(state).unwrap().0,
            snapshot: Arc::default(),
            published: watch::Sender::new(0),
            events: Arc::default(),
            degraded: Vec::new(),
        };
        core.save("lbd", &["configuration file: taken over at the start".to_owned()]);
        core.publish();
        core
    }

    fn save(&mut self, who: &str, what: &[String]) {
        let membership = &self.membership;
        let record = Record {
            revision: membership.revision(),
            time: Millis(membership.revision() * 1000),
            who: who.to_owned(),
            what: what.to_vec(),
            file: Arc::clone(membership.file()),
            cli: Arc::clone(membership.cli_objects()),
            overrides: membership.overrides(),
            set_aside: membership.set_aside().cloned(),
        };
        self.state.write(&record).unwrap();
    }

    fn revisions(&self) -> RevisionList {
        let current = self.membership.revision();
        let revisions = self.state.history().map(|summary| Revision {
            revision: summary.revision,
            time: summary.time,
            who: summary.who.clone(),
            what: summary.what.clone(),
            current: summary.revision == current,
        });
        RevisionList { revisions: revisions.collect() }
    }

    fn revision(&self, number: u64, against: Option<u64>) -> Result<RevisionDetail, ApiError> {
        let record = self.state.record(number)?;
        let against = against.unwrap_or(number - 1);
        let other = self.state.record(against)?;
        Ok(RevisionDetail {
            summary: self.revisions().revisions.into_iter().find(|one| one.revision == number).unwrap(),
            against: Some(against),
            changes: differences(&merged(&other.file, &other.cli), &merged(&record.file, &record.cli)),
            configuration: (*record.file).clone(),
            cli: (*record.cli).clone(),
            overrides: record.overrides,
        })
    }

    fn put_back(&mut self, who: &str, back: BackTo, options: &Options) -> Result<ChangeDone, ApiError> {
        let back = match back {
            BackTo::Revision(number) => {
                let Record { time, file, cli, overrides, .. } = self.state.record(number)?;
                Back { name: format!("revision {number}"), time, file, cli, overrides }
            }
            BackTo::Backup(backup) => Back {
                name: backup.name(),
                time: backup.time,
                file: Arc::new(backup.configuration),
                cli: Arc::new(backup.cli),
                overrides: backup.overrides,
            },
        };
        let candidate = self.membership.put_back(Millis(1), who, back, options)?;
        self.put_whole(candidate, who, options)
    }

    fn backup(&self) -> Backup {
        Backup {
            version: "0".to_owned(),
            revision: self.membership.revision(),
            time: Millis(1),
            configuration: (**self.membership.file()).clone(),
            cli: (**self.membership.cli_objects()).clone(),
            overrides: self.membership.overrides(),
        }
    }

    fn handle(&mut self, event: Event) {
        let outcome = self.membership.handle(Millis(1), event);
        self.done(outcome);
    }

    fn done(&self, outcome: Outcome) {
        self.events.add(Millis(1), outcome.events);
        self.publish();
    }

    fn publish(&self) {
        let interface = Interface {
            name: "eth0".to_owned(),
            mode: "native".to_owned(),
            attached: true,
            program_id: Some(42),
            ..Interface::default()
        };
        self.snapshot.store(Arc::new(Snapshot {
            revision: self.membership.revision(),
            interfaces: vec![interface],
            in_force: true,
            degraded: self.degraded.clone(),
            services: self.membership.service_views(),
            pools: self.membership.pool_views(&[]),
            overrides: self.membership.overrides(),
            config: "lbd.toml".to_owned(),
            ..Snapshot::default()
        }));
        self.published.send_modify(|count| *count += 1);
    }

    /// What a change of the whole means; the datapath's part of it is given.
    fn foresee(&self, candidate: &Candidate) -> PlanReport {
        let changes = differences(&self.membership.merged_spec(), &candidate.membership.merged_spec());
        if changes.is_empty() {
            return PlanReport::default();
        }
        let moves = PoolMoves {
            pool: "web".to_owned(),
            slots: 1021,
            slots_moved: 10,
            collateral: 0,
            flows_kept: 75,
            flows_moved: 25,
        };
        PlanReport {
            changes,
            slots_moved: 10,
            slots: 1021,
            flows_kept: 75,
            flows_moved: 25,
            map_writes: 7,
            pools: vec![moves],
            ..PlanReport::default()
        }
    }

    fn plan(&self, candidate: Option<api::types::PlanRequest>) -> Result<PlanAnswer, ApiError> {
        let (file, spec) = match candidate {
            Some(request) => (request.file, request.configuration),
            None => ("lbd.toml".to_owned(), self.file.clone()),
        };
        let candidate = self.membership.reload(Millis(1), Arc::new(spec), &Options::default())?;
        let (revision, report) = (self.membership.revision(), self.foresee(&candidate));
        let aside = candidate.membership.set_aside();
        let notes = aside.map(|_| candidate.outcome.notes.clone()).unwrap_or_default();
        Ok(PlanAnswer { revision, file, report, notes, ..PlanAnswer::default() })
    }

    fn apply(&mut self, options: &Options) -> Result<ChangeDone, ApiError> {
        let candidate = self.membership.reload(Millis(1), Arc::new(self.file.clone()), options)?;
        self.put_whole(candidate, "uid 0", options)
    }

    fn put_whole(
        &mut self,
        candidate: Candidate,
        who: &str,
        options: &Options,
    ) -> Result<ChangeDone, ApiError> {
        let plan = self.foresee(&candidate);
        if options.max_moved.is_some_and(|most| most < MOVED && !plan.changes.is_empty()) {
            return Err(ApiError::new(ErrorCode::MaxMoved, "it would move 25% of pool web's tracked flows"));
        }
        let Candidate { membership, outcome } = candidate;
        let mut done = ChangeDone {
            revision: self.membership.revision(),
            changed: outcome.revised,
            dry_run: options.dry_run,
            notes: outcome.notes.clone(),
            warnings: outcome.warnings.clone(),
            plan: Some(plan),
            admitted: outcome.members(EventKind::BackendAdded),
        };
        if !options.dry_run {
            self.membership = membership;
            done.revision = self.membership.revision();
            if outcome.revised {
                self.save(who, &outcome.notes);
            }
            self.done(outcome);
        }
        Ok(done)
    }

    fn change(
        &mut self,
        who: &str,
        change: &lb_userspace::membership::Change,
    ) -> Result<ChangeDone, api::ApiError> {
        let candidate = self.membership.prepare(Millis(1), who, change)?;
        let outcome = candidate.outcome;
        let mut done = ChangeDone {
            revision: self.membership.revision(),
            changed: outcome.revised,
            dry_run: change.options.dry_run,
            notes: outcome.notes.clone(),
            warnings: outcome.warnings.clone(),
            plan: Some(PlanReport::default()),
            admitted: Vec::new(),
        };
        if !change.options.dry_run {
            self.membership = candidate.membership;
            done.revision = self.membership.revision();
            if outcome.revised {
                self.save(who, &outcome.notes);
            }
            self.done(outcome);
        }
        Ok(done)
    }
}

/// What a controller does with commands, without a datapath.
async fn answer(core: Arc<Mutex<Core>>, mut inbox: mpsc::Receiver<Command>) {
    while let Some(command) = inbox.recv().await {
        // Whoever asked may be gone.
        match command {
            Command::Change { who, change, reply } => {
                drop(reply.send(core.lock().unwrap().change(&who, &change)))
            }
            Command::Plan { candidate, reply } => {
                drop(reply.send(core.lock().unwrap().plan(candidate.map(|candidate| *candidate))));
            }
            Command::Revisions { reply } => drop(reply.send(Ok(core.lock().unwrap().revisions()))),
            Command::Revision { number, against, reply } => {
                drop(reply.send(core.lock().unwrap().revision(number, against)));
            }
            Command::PutBack { who, back, options, reply } => {
                drop(reply.send(core.lock().unwrap().put_back(&who, back, &options)));
            }
            Command::Backup { reply } => drop(reply.send(Ok(Box::new(core.lock().unwrap().backup())))),
            Command::Apply { options, reply, .. } => {
                drop(reply.send(core.lock().unwrap().apply(&options)));
            }
            Command::Explain { reply, .. } => drop(reply.send(Ok(explanation()))),
            Command::Flows { filter, reply } => drop(reply.send(Ok(flows(&filter)))),
            Command::CountFlows { reply, .. } => {
                let services = [("web".to_owned(), 3)].into();
                drop(reply.send(Ok(FlowCounts { count: 3, services, ..FlowCounts::default() })));
            }
            Command::FlushFlows { reply, .. } => drop(reply.send(Ok(FlowsFlushed { flushed: 3 }))),
        }
    }
}

fn explanation() -> Explanation {
    Explanation {
        verdict: "redirect".to_owned(),
        service: Some("web".parse().unwrap()),
        pool: Some("web".parse().unwrap()),
        backend: Some("10.0.0.11".parse().unwrap()),
        selected_by: "maglev".to_owned(),
        interface: Some("eth0".to_owned()),
        next_hop: Some("02:00:00:00:00:0b".to_owned()),
        slot: Some(512),
        sentence: "all of it".to_owned(),
        ..Explanation::default()
    }
}

/// Three flows, as many of them as were asked for.
fn flows(filter: &FlowFilter) -> FlowList {
    let limit = filter.limit.unwrap_or(100);
    let flow = |port: u16| Flow {
        protocol: Protocol::Tcp,
        source: ([198, 51, 100, 7], port).into(),
        destination: ([203, 0, 113, 10], 443).into(),
        service: "web".parse().unwrap(),
        pool: "web".parse().unwrap(),
        backend: Some("10.0.0.11".parse().unwrap()),
        state: "established".to_owned(),
        idle: 1.0,
    };
    FlowList { flows: (1..=3).take(limit).map(flow).collect(), truncated: limit < 3 }
}

/// Counters that stand still, but for the flows.
struct Given {
    flows: Arc<Mutex<Flows>>,
}

impl Counters for Given {
    fn services(&self) -> BTreeMap<Name, Totals> {
        [("web".parse().unwrap(), Totals { packets: 1_000, new_flows: 10, ..Totals::default() })].into()
    }

    fn backends(&self) -> BTreeMap<MemberId, Totals> {
        BTreeMap::new()
    }

    fn count_flows(&self) {
        let mut flows = self.flows.lock().unwrap();
        if !flows.stand {
            flows.count();
        }
    }

    fn flows_counted(&self) -> Millis {
        Millis(self.flows.lock().unwrap().counts)
    }

    fn backend_flows(&self) -> BTreeMap<MemberId, u64> {
        self.flows.lock().unwrap().counted.clone()
    }

    fn reasons(&self) -> Vec<(Option<Name>, Reason, u64)> {
        Reason::ALL.iter().map(|reason| (Some("web".parse().unwrap()), *reason, 5)).collect()
    }

    fn flow_tables(&self) -> FlowTables {
        let table = FlowTable { used: 3, capacity: 1_048_576, ..FlowTable::default() };
        FlowTables { v4: table, v6: table }
    }

    fn interface(&self, _: &str) -> BTreeMap<String, u64> {
        [("pass".to_owned(), 7)].into()
    }
}
