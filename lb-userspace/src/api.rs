//! The HTTP/JSON API on the Unix socket: what lbctl speaks, and every other program.
//!
//! In: requests of local users. Out: answers as interface.md fixes them ([`types`]). Handlers read a published [`Snapshot`]
//! and [`Counters`], and send everything else as a [`Command`] to the one task that owns membership and datapath; they touch
//! neither maps nor files. Invariants: `api_version` comes first in every answer; an error has a code, a sentence and a
//! remedy; a client can hold up nobody but itself.

mod access;
pub mod client;
mod error;
pub mod events;
mod handle;
mod routes;
mod rows;
mod server;
mod snapshot;
mod socket;
pub mod types;

pub use access::{Access, Group, NoGroup, Rights, Role};
pub use error::{ApiError, ErrorCode};
pub use events::EventLog;
pub use handle::{Command, Handle, Reply};
pub use server::{serve, serve_starting};
pub use snapshot::{Counters, Placement, Placements, Snapshot, TableInfo};
pub use socket::{Socket, SocketError, bind};

#[cfg(test)]
mod tests;
