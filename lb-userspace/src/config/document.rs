//! One TOML text on its way to meaning: its lines and the problems found in it so far.
//!
//! In: a [`SourceFile`]. Out: its table with byte spans, and the line of any span. Invariant: a syntax error is reported
//! once, where it begins, not with every misreading that follows from it.

use std::cell::RefCell;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, Error};

use super::source::SourceFile;
use crate::spec::{FileName, Origin, Place, Problem};

/// A text and what is wrong with it.
pub(super) struct Document<'a> {
    file: &'a SourceFile,
    /// In every origin.
    name: FileName,
    /// Byte offset of the beginning of each line.
    line_starts: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Document<'a> {
    pub(super) fn new(file: &'a SourceFile) -> Self {
        let breaks = file.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(breaks).collect();
        Self { file, name: file.path.as_str().into(), line_starts, problems: RefCell::default() }
    }

    /// The text as a table; `None` if it is no TOML (a key written twice is a problem, but the rest is read).
    pub(super) fn parse(&self) -> Option<Spanned<DeTable<'a>>> {
        let (table, errors) = DeTable::parse_recoverable(&self.file.text);
        let duplicate = |error: &&Error| error.message() == "duplicate key";
        for error in errors.iter().filter(duplicate) {
            let span = error.span().unwrap_or_default();
            let key = self.file.text.get(span.clone()).unwrap_or_default();
            self.push(Problem::error(
                self.place(self.line(&span)),
                format!("the key {key:?} is written twice"),
                "write it once ([[pool]] and [[service]], with double brackets, may be repeated)",
            ));
        }
        let Some(first) = errors.iter().find(|error| !duplicate(error)) else { return Some(table) };
        let span = first.span().unwrap_or_default();
        let message = first.message().replace(", expected literal string", "");
        self.push(Problem {
            hint: None,
            ..Problem::error(self.place(self.line(&span)), format!("this is not valid TOML: {message}"), "")
        });
        None
    }

    /// The line of a span, counted from 1.
    pub(super) fn line(&self, span: &Range<usize>) -> u32 {
        let line = self.line_starts.partition_point(|start| *start <= span.start);
        u32::try_from(line).unwrap_or(u32::MAX)
    }

    pub(super) fn place(&self, line: u32) -> Place {
        Place::Line { path: self.file.path.clone(), line }
    }

    /// The origin of what is defined on this line.
    pub(super) fn origin(&self, line: u32) -> Origin {
        Origin::File { path: self.name.clone(), line }
    }

    /// The file, as the user named it.
    pub(super) fn path(&self) -> &'a str {
        &self.file.path
    }

    pub(super) fn push(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// How many problems were found so far: whoever finds more after reading an object knows that the object is not whole.
    pub(super) fn found(&self) -> usize {
        self.problems.borrow().len()
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }
}
