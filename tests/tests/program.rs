//! The real program in the kernel, by BPF_PROG_TEST_RUN.
//!
//! One binary for the whole layer: each would link the daemon's library anew. Every file here has a name that begins with the layer's and is
//! listed; `cargo xtask test` holds this list against the directory.

mod program_cases;
mod program_distribution;
mod program_flow_table;
mod program_hot_path;
#[path = "program_loader/main.rs"]
mod program_loader;
mod program_modes;
mod program_properties;
