//! What Prometheus reads.

pub mod text;
