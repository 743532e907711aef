//! What ten thousand checks cost. Run by hand (docs/performance.md):
//! `cargo test --release -p lb-userspace --lib engine::tests::cost -- --ignored --nocapture --test-threads=1`.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use super::*;

/// Ports of the server, and addresses at each: 127.0.0.0/8 is all local, so one listener is many backends to the engine.
const PORTS: u16 = 10;
const HOSTS: u32 = 1000;
const FIRST_PORT: u16 = 20_800;
const MEASURED: Duration = Duration::from_secs(20);

/// nginx, a process of its own, whose time is not ours.
struct Server {
    child: Child,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display();
        let listen: String =
            (FIRST_PORT..FIRST_PORT + PORTS).map(|port| format!("listen {port} backlog=4096; ")).collect();
        let text = format!(
            "daemon off; user root; worker_processes 1; worker_rlimit_nofile 16384; pid {path}/pid; error_log {path}/error.log;
             events {{ worker_connections 8192; }}
             http {{ access_log off; client_body_temp_path {path}/a; proxy_temp_path {path}/b; fastcgi_temp_path {path}/c;
             uwsgi_temp_path {path}/d; scgi_temp_path {path}/e; server {{ {listen} location / {{ return 200 ok; }} }} }}"
        );
        let config = dir.path().join("nginx.conf");
        std::fs::write(&config, text).unwrap();
        Self { child: nginx(&config), _dir: dir }
    }
}

fn nginx(config: &Path) -> Child {
    let mut command = Command::new("nginx");
    command.arg("-e").arg(config.with_file_name("error.log")).arg("-c").arg(config);
    command.stderr(Stdio::null()).spawn().expect("nginx: apt-get install nginx-light")
}

impl Drop for Server {
    fn drop(&mut self) {
        let master = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        // Its worker goes with it, as it would not with SIGKILL.
        nix::sys::signal::kill(master, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test]
#[ignore = "a measurement of half a minute"]
async fn ten_thousand_tcp_checks() {
    measure(HealthKind::Tcp).await;
}

#[tokio::test]
#[ignore = "a measurement of half a minute"]
async fn ten_thousand_http_checks() {
    measure(HealthKind::Http(HttpCheck::default())).await;
}

/// Every backend every two seconds, by this kind of check; prints this process's share of one CPU.
async fn measure(kind: HealthKind) {
    let _server = Server::start();
    let spec = HealthSpec { kind, ..HealthSpec::default() };
    let mut targets = Vec::new();
    for port in FIRST_PORT..FIRST_PORT + PORTS {
        for host in 0..HOSTS {
            let address = Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 1, 1).to_bits() + host);
            targets.push(target(u32::from(port) << 16 | host, (address, port).into(), spec.clone()));
        }
    }
    let count = targets.len();
    let (engine, mut inbox) = start(default_probe_limit());
    engine.set(targets);
    let mut healthy = 0;
    let all = async {
        while healthy < count {
            healthy += usize::from(inbox.recv().await.unwrap().health == Health::Healthy);
        }
    };
    timeout(GENEROUS, all).await.expect("all become healthy");
    let probes = || engine.metrics().checks.iter().map(|check| check.duration.count).sum::<u64>();
    let (before, probes_before, begun) = (cpu_time(), probes(), Instant::now());
    tokio::time::sleep(MEASURED).await;
    let ((user, system), probes, wall) = (cpu_time(), probes() - probes_before, begun.elapsed());
    let [user, system] =
        [user - before.0, system - before.1].map(|time| time.as_secs_f64() / wall.as_secs_f64() * 100.0);
    println!(
        "{count} {} checks every 2 s: {:.1} % of one CPU (user {user:.1}, system {system:.1}), {:.0} checks/s, {} late",
        spec.kind.as_str(),
        user + system,
        f64::from(u32::try_from(probes).unwrap()) / wall.as_secs_f64(),
        engine.metrics().late_probes,
    );
    assert!(inbox.try_recv().is_err(), "no backend changed its health or its reason");
    assert!(user + system < 50.0, "more than half a core");
}

/// User and system time of this process, the engine's probes and their system calls.
fn cpu_time() -> (Duration, Duration) {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let part = |time: TimeVal| {
        Duration::new(u64::try_from(time.tv_sec()).unwrap(), u32::try_from(time.tv_usec() * 1000).unwrap())
    };
    (part(usage.user_time()), part(usage.system_time()))
}
