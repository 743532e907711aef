//! The wait until no packet is under way that began before now.
//!
//! In: nothing. Out: nothing, once whatever a program had read before is no longer in use. Where a [`Visitor`] has been on every CPU, that
//! is shown; where it cannot, an RCU grace period is waited for, since XDP programs run inside an RCU read section. Two ways to that, the
//! first that works is kept.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::syscall;
use super::visit::Visitor;

// enum membarrier_cmd, include/uapi/linux/membarrier.h.
const MEMBARRIER_CMD_QUERY: i32 = 0;
const MEMBARRIER_CMD_GLOBAL: i32 = 1;

/// See the module.
#[derive(Debug)]
pub(crate) struct Grace {
    visitor: Option<Visitor>,
    period: Period,
}

/// A way to wait for a grace period of the kernel.
#[derive(Debug)]
enum Period {
    /// `membarrier(MEMBARRIER_CMD_GLOBAL)`, which is synchronize_rcu.
    Membarrier,
    /// Storing into an array of maps, after which the kernel waits for running programs (since 4.18); the way where
    /// membarrier is missing: a kernel booted with `nohz_full`, or a sandbox that forbids the call.
    MapInMap { outer: OwnedFd, inner: OwnedFd },
}

impl Grace {
    /// Finds the ways that work here.
    ///
    /// # Errors
    /// The kernel lets nobody wait for a grace period.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { visitor: Visitor::start(), period: Period::new()? })
    }

    /// Waits while somebody waits for it: a fraction of a millisecond where the CPUs have time for a visit, 5 to 35 ms elsewhere.
    pub(super) fn wait(&self) -> io::Result<()> {
        if self.visitor.as_ref().is_some_and(Visitor::visit_all) {
            return Ok(());
        }
        self.period.wait()
    }

    /// Waits beside everything: 5 to 30 ms, in which no CPU is interrupted.
    pub(crate) fn wait_unhurried(&self) -> io::Result<()> {
        self.period.wait()
    }
}

impl Period {
    fn new() -> io::Result<Self> {
        if membarrier(MEMBARRIER_CMD_QUERY).is_ok_and(|known| known & i64::from(MEMBARRIER_CMD_GLOBAL) != 0) {
            return Ok(Self::Membarrier);
        }
        let (outer, inner) = syscall::map_in_map()?;
        Ok(Self::MapInMap { outer, inner })
    }

    /// Waits for one grace period.
    fn wait(&self) -> io::Result<()> {
        match self {
            Self::Membarrier => membarrier(MEMBARRIER_CMD_GLOBAL).map(drop),
            Self::MapInMap { outer, inner } => {
                syscall::update(outer.as_fd(), 0, &inner.as_raw_fd().to_ne_bytes())
            }
        }
    }
}

fn membarrier(command: i32) -> io::Result<i64> {
    // SAFETY: membarrier takes plain numbers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
