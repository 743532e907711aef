//! lbd on the real kernel: what the tests and the demo stand on.
//!
//! In: a wish ("a client, a balancer, three web servers, mode nat, IPv6"). Out: network namespaces that look like that
//! network, real servers and clients inside them, and the real `lbd` at work between them. Invariant: nothing here touches an
//! address, a route, an interface or a sysctl of the host's own namespace, and nothing outlives the process, however it ends
//! (what a SIGKILL leaves behind, the next user of this crate sweeps).
//!
//! Needs root. A test begins with [`root_or_skip`] and says so where it cannot run.

pub mod bench;
pub mod capability;
pub mod capture;
pub mod checksum;
pub mod client;
pub mod content;
pub mod demo;
pub mod load;
pub mod netns;
pub mod process;
pub mod program;
pub mod run_dir;
mod screen;
pub mod server;
pub mod show;
mod signals;
pub mod soak;
pub mod topology;
pub mod web;

/// Whether the calling test may go on: it runs as root. Otherwise prints the line that `cargo xtask test` counts as a skip.
pub fn root_or_skip(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    println!("SKIP: {test}: needs root for network namespaces");
    false
}
