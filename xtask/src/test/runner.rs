//! Runs test binaries.
//!
//! In: a binary. Out: its counts, added to the layer's report; a log of what it said. Unit tests run as one process a
//! binary. The others run as one process a test: each gets its own log and time limit, and neither a crash nor threads, namespaces or maps
//! left behind by one reach the next. Those that mostly wait run two at a time, the others one after another (company.rs).

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    artifacts::{TestBinary, UNIT_PACKAGES},
    company,
    libtest::{self, Counts},
    report::LayerReport,
};
use crate::{
    process, progress,
    workspace::{Binaries, Profile, Workspace, cargo},
};

/// No test takes this long, unless it hangs.
const TEST_LIMIT: Duration = Duration::from_secs(600);
/// What all unit tests of a binary, or the doc tests, may take together.
const BINARY_LIMIT: Duration = Duration::from_secs(1800);
/// How much of a failed test's log is shown; the whole stays in the file.
const SHOWN_LINES: usize = 60;

pub(crate) struct Runner {
    root: PathBuf,
    logs: PathBuf,
    filter: Option<String>,
    binaries: Binaries,
    path: OsString,
}

/// How a process ended, and what it said.
struct Run {
    success: bool,
    output: String,
    log: PathBuf,
    elapsed: Duration,
}

impl Runner {
    pub(crate) fn new(workspace: &Workspace, logs: PathBuf, filter: Option<String>) -> Result<Self> {
        let (root, binaries) = (workspace.root.clone(), workspace.binaries(Profile::Dev));
        Ok(Self { root, logs, filter, binaries, path: process::path_variable()? })
    }

    /// All tests of a binary in one process, its output captured test by test by the harness.
    pub(crate) fn run_whole(&self, binary: &TestBinary, report: &mut LayerReport) -> Result<()> {
        let wanted = self.wanted(binary)?;
        if wanted.is_empty() {
            return Ok(());
        }
        let mut command = self.command(binary);
        command.arg("--show-output");
        if self.filter.is_some() {
            command.arg("--exact").args(&wanted);
        }
        begin(&format!("{} ({} tests)", binary.name, wanted.len()));
        let run = self.run(command, &binary.name, BINARY_LIMIT)?;
        self.finish_whole(&binary.name, run, report);
        Ok(())
    }

    /// The examples in the documentation. Not with a filter: they are found by name least of all.
    pub(crate) fn run_doc_tests(&self, report: &mut LayerReport) -> Result<()> {
        if self.filter.is_some() {
            return Ok(());
        }
        let mut command = cargo();
        command.current_dir(&self.root).args(["test", "--doc"]);
        command.args(
            UNIT_PACKAGES.iter().filter(|name| **name != "xtask").map(|name| format!("--package={name}")),
        );
        begin("examples in the documentation");
        let run = self.run(command, "doc-tests", BINARY_LIMIT)?;
        self.finish_whole("doc-tests", run, report);
        Ok(())
    }

    fn finish_whole(&self, name: &str, run: Run, report: &mut LayerReport) {
        let counts = Counts::parse(&run.output);
        let mut failed: Vec<String> = counts.failed.iter().map(|test| format!("{name}::{test}")).collect();
        if failed.is_empty() && !(run.success && counts.summed_up) {
            failed.push(format!("{name} (ended before all tests had run)"));
        }
        let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
        println!("{verdict}, {} passed ({:.1} s)", counts.passed, run.elapsed.as_secs_f64());
        if !failed.is_empty() {
            self.show(&run);
        }
        report.passed += counts.passed;
        report.failed.extend(failed.into_iter().map(|test| (test, run.log.clone())));
        report
            .skipped
            .extend(counts.skipped.into_iter().map(|(test, reason)| (format!("{name}::{test}"), reason)));
    }

    /// Each test of a binary in a process of its own.
    pub(crate) fn run_each(&self, binary: &TestBinary, report: &mut LayerReport) -> Result<()> {
        let wanted = self.wanted(binary)?;
        if self.filter.is_none() {
            let gone = company::without_test(binary.layer, &wanted);
            ensure!(
                gone.is_empty(),
                "no test begins with {gone:?} any more: see ALONE in xtask/src/test/company.rs"
            );
        }
        let (together, alone): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|test| company::is_welcome(binary.layer, test));
        self.run_together(binary, together, report)?;
        for test in alone {
            let name = binary.full_name(&test);
            begin(&name);
            let run = self.run_one(binary, &test)?;
            self.finish_one(name, run, report);
        }
        Ok(())
    }

    /// So many at a time as there are CPUs for; each is told of when it has ended.
    fn run_together(&self, binary: &TestBinary, tests: Vec<String>, report: &mut LayerReport) -> Result<()> {
        let (queue, report) = (Mutex::new(tests.into_iter()), Mutex::new(report));
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            while let Some(test) = next() {
                let run = self.run_one(binary, &test)?;
                let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                let name = binary.full_name(&test);
                begin(&name);
                self.finish_one(name, run, &mut report);
            }
            Ok(())
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..company::size()).map(|_| scope.spawn(work)).collect();
            let ends = workers.into_iter().map(|worker| match worker.join() {
                Ok(end) => end,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            ends.collect()
        })
    }

    fn run_one(&self, binary: &TestBinary, test: &str) -> Result<Run> {
        let mut command = self.command(binary);
        command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
        self.run(command, &binary.full_name(test).replace("::", "."), TEST_LIMIT)
    }

    fn finish_one(&self, name: String, run: Run, report: &mut LayerReport) {
        let seconds = run.elapsed.as_secs_f64();
        if !run.success {
            println!("FAILED ({seconds:.1} s)");
            self.show(&run);
            report.failed.push((name, run.log));
        } else if let Some((_, reason)) = Counts::parse(&run.output).skipped.into_iter().next() {
            println!("skipped: {reason}");
            report.skipped.push((name, reason));
        } else {
            println!("ok ({seconds:.1} s)");
            report.passed += 1;
        }
    }

    /// Counts every test of a binary that cannot run here.
    pub(crate) fn skip_all(&self, binary: &TestBinary, reason: &str, report: &mut LayerReport) -> Result<()> {
        let tests = self.wanted(binary)?;
        println!("  {} … skipped: {reason}", binary.name);
        report.skipped.extend(tests.iter().map(|test| (binary.full_name(test), reason.to_owned())));
        Ok(())
    }

    /// The tests of a binary that pass the filter.
    fn wanted(&self, binary: &TestBinary) -> Result<Vec<String>> {
        let list = process::capture(self.command(binary).args(["--list", "--format=terse"]))?;
        let mut names = libtest::names(&list);
        if let Some(filter) = &self.filter {
            names.retain(|test| binary.full_name(test).contains(filter.as_str()));
        }
        Ok(names)
    }

    fn command(&self, binary: &TestBinary) -> Command {
        let mut command = Command::new(&binary.path);
        command
            .current_dir(&binary.directory)
            .env("CARGO_MANIFEST_DIR", &binary.directory)
            .env("PATH", &self.path)
            // What the user set for a daemon of their own is not meant for the tests'.
            .env_remove("LBD_CONFIG")
            .env_remove("LBD_SOCKET")
            .env("LBD_BIN", &self.binaries.lbd)
            .env("LBCTL_BIN", &self.binaries.lbctl);
        // An error says where it comes from by its words; sixty frames of a harness would push those out of what is shown.
        if std::env::var_os("RUST_LIB_BACKTRACE").is_none() {
            command.env("RUST_LIB_BACKTRACE", "0");
        }
        command
    }

    /// Runs to the end or to the limit; stdout and stderr go to one log, in the order they were said.
    fn run(&self, mut command: Command, name: &str, limit: Duration) -> Result<Run> {
        let log = self.logs.join(format!("{}.log", name.replace('/', ".")));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let copy = file.try_clone().with_context(|| format!("cannot share {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file).stderr(copy);
        let started = Instant::now();
        let ended = wait(&mut command, limit)?;
        let elapsed = started.elapsed();
        let mut output = read_lossy(&log)?;
        let why = match ended {
            None => Some(format!("no end after {} s: killed", limit.as_secs())),
            Some(status) if status.code().is_none() => Some(format!("ended by {status}")),
            Some(_) => None,
        };
        if let Some(why) = why {
            output.push_str(&format!("\nxtask: {why}\n"));
            fs::write(&log, &output).with_context(|| format!("cannot write {}", log.display()))?;
        }
        Ok(Run { success: ended.is_some_and(|status| status.success()), output, log, elapsed })
    }

    fn show(&self, run: &Run) {
        let lines: Vec<&str> = run.output.lines().collect();
        let from = lines.len().saturating_sub(SHOWN_LINES);
        if from > 0 {
            println!(
                "      … {from} lines above; all in {}",
                run.log.strip_prefix(&self.root).unwrap_or(&run.log).display()
            );
        }
        for line in &lines[from..] {
            println!("      {line}");
        }
    }
}

/// The test's name, before it runs: who waits sees for what.
fn begin(name: &str) {
    print!("  {name} … ");
    progress::flush();
}

/// None: it did not end within `limit` and was killed.
fn wait(command: &mut Command, limit: Duration) -> Result<Option<ExitStatus>> {
    let mut child = command.spawn().with_context(|| format!("cannot start `{}`", process::line(command)))?;
    let id = child.id();
    let (ended, end) = mpsc::channel();
    let waiter = thread::spawn(move || {
        // Nobody listens any more only when the process was killed and its status does not matter.
        let _ = ended.send(child.wait());
    });
    let status = match end.recv_timeout(limit) {
        Ok(status) => Some(status.context("cannot wait for a test")?),
        Err(_) => {
            process::capture(Command::new("kill").args(["-KILL", &id.to_string()]))?;
            None
        }
    };
    // Ends at once: the process has.
    let _ = waiter.join();
    Ok(status)
}

fn read_lossy(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_hangs_is_killed() {
        let started = Instant::now();
        let status = wait(Command::new("sleep").arg("60"), Duration::from_millis(100)).unwrap();
        assert_eq!(status, None);
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_test_that_ends_gives_its_status() {
        let status = wait(Command::new("sh").args(["-c", "exit 101"]), Duration::from_secs(60)).unwrap();
        assert_eq!(status.and_then(|status| status.code()), Some(101));
    }
}
