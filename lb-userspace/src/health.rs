//! Active health checks: asks every backend, on its rhythm, whether it answers.
//!
//! In: targets (an id, an address, a [`HealthSpec`](crate::spec::HealthSpec)) through [`HealthEngine`]. Out:
//! [`HealthEvent`]s, and counters for the metrics by [`HealthEngine::metrics`]. Invariants: a backend that is lost is
//! reported unhealthy at most interval × fall + timeout + 100 ms later (jitter and `fast_interval` only shorten that); the same question to the same address is asked
//! once, however many ids want its answer; at no time are more probes under way than the limit says; a fault of this
//! host (no file descriptor left) never makes a backend unhealthy.
//!
//! The way of an answer: [`schedule`] says when, `engine` starts the probe, `probe` asks, `questions` hands the result
//! to [`state`] and tells those who asked. A new kind of check is a file in `probe/`, a variant of
//! [`HealthKind`](crate::spec::HealthKind) and an arm of `probe::ask`.

mod counters;
mod engine;
pub mod passive;
mod probe;
mod prober;
mod questions;
pub mod schedule;
pub mod state;
mod target;

pub use counters::{CheckMetrics, DURATION_BOUNDS_SECONDS, DurationHistogram, HealthMetrics};
pub use engine::{HealthEngine, default_probe_limit};
pub use probe::ProbeResult;
pub(crate) use probe::encrypted;
pub use prober::Prober;
pub use state::Health;
pub use target::{HealthEvent, Target, TargetId, Through};
