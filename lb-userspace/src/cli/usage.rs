//! Words that `lbctl` does not understand.
//!
//! In: what clap says of them. Out: that text for people; under `-j` the error object of the contract. Invariant: the exit
//! code is 2 either way, and 0 for `--help` and `--version`, which are no mistakes.

use std::ffi::OsString;
use std::process::ExitCode;

use super::session::complain_in_json;
use crate::api::{ApiError, ErrorCode};

/// Says what is wrong, in the form that was asked for.
pub(super) fn misused(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && asks_for_json(std::env::args_os().skip(1)) {
        let error = in_api(error);
        complain_in_json(&error);
        return error.code().exit_code().into();
    }
    error.exit()
}

/// Whether `-j` or `-o json` is among words that clap refuses to read.
fn asks_for_json(words: impl Iterator<Item = OsString>) -> bool {
    let mut is_format = false;
    for word in words {
        let word = word.to_string_lossy();
        if std::mem::take(&mut is_format) && word == "json" {
            return true;
        }
        match &*word {
            "--" => return false,
            "--json" | "--output=json" => return true,
            "--output" => is_format = true,
            long if long.starts_with("--") => {}
            word => {
                let Some(letters) = word.strip_prefix('-') else { continue };
                // -q alone may stand before them in one word.
                match letters.trim_start_matches('q') {
                    "o" => is_format = true,
                    "ojson" | "o=json" => return true,
                    letters if letters.starts_with('j') => return true,
                    _ => {}
                }
            }
        }
    }
    false
}

/// Clap's paragraphs as message and hint.
pub(super) fn in_api(error: &clap::Error) -> ApiError {
    let text = error.render().to_string();
    let paragraphs = || text.split("\n\n").map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
    let message = match error.kind() {
        // Its text is the whole help.
        clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            "it is not said what to do".to_owned()
        }
        _ => paragraphs().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    };
    let mut hints: Vec<String> = paragraphs()
        .filter_map(|text| {
            let tip = text.strip_prefix("tip: ").map(str::to_owned);
            tip.or_else(|| text.strip_prefix("Usage: ").map(|usage| format!("write {usage}")))
        })
        .collect();
    hints.push("see --help".to_owned());
    ApiError::new(ErrorCode::Usage, message).hint(hints.join("; "))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::Arguments;

    #[test]
    fn json_is_asked_for_in_every_way_clap_knows() {
        let asks = |line: &str| asks_for_json(line.split(' ').map(OsString::from));
        for line in
            ["x -j", "-qj x", "-jq", "--json", "-o json", "-ojson", "-o=json", "-qojson", "--output json"]
        {
            assert!(asks(line), "{line}");
        }
        for line in ["x", "-o table json", "-- -j", "--jsonx", "-q", "json", "--socket j"] {
            assert!(!asks(line), "{line}");
        }
    }

    #[test]
    fn the_hint_has_the_tip_and_the_usage() {
        let error = Arguments::try_parse_from(["lbctl", "bakend", "list"]).unwrap_err();
        let said = in_api(&error).0;
        assert_eq!(said.message, "unrecognized subcommand 'bakend'");
        let hint = said.hint.unwrap();
        for part in ["'backend'", "write lbctl", "see --help"] {
            assert!(hint.contains(part), "{hint}");
        }
    }

    #[test]
    fn missing_words_are_named_in_one_line() {
        let error = Arguments::try_parse_from(["lbctl", "explain", "tcp"]).unwrap_err();
        let message = in_api(&error).0.message;
        assert_eq!(message, "the following required arguments were not provided: <SOURCE> <DESTINATION>");
    }
}
