//! `lbctl service …`, word by word.

use clap::{Args, Subcommand};

use super::{ChangeArguments, PoolArguments, words};
use crate::api::types::NewBackend;
use crate::spec::{Affinity, Forward, Listener, Name, OnLoss, WhenNone};

/// What `service add` and `service set` say of a service's ways.
#[derive(Args, Debug, Clone, Default)]
pub struct PolicyArguments {
    /// What meets the same backend again: flow, client, none.
    #[arg(long)]
    pub affinity: Option<Affinity>,
    /// What becomes of flows whose backend is gone: reselect, reset, hold.
    #[arg(long, value_name = "WHAT")]
    pub on_loss: Option<OnLoss>,
    /// What becomes of new flows when no backend can take them: reset, drop, spread.
    #[arg(long, value_name = "WHAT")]
    pub when_none: Option<WhenNone>,
}

/// `lbctl service …`
#[derive(Subcommand, Debug)]
pub enum ServiceCommand {
    /// All services.
    #[command(alias = "ls")]
    List,
    /// One service and its backends.
    Show {
        /// The service.
        name: Name,
    },
    /// A new service.
    Add {
        /// Its name.
        name: Name,
        /// Where clients reach it.
        #[arg(
            required = true,
            help = "Where clients reach it: ADDR:PORT/tcp, [ADDR]:PORT/udp, ADDR:any/tcp"
        )]
        listen: Vec<Listener>,
        /// How packets reach the backends: full-nat, nat, dsr, ipip.
        #[arg(long, value_name = "MODE")]
        forward: Option<Forward>,
        /// A backend; may be repeated.
        #[arg(long = "backend", value_name = "BACKEND", value_parser = words::new_backend)]
        #[arg(help = "A backend, ADDR[:PORT][,weight=N]; may be repeated")]
        backends: Vec<NewBackend>,
        /// An existing pool instead of backends of its own.
        #[arg(long, conflicts_with = "backends", conflicts_with_all = PoolArguments::IDS)]
        pool: Option<Name>,
        /// What its new pool is to be.
        #[command(flatten)]
        own: PoolArguments,
        /// What else it is to be.
        #[command(flatten)]
        policy: PolicyArguments,
        /// Take the port although a program on this host listens there.
        #[arg(long)]
        shadow_local: bool,
        /// How the change is made.
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Changes a service that lbctl added.
    Set {
        /// The service.
        name: Name,
        /// Where clients reach it from now on, all of it; may be repeated.
        #[arg(long, value_name = "LISTEN")]
        listen: Vec<Listener>,
        /// How packets reach the backends: full-nat, nat, dsr, ipip.
        #[arg(long, value_name = "MODE")]
        forward: Option<Forward>,
        /// Another pool.
        #[arg(long)]
        pool: Option<Name>,
        /// What its pool is to be, if lbctl added that.
        #[command(flatten)]
        own: PoolArguments,
        /// What else it is to be.
        #[command(flatten)]
        policy: PolicyArguments,
        /// Whether to take the port although a program on this host listens there.
        #[arg(long, value_name = "on|off", value_parser = words::on_or_off)]
        shadow_local: Option<bool>,
        /// How the change is made.
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Removes a service that lbctl added.
    #[command(alias = "rm")]
    Remove {
        /// The service.
        name: Name,
        /// How the change is made.
        #[command(flatten)]
        change: ChangeArguments,
    },
}
