//! Network namespaces that go away by themselves.
//!
//! In: a name. Out: a namespace bound at `/run/netns/lbd-<pid>-<name>` (so `ip -n` and `nsenter --net=` work on it), threads
//! and commands inside it. Invariant: entering happens per thread by setns(2) and leaves the mount namespace alone: with
//! `ip netns exec` a fresh /sys hides bpffs, and pins fail. Dropping a namespace ends every process in it, then removes it.

pub mod counters;
pub mod link;
mod xdp_pass;

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::MntFlags;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::run_dir::{RunDir, pidfd};

const NETNS_DIR: &str = "/run/netns";
/// How long a killed process may take to be gone before a namespace is removed under it.
const REAP_TIMEOUT: Duration = Duration::from_secs(3);

/// Settings that make a namespace's network a plain one: no reverse-path filter in the way of asymmetric routes, no
/// duplicate address detection to wait for, no redirects, and many local ports (a load at 500 connections a second goes
/// through the default 28,000 in a minute).
const SYSCTLS: &[(&str, &str)] = &[
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    ("net/ipv4/ip_local_port_range", "2048 60999"),
    ("net/ipv6/conf/all/disable_ipv6", "0"),
    ("net/ipv6/conf/default/disable_ipv6", "0"),
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/default/router_solicitations", "0"),
];

/// A network namespace of ours; see the module's text.
#[derive(Debug)]
pub struct Namespace {
    label: String,
    name: String,
    handle: Arc<File>,
    run_dir: Arc<RunDir>,
}

impl Namespace {
    /// Makes `lbd-<pid>-<label>` with `lo` up and the settings of a plain network.
    pub fn new(label: &str) -> Result<Namespace> {
        let run_dir = RunDir::current()?;
        let name = format!("lbd-{}-{label}", std::process::id());
        output_of(Command::new("ip").env("PATH", search_path()).args(["netns", "add", &name]))?;
        let opened = File::open(Path::new(NETNS_DIR).join(&name));
        let handle = opened.with_context(|| format!("cannot open namespace {name}"))?;
        let namespace = Namespace { label: label.to_owned(), name, handle: Arc::new(handle), run_dir };
        for (key, value) in SYSCTLS {
            namespace.sysctl(key, value)?;
        }
        namespace.ip("link set dev lo up")?;
        Ok(namespace)
    }

    /// The name it was made with.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The name `ip netns` knows.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path for `nsenter --net=`.
    pub fn path(&self) -> PathBuf {
        Path::new(NETNS_DIR).join(&self.name)
    }

    /// The run directory this namespace belongs to.
    pub fn run_dir(&self) -> &Arc<RunDir> {
        &self.run_dir
    }

    /// Runs `work` on a thread of its own inside the namespace and waits for it. Sockets opened there stay in the
    /// namespace wherever they are used later. A panic of `work` goes on in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let outcome = thread::scope(|scope| scope.spawn(|| self.enter().map(|()| work())).join());
        match outcome {
            Ok(done) => done.with_context(|| format!("cannot enter namespace {}", self.name)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Starts a named thread inside the namespace, for work that goes on (a server, a load).
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<io::Result<T>>> {
        let handle = Arc::clone(&self.handle);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                setns(handle.as_fd(), CloneFlags::CLONE_NEWNET).map(|()| work()).map_err(io::Error::from)
            })
            .with_context(|| format!("cannot start thread {name}"))
    }

    /// A command that will run inside the namespace, in a process group of its own (a Ctrl-C at the terminal is for us, who
    /// end it in order). Start it with [`crate::process::Process::spawn`] to have it end with its handle.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let handle = Arc::clone(&self.handle);
        command.process_group(0).stdin(Stdio::null()).env("PATH", search_path());
        // SAFETY: between fork and exec only setns(2) is called, which is async-signal-safe and allocates nothing.
        unsafe {
            command
                .pre_exec(move || setns(handle.as_fd(), CloneFlags::CLONE_NEWNET).map_err(io::Error::from));
        }
        command
    }

    /// One `ip` command line, e.g. `ip("route add default via 192.0.2.1")`; its output.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        output_of(self.command("ip").args(arguments.split_whitespace()))
    }

    /// Sets a network sysctl, written as a path below /proc/sys.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        // /proc/sys/net shows the namespace of the thread that opens it.
        self.run(|| fs::write(Path::new("/proc/sys").join(key), value))?
            .with_context(|| format!("cannot set {key} = {value} in namespace {}", self.name))
    }

    fn enter(&self) -> io::Result<()> {
        setns(self.handle.as_fd(), CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if self.run_dir.is_kept() {
            return;
        }
        if let Err(error) = destroy(&self.name) {
            eprintln!("namespace {} is left behind: {error:#}", self.name);
        }
    }
}

/// PATH with the directories of administrators' programs, which root got by a plain `su` does not have.
fn search_path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

/// Runs a command to its end; its standard output, or an error with what it said.
pub fn output_of(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command.output().with_context(|| format!("cannot run {shown}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{shown} failed ({}): {}", output.status, said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The names of all bound namespaces.
pub(crate) fn names() -> Result<Vec<String>> {
    match fs::read_dir(NETNS_DIR) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {NETNS_DIR}")),
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
    }
}

/// The pid in `lbd-<pid>-<label>`; nothing for a name that is not of this crate.
pub(crate) fn owner(name: &str) -> Option<u32> {
    name.strip_prefix("lbd-")?.split_once('-')?.0.parse().ok()
}

/// Ends every process in the namespace, then removes it.
pub(crate) fn destroy(name: &str) -> Result<()> {
    let path = Path::new(NETNS_DIR).join(name);
    if let Ok(meta) = fs::metadata(&path) {
        end_processes_in((meta.dev(), meta.ino()))?;
    }
    match nix::mount::umount2(&path, MntFlags::MNT_DETACH) {
        // EINVAL: not a mount point, the file of a half-made namespace.
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
        Err(errno) => return Err(errno).with_context(|| format!("cannot unmount {}", path.display())),
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn end_processes_in(namespace: (u64, u64)) -> Result<()> {
    let deadline = Instant::now() + REAP_TIMEOUT;
    for pid in processes_in(namespace)? {
        let Ok(ended) = pidfd(pid) else { continue };
        let Ok(raw_pid) = i32::try_from(pid) else { continue };
        // A process that ended meanwhile is what we want.
        let _ = kill(Pid::from_raw(raw_pid), Signal::SIGKILL);
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let ready = poll(&mut [PollFd::new(ended.as_fd(), PollFlags::POLLIN)], timeout).unwrap_or(0);
        if ready == 0 {
            bail!("process {pid} does not end after SIGKILL");
        }
    }
    Ok(())
}

fn processes_in(namespace: (u64, u64)) -> Result<Vec<u32>> {
    let own = std::process::id();
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        // A process may end while we look: then it is not in the namespace.
        let Ok(meta) = fs::metadata(format!("/proc/{pid}/ns/net")) else { continue };
        if pid != own && (meta.dev(), meta.ino()) == namespace {
            pids.push(pid);
        }
    }
    Ok(pids)
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn only_our_names_have_an_owner() {
        assert_eq!(owner("lbd-123-client"), Some(123));
        assert_eq!(owner("lbd-client"), None);
        assert_eq!(owner("lbd-x-client"), None);
        assert_eq!(owner("other-123-client"), None);
    }
}
