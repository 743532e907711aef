//! A child process that does not outlive its handle.
//!
//! In: a command (usually [`crate::netns::Namespace::command`]) and a log file. Out: a handle to signal it and to wait for its
//! end. Invariant: dropping the handle kills the whole process group, unless the run directory is kept.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::run_dir::{RunDir, pidfd};

/// How many bytes at the end of a log are quoted in an error.
const QUOTED_LOG_LEN: usize = 2000;

/// A running child with its log.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    run_dir: Arc<RunDir>,
    /// Set once it is reaped: from then on its number may belong to somebody else.
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` in a process group of its own; what it writes goes to `<name>.log` in the run directory.
    pub fn spawn(name: &str, command: &mut Command, run_dir: &Arc<RunDir>) -> Result<Process> {
        use std::os::unix::process::CommandExt;
        let log = run_dir.path().join(format!("{name}.log"));
        let opened = File::options().create(true).append(true).open(&log);
        let file = opened.with_context(|| format!("cannot write {}", log.display()))?;
        let copy = file.try_clone().context("cannot duplicate a log file")?;
        command.process_group(0).stdout(file).stderr(copy);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("cannot start {name} ({program})"))?;
        Ok(Process { name: name.to_owned(), child, log, run_dir: Arc::clone(run_dir), ended: None })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file with everything it wrote.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// The end of its log, for an error message.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let start = text.len().saturating_sub(QUOTED_LOG_LEN);
        String::from_utf8_lossy(text.get(start..).unwrap_or_default()).into_owned()
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.raw_pid(), signal).with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Ends the whole group with SIGKILL and waits for it.
    pub fn kill(&mut self) -> Result<()> {
        if self.ended.is_none() {
            // ESRCH: the group is already gone.
            let _ = killpg(self.raw_pid(), Signal::SIGKILL);
            self.ended = Some(self.child.wait().with_context(|| format!("cannot wait for {}", self.name))?);
        }
        Ok(())
    }

    /// Asks it to end with SIGTERM and waits; kills it and fails when it takes longer than `timeout`.
    pub fn stop(&mut self, timeout: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        self.signal(Signal::SIGTERM)?;
        if let Some(status) = self.wait(timeout)? {
            return Ok(status);
        }
        self.kill()?;
        bail!(
            "{} did not end within {timeout:?} of SIGTERM; it was killed. Its log ends:\n{}",
            self.name,
            self.log_tail()
        )
    }

    /// Its exit status if it has ended.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().with_context(|| format!("cannot wait for {}", self.name))?;
            if self.ended.is_some() {
                // What it started and left running; the group's number is still ours at this moment.
                let _ = killpg(self.raw_pid(), Signal::SIGKILL);
            }
        }
        Ok(self.ended)
    }

    /// Waits for its end, at most `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        if let Some(status) = self.try_wait()? {
            return Ok(Some(status));
        }
        let ended = pidfd(self.pid()).with_context(|| format!("cannot watch {}", self.name))?;
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let wait = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(ended.as_fd(), PollFlags::POLLIN)], wait) {
                Ok(0) => return Ok(None),
                Err(nix::errno::Errno::EINTR) => {}
                Ok(_) => return self.try_wait(),
                Err(errno) => return Err(errno).with_context(|| format!("cannot watch {}", self.name)),
            }
        }
    }

    /// An error that says why the process ended although it should run; nothing while it runs.
    pub fn check_running(&mut self) -> Result<()> {
        let Some(status) = self.try_wait()? else { return Ok(()) };
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("with exit code {code}"),
            (None, Some(signal)) => format!("by signal {signal}"),
            (None, None) => "in an unknown way".to_owned(),
        };
        bail!("{} ended {how}. Its log ends:\n{}", self.name, self.log_tail())
    }

    fn raw_pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.run_dir.is_kept()
            && let Err(error) = self.kill()
        {
            eprintln!("{error:#}");
        }
    }
}
