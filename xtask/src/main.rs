//! `cargo xtask`: the developer's and the newcomer's door to lbd.
//!
//! In: a verb. Out: what the verb promises, or a message that says what to do. One verb, one file.
//! Invariant: nothing is installed that was not announced, and nothing outside the target directory is changed except
//! by `setup`.

mod build;
mod process;
mod toolchain;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::{Profile, Workspace};

/// Set up, build, check and test lbd
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build the BPF object, lbd and lbctl
    Build {
        /// Optimised, as for use
        #[arg(long)]
        release: bool,
    },
}

fn main() -> ExitCode {
    match run(&Arguments::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: &Verb) -> Result<ExitCode> {
    let workspace = Workspace::find()?;
    match verb {
        Verb::Build { release } => {
            build::run(&workspace, if *release { Profile::Release } else { Profile::Dev })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
