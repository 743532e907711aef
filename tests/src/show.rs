//! What `lbd-demo` and `lbd-soak` have in common: root, the machine's attention, a screen, signals that end them in order, and nothing left
//! behind.
//!
//! In: what is to be shown. Out: its [`Ending`]. Invariant: a signal is told as that, not as what it made of somebody's wait.

use anyhow::{Result, ensure};

use crate::run_dir;
use crate::screen::Screen;
use crate::signals::Signals;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending<T> {
    /// Everything held what it promises.
    Held(T),
    /// Something did not; what, was said.
    Broke(T),
    /// A signal ended it early.
    Interrupted,
}

/// Performs; the screen is for what is to be said after it.
///
/// # Errors
/// Not root; whatever ends the performance but a signal.
pub(crate) fn run<T>(
    perform: impl FnOnce(&Signals, &mut Screen) -> Result<Ending<T>>,
) -> Result<(Ending<T>, Screen)> {
    ensure!(nix::unistd::geteuid().is_root(), "needs root for network namespaces and XDP: run it with sudo");
    go_first();
    let signals = Signals::install()?;
    let mut screen = Screen::new();
    let outcome = perform(&signals, &mut screen);
    screen.clear();
    match outcome {
        // A Ctrl-C at the terminal reaches an lbctl under way too: what it then says is not the reason.
        Err(_) if signals.check().is_err() => Ok((Ending::Interrupted, screen)),
        outcome => Ok((outcome?, screen)),
    }
}

/// Whether this process leaves anything on the machine.
///
/// # Errors
/// It does.
pub(crate) fn nothing_is_left() -> Result<()> {
    let left = run_dir::leftovers(std::process::id())?;
    ensure!(left.is_empty(), "these are left behind, a fault of this program: {}", left.join(", "));
    Ok(())
}

/// Puts this process and all it starts before what else the machine does: they measure the balancer, and a compiler beside them
/// makes stalls that nobody's packets saw. Where that is refused, the measurement says that the client was late.
fn go_first() {
    const PRIORITY: libc::c_int = -10;
    // SAFETY: setpriority takes three integers; 0 is the calling thread, whose children and later threads inherit it.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, PRIORITY);
    }
}
