//! lbd in user space.

pub mod api;
pub mod change;
pub mod check;
pub mod cli;
pub mod config;
pub mod controller;
pub mod daemon;
pub mod datapath;
pub mod decap;
pub mod desired;
pub mod detach;
pub mod health;
pub mod ids;
pub mod image;
pub mod maglev;
pub mod membership;
pub mod metrics;
pub mod moment;
pub mod netlink;
mod parallel;
pub mod plan;
pub mod reach;
pub mod record;
pub mod spec;
pub mod state;
pub mod store;
pub mod trial;
