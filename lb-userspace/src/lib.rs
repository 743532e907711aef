//! lbd in user space.

pub mod health;
pub mod spec;
