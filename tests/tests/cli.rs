//! lbd and lbctl as a person runs them.
//!
//! One binary for the whole layer: each would link the daemon's library anew. Every file here has a name that begins with the layer's and is
//! listed; `cargo xtask test` holds this list against the directory.

mod cli_detach;
mod cli_exec_check;
mod cli_lbctl;
mod cli_refusals;
