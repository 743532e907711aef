//! `lbd try`: what a newcomer sees first. A balancer on `lo` for servers of this machine, and no trace of it afterwards.

use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lbd_tests::client;
use lbd_tests::load::{Body, Load, LoadPlan, OpenLoop};
use lbd_tests::netns::{Namespace, output_of};
use lbd_tests::root_or_skip;
use lbd_tests::server::nginx::{LARGE_FILE_LEN, Nginx, make_large_file};
use lbd_tests::topology::Binaries;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const REQUESTS: u64 = 10_000;
const SERVERS: [(&str, u16); 2] = [("s1", 8081), ("s2", 8082)];

/// A running `lbd try`; ended by Ctrl-C if the test ends before it: what a failing test leaves would be pins.
struct Trial {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
    log: std::path::PathBuf,
}

impl Trial {
    fn start(namespace: &Namespace) -> Result<Trial> {
        let log = namespace.run_dir().path().join("try.log");
        let mut command = namespace.command(Binaries::find()?.lbd);
        command.arg("try").args(SERVERS.map(|(_, port)| format!("127.0.0.1:{port}")));
        command.stdout(Stdio::piped()).stderr(std::fs::File::create(&log)?);
        let mut child = command.spawn().context("cannot start lbd try")?;
        let said = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        Ok(Trial { child, said, log })
    }

    /// What it says up to a line with `marker`, that line included.
    fn until(&mut self, marker: &str) -> Result<String> {
        let mut text = String::new();
        for line in self.said.by_ref() {
            text += &(line? + "\n");
            if text.contains(marker) {
                return Ok(text);
            }
        }
        let log = std::fs::read_to_string(&self.log)?;
        anyhow::bail!("it ended without {marker:?}: {text}{log}")
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // Where all is well it has ended and is reaped, and its number may be somebody else's.
        if let Ok(None) = self.child.try_wait() {
            let _ = i32::try_from(self.child.id()).map(|pid| kill(Pid::from_raw(pid), Signal::SIGINT));
            let _ = self.child.wait();
        }
    }
}

/// A host, the web servers on its lo, and its interfaces as they are before anybody tries lbd.
fn host(name: &str) -> Result<(Namespace, Vec<Nginx>, [String; 2])> {
    let host = Namespace::new(name)?;
    make_large_file(&host)?;
    let servers =
        SERVERS.iter().map(|(name, port)| Nginx::start(&host, name, *port)).collect::<Result<_>>()?;
    let before = interfaces(&host)?;
    Ok((host, servers, before))
}

#[test]
fn a_newcomer_gets_all_bytes_and_keeps_no_trace() -> Result<()> {
    if !root_or_skip("a_newcomer_gets_all_bytes_and_keeps_no_trace") {
        return Ok(());
    }
    let (host, _servers, before) = host("try")?;
    let mut trial = Trial::start(&host)?;
    let said = trial.until("Ctrl-C ends it")?;
    for (_, port) in SERVERS {
        let line = said.lines().find(|line| line.contains(&format!("127.0.0.1:{port}")));
        let words: Vec<&str> =
            line.with_context(|| format!("no {port} in {said}"))?.split_whitespace().collect();
        ensure!(words.get(1..) == Some(&["healthy"]), "more to say than that {port} is healthy: {said}");
    }
    ensure!(host.ip("-details link show dev lo")?.contains("xdp"), "no XDP on lo: what is tested?");
    carries(&host)?;

    ends_without_a_trace(trial, Signal::SIGINT, &host, &before)
}

#[test]
fn a_terminal_that_closes_leaves_no_trace_either() -> Result<()> {
    if !root_or_skip("a_terminal_that_closes_leaves_no_trace_either") {
        return Ok(());
    }
    let (host, _servers, before) = host("tryhup")?;
    let mut trial = Trial::start(&host)?;
    trial.until("Ctrl-C ends it")?;
    ends_without_a_trace(trial, Signal::SIGHUP, &host, &before)
}

#[test]
fn what_a_killed_trial_left_is_cleared_by_the_next() -> Result<()> {
    if !root_or_skip("what_a_killed_trial_left_is_cleared_by_the_next") {
        return Ok(());
    }
    let (host, _servers, before) = host("trykill")?;
    let mut killed = Trial::start(&host)?;
    killed.until("Ctrl-C ends it")?;
    killed.child.kill()?;
    killed.child.wait()?;
    ensure!(host.ip("-details link show dev lo")?.contains("xdp"), "nothing was left: what is tested?");
    let mut trial = Trial::start(&host)?;
    trial.until("Ctrl-C ends it")?;
    let vip = SocketAddr::from(([127, 0, 0, 100], 80));
    client::download(&host, vip, "/").context("through the vip")?;
    for path in places(&killed) {
        ensure!(!path.exists(), "{} is left", path.display());
    }
    ends_without_a_trace(trial, Signal::SIGINT, &host, &before)
}

/// Where a trial keeps what it needs.
fn places(trial: &Trial) -> [std::path::PathBuf; 2] {
    let name = format!("lbd-try-{}", trial.child.id());
    [Path::new("/sys/fs/bpf").join(&name), std::env::temp_dir().join(&name)]
}

/// Links and addresses, as `ip` shows them.
fn interfaces(host: &Namespace) -> Result<[String; 2]> {
    Ok([host.ip("-details link show")?, host.ip("address show")?])
}

fn ends_without_a_trace(
    mut trial: Trial,
    signal: Signal,
    host: &Namespace,
    before: &[String; 2],
) -> Result<()> {
    kill(Pid::from_raw(i32::try_from(trial.child.id())?), signal)?;
    trial.until("removed; nothing is left")?;
    let status = trial.child.wait()?;
    let log = std::fs::read_to_string(&trial.log)?;
    ensure!(status.success(), "{status}: {log}");
    ensure!(!log.contains("WARN") && !log.contains("ERROR"), "a first experience with complaints: {log}");
    ensure!(interfaces(host)? == *before, "an interface is not as before");
    for path in places(&trial) {
        ensure!(!path.exists(), "{} is left", path.display());
    }
    Ok(())
}

/// Many requests and a large body through the vip, while the servers are asked directly.
fn carries(host: &Namespace) -> Result<()> {
    let vip = SocketAddr::from(([127, 0, 0, 100], 80));
    let (over, direct) = (AtomicBool::new(false), AtomicU64::new(0));
    let ask_directly = || -> Result<()> {
        while !over.load(Ordering::Relaxed) {
            let mut curl = host.command("curl");
            let answer =
                output_of(curl.args(["-sS", "--fail", "--max-time", "20", "http://127.0.0.1:8081/"]))?;
            ensure!(answer == "s1\n", "curl got {answer:?}");
            direct.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    let through = || -> Result<()> {
        let mut plan = LoadPlan::new(vip);
        let (path, body) = ("/".to_owned(), Body::Any);
        plan.open_loop = Some(OpenLoop { per_second: 2_000, path, body, total: Some(REQUESTS) });
        plan.most_at_once = Some(100);
        plan.timeout = Duration::from_secs(60);
        let begin = Instant::now();
        let summary = Load::start(host, plan)?.wait()?.summary(begin, Instant::now());
        ensure!(summary.ok == REQUESTS && summary.failures() == 0, "{summary:?}");
        ensure!(summary.answered.len() == SERVERS.len(), "not every server answered: {:?}", summary.answered);
        client::download(host, vip, "/100m")?.expect_content(LARGE_FILE_LEN)
    };
    std::thread::scope(|scope| {
        let asking = scope.spawn(ask_directly);
        let carried = through();
        over.store(true, Ordering::Relaxed);
        let asked = asking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        carried.context("through the vip")?;
        asked.context("directly, meanwhile")
    })?;
    ensure!(direct.load(Ordering::Relaxed) > 10, "only {direct:?} direct requests");
    Ok(())
}
