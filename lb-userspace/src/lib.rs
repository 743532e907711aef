//! lbd in user space.

pub mod spec;
