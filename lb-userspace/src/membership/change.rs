//! What people and programs ask for: the operations of `lbctl` and of `POST /v1/changes`.
//!
//! In: JSON, or values made by lbctl. Out: [`Change`], a list that is done as a whole or not at all. Invariant: nothing in
//! here is judged; whether an operation may be done is for [`super::Membership::prepare`] to say.

#[macro_use]
mod pool;
mod tables;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::spec::{
    Affinity, BackendAddress, DEFAULT_WEIGHT, Forward, HealthSpec, Listener, Name, OnLoss, Percent, WhenNone,
    seconds,
};
pub use pool::{BackupKey, False, PassiveKey, PoolKeys};

/// Operations that become one revision together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// Done in this order; each sees what the ones before it did.
    pub operations: Vec<Operation>,
    /// Under which conditions.
    pub options: Options,
}

impl Change {
    /// One operation with the default options.
    pub fn one(operation: Operation) -> Self {
        Self { operations: vec![operation], options: Options::default() }
    }
}

/// Under which conditions a change is done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Only if this is still the revision.
    pub if_revision: Option<u64>,
    /// Even if it takes a service's last usable backend.
    pub force: bool,
    /// Judge it and say what it would do, but do nothing.
    pub dry_run: bool,
    /// Only if no larger share (of 1) than this of a pool's tracked flows or slots moves.
    pub max_moved: Option<f64>,
}

/// One thing to do. `pool` is a pool's or a service's name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    /// Adds a service, with a pool of the same name unless it names another.
    ServiceAdd(Box<ServiceAdd>),
    /// Changes a service that lbctl added.
    ServiceSet(Box<ServiceSet>),
    /// Removes a service that lbctl added, and the pool of the same name if lbctl added that and no other service uses it.
    ServiceRemove {
        /// Its name.
        name: Name,
    },
    /// Adds a pool without backends.
    PoolAdd(Box<PoolAdd>),
    /// Changes a pool that lbctl added.
    PoolSet(Box<PoolSet>),
    /// Removes a pool that lbctl added and that no service uses.
    PoolRemove {
        /// Its name.
        name: Name,
    },
    /// Adds a backend.
    BackendAdd {
        /// The pool's or a service's name.
        pool: Name,
        /// Where it is.
        address: BackendAddress,
        /// Its share of new flows.
        #[serde(default = "default_weight")]
        weight: u16,
    },
    /// Overrides a backend's weight.
    BackendWeight {
        /// The pool's or a service's name.
        pool: Name,
        /// Where it is.
        address: BackendAddress,
        /// The weight that counts until the override is cleared.
        weight: u16,
    },
    /// No new flows; tracked ones stay.
    BackendDrain {
        /// The pool's or a service's name.
        pool: Name,
        /// Where it is.
        address: BackendAddress,
        /// For how long tracked flows stay; `None`: until they end.
        #[serde(default, with = "optional_seconds", skip_serializing_if = "Option::is_none")]
        deadline: Option<Duration>,
        /// What happens at the deadline.
        #[serde(default)]
        then: Then,
    },
    /// No flows, no checks.
    BackendDisable {
        /// The pool's or a service's name.
        pool: Name,
        /// Where it is.
        address: BackendAddress,
    },
    /// Ends a drain, a disable, or an overriding weight of 0.
    BackendEnable {
        /// The pool's or a service's name.
        pool: Name,
        /// Where it is.
        address: BackendAddress,
    },
    /// Removes a backend that lbctl added.
    BackendRemove {
        /// The pool's or a service's name.
        pool: Name,
        /// Where it is.
        address: BackendAddress,
        /// How long tracked flows stay before it goes; `None`: it goes at once.
        #[serde(default, with = "optional_seconds", skip_serializing_if = "Option::is_none")]
        drain: Option<Duration>,
    },
    /// Takes every override off one backend.
    OverrideClear {
        /// The pool's or a service's name.
        pool: Name,
        /// Where it is.
        address: BackendAddress,
    },
    /// Takes every override off every backend.
    OverrideClearAll,
}

impl Operation {
    /// It names a file of this host or a program, which lbd would use with its own rights.
    pub fn names_file(&self) -> bool {
        let health = match self {
            Self::ServiceAdd(add) => add.health.as_ref(),
            Self::ServiceSet(set) => set.health.as_ref(),
            Self::PoolAdd(add) => add.health.as_ref(),
            Self::PoolSet(set) => set.health.as_ref(),
            _ => None,
        };
        health.is_some_and(|health| health.kind.names_file())
    }
}

with_pool_keys! {
    /// A service to add; keys as in the configuration, those of a pool for the new one that it makes.
    ServiceAdd {
        /// Unique among services.
        name: Name,
        /// Where clients send to.
        listen: Vec<Listener>,
        /// An existing pool; `None`: a new one of the service's name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pool: Option<Name>,
        /// How packets travel.
        #[serde(default)]
        forward: Forward,
        /// What sticks.
        #[serde(default)]
        affinity: Affinity,
        /// What becomes of flows whose backend is gone.
        #[serde(default)]
        on_loss: OnLoss,
        /// What becomes of packets when no backend can take them.
        #[serde(default)]
        when_none: WhenNone,
        /// Take the port although a program on this host listens there.
        #[serde(default)]
        shadow_local: bool,
        /// Members of the new pool.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        backends: Vec<NewBackend>,
    }
}

impl ServiceAdd {
    /// A service with the defaults of everything else.
    pub fn new(name: Name, listen: Vec<Listener>) -> Self {
        Self {
            name,
            listen,
            pool: None,
            forward: Forward::default(),
            affinity: Affinity::default(),
            on_loss: OnLoss::default(),
            when_none: WhenNone::default(),
            shadow_local: false,
            backends: Vec::new(),
            health: None,
            maglev: None,
            panic_below: None,
            slow_start: None,
            backup: None,
            passive: None,
        }
    }
}

with_pool_keys! {
    /// What to change of a service, and of its pool, if lbctl added that too; what is `None` stays.
    ServiceSet {
        /// The service.
        name: Name,
        /// All its listeners from now on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        listen: Option<Vec<Listener>>,
        /// Another pool, which must exist.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pool: Option<Name>,
        /// How packets travel.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        forward: Option<Forward>,
        /// What sticks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        affinity: Option<Affinity>,
        /// What becomes of flows whose backend is gone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        on_loss: Option<OnLoss>,
        /// What becomes of packets when no backend can take them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        when_none: Option<WhenNone>,
        /// Take the port although a program on this host listens there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shadow_local: Option<bool>,
    }
}

impl ServiceSet {
    /// A change of nothing.
    pub const fn new(name: Name) -> Self {
        Self {
            name,
            listen: None,
            pool: None,
            forward: None,
            affinity: None,
            on_loss: None,
            when_none: None,
            shadow_local: None,
            health: None,
            maglev: None,
            panic_below: None,
            slow_start: None,
            backup: None,
            passive: None,
        }
    }
}

with_pool_keys! {
    /// A pool to add.
    PoolAdd {
        /// Unique among pools.
        name: Name,
        /// Its first members.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        backends: Vec<NewBackend>,
    }
}

impl PoolAdd {
    /// A pool with the defaults of everything else.
    pub const fn new(name: Name, backends: Vec<NewBackend>) -> Self {
        Self {
            name,
            backends,
            health: None,
            maglev: None,
            panic_below: None,
            slow_start: None,
            backup: None,
            passive: None,
        }
    }
}

with_pool_keys! {
    /// What to change of a pool that lbctl added; what is `None` stays.
    PoolSet {
        /// The pool.
        name: Name,
    }
}

impl PoolSet {
    /// A change of nothing.
    pub const fn new(name: Name) -> Self {
        Self {
            name,
            health: None,
            maglev: None,
            panic_below: None,
            slow_start: None,
            backup: None,
            passive: None,
        }
    }
}

/// A member of a new pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewBackend {
    /// Where it is.
    pub address: BackendAddress,
    /// Its share of new flows.
    #[serde(default = "default_weight")]
    pub weight: u16,
}

/// What happens when the deadline of a drain is over; flows that are left are lost as `on_loss` says in each case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// It stays drained, and checked.
    #[default]
    Keep,
    /// It is disabled.
    Disable,
    /// It is removed.
    Remove,
}

impl Then {
    /// The word of lbctl and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Disable => "disable",
            Self::Remove => "remove",
        }
    }
}

fn default_weight() -> u16 {
    DEFAULT_WEIGHT
}

/// As [`seconds`], for a length that may be absent.
mod optional_seconds {
    use super::*;

    pub(super) fn serialize<S: serde::Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => seconds::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        #[derive(Deserialize)]
        struct Length(#[serde(with = "seconds")] Duration);
        Ok(Option::<Length>::deserialize(deserializer)?.map(|length| length.0))
    }
}
