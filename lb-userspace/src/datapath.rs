//! The datapath: the program in the kernel and its maps, and the only place that touches aya and bpf(2).
//!
//! In: what the configuration says of interfaces, sizes and timeouts, and changes made by planning. Out: an attached program,
//! maps as a [`Store`](crate::store::Store), counters, flows, explanations. Invariants: start, restart, crash and
//! upgrade are one path ([`Datapath::open`]); maps are written through mapped memory alone; one [`Datapath`] per pin path.
//!
//! Order of use: [`Datapath::open`] → read an image of the maps, plan, apply → [`Datapath::attach`] → events; at the end
//! [`Datapath::close`]. On a reload [`Datapath::reconfigure`] before the plan is applied.

mod attach;
mod bpf;
mod bpffs;
mod btf;
pub mod counters;
mod decap;
mod driver;
pub mod explain;
pub mod flows;
mod grace;
mod load;
mod lock;
mod mapped;
mod maps;
pub mod memory;
mod migrate;
mod netlink;
mod object;
mod open;
mod pinned;
mod pins;
mod privilege;
pub mod routes;
mod seed;
mod sizes;
mod syscall;
mod tuning;
mod visit;

use std::path::PathBuf;

pub use attach::{InterfaceState, Mode};
pub use decap::Decapsulator;
pub use object::{OBJECT_VARIABLE, is_available};
pub use open::{Datapath, detach, foreign_pins};
pub use pinned::Pinned;
pub use pins::Adoption;
pub use seed::Seed;
pub use sizes::{Demand, Sizes};
pub use tuning::Tuning;

impl DatapathError {
    /// The interface it is about, if it is about one.
    pub fn interface(&self) -> Option<&str> {
        match self {
            Self::NoInterface { name } => Some(name),
            Self::Occupied { interface, .. } | Self::Attach { interface, .. } => Some(interface),
            _ => None,
        }
    }
}

/// What went wrong between the daemon and the kernel: what was tried, on what, why it failed, what to do.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The binary holds no program.
    #[error(
        "this lbd was built without the BPF program; build it with `cargo xtask build`, or name one in {OBJECT_VARIABLE}"
    )]
    NoObject,
    /// The object is no object of lbd.
    #[error("{what} cannot be used: {reason}")]
    Object {
        /// Which.
        what: String,
        /// Why.
        reason: String,
    },
    /// Something is wrong under the pin path.
    #[error("pin {path}: {reason}; {remedy}", path = .path.display())]
    Pin {
        /// Where.
        path: PathBuf,
        /// Why.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// Whoever looks at the pins may not.
    #[error(
        "this user may not read the pins under {path}, so it is not known whether lbd's program forwards: ask as root \
         (sudo lbctl status), or as the user that lbd runs as",
        path = .path.display()
    )]
    Barred {
        /// The pin path.
        path: PathBuf,
    },
    /// Another lbd uses the pin path.
    #[error(
        "pin path {path} is in use by {holder}; stop it (systemctl stop lbd), or set datapath.pin to another directory",
        path = .path.display()
    )]
    Locked {
        /// The pin path.
        path: PathBuf,
        /// Who has it.
        holder: String,
    },
    /// The seed file cannot be used.
    #[error(
        "seed file {path}: {reason}; it must hold 64 hexadecimal digits, and is made anew if it is not there",
        path = .path.display()
    )]
    Seed {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The kernel refused to make a map or to take a program.
    #[error("cannot load {what}: {reason}; {remedy}")]
    Load {
        /// What.
        what: String,
        /// Why.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The verifier refused a program: a fault of lbd, or a kernel it was never tried on.
    #[error("the kernel's verifier refuses the program {program}; {remedy}. Its last lines:\n  {tail}")]
    Verifier {
        /// Which.
        program: String,
        /// What to do.
        remedy: &'static str,
        /// The last lines of the log.
        tail: String,
    },
    /// There is no such interface.
    #[error("there is no interface {name}; `ip link` shows those there are, see datapath.interfaces")]
    NoInterface {
        /// Its name.
        name: String,
    },
    /// Another program is on the interface.
    #[error(
        "interface {interface} carries another XDP program{program}; {remedy}, or take {interface} out of datapath.interfaces"
    )]
    Occupied {
        /// The interface.
        interface: String,
        /// Number and name, as far as known.
        program: String,
        /// Who has it there, and how it is taken off.
        remedy: String,
    },
    /// The program cannot be put on the interface.
    #[error("cannot attach to {interface} in {mode} mode: {reason}; {remedy}")]
    Attach {
        /// The interface.
        interface: String,
        /// Native or generic.
        mode: &'static str,
        /// Why.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// A map could not be read or written.
    #[error("map {map}: cannot {action}: {reason}")]
    Map {
        /// Which.
        map: &'static str,
        /// What was tried.
        action: &'static str,
        /// Why.
        reason: String,
    },
    /// A program could not be run by hand.
    #[error("cannot run the program {program}: {reason}; {remedy}")]
    Run {
        /// Which.
        program: &'static str,
        /// Why.
        reason: String,
        /// What to do.
        remedy: String,
    },
}
