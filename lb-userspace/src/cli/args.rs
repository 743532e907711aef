//! The words of `lbctl`: what a person may type, and the help they read.

mod backend;
mod pool;
mod service;
mod words;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::print::Format;
use crate::spec::{BackendAddress, Name, Protocol};

pub use backend::{BackendCommand, BackendTarget, OverrideCommand};
pub use pool::{PoolArguments, PoolCommand};
pub use service::{PolicyArguments, ServiceCommand};

/// Changes and shows a running lbd.
#[derive(Parser, Debug)]
#[command(name = "lbctl", version, max_term_width = 110)]
#[command(
    after_help = "Exit status: 0 done or already so · 1 failed · 2 usage · 3 daemon unreachable · 4 not found · \
                        5 refused by a rule · 6 waited in vain. status --check: 0 well, 7 degraded."
)]
pub struct Arguments {
    /// The daemon's socket.
    #[arg(long, global = true, env = "LBD_SOCKET", default_value = "/run/lbd/lbd.sock", value_name = "PATH")]
    pub socket: PathBuf,
    /// How to print; on a terminal a table is cut to its width, wide is not.
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
    /// The same as -o json.
    #[arg(short, long, global = true)]
    pub json: bool,
    /// No messages beside the data.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Arguments {
    /// The format asked for by -o or -j.
    pub fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }
}

/// The verbs.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// One screen: interfaces, pools and their health, flows, drops, what needs attention.
    Status {
        /// Exit with 0 if all is well and 7 if not.
        #[arg(long)]
        check: bool,
        /// Where lbd pins its maps, to look there when it is away; default: what the configuration says.
        #[arg(long, value_name = "DIR")]
        pin: Option<PathBuf>,
        /// The configuration that says so.
        #[arg(long, env = "LBD_CONFIG", default_value = "/etc/lbd/lbd.toml", value_name = "FILE")]
        config: PathBuf,
    },
    /// Services: who may be reached where.
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Pools: backends that stand for one another, and what becomes of those who are not well.
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Backends of a pool (or of a service's pool).
    #[command(subcommand)]
    Backend(BackendCommand),
    /// The operator's hand on backends: drains, disables, weights set by lbctl.
    #[command(subcommand)]
    Override(OverrideCommand),
    /// What the configuration file would do: changes, and the share of slots and of live flows that move, per pool.
    #[command(after_help = "Exit status: 0 no change, 10 changes.\n\n\
        Example: lbctl plan -f /etc/lbd/lbd.toml.new")]
    Plan {
        /// A candidate instead of the daemon's own file; - is standard input.
        #[arg(short, long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Puts the changed configuration file in force, as one change, or refuses it and says why.
    #[command(after_help = "Example: lbctl apply --max-moved 5% --wait")]
    Apply {
        /// How the change is made.
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// The revisions that are kept: number, time, who, what.
    #[command(args_conflicts_with_subcommands = true)]
    #[command(after_help = "Example: lbctl history show 12 --against 10")]
    History {
        /// One of them, instead of the list.
        #[command(subcommand)]
        command: Option<HistoryCommand>,
    },
    /// Puts a revision back, whole: the file's content, what lbctl had added, and the overrides become a new revision.
    #[command(
        after_help = "The configuration file itself stays as it is, and out of force until it changes.\n\n\
        Example: lbctl rollback 12 --dry-run"
    )]
    Rollback {
        /// Its number, see history.
        #[arg(value_name = "REVISION")]
        revision: u64,
        /// How the change is made.
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Writes what is in force, whole, into one plain file.
    #[command(after_help = "Example: lbctl backup /srv/lbd-$(date +%F).backup")]
    Backup {
        /// The file; - is standard output.
        file: PathBuf,
        /// Even if the file is there already.
        #[arg(long)]
        force: bool,
    },
    /// Puts a backup in force, whole, as one change, or refuses it and says why.
    #[command(
        after_help = "The configuration file itself stays as it is, and out of force until it changes.\n\n\
        Example: lbctl restore /srv/lbd.backup --dry-run"
    )]
    Restore {
        /// The file; - is standard input.
        file: PathBuf,
        /// How the change is made.
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Changes written one a line, as one revision: all of them, or none.
    #[command(
        after_help = "A line is what would follow lbctl; words may be quoted, # begins a comment. Options of the change are \
        those of batch itself.\n\n\
        Example: printf 'backend add web 10.0.0.14\\nbackend drain web 10.0.0.11\\n' | lbctl batch --max-moved 5%"
    )]
    Batch {
        /// The file with the lines; default: standard input.
        #[arg(short, long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// How the change is made.
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Makes a configuration file of another balancer's.
    #[command(subcommand)]
    Import(ImportCommand),
    /// Packets, bytes and new flows per service and backend.
    Stats {
        /// Only this service.
        name: Option<Name>,
        /// Print again every second, with rates.
        #[arg(short, long)]
        watch: bool,
    },
    /// Packets dropped, answered or passed, by reason.
    Drops {
        /// Only this service.
        name: Option<Name>,
    },
    /// Tracked flows.
    Flows(FlowsArguments),
    /// The whole decision for one packet, by the program in the kernel, without side effects.
    Explain {
        /// tcp or udp.
        protocol: Protocol,
        /// The client, ADDR:PORT.
        #[arg(value_parser = crate::spec::parse_endpoint)]
        source: std::net::SocketAddr,
        /// What it sends to, ADDR:PORT.
        #[arg(value_parser = crate::spec::parse_endpoint)]
        destination: std::net::SocketAddr,
        /// The interface it comes in by; default: the first one lbd is attached to.
        #[arg(long, value_name = "IF")]
        interface: Option<String>,
    },
    /// What happened lately: changes of health and configuration.
    Events {
        /// Go on with what comes.
        #[arg(short, long)]
        follow: bool,
    },
    /// A completion script for a shell, to be sourced.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// What every change takes.
#[derive(Args, Debug, Clone, Default, PartialEq)]
pub struct ChangeArguments {
    /// Return when the change is in the kernel's tables and new backends take flows: checked, with a known way (default 10s).
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "",
          value_parser = words::wait)]
    pub wait: Option<Wait>,
    /// Only if the configuration is still at this revision.
    #[arg(long, value_name = "N")]
    pub if_revision: Option<u64>,
    /// Even if it takes away a service's last usable backend.
    #[arg(long)]
    pub force: bool,
    /// Judge the change and print what it would do, without doing it.
    #[arg(long)]
    pub dry_run: bool,
    /// Only if no more than this moves of any pool: of its tracked flows and of its slots, whichever share is larger.
    #[arg(long, value_name = "SHARE", value_parser = words::share)]
    pub max_moved: Option<f64>,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
}

/// The time of `--wait`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// None was given.
    AsUsual,
    /// This one.
    For(Duration),
}

impl Wait {
    /// How long, where nothing else says it.
    pub const fn length(self) -> Duration {
        match self {
            Self::AsUsual => Duration::from_secs(10),
            Self::For(length) => length,
        }
    }
}

/// `lbctl flows …`
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct FlowsArguments {
    /// count or flush, instead of a list.
    #[command(subcommand)]
    pub command: Option<FlowsCommand>,
    /// Which flows.
    #[command(flatten)]
    pub filter: FlowsFilter,
    /// At most this many.
    #[arg(long, default_value_t = 100)]
    pub limit: usize,
}

/// Which flows.
#[derive(Args, Debug, Clone, Default)]
pub struct FlowsFilter {
    /// Only this service's.
    pub name: Option<Name>,
    /// Only those of this backend.
    #[arg(long, value_name = "ADDR")]
    pub backend: Option<BackendAddress>,
}

/// `lbctl flows count|flush`
#[derive(Subcommand, Debug)]
pub enum FlowsCommand {
    /// How many, by service and backend.
    Count {
        /// Which flows.
        #[command(flatten)]
        filter: FlowsFilter,
    },
    /// Forgets flows: their next packet is a new flow.
    Flush {
        /// Which flows.
        #[command(flatten)]
        filter: FlowsFilter,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

/// `lbctl history …`
#[derive(Subcommand, Debug)]
pub enum HistoryCommand {
    /// One revision, and what it has otherwise than the one before it.
    #[command(alias = "diff")]
    Show {
        /// Its number.
        #[arg(value_name = "REVISION")]
        revision: u64,
        /// Compare with this one instead.
        #[arg(long, value_name = "REVISION")]
        against: Option<u64>,
    },
}

/// `lbctl import …`
#[derive(Subcommand, Debug)]
pub enum ImportCommand {
    /// Of what `ipvsadm-save -n` prints, on standard output; what has no like in lbd is said.
    #[command(
        after_help = "Example: ipvsadm-save -n | lbctl import ipvsadm --interface eth0 > lbd.toml && lbd check --config lbd.toml"
    )]
    Ipvsadm {
        /// The file with what it printed; -, and the default: standard input.
        file: Option<PathBuf>,
        /// The interface by which packets for the vips come; may be repeated.
        #[arg(long = "interface", value_name = "IF", default_value = "eth0")]
        interfaces: Vec<String>,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_ends_of_a_packet_are_shown_as_they_are_written() {
        let words = ["lbctl", "explain", "tcp", "10.0.0.9", "203.0.113.10:443"];
        let error = Arguments::try_parse_from(words).unwrap_err().to_string();
        assert!(error.contains("\"10.0.0.9\" has no port: write 10.0.0.9:80, or another port"), "{error}");
    }

    #[test]
    fn wait_takes_a_time_only_after_an_equals_sign() {
        let parse = |words: &[&str]| {
            let all = ["lbctl", "backend", "add", "web", "10.0.0.1"].iter().chain(words);
            match Arguments::try_parse_from(all).map(|a| a.command) {
                Ok(Command::Backend(BackendCommand::Add { change, .. })) => change.wait.map(Wait::length),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&["--wait"]), Some(Duration::from_secs(10)));
        assert_eq!(parse(&["--wait=500ms"]), Some(Duration::from_millis(500)));
    }
}
