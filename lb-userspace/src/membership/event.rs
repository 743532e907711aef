//! What has happened, for people: the daemon's log and `lbctl events`.
//!
//! In: the difference that an input made. Out: [`DomainEvent`]s. Invariant: one for each change of state, none for an input
//! that changed nothing.

use serde::{Deserialize, Serialize};

use super::standby::Mode;
use super::{MemberId, Override, StateOverride};
use crate::desired::Variant;
use crate::health::Health;
use crate::spec::{BackendAddress, Name, Origin};

/// What kind of thing happened; the `type` of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A service is there.
    ServiceAdded,
    /// A service is another than before.
    ServiceChanged,
    /// A service is gone.
    ServiceRemoved,
    /// A backend is in its pool.
    BackendAdded,
    /// A backend is gone.
    BackendRemoved,
    /// New flows may come to a backend.
    BackendEligible,
    /// New flows no longer come to a backend.
    BackendIneligible,
    /// The checks of a backend have found something else.
    BackendHealth,
    /// An override was set or changed.
    OverrideSet,
    /// An override was cleared, or has ended with its backend.
    OverrideCleared,
    /// The deadline of a drain is over.
    DrainOver,
    /// A pool has no usable backend any more.
    PoolDown,
    /// A pool has a usable backend again.
    PoolUp,
    /// A discovery source no longer answers, or answers nothing that can be taken.
    DiscoveryFailed,
    /// A discovery source answers again.
    DiscoveryRecovered,
    /// So few of a pool are well that all its backends get new flows.
    PoolPanic,
    /// Enough of a pool are well again: only those get new flows.
    PoolPanicOver,
    /// The backup pool gets a pool's new flows.
    PoolOnBackup,
    /// A pool has its new flows back from the backup pool.
    PoolBack,
}

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Worth a line.
    Info,
    /// Somebody should look.
    Warning,
}

/// One change of state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DomainEvent {
    /// What kind of thing.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// How much it matters.
    pub level: Level,
    /// The service it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Name>,
    /// The pool it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Name>,
    /// The backend it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendAddress>,
    /// The whole of it in words.
    pub message: String,
}

impl DomainEvent {
    pub(super) fn service(kind: EventKind, name: &Name, message: String) -> Self {
        Self { kind, level: Level::Info, service: Some(name.clone()), pool: None, backend: None, message }
    }

    pub(super) fn member(kind: EventKind, level: Level, id: &MemberId, message: String) -> Self {
        Self { kind, level, service: None, pool: Some(id.pool.clone()), backend: Some(id.address), message }
    }

    pub(super) fn added(id: &MemberId, origin: &Origin) -> Self {
        let message = format!("backend {id} is added by {origin}");
        Self::member(EventKind::BackendAdded, Level::Info, id, message)
    }

    pub(super) fn removed(id: &MemberId) -> Self {
        Self::member(EventKind::BackendRemoved, Level::Info, id, format!("backend {id} is removed"))
    }

    pub(super) fn eligible(id: &MemberId) -> Self {
        let message = format!("backend {id} takes new flows");
        Self::member(EventKind::BackendEligible, Level::Info, id, message)
    }

    pub(super) fn ineligible(id: &MemberId, reason: &str, level: Level) -> Self {
        let message = format!("backend {id} takes no new flows: {reason}");
        Self::member(EventKind::BackendIneligible, level, id, message)
    }

    pub(super) fn health(id: &MemberId, health: Health, detail: &str) -> Self {
        let level = if health == Health::Unhealthy { Level::Warning } else { Level::Info };
        let message = format!("backend {id} is {health}: {detail}");
        Self::member(EventKind::BackendHealth, level, id, message)
    }

    /// An override is another than before; `now` empty: it is cleared.
    pub(super) fn overridden(id: &MemberId, now: &Override) -> Self {
        if now.is_empty() {
            let message = format!("override of backend {id} is cleared");
            return Self::member(EventKind::OverrideCleared, Level::Info, id, message);
        }
        let message = format!("backend {id} is overridden by {}: {}", now.by, in_words(now));
        Self::member(EventKind::OverrideSet, Level::Info, id, message)
    }

    pub(super) fn override_ended(id: &MemberId) -> Self {
        let message = format!("override of backend {id} has ended with it");
        Self::member(EventKind::OverrideCleared, Level::Info, id, message)
    }

    pub(super) fn drain_over(id: &MemberId, what: &str) -> Self {
        let message = format!("the drain of backend {id} is over: {what}");
        Self::member(EventKind::DrainOver, Level::Info, id, message)
    }

    pub(super) fn pool(pool: &Name, up: bool) -> Self {
        let (kind, level, what) = match up {
            true => (EventKind::PoolUp, Level::Info, "has a usable backend"),
            false => (EventKind::PoolDown, Level::Warning, "has no usable backend"),
        };
        Self::of_pool(kind, level, pool, format!("pool {pool} {what}"))
    }

    /// The mode of a table is another than before.
    pub(super) fn mode(pool: &Name, variant: Variant, before: &Mode, now: &Mode, backup: &str) -> Vec<Self> {
        let table = format!("pool {pool} ({variant})");
        let healthy = format!("{} of its weight is healthy", now.share());
        let mut events = Vec::new();
        let mut add = |kind, level, what: String| {
            events.push(Self::of_pool(kind, level, pool, format!("{table}: {what}")));
        };
        match (before.on_backup, now.on_backup) {
            (false, true) => add(
                EventKind::PoolOnBackup,
                Level::Warning,
                format!("{healthy}: backup pool {backup} gets its new flows"),
            ),
            (true, false) => {
                add(EventKind::PoolBack, Level::Info, format!("{healthy}: it has its new flows again"))
            }
            _ => {}
        }
        match (before.panic, now.panic) {
            (false, true) => add(
                EventKind::PoolPanic,
                Level::Warning,
                format!("{healthy}, less than panic_below: all its backends get new flows"),
            ),
            (true, false) => add(
                EventKind::PoolPanicOver,
                Level::Info,
                format!("{healthy}: only those get new flows again"),
            ),
            _ => {}
        }
        events
    }

    fn of_pool(kind: EventKind, level: Level, pool: &Name, message: String) -> Self {
        Self { kind, level, service: None, pool: Some(pool.clone()), backend: None, message }
    }
}

/// An override in words: `draining until 2026-11-21T08:00:00.000Z, then disable; weight 5`.
pub(crate) fn in_words(value: &Override) -> String {
    let state = value.state.map(|state| match state {
        StateOverride::Disabled => "disabled".to_owned(),
        StateOverride::Draining { deadline: None, .. } => "draining".to_owned(),
        StateOverride::Draining { deadline: Some(deadline), then, expired } => match expired {
            true => format!("drained since {deadline}"),
            false => format!("draining until {deadline}, then {}", then.as_str()),
        },
    });
    let weight = value.weight.map(|weight| format!("weight {weight}"));
    [state, weight].into_iter().flatten().collect::<Vec<_>>().join("; ")
}
