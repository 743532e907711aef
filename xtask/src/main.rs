//! `cargo xtask`: the developer's and the newcomer's door to lbd.
//!
//! In: a verb. Out: what the verb promises, or a message that says what to do. One verb, one file.
//! Invariant: nothing is installed that was not announced, and nothing outside the target directory is changed except
//! by `setup`.

mod build;
mod check;
mod process;
mod progress;
mod run;
mod setup;
mod test;
mod toolchain;
mod workspace;

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::{Profile, Workspace};

/// Set up, build, check, test, show and measure lbd
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what this machine lacks: BPF toolchain, programs for tests and demo
    Setup {
        /// Say what is missing and what would be installed; change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Build the BPF object, lbd and lbctl
    Build {
        /// Optimised, as for use
        #[arg(long)]
        release: bool,
    },
    /// Run every layer of tests that this machine can run
    Test {
        /// One layer only
        #[arg(long, value_name = "LAYER")]
        only: Option<test::Layer>,
        /// Only tests whose name (`file::test`) contains this
        filter: Option<String>,
    },
    /// Format, lints, documentation, ABI, licences, the rules of the house
    Check {
        /// Write down what lb-common declares now as what kernel and daemon agree on (lb-common/abi.lock)
        #[arg(long)]
        accept_abi: bool,
    },
    /// The main job on this machine in about a minute: a client, a balancer, three web servers
    #[command(disable_help_flag = true)]
    Demo {
        /// Options of the demo; `--help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
        arguments: Vec<OsString>,
    },
    /// Change everything by a seeded script, for as long as asked, under a load that counts every loss
    #[command(disable_help_flag = true)]
    Soak {
        /// Options of the soak; `--help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
        arguments: Vec<OsString>,
    },
    /// Measure: ns a packet and more
    #[command(disable_help_flag = true)]
    Bench {
        /// Options of the bench; `--help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
        arguments: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// False: it was done, and what it looked at is not well.
fn run(verb: Verb) -> Result<bool> {
    let workspace = Workspace::find()?;
    match verb {
        Verb::Setup { dry_run } => setup::run(&workspace, dry_run)?,
        Verb::Build { release } => {
            build::run(&workspace, if release { Profile::Release } else { Profile::Dev })?;
        }
        Verb::Test { only, filter } => return test::run(&workspace, test::Options { only, filter }),
        Verb::Check { accept_abi } => return check::run(&workspace, accept_abi),
        Verb::Demo { arguments } => run::program(&workspace, "lbd-demo", &arguments)?,
        Verb::Soak { arguments } => run::program(&workspace, "lbd-soak", &arguments)?,
        Verb::Bench { arguments } => run::program(&workspace, "lbd-bench", &arguments)?,
    }
    Ok(true)
}
