//! What lbd does to a packet. The modules stand in the order in which a packet meets them.
//!
//! In: a [`packet::Packet`] and the [`tables::Tables`]. Out: a verdict, the packet rewritten, counters moved. The crate runs
//! unchanged in the kernel (lb-ebpf) and on the host (feature `testing`), so every rule is tested where a debugger
//! works. Invariant: no panic paths and no unbounded work; the BPF verifier refuses the program otherwise.
#![cfg_attr(not(any(test, feature = "testing")), no_std)]
#![forbid(unsafe_code)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "words are cut into their fields by casts all over the packet path"
)]
#![cfg_attr(
    not(any(test, feature = "testing")),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

pub mod pipeline;
pub mod rounds;

pub mod parse;

pub mod icmp;

pub mod classify;

pub mod reply;

pub mod select;

pub mod begin;

pub mod forward;

pub mod answer;

pub mod decap;

// What the steps are made of.
pub mod checksum;
pub mod cold;
pub mod constants;
pub mod encap;
pub mod flow_table;
pub mod hash;
pub mod header;
pub mod maglev;
pub mod nat;
pub mod packet;
pub mod reply_index;
pub mod route;
pub mod tables;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
