//! A daemon without a kernel: the real socket, the real API, the real membership; only the datapath's answers are given.
//!
//! In: a configuration. Out: a socket that the real `lbctl` speaks with. Invariant: what a change does is what the
//! membership says; checks speak when the test says so.

mod core;
mod given;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command as Process, Output, Stdio};
use std::sync::{Arc, Mutex};

use lb_userspace::api::{self, Access, Handle};
use lb_userspace::clock::Clock;
use lb_userspace::config;
use lb_userspace::health::Health;
use lb_userspace::membership::{CheckId, Event, MemberId, WayState};
use lb_userspace::moment::Millis;
use lb_userspace::spec::DaemonSpec;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use self::core::{Core, answer};
use self::given::{Flows, Given};

pub(crate) const CONFIG: &str = r#"
[datapath]
interfaces = ["eth0"]
[[service]]
name = "web"
listen = ["203.0.113.10:443/tcp"]
backends = ["10.0.0.11", { address = "10.0.0.12:8443", weight = 10 }]
"#;

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
