//! `lbctl completions`: a script for a shell, made of the very definition that reads the arguments.

use clap::CommandFactory;
use clap_complete::Shell;

use super::args::Arguments;
use super::{Outcome, print};
use crate::api::{ApiError, ErrorCode};

pub(super) fn run(shell: Shell) -> Outcome {
    print::stdout(&script(shell))
        .map_err(|error| ApiError::new(ErrorCode::Internal, format!("cannot write the script ({error})")))?;
    Ok(0)
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "lbctl", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_learns_the_verbs() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell);
            for word in ["override", "if-revision", "explain"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
