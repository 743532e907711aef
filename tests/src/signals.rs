//! SIGINT, SIGTERM and SIGHUP as a question one may ask and a wait one may cut short.
//!
//! In: the process's signals. Out: [`Interrupted`] from every wait once one came. Why not the default action: namespaces, pins
//! and servers would stay.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

/// The error that a signal makes of a wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted by a signal")
    }
}

impl std::error::Error for Interrupted {}

#[derive(Debug, Default)]
struct Shared {
    came: Mutex<bool>,
    changed: Condvar,
}

/// The process's wish to end.
#[derive(Debug)]
pub(crate) struct Signals {
    shared: Arc<Shared>,
}

impl Signals {
    /// Takes the three signals over.
    pub(crate) fn install() -> Result<Signals> {
        let shared = Arc::new(Shared::default());
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
        let guard = runtime.enter();
        let take = |kind| signal(kind).context("cannot handle signals");
        let mut interrupt = take(SignalKind::interrupt())?;
        let mut terminate = take(SignalKind::terminate())?;
        let mut hangup = take(SignalKind::hangup())?;
        drop(guard);
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                        _ = hangup.recv() => {}
                    }
                });
                *theirs.came.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = true;
                theirs.changed.notify_all();
            })
            .context("cannot start the signal thread")?;
        Ok(Signals { shared })
    }

    /// An error once a signal came.
    pub(crate) fn check(&self) -> Result<()> {
        self.wait(Duration::ZERO)
    }

    /// Waits so long, or less if a signal comes, which is an error.
    pub(crate) fn wait(&self, time: Duration) -> Result<()> {
        let came = self.shared.came.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let waited = self.shared.changed.wait_timeout_while(came, time, |came| !*came);
        let (came, _) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        if *came { Err(Interrupted.into()) } else { Ok(()) }
    }
}
