//! lbd in user space.

pub mod config;
pub mod health;
pub mod spec;
