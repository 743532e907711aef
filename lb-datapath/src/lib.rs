//! What lbd does to a packet. The modules stand in the order in which a packet meets them.
//!
//! In: a [`packet::Packet`] and the [`tables::Tables`]. Out: a verdict, the packet rewritten, counters moved. The crate runs
//! unchanged in the kernel (lb-ebpf) and on the host (feature `testing`), so every rule is tested where a debugger
//! works. Invariant: no panic paths and no unbounded work; the BPF verifier refuses the program otherwise.
#![cfg_attr(not(any(test, feature = "testing")), no_std)]
#![forbid(unsafe_code)]

pub mod constants;
pub mod flow_table;
pub mod hash;
pub mod reply_index;
pub mod select;
