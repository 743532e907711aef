//! `lbd check`: is this configuration right, and what would lbd do with it?
//!
//! In: a file or standard input. Out: a description of services, pools and checks as text or JSON and exit code 0, or every
//! problem and exit code 78. Invariant: it needs no root, no kernel feature and no network, so it runs in anyone's CI; what
//! depends on the host (interfaces, routes, ports) is judged by the daemon.

mod describe;
mod json;
mod text;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::config;
use crate::spec::Problem;

/// The exit code for a configuration that may be run.
pub const EXIT_VALID: u8 = 0;
/// The exit code for one that may not: EX_CONFIG of sysexits.h.
pub const EXIT_INVALID: u8 = 78;

/// Where the configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// Standard input; includes are relative to the working directory.
    Stdin,
}

impl From<&Path> for Source {
    /// `-` is standard input, as everywhere.
    fn from(path: &Path) -> Self {
        if path == Path::new("-") { Self::Stdin } else { Self::File(path.to_owned()) }
    }
}

/// How the answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Judges a configuration. What it would do goes to `out`, problems to `err` (in JSON everything goes to `out`).
/// Returns the exit code.
///
/// # Errors
/// Standard input cannot be read, or the answer cannot be written.
pub fn run(
    source: &Source,
    format: Format,
    input: &mut dyn Read,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let loaded = match source {
        Source::File(path) => config::load(path),
        Source::Stdin => config::load_from(input, "-", Some(Path::new("."))),
    };
    match (format, &loaded) {
        (Format::Json, Ok(loaded)) => writeln!(out, "{}", json::valid(loaded)?)?,
        (Format::Json, Err(errors)) => writeln!(out, "{}", json::invalid(errors)?)?,
        (Format::Text, Ok(loaded)) => {
            out.write_all(text::describe(loaded).as_bytes())?;
            refusals(err, &loaded.warnings)?;
        }
        (Format::Text, Err(errors)) => refusals(err, &errors.problems)?,
    }
    Ok(if loaded.is_ok() { EXIT_VALID } else { EXIT_INVALID })
}

/// One line for each problem, warnings marked as such, and how many there were.
fn refusals(err: &mut dyn Write, problems: &[Problem]) -> io::Result<()> {
    for problem in problems {
        let mark = if problem.is_error() { "" } else { "warning: " };
        writeln!(err, "{mark}{problem}")?;
    }
    match problems.iter().filter(|problem| problem.is_error()).count() {
        0 => Ok(()),
        1 => writeln!(err, "1 error: the configuration is refused"),
        count => writeln!(err, "{count} errors: the configuration is refused"),
    }
}

#[cfg(test)]
mod tests;
