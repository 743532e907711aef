//! What the kernel says about this host's network, once and as it changes.
//!
//! In: rtnetlink and /proc/net of the network namespace of the calling thread. Out: [`read_host_network`], a snapshot for
//! [`crate::reach`]; [`local_listening_sockets`]; and [`NextHopResolver`], which keeps the neighbours of backends resolved
//! and tells each change of a next hop within 100 ms of the kernel's word; and [`ProbePath`], which keeps a veth of lbd's own. Invariants:
//! nothing of the host is changed but that, and entries of the neighbour tables, of which none that an operator or another daemon made to stay; the kernel is
//! asked where packets go (RTM_GETROUTE), its rules are not copied.

mod host;
mod interface;
mod kernel;
mod neighbour;
mod next_hops;
mod offload;
mod probe_path;
mod probe_veth;
mod resolver;
mod route;
mod sockets;
mod ways_back;

use std::io;

use crate::spec::PROBE_INNER;

pub use host::read_host_network;
pub use next_hops::{NextHop, Unresolved};
pub use probe_path::{ProbePath, make_probe_path, remove_probe_path};
pub use probe_veth::ProbeWish;
pub use resolver::{NetworkEvent, NextHopResolver};
pub use sockets::local_listening_sockets;
pub use ways_back::WaysBack;

/// What can go wrong between lbd and the kernel's tables.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket.
    #[error(
        "cannot open a netlink socket: {0}; a service manager must allow AF_NETLINK (RestrictAddressFamilies)"
    )]
    Open(#[source] io::Error),
    /// The kernel refused or did not answer.
    #[error("cannot ask the kernel for {what}: {reason}")]
    Request {
        /// What was asked for.
        what: String,
        /// The kernel's word.
        reason: rtnetlink::Error,
    },
    /// The way of checks through services cannot be had.
    #[error("the way of checks through services ({PROBE_INNER}): {reason}")]
    Probe {
        /// Why not, and what to do.
        reason: String,
    },
    /// A file of /proc cannot be read.
    #[error("cannot read {path}: {reason}; /proc must be mounted")]
    Read {
        /// The file.
        path: String,
        /// Why not.
        reason: io::Error,
    },
}

/// Lets go of every neighbour that an lbd of this network namespace had the kernel keep resolved; how many there were.
///
/// # Errors
/// The kernel does not answer, or refuses (without CAP_NET_ADMIN).
pub async fn release_neighbours() -> Result<usize, NetlinkError> {
    let (connection, handle, _events) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
    // The connection ends with its last handle, at the end of this function.
    tokio::spawn(connection);
    let mut released = 0;
    for (key, seen) in neighbour::all(&handle).await? {
        if seen.ours && seen.managed && !seen.fixed {
            neighbour::release(&handle, key).await?;
            released += 1;
        }
    }
    Ok(released)
}

impl NetlinkError {
    /// For `map_err` on a request.
    fn asking(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let what = what.into();
        move |reason| Self::Request { what, reason }
    }

    /// The kernel's error number, positive, if it answered with one.
    fn errno(&self) -> Option<i32> {
        match self {
            Self::Request { reason: rtnetlink::Error::NetlinkError(answer), .. } => {
                answer.code.map(|code| code.get().saturating_abs())
            }
            _ => None,
        }
    }
}
