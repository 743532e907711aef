//! Long work that says that it goes on.
//!
//! In: a command with a lot of output. Out: one moving line on a terminal, a line every few seconds elsewhere, and the
//! last lines of its output if it fails. Invariant: nothing it said is lost when it fails.

use std::{
    io::{BufRead as _, BufReader, IsTerminal as _, Write as _},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::process;

/// How often a log (no terminal) hears of it.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// What fits beside the label on a narrow terminal.
const SHOWN_CHARS: usize = 60;

/// Runs `command`; `label` says what for.
pub(crate) fn run(label: &str, mut command: Command) -> Result<()> {
    let line = process::line(&command);
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().context("cannot share a pipe")?).stderr(writer);
    let started = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start `{line}`"))?;
    // The command holds the pipe's writing ends: with them open, reading would never end.
    drop(command);

    let mut said = String::new();
    let mut show = Show::new(label);
    for text in BufReader::new(reader).split(b'\n') {
        let text = text.context("cannot read a command's output")?;
        let text = String::from_utf8_lossy(&text);
        show.line(text.trim());
        said.push_str(&text);
        said.push('\n');
    }
    let status = child.wait().with_context(|| format!("cannot wait for `{line}`"))?;
    show.clear();
    if !status.success() {
        bail!("{label}: `{line}` failed ({status}):\n{}", process::tail(&said));
    }
    println!("  {label}: done in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

struct Show<'a> {
    label: &'a str,
    terminal: bool,
    started: Instant,
    last: Instant,
}

impl<'a> Show<'a> {
    fn new(label: &'a str) -> Self {
        let terminal = std::io::stdout().is_terminal();
        println!("  {label} …");
        Self { label, terminal, started: Instant::now(), last: Instant::now() }
    }

    fn line(&mut self, text: &str) {
        if text.is_empty() || (!self.terminal && self.last.elapsed() < LOG_INTERVAL) {
            return;
        }
        self.last = Instant::now();
        let text: String = text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect();
        let seconds = self.started.elapsed().as_secs();
        if self.terminal {
            print!("\r\x1b[2K    {seconds} s: {text}");
        } else {
            println!("  {}, {seconds} s: {text}", self.label);
        }
        flush();
    }

    fn clear(&self) {
        if self.terminal {
            print!("\r\x1b[2K");
            flush();
        }
    }
}

/// Half lines too are to be seen. A stdout that is gone is noticed by the next println.
pub(crate) fn flush() {
    let _ = std::io::stdout().flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_repeats_what_was_said_on_both_streams() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo on-stdout; echo on-stderr >&2; exit 4"]);
        let error = run("trying", command).unwrap_err().to_string();
        assert!(
            error.contains("on-stdout") && error.contains("on-stderr") && error.contains("trying"),
            "{error}"
        );
    }

    #[test]
    fn success_ends_without_an_error() {
        run("trying", Command::new("true")).unwrap();
    }
}
