//! `lbd-soak`: everything that can be changed is changed, by a seeded script, under a load that counts every loss. `cargo xtask soak` builds
//! what it needs and runs it.
//!
//! In: a mode, a seed, how long; the programs under test in `LBD_BIN` and `LBCTL_BIN`. Out: progress, figures, exit code 0 when
//! every promise was kept, 1 with what was not, 130 after a Ctrl-C. `lbd-soak serve` is the server on its backends.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use lbd_tests::soak::{self, Amounts, Ending, Options, Server, Via};
use lbd_tests::topology::{Family, Mode};

/// New connections, long streams and UDP flows through lbd, while a seeded script adds, removes, weighs, drains, kills, cuts, reloads, crashes and
/// upgrades. Touches no address and no interface of this host and leaves nothing behind.
#[derive(Debug, Parser)]
#[command(name = "lbd-soak", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// How packets reach the backends: full-nat, nat, dsr, ipip, or all, one after the other.
    #[arg(long, default_value = "all")]
    mode: String,
    /// Run it over IPv6.
    #[arg(long)]
    ipv6: bool,
    /// By which way checks travel: direct, to a port of the backends' own; or service, as clients' packets do.
    #[arg(long, value_name = "WAY", default_value = "direct")]
    via: Via,
    /// Of the script; the same seed makes the same script. By default another one each time, which is said.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How many changes, in each mode.
    #[arg(long, value_name = "N", default_value_t = 200)]
    changes: usize,
    /// How long the script is to be, in each mode; by default 1.5 seconds for each change.
    #[arg(long, value_name = "MINUTES")]
    minutes: Option<f64>,
    /// New connections a second.
    #[arg(long, value_name = "N", default_value_t = 100)]
    rate: u32,
    /// Streams at a time.
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..))]
    streams: u32,
    /// UDP flows at a time.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    flows: u32,
    /// The figures as JSON, a line for each mode, after everything else.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// A backend's server; started by the soak itself
    #[command(hide = true)]
    Serve {
        #[arg(long)]
        name: String,
        #[arg(long)]
        tcp: u16,
        #[arg(long)]
        check: u16,
        #[arg(long)]
        udp: Vec<SocketAddr>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.verb {
        Some(Verb::Serve { name, tcp, check, udp }) => {
            soak::serve(&Server { name, tcp, check, udp }).map(|()| ExitCode::SUCCESS)
        }
        None => all(&arguments),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("lbd-soak: {error:#}");
        ExitCode::FAILURE
    })
}

/// Every mode asked for, one after the other; all of them, even after one that failed.
fn all(arguments: &Arguments) -> Result<ExitCode> {
    let modes = match arguments.mode.as_str() {
        "all" => Mode::ALL.to_vec(),
        one => vec![one.parse::<Mode>().map_err(anyhow::Error::msg)?],
    };
    let mut code = ExitCode::SUCCESS;
    let mut figures = Vec::new();
    for mode in modes {
        match soak::run(&options(arguments, mode)?)? {
            Ending::Held(found) => figures.push(found),
            Ending::Broke(found) => {
                code = ExitCode::FAILURE;
                figures.push(found);
            }
            Ending::Interrupted => return Ok(ExitCode::from(130)),
        }
    }
    if arguments.json {
        figures.iter().for_each(|found| println!("{found}"));
    }
    Ok(code)
}

fn options(arguments: &Arguments, mode: Mode) -> Result<Options> {
    const PAUSE: Duration = Duration::from_millis(1500);
    let program: PathBuf = std::env::current_exe().context("cannot tell where this program lies")?;
    let changes = u32::try_from(arguments.changes).context("too many changes")?.max(1);
    let pause = match arguments.minutes {
        Some(minutes) => {
            Duration::try_from_secs_f64(minutes * 60.0).context("--minutes is no length of time")? / changes
        }
        None => PAUSE,
    };
    // The time of day in nanoseconds: any number will do, as long as it is said.
    let now =
        || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_secs());
    Ok(Options {
        mode,
        family: if arguments.ipv6 { Family::V6 } else { Family::V4 },
        via: arguments.via,
        seed: arguments.seed.unwrap_or_else(now),
        changes: arguments.changes,
        pause,
        hosts: 6,
        amounts: Amounts { per_second: arguments.rate, streams: arguments.streams, flows: arguments.flows },
        logs: soak::logs_beside(&program),
        program,
    })
}
