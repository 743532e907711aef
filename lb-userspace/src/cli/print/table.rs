//! Columns without borders, as kubectl and ip print them.
//!
//! In: headings, rows, the width of a line. Out: a text. Invariants: only texts are cut, and the cut is seen (…): every other
//! column is shown whole or not at all; without a limit, everything is shown.

use super::Style;

/// How a cell is lined up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
    /// A text for reading: as words, and cut short where the line ends before it does.
    Text,
}

/// A text is not made shorter than this.
const LEAST_TEXT: usize = 20;

/// Between two columns.
const GAP: usize = 2;

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

/// See the module.
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    gives_way: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), gives_way: Vec::new(), rows: Vec::new() }
    }

    /// The columns that are left out one after the other, the first of these first, where the line is too short.
    #[must_use]
    pub fn giving_way(mut self, headings: &[&'static str]) -> Self {
        self.gives_way = headings.to_vec();
        self
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
    pub fn render(&self, style: Style) -> String {
        let widths = self.widths(style.width);
        let heading: Vec<Cell> =
            self.columns.iter().map(|(heading, _)| Cell::toned(*heading, Tone::Faint)).collect();
        let mut out = String::new();
        for row in std::iter::once(&heading).chain(&self.rows) {
            out.push_str(&self.line(row, &widths, style.colour));
        }
        out
    }

    /// Characters of each column; `None`: it is left out.
    fn widths(&self, limit: Option<usize>) -> Vec<Option<usize>> {
        let whole = self.columns.iter().enumerate().map(|(i, (heading, _))| {
            let cells = self.rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.text.chars().count());
            cells.chain([heading.len()]).max()
        });
        let mut widths: Vec<Option<usize>> = whole.collect();
        if let Some(limit) = limit {
            self.leave_out(&mut widths, limit);
            self.cut(&mut widths, limit);
        }
        widths
    }

    /// Leaves columns out until the others have room, texts as short as they may get.
    fn leave_out(&self, widths: &mut [Option<usize>], limit: usize) {
        for heading in &self.gives_way {
            let least = widths.iter().zip(&self.columns).map(|(width, (_, align))| match align {
                Align::Text => width.map(|width| width.min(LEAST_TEXT)),
                Align::Left | Align::Right => *width,
            });
            if line_len(least) <= limit {
                return;
            }
            if let Some(at) = self.columns.iter().position(|(name, _)| name == heading) {
                widths[at] = None;
            }
        }
    }

    /// Cuts the longest texts until the line has room.
    fn cut(&self, widths: &mut [Option<usize>], limit: usize) {
        while line_len(widths.iter().copied()) > limit {
            let texts = widths.iter_mut().zip(&self.columns).filter(|(_, (_, align))| *align == Align::Text);
            let longest = texts.filter_map(|(width, _)| width.as_mut()).max();
            match longest {
                Some(width) if *width > LEAST_TEXT => *width -= 1,
                _ => return,
            }
        }
    }

    fn line(&self, row: &[Cell], widths: &[Option<usize>], colour: bool) -> String {
        let mut line = String::new();
        let mut pending = 0;
        for (i, ((_, align), width)) in self.columns.iter().zip(widths).enumerate() {
            let Some(width) = *width else { continue };
            let cell = row.get(i).map(|cell| shortened(cell, width)).unwrap_or_default();
            let gap = width - cell.text.chars().count();
            let (before, after) = if *align == Align::Right { (gap, 0) } else { (0, gap) };
            if !cell.text.is_empty() {
                line.push_str(&" ".repeat(pending + before));
                line.push_str(&painted(&cell, colour));
                pending = after + GAP;
            } else {
                pending += width + GAP;
            }
        }
        line.push('\n');
        line
    }
}

/// Characters of a line with these columns.
fn line_len(widths: impl Iterator<Item = Option<usize>>) -> usize {
    let (columns, len) = widths.flatten().fold((0, 0), |(columns, len), width| (columns + 1, len + width));
    len + GAP * usize::saturating_sub(columns, 1)
}

/// The cell in at most `width` characters.
fn shortened(cell: &Cell, width: usize) -> Cell {
    if cell.text.chars().count() <= width {
        return cell.clone();
    }
    let start: String = cell.text.chars().take(width.saturating_sub(1)).collect();
    Cell { text: format!("{}…", start.trim_end()), tone: cell.tone }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_blanks() {
        let mut table =
            Table::new(&[("NAME", Align::Left), ("FLOWS", Align::Right), ("REASON", Align::Left)]);
        table.row(vec!["web".into(), 7.into(), "".into()]);
        table.row(vec!["a-long-name".into(), 12345.into(), Cell::toned("unhealthy", Tone::Bad)]);
        assert_eq!(
            table.render(Style::default()),
            "NAME         FLOWS  REASON\nweb              7\na-long-name  12345  unhealthy\n"
        );
        let coloured = table.render(Style { colour: true, ..Style::default() });
        assert!(coloured.contains("\x1b[31munhealthy\x1b[0m"));
    }

    fn backends() -> Table {
        let columns = [
            ("ADDRESS", Align::Left),
            ("FLOWS", Align::Right),
            ("PACKETS", Align::Right),
            ("REASON", Align::Text),
        ];
        let mut table = Table::new(&columns).giving_way(&["PACKETS", "FLOWS"]);
        let reason = "unhealthy: connection refused (1 of 3 bad checks)";
        table.row(vec!["[2001:db8::11]:8443".into(), 5.into(), "12.3k".into(), reason.into()]);
        table.row(vec!["10.0.0.1".into(), 7.into(), "1.00M".into()]);
        table
    }

    fn at(width: usize) -> String {
        backends().render(Style { width: Some(width), ..Style::default() })
    }

    #[test]
    fn a_text_ends_where_the_line_does() {
        let whole = backends().render(Style::default());
        assert_eq!(at(86), whole);
        assert_eq!(
            at(66),
            "ADDRESS              FLOWS  PACKETS  REASON\n\
             [2001:db8::11]:8443      5    12.3k  unhealthy: connection refuse…\n\
             10.0.0.1                 7    1.00M\n"
        );
    }

    #[test]
    fn columns_give_way_in_their_order_before_a_text_says_nothing() {
        assert_eq!(
            at(50),
            "ADDRESS              FLOWS  REASON\n\
             [2001:db8::11]:8443      5  unhealthy: connection…\n\
             10.0.0.1                 7\n"
        );
        assert_eq!(
            at(45),
            "ADDRESS              REASON\n[2001:db8::11]:8443  unhealthy: connection r…\n10.0.0.1\n"
        );
    }

    #[test]
    fn no_line_is_longer_than_it_may_be_while_something_can_give_way() {
        for width in 41..90 {
            for line in at(width).lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
        // Addresses stay whole even then.
        assert!(at(1).contains("[2001:db8::11]:8443"));
    }
}
