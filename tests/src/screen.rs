//! The terminal: lines that stay, and below them a picture that is drawn anew.
//!
//! In: lines. Out: on a terminal, lasting lines with a live block under them, coloured unless `NO_COLOR` is set; elsewhere the
//! lasting lines alone. Invariant: the live block never wraps, so moving the cursor up over it always finds its beginning.

use std::io::{IsTerminal, Write};

pub(crate) use lb_userspace::cli::print::grouped;

const DEFAULT_WIDTH: usize = 80;

/// Standard output.
#[derive(Debug)]
pub(crate) struct Screen {
    is_terminal: bool,
    coloured: bool,
    drawn_lines: usize,
}

impl Screen {
    pub(crate) fn new() -> Screen {
        let is_terminal = std::io::stdout().is_terminal();
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Screen { is_terminal, coloured: is_terminal && wanted, drawn_lines: 0 }
    }

    /// Whether a live picture is worth drawing.
    pub(crate) fn is_live(&self) -> bool {
        self.is_terminal
    }

    /// Prints a line that stays.
    pub(crate) fn say(&mut self, line: &str) {
        self.write(&format!("{}{line}\n", self.erase()));
        self.drawn_lines = 0;
    }

    /// Draws the live block in place of the one before.
    pub(crate) fn draw(&mut self, lines: &[String]) {
        if self.is_terminal {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            self.write(&format!("{}{text}", self.erase()));
            self.drawn_lines = lines.len();
        }
    }

    /// Takes the live block away.
    pub(crate) fn clear(&mut self) {
        self.write(&self.erase());
        self.drawn_lines = 0;
    }

    /// Columns a line of the live block may fill.
    pub(crate) fn width(&self) -> usize {
        // SAFETY: winsize is plain data for which all zeros is a value, and TIOCGWINSZ fills one.
        let columns = unsafe {
            let mut size: libc::winsize = std::mem::zeroed();
            if libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) == 0 {
                size.ws_col
            } else {
                0
            }
        };
        if columns == 0 { DEFAULT_WIDTH } else { usize::from(columns) }
    }

    pub(crate) fn red(&self, text: &str) -> String {
        self.paint("31", text)
    }

    pub(crate) fn green(&self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn cyan(&self, text: &str) -> String {
        self.paint("36", text)
    }

    pub(crate) fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn erase(&self) -> String {
        if self.drawn_lines == 0 { String::new() } else { format!("\x1b[{}A\x1b[J", self.drawn_lines) }
    }

    fn write(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // Nobody is left to tell when standard output is closed; the exit code still says how it went.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// A bar of `width` columns filled to `share` (0 to 1), in eighths of a column.
pub(crate) fn bar(share: f64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the width of a terminal"
    )]
    let filled = (share.clamp(0.0, 1.0) * (width * 8) as f64).round() as usize;
    let part = EIGHTHS[filled % 8];
    let empty = width - filled / 8 - usize::from(!part.is_empty());
    format!("{}{part}{}", "█".repeat(filled / 8), " ".repeat(empty))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_always_has_its_width() {
        for step in 0..=1000 {
            let bar = bar(f64::from(step) / 1000.0, 30);
            assert_eq!(bar.chars().count(), 30, "{bar}");
        }
        assert_eq!(bar(1.0, 3), "███");
        assert_eq!(bar(2.0, 3), "███");
        assert_eq!(bar(0.5, 1), "▌");
    }
}
