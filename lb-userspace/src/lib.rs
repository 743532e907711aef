//! lbd in user space.
