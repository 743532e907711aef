//! The exec check: does a program of the operator's say that the backend is well?
//!
//! In: an address, the pools that ask, an [`ExecCheck`] and a deadline. Out: the finding: exit status 0 is well. Invariants: the
//! program runs enclosed and without privileges ([`confine`](crate::confine)); at the deadline it and everything it started is
//! killed, and the probe ends when they are gone; at most [`MOST`] run at a time, those included that cannot be killed; the time that
//! one waits for its place is none that the backend took.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};

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

/// The whole check: the finding, and how long it took from the program's start until it was known. The probe goes on after that until
/// all that ran is gone. `pools`: their names, with a space between two; `deadline`: until when it may wait for its place, and then how
/// long the program may take.
pub(super) async fn ask(
    address: SocketAddr,
    pools: &str,
    check: &ExecCheck,
    deadline: Deadline,
) -> (Finding, Duration) {
    // This very program, also when its file has been replaced.
    ask_through((Path::new("/proc/self/exe"), &RUNNING), address, pools, check, deadline).await
}

/// As [`ask`], by another program than this one that understands `exec-check`, and with these places.
async fn ask_through(
    (lbd, places): (&Path, &'static Semaphore),
    address: SocketAddr,
    pools: &str,
    check: &ExecCheck,
    deadline: Deadline,
) -> (Finding, Duration) {
    let begun = Instant::now();
    let local = |text: String| ((ProbeResult::Local, Cow::Owned(text)), begun.elapsed());
    let Ok(Ok(place)) = timeout_at(deadline.at, places.acquire()).await else {
        return local(format!(
            "{MOST} exec checks are running: this one had to wait for longer than it may take"
        ));
    };
    let begun = Instant::now();
    let mut child = match start(lbd, address, pools, check) {
        Ok(child) => child,
        Err(error) => return local(format!("cannot start the check: {error}")),
    };
    let report = timeout(deadline.timeout, report(&mut child)).await;
    // How long it takes to kill says nothing about the backend, nor about how busy lbd is.
    let took = begun.elapsed();
    if let Err(why) = end(child, place).await {
        return local(why);
    }
    let finding = match report {
        Err(_elapsed) => {
            let text = format!("did not end within {}, and was killed", format_duration(deadline.timeout));
            (ProbeResult::Timeout, Cow::Owned(text))
        }
        Ok(Some(report)) => judge(report),
        Ok(None) => return local("the check ended without a report: lbd exec-check was killed".to_owned()),
    };
    (finding, took)
}

fn start(lbd: &Path, address: SocketAddr, pools: &str, check: &ExecCheck) -> std::io::Result<Child> {
    let mut command = Command::new(lbd);
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

/// Ends it, if it has not ended, and waits until all of it is gone; its place is free then, and no sooner.
async fn end(mut child: Child, place: SemaphorePermit<'static>) -> Result<(), String> {
    drop(child.stdin.take());
    let Ok(ended) = timeout(KILL_TIME, child.wait()).await else {
        tokio::spawn(async move {
            let ended = child.wait().await;
            tracing::debug!("a check that could not be killed is gone: {ended:?}");
            drop(place);
        });
        return Err("the check could not be killed (it waits for a device?)".to_owned());
    };
    ended.map(drop).map_err(|error| format!("cannot wait for the check: {error}"))
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

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::super::report as judged;
    use super::*;

    /// What a script in the place of `lbd exec-check` comes to, and how long it took until that was known, and the probe in all.
    async fn through(script: &str, timeout: Duration) -> (Finding, Duration, Duration) {
        in_places(&RUNNING, script, timeout).await
    }

    async fn in_places(
        places: &'static Semaphore,
        script: &str,
        timeout: Duration,
    ) -> (Finding, Duration, Duration) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lbd");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        let check =
            ExecCheck { command: vec!["/bin/check".to_owned(), "-x".to_owned()], ..ExecCheck::default() };
        let address = "192.0.2.1:80".parse().unwrap();
        loop {
            let begun = Instant::now();
            let deadline = Deadline { at: begun + timeout, timeout };
            let (finding, took) = ask_through((&path, places), address, "a b", &check, deadline).await;
            // A test beside this one forked while the script was open for writing.
            if !finding.1.contains("Text file busy") {
                return (finding, took, begun.elapsed());
            }
        }
    }

    #[tokio::test]
    async fn a_program_is_told_what_it_is_to_check() {
        let script = "[ \"$*\" = 'exec-check --user nobody -- /bin/check -x' ] || exit 1\n\
                      [ \"$LBD_ADDRESS $LBD_PORT $LBD_POOL\" = '192.0.2.1 80 a b' ] && echo exited 0";
        let (finding, ..) = through(script, Duration::from_secs(20)).await;
        assert_eq!(finding, (ProbeResult::Success, Cow::Borrowed("exited with 0")));
        let (finding, ..) = through("echo exited 3", Duration::from_secs(20)).await;
        assert_eq!(finding, (ProbeResult::Status, Cow::Borrowed("exited with 3, expected 0")));
        let (finding, ..) = through("exit 0", Duration::from_secs(20)).await;
        assert_eq!(finding.0, ProbeResult::Local, "{finding:?}");
    }

    /// Whoever waits for a place is not to have less time for it.
    #[tokio::test]
    async fn time_in_the_queue_is_not_the_backends() {
        static ONE: Semaphore = Semaphore::const_new(1);
        // Together they take longer than the timeout; each has as much time again as it needs on a machine that is not busy.
        let timeout = Duration::from_secs(4);
        let script = "sleep 2.2; echo exited 0";
        let (first, second) =
            tokio::join!(in_places(&ONE, script, timeout), in_places(&ONE, script, timeout));
        for (finding, took, _) in [first, second] {
            assert_eq!(finding.0, ProbeResult::Success, "{finding:?}");
            assert!(took < timeout, "{took:?}");
        }
        // Who had to wait for longer says nothing of the backend either.
        let held = ONE.acquire().await.unwrap();
        let (finding, ..) = in_places(&ONE, "echo exited 0", Duration::from_millis(50)).await;
        assert_eq!(finding.0, ProbeResult::Local, "{finding:?}");
        drop(held);
    }

    /// What cannot be killed goes on holding its place.
    #[tokio::test]
    async fn a_place_is_free_when_its_program_is_gone() {
        static ONE: Semaphore = Semaphore::const_new(1);
        let (finding, ..) = in_places(&ONE, "exec sleep 3", Duration::from_millis(50)).await;
        assert_eq!((finding.0, ONE.available_permits()), (ProbeResult::Local, 0), "{finding:?}");
        drop(ONE.acquire().await.unwrap());
    }

    /// A kill that takes its time is not lbd that did not get to run: the failure counts.
    #[tokio::test]
    async fn a_slow_end_does_not_excuse_the_backend() {
        let timeout = Duration::from_millis(100);
        let (finding, known, whole) = through("exec sleep 0.6", timeout).await;
        assert_eq!(finding.0, ProbeResult::Timeout, "{finding:?}");
        assert!(whole >= Duration::from_millis(600), "{whole:?}: it ended before what it ran");
        assert!(known < whole, "{known:?} of {whole:?}");
        let latest = judged(finding.clone(), timeout, timeout);
        assert_eq!(latest.result, ProbeResult::Timeout);
        assert_eq!(judged(finding, whole, timeout).result, ProbeResult::Stalled, "what it would have been");
    }
}
