//! How results look: tables for people, JSON for scripts, colours and a limit to the line only on a terminal.
//!
//! Data goes to stdout, messages to stderr. A broken pipe (`lbctl … | head`) is a normal end, with the code that the verb would end with.

mod table;

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, Ordering};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use terminal_size::{Width, terminal_size_of};

pub use table::{Align, Cell, Table, Tone};

/// The `-o` of every verb.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// The answer of the API, as the contract fixes it.
    Json,
}

/// How a text for people is to be made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// More columns, and whole however long the lines get.
    pub wide: bool,
    /// Stdout is a terminal that wants colours.
    pub colour: bool,
    /// Characters in a line; `None`: as many as it takes.
    pub width: Option<usize>,
}

impl Style {
    /// For stdout as it is now; a terminal may be made narrower meanwhile.
    pub fn of_stdout(wide: bool) -> Self {
        // A pipe, a file, or a terminal that does not know: nothing is cut, what reads it wants all of it.
        let width = terminal_size_of(io::stdout()).map(|(Width(columns), _)| usize::from(columns));
        Self { wide, colour: colour(), width: width.filter(|_| !wide) }
    }
}

/// Whether stdout may be coloured: a terminal, and NO_COLOR (no-color.org) not set.
fn colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// The exit code of a program that nobody reads any more.
static UNREAD: AtomicU8 = AtomicU8::new(0);

/// What the program ends with, from now on, when its reader goes away: for verbs whose 0 says more than that all went well.
pub fn when_unread(code: u8) {
    UNREAD.store(code, Ordering::Relaxed);
}

fn end_unread() -> ! {
    std::process::exit(UNREAD.load(Ordering::Relaxed).into())
}

/// Writes text to stdout; a reader that has gone away ends the program quietly, with 0 or what [`when_unread`] says.
pub fn stdout(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => end_unread(),
        result => result,
    }
}

/// From now on the program ends, quietly, as soon as nobody reads stdout any more: for what waits between two lines.
pub fn end_with_reader() {
    std::thread::spawn(|| {
        let stdout = io::stdout();
        // No event is asked for: the kernel tells of a reader that has gone in any case.
        let mut gone = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        while poll(&mut gone, PollTimeout::NONE) == Err(Errno::EINTR) {}
        if gone[0].revents().is_some_and(|what| what.intersects(PollFlags::POLLERR | PollFlags::POLLHUP)) {
            end_unread();
        }
    });
}

/// Writes a line to stderr. Nobody can be told that this failed.
pub fn stderr(line: &str) {
    let _unheard = writeln!(io::stderr(), "{line}");
}

/// Writes a value as indented JSON.
pub fn json(value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
    text.push('\n');
    stdout(&text)
}

/// A count with a decimal unit, three figures at most: `999`, `12.3k`, `4.56M`.
pub fn count(n: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    for (unit, name) in UNITS {
        if n >= unit {
            let whole = n / unit;
            let thousandths = n % unit / (unit / 1_000);
            return match whole {
                0..=9 => format!("{whole}.{:02}{name}", thousandths / 10),
                10..=99 => format!("{whole}.{}{name}", thousandths / 100),
                _ => format!("{whole}{name}"),
            };
        }
    }
    n.to_string()
}

/// A count to the last figure, thousands apart: `1,048,576`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A span in words: `8s`, `3m12s`, `5h20m`, `4d2h`.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn counts_and_spans_read_well() {
        let counts: Vec<_> = [0, 999, 1_000, 12_345, 999_999, 4_560_000].map(count).to_vec();
        assert_eq!(counts, ["0", "999", "1.00k", "12.3k", "999k", "4.56M"]);
        assert_eq!([8, 192, 19_200, 352_800].map(span).to_vec(), ["8s", "3m12s", "5h20m", "4d2h"]);
    }
}
