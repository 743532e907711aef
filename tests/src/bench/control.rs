//! What the control plane costs: tables, changes by lbctl from its start to the kernel's tables, next hops, loads, reloads, memory.
//!
//! In: how many turns. Out: a row for each figure, beside the bound it has to keep. Invariant: daemon, command line, maps and disk are
//! the real ones; what the machine itself takes (a grace period, a write that is on the disk) is measured in the same run and stands
//! beside the figures.

mod cases;
mod figure;
mod hops;
mod memory;
mod site;

pub use cases::measure;
pub use figure::{ControlReport, ControlRow, Unit};
