//! The wait until no packet is under way that began before now.
//!
//! In: nothing. Out: nothing, after an RCU grace period: XDP programs run inside an RCU read section, so whatever a
//! program had read before is no longer in use. Two ways, the first that works is kept.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::syscall;

// enum membarrier_cmd, include/uapi/linux/membarrier.h.
const MEMBARRIER_CMD_QUERY: i32 = 0;
const MEMBARRIER_CMD_GLOBAL: i32 = 1;

/// A way to wait for a grace period.
#[derive(Debug)]
pub(crate) enum Grace {
    /// `membarrier(MEMBARRIER_CMD_GLOBAL)`, which is synchronize_rcu.
    Membarrier,
    /// Storing into an array of maps, after which the kernel waits for running programs (since 4.18); the way where
    /// membarrier is missing: a kernel booted with `nohz_full`, or a sandbox that forbids the call.
    MapInMap { outer: OwnedFd, inner: OwnedFd },
}

impl Grace {
    /// Finds the way that works here.
    pub(super) fn new() -> io::Result<Self> {
        if membarrier(MEMBARRIER_CMD_QUERY).is_ok_and(|known| known & i64::from(MEMBARRIER_CMD_GLOBAL) != 0) {
            return Ok(Self::Membarrier);
        }
        let (outer, inner) = syscall::map_in_map()?;
        Ok(Self::MapInMap { outer, inner })
    }

    /// Waits for one grace period, 5 to 30 ms.
    pub(crate) fn wait(&self) -> io::Result<()> {
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
