//! The real lbd in a balancer's namespace, and lbctl to speak with it.
//!
//! In: a network and settings. Out: a running daemon with its own socket, state and pins; answers of lbctl as JSON.
//! Invariant: an [`Lbd`] that was started answers; when it is dropped the process is gone, and the pins with the run directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Pair, Settings, Topology};
use crate::netns::Namespace;
use crate::process::Process;
use crate::web::until;

/// How long a start or a stop may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time between two looks at something that announces itself in no way.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Backends that a message shows.
const SHOWN: usize = 8;

/// A user without any right.
const NOBODY: u32 = 65_534;

static NEXT_INSTANCE: AtomicU32 = AtomicU32::new(0);

/// The programs under test.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// The daemon.
    pub lbd: PathBuf,
    /// The command line.
    pub lbctl: PathBuf,
}

impl Binaries {
    /// From `LBD_BIN` and `LBCTL_BIN`, else those built beside this program.
    pub fn find() -> Result<Binaries> {
        Ok(Binaries { lbd: find_binary("LBD_BIN", "lbd")?, lbctl: find_binary("LBCTL_BIN", "lbctl")? })
    }
}

fn find_binary(variable: &str, name: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        let path = PathBuf::from(path);
        ensure!(
            path.is_file(),
            "{variable} names {}, which is no file: build it or unset {variable}",
            path.display()
        );
        return Ok(path);
    }
    let own = std::env::current_exe().context("cannot tell where this program lies")?;
    // target/release/lbd-demo lies beside lbd, a test in target/debug/deps one deeper.
    let beside = own.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
    beside.with_context(|| {
        format!("{name} is not built and {variable} is not set: run `cargo xtask demo` or `cargo xtask test`, which do both")
    })
}

/// A daemon at work.
#[derive(Debug)]
pub struct Lbd {
    process: Process,
    binaries: Binaries,
    dir: PathBuf,
    pin: PathBuf,
    /// Words before the daemon's own.
    wrapper: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Lbd {
    /// Writes lbd.toml, starts `lbd run` in the balancer's namespace and waits until it answers.
    pub fn start(topology: &Topology, settings: &Settings) -> Result<Lbd> {
        let (dir, pin) = prepare(topology, settings)?;
        Lbd::start_in(&topology.balancer, Binaries::find()?, dir, pin, Vec::new())
    }

    /// Starts `lbd run` in a namespace that is no topology's, with the lbd.toml that `config` writes for a directory of its own
    /// and a pin directory, and waits until it answers.
    pub fn start_with(namespace: &Namespace, config: impl FnOnce(&Path, &Path) -> String) -> Result<Lbd> {
        let (dir, pin) = prepare_with(namespace, config)?;
        Lbd::start_in(namespace, Binaries::find()?, dir, pin, Vec::new())
    }

    /// As [`Lbd::start`], but as another user with these capabilities alone (`bpf`, `net_admin` …).
    pub fn start_as_nobody(topology: &Topology, settings: &Settings, capabilities: &[&str]) -> Result<Lbd> {
        let (dir, pin) = prepare(topology, settings)?;
        // Where the other user may read it, wherever it was built.
        let mut binaries = Binaries::find()?;
        let copy = dir.join("lbd");
        fs::copy(&binaries.lbd, &copy).with_context(|| format!("cannot copy to {}", copy.display()))?;
        binaries.lbd = copy;
        fs::create_dir(&pin).with_context(|| format!("cannot create {}", pin.display()))?;
        for path in [&dir, &dir.join("state"), &pin] {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY))
                .with_context(|| format!("cannot give {} away", path.display()))?;
        }
        let capabilities: String = capabilities.iter().map(|name| format!(",+{name}")).collect();
        let wrapper = [
            "setpriv".to_owned(),
            format!("--reuid={NOBODY}"),
            format!("--regid={NOBODY}"),
            "--clear-groups".to_owned(),
            "--no-new-privs".to_owned(),
            format!("--inh-caps=-all{capabilities}"),
            format!("--ambient-caps=-all{capabilities}"),
        ];
        Lbd::start_in(&topology.balancer, binaries, dir, pin, wrapper.to_vec())
    }

    fn start_in(
        namespace: &Namespace,
        binaries: Binaries,
        dir: PathBuf,
        pin: PathBuf,
        wrapper: Vec<String>,
    ) -> Result<Lbd> {
        let process = spawn(namespace, &wrapper, &binaries, &dir, &[])?;
        let mut lbd = Lbd { process, binaries, dir, pin, wrapper, environment: Vec::new() };
        lbd.wait_ready()?;
        Ok(lbd)
    }

    /// Starts it again after [`Lbd::stop`] or [`Lbd::kill`], on the same state, socket and pins.
    pub fn start_again(&mut self, topology: &Topology) -> Result<()> {
        self.start_again_in(&topology.balancer)
    }

    /// As [`Lbd::start_again`], of one that [`Lbd::start_with`] has started.
    pub fn start_again_in(&mut self, namespace: &Namespace) -> Result<()> {
        let Lbd { binaries, dir, wrapper, environment, .. } = &*self;
        self.process = spawn(namespace, wrapper, binaries, dir, environment)?;
        self.wait_ready()
    }

    /// Variables for the starts to come.
    pub fn set_environment(&mut self, variables: &[(&str, &str)]) {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.environment = variables.iter().map(owned).collect();
    }

    /// Writes another lbd.toml; nothing changes until [`Lbd::reload`] or a restart.
    pub fn rewrite_config(&self, topology: &Topology, settings: &Settings) -> Result<()> {
        write_config(&self.dir, &topology.plan.config(settings, &self.dir, &self.pin))
    }

    /// As [`Lbd::rewrite_config`], of one that [`Lbd::start_with`] has started.
    pub fn write_config(&self, text: &str) -> Result<()> {
        write_config(&self.dir, text)
    }

    /// Where its configuration, socket and state lie.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// SIGHUP.
    pub fn reload(&self) -> Result<()> {
        self.process.signal(Signal::SIGHUP)
    }

    /// SIGHUP, and waits until the daemon has said what came of it: the sentences it has logged since.
    pub fn reloaded(&self) -> Result<String> {
        let log = self.process.log_path().to_owned();
        let mark = fs::read(&log)?.len();
        self.reload()?;
        let since =
            || Ok(String::from_utf8_lossy(fs::read(&log)?.get(mark..).unwrap_or_default()).into_owned());
        until("what came of the reload", || {
            let said: String = since()?;
            Ok(said.contains("reload: ") || said.contains("reload refused"))
        })?;
        since()
    }

    /// SIGTERM, and waits for the end; the exit code must be 0.
    pub fn stop(&mut self) -> Result<()> {
        let status = self.process.stop(PATIENCE)?;
        ensure!(
            status.success(),
            "lbd ended with {status} after SIGTERM. Its log ends:\n{}",
            self.process.log_tail()
        );
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// The daemon's process, for its pid and its log.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The end of the daemon's log.
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// The pin directory in lbd.toml.
    pub fn pin(&self) -> &Path {
        &self.pin
    }

    /// The configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.dir.join("lbd.toml")
    }

    /// The socket, for `lbctl --socket`.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("lbd.sock")
    }

    /// The lbctl that belongs to this daemon.
    pub fn lbctl_path(&self) -> &Path {
        &self.binaries.lbctl
    }

    /// Runs lbctl with these words; whatever comes out.
    pub fn lbctl_output(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.binaries.lbctl);
        command.arg("--socket").arg(self.socket()).args(arguments).env_remove("LBD_SOCKET");
        command.output().with_context(|| format!("cannot run {}", self.binaries.lbctl.display()))
    }

    /// Runs `lbctl -j`; the answer, or an error with the exit code and what it said.
    pub fn lbctl(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.lbctl_output(&[&["-j"], arguments].concat())?;
        let (said, complained) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            bail!(
                "lbctl {} failed ({}): {}{}",
                arguments.join(" "),
                output.status,
                complained.trim(),
                said.trim()
            );
        }
        serde_json::from_str(&said).with_context(|| {
            format!("lbctl {} answered with something that is not JSON: {said}", arguments.join(" "))
        })
    }

    /// The entries of `backend list` for a pool.
    pub fn backends(&self, pool: &str) -> Result<Vec<Value>> {
        let mut answer = self.lbctl(&["backend", "list", pool])?;
        match answer.get_mut("backends").map(Value::take) {
            Some(Value::Array(backends)) => Ok(backends),
            _ => bail!("backend list has no list `backends`: {answer}"),
        }
    }

    /// Waits until exactly `count` backends of the pool are eligible.
    pub fn wait_eligible(&mut self, pool: &str, count: usize, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            let backends = self.backends(pool)?;
            if backends.iter().filter(|backend| backend["eligible"] == true).count() == count {
                return Ok(());
            }
            if Instant::now() > deadline {
                let shown: Vec<Value> = backends.into_iter().take(SHOWN).collect();
                bail!(
                    "pool {pool} has not {count} eligible backends after {timeout:?}: {} …",
                    Value::from(shown)
                );
            }
            self.pause()?;
        }
    }

    fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // The socket first: a lbctl a look would be a process a look.
            let answer = std::os::unix::net::UnixStream::connect(self.socket())
                .context("its socket takes no connection")
                .map(drop)
                .and_then(|()| self.lbctl(&["status"]));
            match answer {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    let tail = self.process.log_tail();
                    return Err(error
                        .context(format!("lbd does not answer after {PATIENCE:?}. Its log ends:\n{tail}")));
                }
                Err(_) => self.pause()?,
            }
        }
    }

    /// Waits a moment, or less if the daemon ends, which is an error.
    fn pause(&mut self) -> Result<()> {
        self.process.wait(LOOK_INTERVAL)?;
        self.process.check_running()
    }
}

/// A directory with lbd.toml, and the name of a pin directory.
fn prepare(topology: &Topology, settings: &Settings) -> Result<(PathBuf, PathBuf)> {
    prepare_with(&topology.balancer, |dir, pin| topology.plan.config(settings, dir, pin))
}

fn prepare_with(
    namespace: &Namespace,
    config: impl FnOnce(&Path, &Path) -> String,
) -> Result<(PathBuf, PathBuf)> {
    let run_dir = namespace.run_dir();
    let dir = run_dir.path().join(format!("lbd{}", NEXT_INSTANCE.fetch_add(1, Ordering::Relaxed)));
    let pin = run_dir.new_pin_dir()?;
    fs::create_dir_all(dir.join("state")).with_context(|| format!("cannot create {}", dir.display()))?;
    write_config(&dir, &config(&dir, &pin))?;
    Ok((dir, pin))
}

fn spawn(
    balancer: &Namespace,
    wrapper: &[String],
    binaries: &Binaries,
    dir: &Path,
    environment: &[(String, String)],
) -> Result<Process> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let mut command = match wrapper {
        [] => balancer.command(&binaries.lbd),
        [first, rest @ ..] => {
            let mut command = balancer.command(first);
            command.args(rest).arg(&binaries.lbd);
            command
        }
    };
    command.arg("run").arg("--config").arg(dir.join("lbd.toml"));
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    Process::spawn(&name, &mut command, balancer.run_dir())
}

fn write_config(dir: &Path, text: &str) -> Result<()> {
    let path = dir.join("lbd.toml");
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Starts `lbd decap` on a backend's `eth0` and waits until its program is attached.
pub(super) fn start_decap(backend: &str, namespace: &Namespace, from: Pair) -> Result<Process> {
    let mut command = namespace.command(Binaries::find()?.lbd);
    command.args(["decap", "--interface", "eth0"]);
    command.args(["--from", &format!("{}/32", from.v4), "--from", &format!("{}/128", from.v6)]);
    let name = format!("decap-{}-{backend}", namespace.label());
    let mut process = Process::spawn(&name, &mut command, namespace.run_dir())?;
    let deadline = Instant::now() + PATIENCE;
    while !namespace.ip("-details link show dev eth0")?.contains("prog/xdp") {
        process.wait(LOOK_INTERVAL)?;
        process.check_running()?;
        if Instant::now() > deadline {
            bail!("lbd decap attaches nothing within {PATIENCE:?}. Its log ends:\n{}", process.log_tail());
        }
    }
    Ok(process)
}
