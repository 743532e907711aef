mod contract;
mod discover;
mod documented;
mod files;
mod properties;
mod refused;
mod together;

use super::*;

/// A file that is right; `[datapath]` is what every file needs.
const HEAD: &str = "[datapath]\ninterfaces = [\"eth0\"]\n";

/// What is said about `text`, one line each, warnings included.
fn said(text: &str) -> Vec<String> {
    let problems = match parse(text, "lbd.toml") {
        Ok(loaded) => loaded.warnings,
        Err(errors) => errors.problems,
    };
    problems.iter().map(ToString::to_string).collect()
}
