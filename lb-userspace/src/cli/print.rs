//! How results look: tables for people, JSON for scripts, colours only on a terminal.
//!
//! Data goes to stdout, messages to stderr. A broken pipe (`lbctl … | head`) is a normal end.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

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

/// How a cell is lined up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// What a cell says beside its text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Tone {
    /// Nothing.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Wrong.
    Bad,
    /// Of little weight.
    Faint,
}

/// A text with a tone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell with a tone.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(value: T) -> Self {
        Self { text: value.to_string(), tone: Tone::Plain }
    }
}

/// Columns without borders, as kubectl and ip print them.
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty.
    pub fn row(&mut self, cells: Vec<Cell>) -> &mut Self {
        self.rows.push(cells);
        self
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text, each line ended; no trailing blanks.
    pub fn render(&self, colour: bool) -> String {
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, (heading, _))| {
                let cells =
                    self.rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.text.chars().count());
                cells.chain([heading.len()]).max().unwrap_or(0)
            })
            .collect();
        let heading: Vec<Cell> =
            self.columns.iter().map(|(heading, _)| Cell::toned(*heading, Tone::Faint)).collect();
        let mut out = String::new();
        for row in std::iter::once(&heading).chain(&self.rows) {
            out.push_str(&self.line(row, &widths, colour));
        }
        out
    }

    fn line(&self, row: &[Cell], widths: &[usize], colour: bool) -> String {
        let mut line = String::new();
        let mut pending = 0;
        for (i, ((_, align), width)) in self.columns.iter().zip(widths).enumerate() {
            let empty = Cell::default();
            let cell = row.get(i).unwrap_or(&empty);
            let gap = width - cell.text.chars().count();
            let (before, after) = if *align == Align::Right { (gap, 0) } else { (0, gap) };
            if !cell.text.is_empty() {
                line.push_str(&" ".repeat(pending + before));
                line.push_str(&painted(cell, colour));
                pending = after + 2;
            } else {
                pending += width + 2;
            }
        }
        line.push('\n');
        line
    }
}

fn painted(cell: &Cell, colour: bool) -> String {
    let code = match cell.tone {
        Tone::Plain => return cell.text.clone(),
        _ if !colour => return cell.text.clone(),
        Tone::Good => "32",
        Tone::Warn => "33",
        Tone::Bad => "31",
        Tone::Faint => "2",
    };
    format!("\x1b[{code}m{}\x1b[0m", cell.text)
}

/// Whether stdout may be coloured: a terminal, and NO_COLOR (no-color.org) not set.
pub fn colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Writes text to stdout; a reader that has gone away ends the program quietly.
pub fn stdout(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
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
            std::process::exit(0);
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
    fn columns_line_up_and_lines_have_no_trailing_blanks() {
        let mut table =
            Table::new(&[("NAME", Align::Left), ("FLOWS", Align::Right), ("REASON", Align::Left)]);
        table.row(vec!["web".into(), 7.into(), "".into()]);
        table.row(vec!["a-long-name".into(), 12345.into(), Cell::toned("unhealthy", Tone::Bad)]);
        assert_eq!(
            table.render(false),
            "NAME         FLOWS  REASON\nweb              7\na-long-name  12345  unhealthy\n"
        );
        assert!(table.render(true).contains("\x1b[31munhealthy\x1b[0m"));
    }

    #[test]
    fn counts_and_spans_read_well() {
        let counts: Vec<_> = [0, 999, 1_000, 12_345, 999_999, 4_560_000].map(count).to_vec();
        assert_eq!(counts, ["0", "999", "1.00k", "12.3k", "999k", "4.56M"]);
        assert_eq!([8, 192, 19_200, 352_800].map(span).to_vec(), ["8s", "3m12s", "5h20m", "4d2h"]);
    }
}
