//! `lbctl`: arguments in, calls of the API, tables or JSON out. Nothing here knows the daemon's insides.
//!
//! One verb a file. In: [`args`]. Out: data on stdout, messages on stderr, and the exit code of the contract. Invariant:
//! everything goes through [`crate::api::client`]; only `status` looks at the pins, and only when nobody answers.

pub mod args;
pub mod print;

mod backend;
mod batch;
mod change;
mod completions;
mod drain;
mod drops;
mod events;
mod explain;
mod flows;
mod history;
mod import;
mod offline;
mod overrides;
mod plan;
mod pool;
mod service;
mod session;
mod sources;
mod stats;
mod status;
mod usage;
mod wait;

use std::process::ExitCode;

use clap::Parser;

use crate::api::{ApiError, ErrorCode};
use args::{Arguments, Command};
use session::Session;

/// What a verb comes to: its exit code.
type Outcome = Result<u8, ApiError>;

/// Runs `lbctl` with the words it was called with.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage::misused(&wait::with_tip(error, std::env::args_os())),
    };
    let session = Session::new(&arguments);
    match run(&session, arguments.command) {
        Ok(code) => code.into(),
        Err(error) => {
            session.complain(&error);
            error.code().exit_code().into()
        }
    }
}

fn run(session: &Session, command: Command) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        ApiError::new(ErrorCode::Internal, format!("cannot set up timers and sockets ({error})"))
    })?;
    runtime.block_on(dispatch(session, command))
}

async fn dispatch(session: &Session, command: Command) -> Outcome {
    match command {
        Command::Status { check, pin, config } => status::run(session, check, pin.as_deref(), &config).await,
        Command::Service(command) => service::run(session, command).await,
        Command::Pool(command) => pool::run(session, command).await,
        Command::Backend(command) => backend::run(session, command).await,
        Command::Override(command) => overrides::run(session, command).await,
        Command::Plan { file } => plan::run(session, file.as_deref()).await,
        Command::Apply { change } => plan::apply(session, &change).await,
        Command::History { command } => history::run(session, command).await,
        Command::Rollback { revision, change } => history::rollback(session, revision, &change).await,
        Command::Backup { file, force } => history::backup(session, &file, force).await,
        Command::Restore { file, change } => history::restore(session, &file, &change).await,
        Command::Batch { file, change } => batch::run(session, file.as_deref(), change).await,
        Command::Import(command) => import::run(session, command),
        Command::Stats { name, watch } => stats::run(session, name, watch).await,
        Command::Drops { name } => drops::run(session, name).await,
        Command::Flows(arguments) => flows::run(session, arguments).await,
        Command::Explain { protocol, source, destination, interface } => {
            explain::run(session, protocol, source, destination, interface).await
        }
        Command::Events { follow } => events::run(session, follow).await,
        Command::Completions { shell } => completions::run(shell),
    }
}
