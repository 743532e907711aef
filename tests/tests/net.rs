//! Network namespaces, real servers, real clients.
//!
//! One binary for the whole layer: each would link the daemon's library anew. Every file here has a name that begins with the layer's and is
//! listed; `cargo xtask test` holds this list against the directory.

#[path = "net_coexistence/main.rs"]
mod net_coexistence;
mod net_crash;
mod net_databases;
mod net_demo;
#[path = "net_discovery/main.rs"]
mod net_discovery;
mod net_harness;
mod net_health;
mod net_load;
mod net_membership;
mod net_modes;
#[path = "net_nexthop/main.rs"]
mod net_nexthop;
mod net_on_loss;
mod net_passive;
mod net_pins;
mod net_plain_host;
mod net_privilege;
mod net_restart;
#[path = "net_revisions/main.rs"]
mod net_revisions;
mod net_soak;
mod net_state;
mod net_table_length;
mod net_try;
mod net_upgrade;
mod net_veth_peer;
mod net_via_service;
