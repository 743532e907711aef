//! `--wait 5s`, which clap reads as `--wait` and a word more, and then finds fault with that word.
//!
//! In: clap's error and the words it read. Out: the error with a tip that says how the time is written.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};

use crate::spec::{format_duration, parse_duration};

/// The error, and what to write where a time follows `--wait` as a word of its own.
pub(super) fn with_tip(mut error: clap::Error, words: impl Iterator<Item = OsString>) -> clap::Error {
    if let Some(time) = detached(words) {
        let tip = format!("the time of --wait follows an equals sign: write --wait={time}");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// The time after a `--wait`, as it should be written.
fn detached(words: impl Iterator<Item = OsString>) -> Option<String> {
    let mut words = words.skip_while(|word| word != "--wait" && word != "--");
    words.next().filter(|word| word == "--wait")?;
    let next = words.next()?.into_string().ok()?;
    let seconds = || next.parse::<u32>().ok().map(|seconds| format!("{seconds}s"));
    parse_duration(&next).ok().map(format_duration).or_else(seconds)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::Arguments;

    fn said(line: &str) -> String {
        let words = || line.split(' ').map(OsString::from);
        with_tip(Arguments::try_parse_from(words()).unwrap_err(), words()).to_string()
    }

    #[test]
    fn a_time_that_stands_apart_is_shown_where_it_belongs() {
        for line in [
            "lbctl backend add web 10.0.0.1 --wait 5s",
            "lbctl backend add web --wait 5s 10.0.0.1",
            "lbctl backend drain --wait 5s web 10.0.0.1",
            "lbctl backend set web 10.0.0.1 --weight 2 --wait 5s",
            "lbctl service add web 203.0.113.10:80/tcp --wait 5",
        ] {
            let said = said(line);
            assert!(
                said.contains("tip: the time of --wait follows an equals sign: write --wait=5s"),
                "{line}: {said}"
            );
        }
        for line in [
            "lbctl backend add web x --wait",
            "lbctl backend add web --wait x",
            "lbctl backend add web --wait=5",
        ] {
            assert!(!said(line).contains("equals sign"), "{line}");
        }
        let without_unit = said("lbctl backend add web 10.0.0.1 --wait=5");
        assert!(
            without_unit.contains("duration \"5\" has no unit; write it as \"500ms\", \"2s\""),
            "{without_unit}"
        );
    }
}
