//! The program as it is loaded, run by BPF_PROG_TEST_RUN: what its tests and its bench stand on.
//!
//! In: a desired state, frames. Out: the daemon's own loader and planner at work over a pin directory of ours ([`Rig`]), single
//! packets ([`Program::run`]) and millions of them ([`Generator`]), slow ones ([`Slow`]), the named cases ([`Stand`]). Invariant: what is run is the program that the daemon would
//! attach, with the constants of exactly the services asked for; nothing is attached to any interface.

mod assembler;
mod bpf;
mod frame;
mod generator;
pub mod kernel_helpers;
pub mod rig;
mod slow;
mod stand;

use lb_common::{
    FEATURE_ANY_PORT, FEATURE_DSR, FEATURE_FULL_NAT, FEATURE_IPIP, FEATURE_LOOPBACK, FEATURE_NAT, FEATURE_V4,
    FEATURE_V6, FEATURE_WRAP,
};

pub use bpf::{Calls, Map, MapKind, Program, Ran};
pub use frame::{Frame, Payload, flags};
pub use generator::{Clients, Generator, Listed, Variation};
pub use rig::{Family, Mode, Rig, Wish, XDP_PASS, XDP_TX};
pub use slow::Slow;
pub use stand::{Explained, Stand};

/// Every feature of the program: what it is loaded with where nothing shall be left out.
pub const EVERYTHING: u32 = FEATURE_NAT
    | FEATURE_FULL_NAT
    | FEATURE_DSR
    | FEATURE_IPIP
    | FEATURE_ANY_PORT
    | FEATURE_V4
    | FEATURE_V6
    | FEATURE_LOOPBACK
    | FEATURE_WRAP;

/// Whether the calling test may go on: it is root and there is a program. Otherwise prints the line that counts as a skip.
pub fn may_run(test: &str) -> bool {
    if !lb_userspace::datapath::is_available() {
        println!("SKIP: {test}: built without the BPF object (cargo xtask build)");
        return false;
    }
    crate::root_or_skip(test)
}

/// Keeps the calling thread on one CPU: what is per CPU (the route cache) is then the same from packet to packet.
///
/// # Errors
/// The kernel's, if this process may not use that CPU.
pub fn stay_on_cpu(cpu: usize) -> nix::Result<()> {
    let mut set = nix::sched::CpuSet::new();
    set.set(cpu)?;
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)
}
