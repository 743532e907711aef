//! `lbd-demo`: the main job of lbd on this machine in about a minute. `cargo xtask demo` builds what it needs and runs it.
//!
//! In: a mode on the command line, the programs under test in `LBD_BIN` and `LBCTL_BIN`. Out: a live picture and exit code 0
//! when every phase held what it promises, 1 with what did not, 130 after a Ctrl-C.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lbd_tests::demo::{self, Ending, Options};
use lbd_tests::topology::{Family, Mode};

/// A client, a balancer and three web servers in network namespaces; a load that never pauses; a server added, one drained,
/// one killed and brought back. Touches no address and no interface of this host and leaves nothing behind.
#[derive(Debug, Parser)]
#[command(name = "lbd-demo")]
struct Arguments {
    /// How packets reach the servers: full-nat, nat, dsr or ipip.
    #[arg(long, default_value = "full-nat")]
    mode: Mode,
    /// Run it over IPv6.
    #[arg(long)]
    ipv6: bool,
    /// Leave everything standing at the end and print commands to play with.
    #[arg(long)]
    keep: bool,
    /// Seconds of every phase. Below the usual nine or ten the judgement means little; for looking at one phase.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    phase: Option<u64>,
    /// Only tear down what an earlier `--keep` left.
    #[arg(long, conflicts_with_all = ["mode", "ipv6", "keep", "phase"])]
    clean: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = if arguments.clean {
        demo::clean()
    } else {
        let family = if arguments.ipv6 { Family::V6 } else { Family::V4 };
        let phase = arguments.phase.map(Duration::from_secs);
        demo::run(&Options { mode: arguments.mode, family, keep: arguments.keep, phase })
    };
    match outcome {
        Ok(Ending::Held(())) => ExitCode::SUCCESS,
        Ok(Ending::Broke(())) => ExitCode::FAILURE,
        Ok(Ending::Interrupted) => ExitCode::from(130),
        Err(error) => {
            eprintln!("lbd-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
