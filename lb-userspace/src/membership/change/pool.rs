//! What a change may say of a pool besides its backends.
//!
//! In: keys as in the configuration. Out: [`PoolKeys`], the same for a new pool and for one that is there. Invariant: what is not said
//! stays as it is; of a new pool it is what a pool is that says nothing, whatever `[defaults]` of the file say: that is the file's.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::spec::{BackupSpec, HealthSpec, Name, PassiveSpec, Percent, PoolSpec};

/// Keys of a pool; `None`: not said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolKeys {
    /// Its health check.
    pub health: Option<HealthSpec>,
    /// Slots of its table.
    pub maglev: Option<u32>,
    /// Below this share of healthy weight all its backends are used.
    pub panic_below: Option<Percent>,
    /// How long the weight of a backend grows.
    pub slow_start: Option<Duration>,
    /// Who stands in for it.
    pub backup: Option<BackupKey>,
    /// What is made of connections that do not go on.
    pub passive: Option<PassiveKey>,
}

impl PoolKeys {
    /// Nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The pool with what is said.
    pub fn applied(&self, pool: PoolSpec) -> PoolSpec {
        PoolSpec {
            health_is_default: pool.health_is_default && self.health.is_none(),
            health: self.health.clone().unwrap_or(pool.health),
            maglev: self.maglev.or(pool.maglev),
            panic_below: self.panic_below.unwrap_or(pool.panic_below),
            slow_start: self.slow_start.unwrap_or(pool.slow_start),
            backup: match &self.backup {
                Some(backup) => backup.clone().spec(),
                None => pool.backup,
            },
            passive: match self.passive {
                Some(passive) => passive.spec(),
                None => pool.passive,
            },
            ..pool
        }
    }
}

/// `"sorry"`, `{ "pool": "sorry", "below": "25%" }`, or `false`: none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum BackupKey {
    /// `false`; `true` says nothing of who, and is refused.
    Off(False),
    /// This pool, when nobody else can.
    Pool(Name),
    /// This pool, and when.
    Whole(BackupSpec),
}

impl BackupKey {
    fn spec(self) -> Option<BackupSpec> {
        match self {
            Self::Off(False) => None,
            Self::Pool(pool) => Some(BackupSpec::new(pool)),
            Self::Whole(backup) => Some(backup),
        }
    }
}

/// `true`, `false`, or `{ "patience": 0.5 }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PassiveKey {
    /// On, with the default of everything, or off.
    Is(bool),
    /// On, in this way.
    So(PassiveSpec),
}

impl PassiveKey {
    fn spec(self) -> Option<PassiveSpec> {
        match self {
            Self::Is(false) => None,
            Self::Is(true) => Some(PassiveSpec::default()),
            Self::So(passive) => Some(passive),
        }
    }
}

/// The word `false`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "bool", into = "bool")]
pub struct False;

impl TryFrom<bool> for False {
    type Error = &'static str;

    fn try_from(is: bool) -> Result<Self, Self::Error> {
        if is { Err("name the pool that stands in") } else { Ok(Self) }
    }
}

impl From<False> for bool {
    fn from(_: False) -> Self {
        false
    }
}

/// An operation with the keys of a pool beside its own: serde can either flatten or refuse unknown keys, and every typing mistake is
/// to be named.
macro_rules! with_pool_keys {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$outer])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$inner])* pub $field: $type,)*
            /// The pool's health check.
            #[serde(default, deserialize_with = "tables::health", skip_serializing_if = "Option::is_none")]
            pub health: Option<HealthSpec>,
            /// Slots of the pool's table; `None`: as it is, of a new one chosen by the number of backends.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub maglev: Option<u32>,
            /// Below this share of healthy weight all backends of the pool are used, healthy or not.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub panic_below: Option<Percent>,
            /// How long the weight of a backend grows after it was added or has recovered.
            #[serde(default, with = "optional_seconds", skip_serializing_if = "Option::is_none")]
            pub slow_start: Option<Duration>,
            /// Who stands in for the pool.
            #[serde(default, deserialize_with = "tables::backup", skip_serializing_if = "Option::is_none")]
            pub backup: Option<BackupKey>,
            /// What is made of connections that do not go on.
            #[serde(default, deserialize_with = "tables::passive", skip_serializing_if = "Option::is_none")]
            pub passive: Option<PassiveKey>,
        }

        impl $name {
            /// What it says of the pool.
            pub fn keys(&self) -> PoolKeys {
                PoolKeys {
                    health: self.health.clone(),
                    maglev: self.maglev,
                    panic_below: self.panic_below,
                    slow_start: self.slow_start,
                    backup: self.backup.clone(),
                    passive: self.passive,
                }
            }

            /// The same, with this said of the pool.
            #[must_use]
            pub fn with_keys(self, keys: PoolKeys) -> Self {
                let PoolKeys { health, maglev, panic_below, slow_start, backup, passive } = keys;
                Self { health, maglev, panic_below, slow_start, backup, passive, ..self }
            }
        }
    };
}
