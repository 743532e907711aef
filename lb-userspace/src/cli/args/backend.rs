//! `lbctl backend …` and `lbctl override …`, word by word.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{ChangeArguments, words};
use crate::api::types::Then;
use crate::spec::{BackendAddress, DEFAULT_WEIGHT, Name};

/// A pool and one of its backends.
#[derive(Args, Debug, Clone)]
pub struct BackendTarget {
    /// A pool, or a service (its pool is meant).
    pub pool: Name,
    /// ADDR or ADDR:PORT, as `backend list` shows it.
    pub address: BackendAddress,
}

/// `lbctl backend …`
#[derive(Subcommand, Debug)]
pub enum BackendCommand {
    /// Backends with health, state, why they get flows or not, and counters.
    #[command(aliases = ["ls", "show"])]
    List {
        /// Only this pool's (or service's).
        pool: Option<Name>,
    },
    /// Adds backends.
    Add {
        /// A pool, or a service.
        pool: Name,
        /// ADDR or ADDR:PORT.
        #[arg(required = true)]
        addresses: Vec<BackendAddress>,
        /// Share of new flows, against 1 of the others.
        #[arg(long, default_value_t = DEFAULT_WEIGHT)]
        weight: u16,
        /// How the change is made.
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Overrides a backend's weight.
    Set {
        /// Which backend.
        #[command(flatten)]
        target: BackendTarget,
        /// Share of new flows; 0 drains.
        #[arg(long)]
        weight: u16,
        /// How the change is made.
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// No new flows; tracked ones stay. With --wait it shows how many are left, until there are none or the deadline is over.
    #[command(
        after_help = "Exit status with --wait: 0 no flow is left, or the deadline is over and --then is done; 6 waited in vain \
        (until the deadline, or 10s, or as long as --wait=TIME says).\n\n\
        Example: lbctl backend drain web 10.0.0.11 --deadline 5m --then disable --wait"
    )]
    Drain {
        /// Which backend.
        #[command(flatten)]
        target: BackendTarget,
        /// Tracked flows stay this long, then go; 0s: they go at once, as on_loss says.
        #[arg(long, value_name = "TIME", value_parser = words::duration)]
        deadline: Option<Duration>,
        /// What happens at the deadline: disable, remove or keep.
        #[arg(long, requires = "deadline", value_name = "WHAT", value_parser = words::then)]
        then: Option<Then>,
        /// How the change is made.
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// No flows, no checks.
    Disable {
        /// Which backend.
        #[command(flatten)]
        target: BackendTarget,
        /// How the change is made.
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Takes back drain, disable and a weight of 0; another weight stays until `override clear`.
    Enable {
        /// Which backend.
        #[command(flatten)]
        target: BackendTarget,
        /// How the change is made.
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Removes a backend that lbctl added.
    #[command(alias = "rm")]
    Remove {
        /// Which backend.
        #[command(flatten)]
        target: BackendTarget,
        /// Drain this long first; 0s: as without.
        #[arg(long, value_name = "TIME", value_parser = words::duration)]
        drain: Option<Duration>,
        /// How the change is made.
        #[command(flatten)]
        change: ChangeArguments,
    },
}

/// `lbctl override …`
#[derive(Subcommand, Debug)]
pub enum OverrideCommand {
    /// What lbctl holds in place, against the definitions.
    #[command(aliases = ["ls", "show"])]
    List,
    /// Lets go of one backend, or of all.
    Clear {
        /// A pool, or a service.
        #[arg(required_unless_present = "all")]
        pool: Option<Name>,
        /// The backend.
        #[arg(required_unless_present = "all")]
        address: Option<BackendAddress>,
        /// Every override.
        #[arg(long, conflicts_with_all = ["pool", "address"])]
        all: bool,
        /// How the change is made.
        #[command(flatten)]
        change: ChangeArguments,
    },
}
