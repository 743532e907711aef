//! What a thread may do: capabilities given up for a while.

use std::io;

use anyhow::{Context, Result};

/// Those that lbd is run with, with their numbers in linux/capability.h.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Capability {
    /// Interfaces and XDP.
    NetAdmin = 12,
    /// Raw sockets.
    NetRaw = 13,
    /// Programs that look at memory as they like, and on which the verifier asks less.
    Perfmon = 38,
    /// Maps and programs.
    Bpf = 39,
}

/// What `lbd run` needs (docs/kernel.md).
pub const NEEDED: &[Capability] = &[Capability::Bpf, Capability::NetAdmin, Capability::NetRaw];

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    thread: libc::pid_t,
}

/// `struct __user_cap_data_struct`, of 32 capabilities.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`: two times 32 capabilities.
const VERSION: u32 = 0x2008_0522;

/// Takes every other capability from the calling thread, for good: meant for a thread made for the purpose.
///
/// # Errors
/// The kernel's, if the thread does not have them itself.
pub fn keep_only(kept: &[Capability]) -> Result<()> {
    let mut sets = [Sets::default(); 2];
    for capability in kept {
        let number = *capability as u32;
        let (half, bit) = (usize::from(number >= 32), 1 << (number % 32));
        sets[half].effective |= bit;
        sets[half].permitted |= bit;
    }
    let header = Header { version: VERSION, thread: 0 };
    // SAFETY: both pointers are to what the call reads, for its duration; thread 0 is the calling one.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error()).with_context(|| format!("cannot keep only {kept:?}"))
}
