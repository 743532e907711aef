//! lbd in user space.

pub mod cli;
pub mod config;
pub mod desired;
pub mod health;
pub mod metrics;
pub mod reach;
pub mod spec;
