//! `lbctl import`: a configuration file made of another balancer's. Needs no daemon.
//!
//! In: what that balancer prints. Out: a file that `lbd check` accepts, on standard output; on standard error what it had that lbd does
//! otherwise. Invariant: what cannot be taken over is refused with its line, and then nothing is printed: half a balancer looks whole.

mod ipvsadm;
mod made;

use std::io::Read;
use std::path::Path;

use super::Outcome;
use super::args::ImportCommand;
use super::session::Session;
use crate::api::{ApiError, ErrorCode};
use serde::Serialize;

/// What an import comes to, under `-j`.
#[derive(Serialize)]
struct Imported {
    /// The file.
    configuration: String,
    /// What is otherwise than it was.
    warnings: Vec<String>,
}

pub(super) fn run(session: &Session, command: ImportCommand) -> Outcome {
    let ImportCommand::Ipvsadm { file, interfaces } = command;
    let file = file.filter(|file| file != Path::new("-"));
    let name = file.as_ref().map_or_else(|| "-".to_owned(), |file| file.display().to_string());
    let text = match &file {
        Some(file) => std::fs::read_to_string(file),
        None => {
            let mut text = String::new();
            std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
        }
    };
    let text = text.map_err(|error| {
        ApiError::new(ErrorCode::Usage, format!("cannot read {name} ({error})"))
            .hint("name a file with what ipvsadm-save -n printed, or write that to standard input")
    })?;
    let (configuration, warnings) = ipvsadm::import(&text, &name, &interfaces)
        .map_err(|problems| ApiError::of_problems(problems, &name))?;
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    for warning in &warnings {
        session.say(&format!("warning: {warning}"));
    }
    session.show(&Imported { configuration, warnings }, |imported, _| imported.configuration.clone())?;
    Ok(0)
}
