//! What is asked for, and what is told.
//!
//! In: nothing. Out: the types of the engine's two ends, [`Target`] and [`HealthEvent`].

use std::fmt::Display;
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::state::Health;
use crate::spec::{Forward, HealthSpec};

/// What names a target.
pub trait TargetId: Clone + Eq + Hash + Display {
    /// The pool that asks; what a program that checks is told.
    fn pool(&self) -> &str;
}

/// A backend that shall be checked.
#[derive(Clone, Debug)]
pub struct Target<Id> {
    /// Names it in events and in the log.
    pub id: Id,
    /// Where the check goes; through a service, the backend's own address, which is asked besides where that fails.
    pub address: SocketAddr,
    /// By which way, if not directly.
    pub through: Option<Through>,
    /// What is asked, and how often.
    pub spec: HealthSpec,
    /// What is held of it until its checks have spoken: [`Health::Unknown`] for a new one, what the pinned tables say
    /// after a restart.
    pub initial: Health,
}

/// The way of a check through a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Through {
    /// Where it is sent: the program knows the backend by this address.
    pub probe: SocketAddr,
    /// Where clients send: what is asked for by name, and what a certificate has to be for.
    pub vip: SocketAddr,
    /// How the service forwards.
    pub forward: Forward,
}

/// The news of one id: its health or the reason for it is another than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthEvent<Id> {
    /// As in its [`Target`].
    pub id: Id,
    /// What is held of it now.
    pub health: Health,
    /// What the last probe found: `connected`, `HTTP 503, expected 200-399`, `connection refused`; of an unhealthy backend that
    /// answers again, how often it has: `connected (1 of 2 good checks)`.
    pub detail: Arc<str>,
    /// How long the last probe took.
    pub latency: Duration,
    /// `health` is another than before; otherwise only `detail` is, or this confirms the initial health.
    pub changed: bool,
    /// The backend was doubted, and a probe that began later has succeeded.
    pub is_confirmation: bool,
}
