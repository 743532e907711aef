//! `lbctl pool …`, and what may be said of a pool wherever one is made or changed, word by word.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{ChangeArguments, words};
use crate::api::types::{BackupKey, False, NewBackend, PassiveKey, PoolKeys};
use crate::spec::{HealthKind, HealthSpec, Name, Percent};

/// What a pool is to be besides its backends.
#[derive(Args, Debug, Clone, Default)]
pub struct PoolArguments {
    /// How the backends are checked: tcp, icmp, http, http:/PATH, https:/PATH, grpc, grpc:SERVICE, dns:NAME, none.
    #[arg(long, value_name = "CHECK", value_parser = words::boxed_health)]
    pub health: Option<Box<HealthKind>>,
    /// Slots of the table: 1021, 4093, 16381 or 65537; default: by the number of backends.
    #[arg(long, value_name = "SLOTS")]
    pub maglev: Option<u32>,
    /// Below this share of healthy weight all backends are used, healthy or not.
    #[arg(long, value_name = "SHARE")]
    pub panic_below: Option<Percent>,
    /// How long the weight of a backend grows after it was added or has recovered.
    #[arg(long, value_name = "TIME", value_parser = words::duration)]
    pub slow_start: Option<Duration>,
    /// The pool that gets its new flows when nobody else can.
    #[arg(long, value_name = "POOL")]
    pub backup: Option<Name>,
    /// None does.
    #[arg(long, conflicts_with = "backup")]
    pub no_backup: bool,
    /// Whether a backend is ejected with which connections do not go on: on or off.
    #[arg(long, value_name = "on|off", value_parser = words::on_or_off)]
    pub passive: Option<bool>,
}

impl PoolArguments {
    /// The ids of all of them, for what excludes them.
    pub const IDS: [&'static str; 7] =
        ["health", "maglev", "panic_below", "slow_start", "backup", "no_backup", "passive"];

    /// The same as the API says it.
    pub fn keys(self) -> PoolKeys {
        let Self { health, maglev, panic_below, slow_start, backup, no_backup, passive } = self;
        PoolKeys {
            // A check with the usual rhythm.
            health: health.map(|kind| HealthSpec { kind: *kind, ..HealthSpec::default() }),
            maglev,
            panic_below,
            slow_start,
            backup: backup.map(BackupKey::Pool).or_else(|| no_backup.then_some(BackupKey::Off(False))),
            passive: passive.map(PassiveKey::Is),
        }
    }
}

/// `lbctl pool …`
#[derive(Subcommand, Debug)]
pub enum PoolCommand {
    /// All pools, a line for each of their tables.
    #[command(alias = "ls")]
    List,
    /// One pool and its backends.
    Show {
        /// The pool, or a service (its pool is meant).
        name: Name,
    },
    /// A new pool.
    #[command(
        after_help = "What it is not told it is as lbd has it: [defaults] of the file hold for the file alone.\n\n\
        Example: lbctl pool add sorry --backend 10.0.9.1:8080 --health http:/healthz"
    )]
    Add {
        /// Its name.
        name: Name,
        /// A backend; may be repeated.
        #[arg(long = "backend", value_name = "BACKEND", value_parser = words::new_backend)]
        #[arg(help = "A backend, ADDR[:PORT][,weight=N]; may be repeated")]
        backends: Vec<NewBackend>,
        /// What it is to be.
        #[command(flatten)]
        pool: PoolArguments,
        /// How the change is made.
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Changes a pool that lbctl added.
    #[command(after_help = "Example: lbctl pool set web --slow-start 30s --backup sorry")]
    Set {
        /// The pool.
        name: Name,
        /// What it is to be.
        #[command(flatten)]
        pool: PoolArguments,
        /// How the change is made.
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Removes a pool that lbctl added and that no service uses.
    #[command(alias = "rm")]
    Remove {
        /// The pool.
        name: Name,
        /// How the change is made.
        #[command(flatten)]
        change: ChangeArguments,
    },
}
