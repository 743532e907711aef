//! The life of a datapath on the real kernel: pins adopted or refused, programs replaced on their links, interfaces that come and go.
//!
//! Each test has its own namespace with a veth pair and its own pin directory.

mod adoption;
mod capabilities;
mod flows;
mod grace;
mod interfaces;
mod place;
mod programs;
