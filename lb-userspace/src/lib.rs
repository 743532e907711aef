//! lbd in user space.

pub mod config;
pub mod desired;
pub mod health;
pub mod spec;
