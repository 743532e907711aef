//! What Rust's test harness says.
//!
//! In: its output. Out: counts, names, reasons. Pure.
//! Invariant: a test that says `SKIP:` and succeeds has not passed.

/// One run of a test binary.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: Vec<String>,
    /// Name and reason: `#[ignore = "reason"]`, or a line `SKIP: name: reason` of the test itself.
    pub(crate) skipped: Vec<(String, String)>,
    /// A run that ended before the harness could sum up (abort, signal) has none.
    pub(crate) summed_up: bool,
}

impl Counts {
    /// Reads the whole output of one or several harness runs (doc tests are one a crate).
    pub(crate) fn parse(output: &str) -> Self {
        let mut counts = Self::default();
        for line in output.lines() {
            if let Some(sum) = line.strip_prefix("test result: ") {
                counts.summed_up = true;
                counts.passed += number_before(sum, " passed").unwrap_or(0);
            } else if let Some(verdict) = line.strip_prefix("test ") {
                counts.verdict(verdict);
            }
        }
        for (name, reason) in output.lines().filter_map(skip_line) {
            counts.said_skip(name, reason);
        }
        counts
    }

    /// The harness counted this test as passed: it knows no test that finds out by itself that it cannot run.
    fn said_skip(&mut self, name: String, reason: String) {
        let known = |(skipped, _): &(String, String)| *skipped == name;
        if self.failed.contains(&name) || self.skipped.iter().any(known) {
            return;
        }
        self.passed = self.passed.saturating_sub(1);
        self.skipped.push((name, reason));
    }

    /// `name ... FAILED`, `name ... ignored, reason`.
    fn verdict(&mut self, line: &str) {
        let Some((name, verdict)) = line.split_once(" ... ") else { return };
        // A doc test's name carries its line: `src/lib.rs - item (line 3)`.
        let name = name.trim().to_owned();
        if verdict.ends_with("FAILED") {
            self.failed.push(name);
        } else if let Some(reason) = verdict.strip_prefix("ignored") {
            let reason = reason.trim_start_matches(", ");
            let reason = if reason.is_empty() { "#[ignore]" } else { reason };
            self.skipped.push((name, reason.to_owned()));
        }
    }
}

/// `SKIP: name: reason`, anywhere in a line: without capturing, the harness leaves its own words in front.
pub(crate) fn skip_line(line: &str) -> Option<(String, String)> {
    let (_, said) = line.split_once("SKIP: ")?;
    let (name, reason) = said.split_once(": ").unwrap_or(("", said));
    Some((name.trim().to_owned(), reason.trim().to_owned()))
}

/// Names from `--list --format terse`.
pub(crate) fn names(list: &str) -> Vec<String> {
    list.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

fn number_before(text: &str, word: &str) -> Option<usize> {
    let before = &text[..text.find(word)?];
    before.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "running 4 tests
test maglev::shares ... ok
test plan::prefix ... FAILED
test slow ... ignored, takes an hour
test load::native ... ok

successes:

---- load::native stdout ----
SKIP: load::native: no native XDP on this interface

failures:

---- plan::prefix stdout ----
thread panicked

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    #[test]
    fn a_run_is_counted() {
        let counts = Counts::parse(OUTPUT);
        assert!(counts.summed_up);
        assert_eq!(counts.passed, 1);
        assert_eq!(counts.failed, ["plan::prefix"]);
        let skipped = [("slow", "takes an hour"), ("load::native", "no native XDP on this interface")];
        assert_eq!(counts.skipped, skipped.map(|(name, reason)| (name.to_owned(), reason.to_owned())));
    }

    #[test]
    fn several_runs_add_up() {
        let counts = Counts::parse(&format!("{OUTPUT}\ntest result: ok. 10 passed; 0 failed; 0 ignored\n"));
        assert_eq!(counts.passed, 11);
    }

    #[test]
    fn a_run_that_was_aborted_has_no_sum() {
        let counts = Counts::parse("running 2 tests\ntest a ... ok\n");
        assert!(!counts.summed_up);
        assert_eq!(counts.passed, 0);
    }

    #[test]
    fn a_failed_test_that_said_skip_stays_failed() {
        let counts = Counts::parse(
            "test a ... SKIP: a: no nginx\nFAILED\ntest a ... FAILED\ntest result: FAILED. 0 passed; 1 failed;\n",
        );
        assert_eq!((counts.passed, counts.failed.len(), counts.skipped.len()), (0, 1, 0));
    }

    #[test]
    fn a_skip_is_found_behind_the_harness_words() {
        assert_eq!(
            skip_line("test net::x ... SKIP: net::x: nginx is not installed: run setup"),
            Some(("net::x".to_owned(), "nginx is not installed: run setup".to_owned()))
        );
        assert_eq!(skip_line("test net::x ... ok"), None);
    }

    #[test]
    fn names_are_listed() {
        assert_eq!(names("a::b: test\nc: test\nd: benchmark\n\n2 tests, 1 benchmark\n"), ["a::b", "c"]);
    }
}
