//! The exec check: does a program of the operator's say that the backend is well?
//!
//! In: an address, the pools that ask, an [`ExecCheck`] and a deadline. Out: the finding: exit status 0 is well. Invariants: the
//! program runs enclosed and without privileges ([`confine`](crate::confine)); at the deadline it and everything it started is
//! killed, and the probe ends when they are gone; at most [`MOST`] run at a time.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::time::{timeout, timeout_at};

use super::{Deadline, Finding, ProbeResult};
use crate::confine::Report;
use crate::spec::{ExecCheck, format_duration};

/// More programs than this at a time would only slow one another, and this host, down.
const MOST: usize = 32;

static RUNNING: Semaphore = Semaphore::const_new(MOST);

/// So long it may take the kernel to kill what is enclosed.
const KILL_TIME: Duration = Duration::from_secs(1);

/// A report is shorter than this.
const REPORT_LIMIT_LEN: u64 = 1024;

/// Where a program finds others.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The whole check. `pools`: their names, with a space between two.
///
/// # Errors
/// A finding other than the program's.
pub(super) async fn ask(
    address: SocketAddr,
    pools: &str,
    check: &ExecCheck,
    deadline: Deadline,
) -> Result<Finding, Finding> {
    let local = |text: String| (ProbeResult::Local, Cow::Owned(text));
    let Ok(permit) = timeout_at(deadline.at, RUNNING.acquire()).await else {
        return Err(local(format!(
            "{MOST} exec checks are running: this one had to wait for longer than it may take"
        )));
    };
    let _permit = permit;
    let mut child =
        start(address, pools, check).map_err(|error| local(format!("cannot start the check: {error}")))?;
    let report = timeout_at(deadline.at, report(&mut child)).await;
    end(&mut child).await.map_err(local)?;
    match report {
        Err(_elapsed) => {
            let text = format!("did not end within {}, and was killed", format_duration(deadline.timeout));
            Err((ProbeResult::Timeout, Cow::Owned(text)))
        }
        Ok(Some(report)) => Ok(judge(report)),
        Ok(None) => Err(local("the check ended without a report: lbd exec-check was killed".to_owned())),
    }
}

fn start(address: SocketAddr, pools: &str, check: &ExecCheck) -> std::io::Result<Child> {
    // This very program, also when its file has been replaced.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("lbd").args(["exec-check", "--user", &check.user, "--"]).args(&check.command);
    command.env_clear().env("PATH", PATH).env("LBD_ADDRESS", address.ip().to_string()).env("LBD_POOL", pools);
    if address.port() != 0 {
        command.env("LBD_PORT", address.port().to_string());
    }
    // Whatever ends this probe, lbd's own end included, ends standard input, and by that the check.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
}

/// What the process outside the enclosure says; `None`: nothing.
async fn report(child: &mut Child) -> Option<Report> {
    let mut line = String::new();
    child.stdout.as_mut()?.take(REPORT_LIMIT_LEN).read_to_string(&mut line).await.ok()?;
    Report::read(&line)
}

/// Ends it, if it has not ended, and waits until all of it is gone.
async fn end(child: &mut Child) -> Result<(), String> {
    drop(child.stdin.take());
    match timeout(KILL_TIME, child.wait()).await {
        Ok(Ok(_status)) => Ok(()),
        Ok(Err(error)) => Err(format!("cannot wait for the check: {error}")),
        Err(_elapsed) => Err("the check could not be killed (it waits for a device?)".to_owned()),
    }
}

fn judge(report: Report) -> Finding {
    match report {
        Report::Exited(0) => (ProbeResult::Success, Cow::Borrowed("exited with 0")),
        Report::Exited(status) => {
            (ProbeResult::Status, Cow::Owned(format!("exited with {status}, expected 0")))
        }
        Report::Killed(signal) => (ProbeResult::Status, Cow::Owned(format!("ended by signal {signal}"))),
        Report::Failed(why) => (ProbeResult::Local, Cow::Owned(why)),
    }
}
