//! A configuration file that is made of other rules, line by line.
//!
//! In: its lines, each with the rule that it is made of. Out: the file. Invariant: what is wrong with it is said of the rules, which
//! people have before them; the file itself nobody has seen then.

use crate::config;
use crate::spec::{Place, Problem};

/// The configuration file, and for each of its lines the one of the rules that it is made of.
#[derive(Default)]
pub(super) struct Made {
    text: String,
    /// 0: of none.
    lines: Vec<u32>,
}

/// What the file that is made is called until it has a name.
const MADE: &str = "what would be printed";

impl Made {
    /// Adds whole lines.
    pub(super) fn push(&mut self, line: u32, text: &str) {
        self.lines.extend(text.lines().map(|_| line));
        self.text.push_str(text);
    }

    /// The text, if lbd's own reader accepts it: that is who will read it.
    ///
    /// # Errors
    /// What is wrong with it, by the lines of `file`, which it was made of.
    pub(super) fn accepted(self, file: &str) -> Result<String, Vec<Problem>> {
        match config::parse(&self.text, MADE) {
            Ok(_) => Ok(self.text),
            Err(errors) => {
                Err(errors.problems.into_iter().map(|problem| self.in_rules(problem, file)).collect())
            }
        }
    }

    /// A problem of the file that is made as one of the rules, which is what people can look at.
    fn in_rules(&self, problem: Problem, file: &str) -> Problem {
        let place = match &problem.place {
            Place::Line { line, .. } => self.place(*line, file),
            _ => Place::File { path: file.to_owned() },
        };
        // Another place may be named in it.
        let other = format!("{MADE}:");
        let mut parts = problem.message.split(&other);
        let mut message = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            let (number, rest) = part.split_at(digits);
            let other = self.place(number.parse().unwrap_or(0), file);
            message.push_str(&format!("{other}{rest}"));
        }
        Problem { place, message, ..problem }
    }

    fn place(&self, line: u32, file: &str) -> Place {
        let index = usize::try_from(line).ok().and_then(|line| line.checked_sub(1));
        match index.and_then(|index| self.lines.get(index)) {
            Some(rule) if *rule > 0 => Place::Line { path: file.to_owned(), line: *rule },
            _ => Place::File { path: file.to_owned() },
        }
    }
}
