//! `lbd try`: a balancer on `lo` for servers of this machine, in the foreground, that leaves nothing behind.
//!
//! In: a vip and the servers' addresses. Out: a running balancer until Ctrl-C. Invariant: pins, state and program are in
//! places of this process alone and are gone when it ends; nothing of the host is configured.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::api::{self, Access, Handle};
use crate::config;
use crate::controller::{Controller, Given, Order, Work};
use crate::daemon;
use crate::ended::tell;
use crate::signals::Ending;
use crate::spec::{OnExit, Spec};
use crate::state::StateDir;

/// How long the list of servers may wait for what is known of them: more than a first check takes.
const PATIENCE: Duration = Duration::from_secs(2);

/// Before the number of its process in the names of what a trial keeps.
const PREFIX: &str = "lbd-try-";
/// Where it pins.
const PINS: &str = "/sys/fs/bpf";

/// Runs until SIGINT, SIGTERM or SIGHUP (a terminal that closes).
///
/// # Errors
/// In a sentence: what cannot work, or what the kernel refuses.
pub fn run(vip: SocketAddr, backends: &[SocketAddr]) -> anyhow::Result<ExitCode> {
    judge(vip, backends)?;
    let place = Place::take()?;
    let spec = Arc::new(spec(vip, backends, &place)?);
    daemon::runtime()?.block_on(serve(vip, &spec))?;
    if !place.clear() {
        return Ok(ExitCode::FAILURE);
    }
    println!("removed; nothing is left");
    Ok(ExitCode::SUCCESS)
}

/// What can be told before the kernel is asked.
fn judge(vip: SocketAddr, backends: &[SocketAddr]) -> anyhow::Result<()> {
    if backends.contains(&vip) {
        bail!("{vip} cannot be the vip and a server at once; choose another vip with --vip");
    }
    if let Some(other) = backends.iter().find(|backend| backend.is_ipv4() != vip.is_ipv4()) {
        bail!(
            "{other} is not of the vip's address family; give --vip an address such as [::1]:8000 or use IPv4 servers"
        );
    }
    let reachable = match vip.ip() {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_loopback(),
    };
    if !reachable {
        bail!(
            "{vip} is not an address of lo; use one of 127.0.0.0/8 (all of it is this machine) or [::1]:PORT"
        );
    }
    Ok(())
}

/// Where this process keeps what it needs; gone when dropped.
struct Place {
    directory: PathBuf,
    pin: PathBuf,
}

impl Place {
    fn take() -> anyhow::Result<Self> {
        clear_remains();
        let place = Self::of(std::process::id());
        std::fs::create_dir(&place.directory)
            .with_context(|| format!("cannot create {}", place.directory.display()))?;
        Ok(place)
    }

    fn of(process: u32) -> Self {
        let name = format!("{PREFIX}{process}");
        Self { directory: std::env::temp_dir().join(&name), pin: Path::new(PINS).join(name) }
    }
}

/// Removes what trials that were killed have left, first of all their program on `lo`. What cannot be looked at is left.
fn clear_remains() {
    let names = |directory: &Path| std::fs::read_dir(directory).into_iter().flatten().flatten();
    let process = |entry: std::fs::DirEntry| entry.file_name().to_str()?.strip_prefix(PREFIX)?.parse().ok();
    let processes: BTreeSet<u32> =
        names(Path::new(PINS)).chain(names(&std::env::temp_dir())).filter_map(process).collect();
    for process in processes.into_iter().filter(|process| !is_at_work(*process)) {
        if Place::of(process).clear() {
            println!("removed what an lbd try that was killed had left (process {process})");
        }
    }
}

/// Whether a process of this number is another lbd. This one has made nothing yet: what bears its number is of one before it,
/// as in a container, where every lbd is process 1.
fn is_at_work(process: u32) -> bool {
    process != std::process::id()
        && std::fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name.trim() == "lbd")
}

impl Drop for Place {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Place {
    /// Removes it; false: something is left, and what and why has been said.
    fn clear(self) -> bool {
        // Once is enough: a second attempt would say the same again.
        std::mem::ManuallyDrop::new(self).remove()
    }

    fn remove(&self) -> bool {
        if let Err(error) = crate::datapath::detach(&self.pin) {
            // One that is at work after all keeps its files too.
            eprintln!("lbd: {error}");
            return false;
        }
        let mut is_gone = true;
        for directory in [&self.pin, &self.directory] {
            match std::fs::remove_dir_all(directory) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    eprintln!("lbd: cannot remove {}: {error}", directory.display());
                    is_gone = false;
                }
                _ => {}
            }
        }
        is_gone
    }
}

/// The configuration that a person would have written.
fn spec(vip: SocketAddr, backends: &[SocketAddr], place: &Place) -> anyhow::Result<Spec> {
    let servers: Vec<String> = backends.iter().map(|backend| format!("\"{backend}\"")).collect();
    let pin = place.pin.display();
    let at = |name: &str| place.directory.join(name).display().to_string();
    let (socket, state, seed) = (at("lbd.sock"), at("state"), at("seed"));
    let text = format!(
        r#"
[daemon]
socket  = "{socket}"
state   = "{state}"
metrics = ""
on_exit = "detach"

[datapath]
interfaces = ["lo"]
mode       = "generic"
flows      = 65536
pin        = "{pin}"
seed_file  = "{seed}"

[[service]]
name         = "try"
listen       = ["{vip}/tcp"]
backends     = [{servers}]
health       = {{ type = "tcp", interval = "1s", timeout = "500ms", rise = 1, fall = 2 }}
shadow_local = true
"#,
        servers = servers.join(", "),
    );
    let loaded = config::parse(&text, "lbd try").map_err(|errors| anyhow::anyhow!("{errors}"))?;
    Ok(loaded.spec)
}

async fn serve(vip: SocketAddr, spec: &Arc<Spec>) -> anyhow::Result<()> {
    let ending = Ending::catch()?;
    let (state, left) = StateDir::open(&spec.daemon.state)?;
    let given = Given {
        config: PathBuf::from("lbd try"),
        spec: Arc::clone(spec),
        warnings: Vec::new(),
        invalid: None,
        state,
        left,
        set_aside: None,
    };
    let (controller, senders) = Controller::start(given).await?;
    let handle = daemon::handle(&controller, &senders);
    let socket = api::bind(&spec.daemon.socket, api::Rights::OWN)?;
    let (_stop_api, stopped) = tokio::sync::watch::channel(false);
    let api = tokio::spawn(api::serve(socket, handle.clone(), Access::of_this_process(), stopped));
    drop(tell(api, senders.ended.clone(), Work::Api));
    let controller = tokio::spawn(controller.run());
    wait_for_servers(&handle).await;
    println!(
        "http://{}/ is spread over:",
        if vip.port() == 80 { vip.ip().to_string() } else { vip.to_string() }
    );
    for pool in &handle.snapshot.load().pools {
        for backend in &pool.backends {
            let reason = if backend.eligible { "" } else { backend.reason.as_str() };
            println!("  {:<22} {} {reason}", backend.id.address.to_string(), backend.health);
        }
    }
    println!("Ctrl-C ends it. Look inside: lbctl --socket {} status", spec.daemon.socket.display());
    ending.wait().await;
    senders.orders.send(Order::Stop).await?;
    controller.await.context("the controller has failed; this is a fault of lbd")?.end(OnExit::Detach)
}

/// Until every server takes connections, or is known not to answer. Healthy alone is not enough: the way to it may not be known yet.
async fn wait_for_servers(handle: &Handle) {
    let mut published = handle.published.clone();
    let known = async {
        loop {
            let snapshot = handle.snapshot.load();
            let waiting = |backend: &crate::membership::BackendView| {
                !backend.eligible && backend.health != crate::health::Health::Unhealthy
            };
            if !snapshot.pools.iter().flat_map(|pool| &pool.backends).any(waiting) {
                return;
            }
            drop(snapshot);
            if published.changed().await.is_err() {
                return;
            }
        }
    };
    // Those that nothing is known of by then are shown as they are.
    let _ = tokio::time::timeout(PATIENCE, known).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_said_before_the_kernel_is_asked() {
        let vip: SocketAddr = "127.0.0.100:80".parse().unwrap();
        let server: SocketAddr = "127.0.0.1:8081".parse().unwrap();
        assert!(judge(vip, &[server]).is_ok());
        let refused = |vip: &str, server: &str| {
            judge(vip.parse().unwrap(), &[server.parse().unwrap()]).unwrap_err().to_string()
        };
        assert!(refused("127.0.0.1:80", "127.0.0.1:80").contains("another vip"));
        assert!(refused("127.0.0.100:80", "[::1]:8081").contains("family"));
        assert!(refused("192.0.2.1:80", "127.0.0.1:8081").contains("not an address of lo"));
    }

    #[test]
    fn what_cannot_be_removed_is_not_called_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let place =
            || Place { directory: scratch.path().join("directory"), pin: scratch.path().join("no pins") };
        // A file in the directory's place: that fails for root too.
        std::fs::write(place().directory.clone(), "").unwrap();
        assert!(!place().clear());
        std::fs::remove_file(scratch.path().join("directory")).unwrap();
        std::fs::create_dir(scratch.path().join("directory")).unwrap();
        assert!(place().clear() && !scratch.path().join("directory").exists());
        assert!(place().clear(), "nothing there is nothing left");
    }

    #[test]
    fn what_bears_the_number_of_this_process_is_not_at_work() {
        let own = std::process::id();
        let name = format!("/proc/{own}/comm");
        let before = std::fs::read_to_string(&name).unwrap();
        std::fs::write(&name, "lbd").unwrap();
        let is_at_work = is_at_work(own);
        std::fs::write(&name, before.trim()).unwrap();
        assert!(!is_at_work);
    }
}
