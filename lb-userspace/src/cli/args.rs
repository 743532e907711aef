//! The words of `lbctl`: what a person may type, and the help they read.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::print::Format;
use crate::membership::{NewBackend, Then};
use crate::spec::{
    Affinity, BackendAddress, DEFAULT_WEIGHT, Forward, HealthKind, HttpCheck, Listener, Name, OnLoss,
    Protocol, WhenNone, parse_duration,
};

/// The longest that the API lets a change wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

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
    /// How to print.
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
    /// Backends of a pool (or of a service's pool).
    #[command(subcommand)]
    Backend(BackendCommand),
    /// The operator's hand on backends: drains, disables, weights set by lbctl.
    #[command(subcommand)]
    Override(OverrideCommand),
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
        source: std::net::SocketAddr,
        /// What it sends to, ADDR:PORT.
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
#[derive(Args, Debug, Clone, Default)]
pub struct ChangeArguments {
    /// Return when the change is in the kernel's tables and new backends have had their first check (default 10s).
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "10s",
          value_parser = wait)]
    pub wait: Option<Duration>,
    /// Only if the configuration is still at this revision.
    #[arg(long, value_name = "N")]
    pub if_revision: Option<u64>,
    /// Even if it takes away a service's last usable backend.
    #[arg(long)]
    pub force: bool,
    /// Judge the change and print what it would do, without doing it.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
}

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
        /// Where clients reach it: ADDR:PORT/tcp, [ADDR]:PORT/udp, ADDR:any/tcp.
        #[arg(required = true)]
        listen: Vec<Listener>,
        /// How packets reach the backends: full-nat, nat, dsr, ipip.
        #[arg(long, value_name = "MODE")]
        forward: Option<Forward>,
        /// A backend, ADDR[:PORT][,weight=N]; may be repeated.
        #[arg(long = "backend", value_name = "BACKEND", value_parser = new_backend)]
        backends: Vec<NewBackend>,
        /// An existing pool instead of backends of its own.
        #[arg(long, conflicts_with_all = ["backends", "health"])]
        pool: Option<Name>,
        /// How the backends are checked: tcp, http, http:/PATH, none.
        #[arg(long, value_name = "CHECK", value_parser = health)]
        health: Option<HealthKind>,
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
        /// How the backends are checked: tcp, http, http:/PATH, none.
        #[arg(long, value_name = "CHECK", value_parser = health)]
        health: Option<HealthKind>,
        /// What else it is to be.
        #[command(flatten)]
        policy: PolicyArguments,
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
    /// No new flows; tracked ones stay.
    Drain {
        /// Which backend.
        #[command(flatten)]
        target: BackendTarget,
        /// Tracked flows stay this long, then go.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        deadline: Option<Duration>,
        /// What happens at the deadline: disable, remove or keep.
        #[arg(long, requires = "deadline", value_name = "WHAT", value_parser = then)]
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
    /// Takes back drain, disable and weight.
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
        /// Drain this long first.
        #[arg(long, value_name = "TIME", value_parser = duration)]
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

/// ADDR[:PORT][,weight=N]
fn new_backend(text: &str) -> Result<NewBackend, String> {
    let (address, rest) = text.split_once(',').map_or((text, None), |(address, rest)| (address, Some(rest)));
    let address = address.parse().map_err(|error: crate::spec::SyntaxError| error.to_string())?;
    let weight = match rest.map(|rest| rest.strip_prefix("weight=").map(str::parse)) {
        None => DEFAULT_WEIGHT,
        Some(Some(Ok(weight))) => weight,
        Some(_) => return Err("after the address may come ,weight=N with N from 0 to 65535".to_owned()),
    };
    Ok(NewBackend { address, weight })
}

/// tcp, http, http:/PATH, none
fn health(text: &str) -> Result<HealthKind, String> {
    match text.split_once(':') {
        None if text == "tcp" => Ok(HealthKind::Tcp),
        None if text == "http" => Ok(HealthKind::Http(HttpCheck::default())),
        None if text == "none" => Ok(HealthKind::None),
        Some(("http", path)) if path.starts_with('/') => {
            Ok(HealthKind::Http(HttpCheck { path: path.to_owned(), ..HttpCheck::default() }))
        }
        _ => Err("write tcp, http, http:/PATH or none".to_owned()),
    }
}

fn then(text: &str) -> Result<Then, String> {
    let all = [Then::Keep, Then::Disable, Then::Remove];
    let found = all.into_iter().find(|then| then.as_str() == text);
    found.ok_or_else(|| "write keep, disable or remove".to_owned())
}

fn wait(text: &str) -> Result<Duration, String> {
    let wait = duration(text)?;
    match wait <= LONGEST_WAIT {
        true => Ok(wait),
        false => Err(format!("the longest wait is {}s", LONGEST_WAIT.as_secs())),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| format!("{}; {}", error.message, error.hint))
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
    fn wait_takes_a_time_only_after_an_equals_sign() {
        let parse = |words: &[&str]| {
            let all = ["lbctl", "backend", "add", "web", "10.0.0.1"].iter().chain(words);
            match Arguments::try_parse_from(all).map(|a| a.command) {
                Ok(Command::Backend(BackendCommand::Add { change, .. })) => change.wait,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&["--wait"]), Some(Duration::from_secs(10)));
        assert_eq!(parse(&["--wait=500ms"]), Some(Duration::from_millis(500)));
    }
}
