//! A table of the file, read key by key.
//!
//! In: a TOML table and the keys it may have. Out: typed values; `None` where the key is absent or wrong. Invariant: whatever
//! is unknown or wrong becomes a problem that names the line, the key, the table, and what to write instead.

use std::collections::HashSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::Document;
use super::keys::{self, Key};
use crate::spec::{Problem, SyntaxError, format_duration, nearest, parse_duration};

/// A TOML value and where it stands.
pub(super) type Item<'a> = Spanned<DeValue<'a>>;

/// Keys of a table whose values could not be read.
pub(super) type Missing = HashSet<&'static str>;

/// A table, what people call it, and the keys it may have.
pub(super) struct Section<'a> {
    pub(super) document: &'a Document<'a>,
    table: &'a DeTable<'a>,
    /// As it appears after "in": `[daemon]`, `pool "web"`.
    pub(super) label: String,
    /// Where it begins.
    pub(super) line: u32,
    known: &'static [Key],
}

impl<'a> Section<'a> {
    /// The whole document.
    pub(super) fn root(
        document: &'a Document<'a>,
        table: &'a Spanned<DeTable<'a>>,
        known: &'static [Key],
    ) -> Self {
        Self::open(document, table.get_ref(), String::new(), 1, known)
    }

    /// A table; keys that it may not have are problems.
    pub(super) fn open(
        document: &'a Document<'a>,
        table: &'a DeTable<'a>,
        label: String,
        line: u32,
        known: &'static [Key],
    ) -> Self {
        let section = Self { document, table, label, line, known };
        for key in table.keys() {
            let name: &str = key.get_ref();
            if !known.iter().any(|known| known.name == name) {
                document.push(section.unknown_key(name, document.line(&key.span())));
            }
        }
        section
    }

    fn unknown_key(&self, name: &str, line: u32) -> Problem {
        let message = match self.label.as_str() {
            "" => format!("unknown key {name:?}"),
            label => format!("unknown key {name:?} in {label}"),
        };
        let names = || self.known.iter().map(|key| key.name);
        let hint = match (nearest(name, names()), keys::home_of(name)) {
            (Some(near), _) => format!("did you mean {near:?}?"),
            (None, Some(home)) => format!("it belongs in {home}"),
            (None, None) => format!("known here are {}", names().collect::<Vec<_>>().join(", ")),
        };
        Problem::error(self.document.place(line), message, hint)
    }

    /// Known keys that an unknown one was probably meant to be.
    pub(super) fn suspects(&self) -> Missing {
        let known = || self.known.iter().map(|key| key.name);
        let unknown =
            self.table.keys().map(|key| -> &str { key.get_ref() }).filter(|name| known().all(|k| k != *name));
        unknown.filter_map(|name| nearest(name, known())).collect()
    }

    /// What `read` makes of a key, which is noted as missing if it found a mistake there.
    pub(super) fn noting<T>(
        &self,
        missing: &mut Missing,
        key: &'static str,
        read: impl FnOnce(&'static str) -> T,
    ) -> T {
        let found = self.document.found();
        let value = read(key);
        if self.document.found() > found {
            missing.insert(key);
        }
        value
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The value of a key, if it is there.
    pub(super) fn item(&self, key: &str) -> Option<&'a Item<'a>> {
        self.table.get(key)
    }

    /// The line where a key is written; of the table, where it is not.
    pub(super) fn line_of(&self, key: &str) -> u32 {
        let found = self.table.get_key_value(key);
        found.map_or(self.line, |(key, _)| self.document.line(&key.span()))
    }

    /// A problem with the value of a key: `MESSAGE in [daemon]: HINT`.
    pub(super) fn fault(&self, line: u32, message: impl Display, hint: impl Into<String>) {
        self.document.push(Problem::error(
            self.document.place(line),
            format!("{message} in {}", self.label),
            hint,
        ));
    }

    fn fault_type(&self, key: &str, item: &Item<'_>, wanted: &str) {
        self.fault_type_of(key, key, item, wanted);
    }

    /// `subject` is what has the wrong type, `key` the key whose value it is or belongs to.
    fn fault_type_of(&self, subject: &str, key: &str, item: &Item<'_>, wanted: &str) {
        let found = match item.get_ref().type_str() {
            "datetime" => "a date or time",
            "integer" => "an integer",
            "array" => "an array",
            "boolean" => "true or false",
            "float" => "a fractional number",
            "table" => "a table",
            _ => "a string",
        };
        let example = self.known.iter().find(|known| known.name == key).map_or("", |known| known.example);
        let line = self.document.line(&item.span());
        let place = if self.label.is_empty() { String::new() } else { format!(" in {}", self.label) };
        let message = format!("{subject}{place} is {found}, not {wanted}");
        self.document.push(Problem::error(
            self.document.place(line),
            message,
            format!("write {key} = {example}"),
        ));
    }

    /// The text of a key and its line.
    pub(super) fn string(&self, key: &str) -> Option<(&'a str, u32)> {
        let item = self.item(key)?;
        let text = item.get_ref().as_str();
        if text.is_none() {
            self.fault_type(key, item, "a string");
        }
        text.map(|text| (text, self.document.line(&item.span())))
    }

    /// A text that is a value of `T`.
    pub(super) fn parsed<T: FromStr<Err = SyntaxError>>(&self, key: &str) -> Option<T> {
        let (text, line) = self.string(key)?;
        self.accept(line, text.parse())
    }

    /// `ok`, or its syntax error as a problem of this line.
    pub(super) fn accept<T>(&self, line: u32, result: Result<T, SyntaxError>) -> Option<T> {
        result.map_err(|error| self.fault(line, error.message, error.hint)).ok()
    }

    /// A length of time within limits.
    pub(super) fn duration(&self, key: &str, limits: RangeInclusive<Duration>) -> Option<Duration> {
        let (text, line) = self.string(key)?;
        let duration = self.accept(line, parse_duration(text))?;
        if limits.contains(&duration) {
            return Some(duration);
        }
        let (low, high) = (format_duration(*limits.start()), format_duration(*limits.end()));
        self.fault(line, format!("{key} = {text:?} is out of range"), format!("write {low} to {high}"));
        None
    }

    pub(super) fn boolean(&self, key: &str) -> Option<bool> {
        let item = self.item(key)?;
        let value = item.get_ref().as_bool();
        if value.is_none() {
            self.fault_type(key, item, "true or false");
        }
        value
    }

    /// A whole number within limits.
    pub(super) fn integer<T>(&self, key: &str, limits: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i128> + PartialOrd + Display,
    {
        self.number(key, self.item(key)?, limits)
    }

    /// This item as a whole number within limits; `key` is what it is called.
    pub(super) fn number<T>(&self, key: &str, item: &Item<'_>, limits: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i128> + PartialOrd + Display,
    {
        let Some(integer) = item.get_ref().as_integer() else {
            self.fault_type(key, item, "a whole number");
            return None;
        };
        let value = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        let value = value.and_then(|value| T::try_from(value).ok()).filter(|value| limits.contains(value));
        if value.is_none() {
            let line = self.document.line(&item.span());
            let hint = format!("write a number from {} to {}", limits.start(), limits.end());
            self.fault(line, format!("{key} = {integer} is out of range"), hint);
        }
        value
    }

    /// The elements of an array.
    pub(super) fn array(&self, key: &str) -> Option<Vec<&'a Item<'a>>> {
        let item = self.item(key)?;
        let array = item.get_ref().as_array();
        if array.is_none() {
            self.fault_type(key, item, "an array");
        }
        array.map(|array| array.iter().collect())
    }

    /// The texts of an array and their lines; elements that are no texts are problems.
    pub(super) fn strings(&self, key: &str) -> Option<Vec<(&'a str, u32)>> {
        let strings = self.array(key)?.into_iter().filter_map(|item| {
            let text = item.get_ref().as_str();
            if text.is_none() {
                self.fault_type_of(&format!("an element of {key}"), key, item, "a string");
            }
            text.map(|text| (text, self.document.line(&item.span())))
        });
        Some(strings.collect())
    }

    /// A table inside this one, by the key that names it.
    pub(super) fn table(&self, key: &str, label: String, known: &'static [Key]) -> Option<Section<'a>> {
        let item = self.item(key)?;
        let Some(table) = item.get_ref().as_table() else {
            self.fault_type(key, item, "a table");
            return None;
        };
        Some(Section::open(self.document, table, label, self.line_of(key), known))
    }

    /// The tables of `[[key]]`.
    pub(super) fn tables(&self, key: &str) -> Vec<(&'a DeTable<'a>, u32)> {
        let Some(item) = self.item(key) else { return Vec::new() };
        let line = self.line_of(key);
        let fault = |line: u32| {
            let hint = format!("write [[{key}]], with double brackets, once for each {key}");
            self.document.push(Problem::error(
                self.document.place(line),
                format!("{key} is not a list of tables"),
                hint,
            ));
        };
        let Some(array) = item.get_ref().as_array() else {
            fault(line);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in array.iter() {
            let line = self.document.line(&item.span());
            match item.get_ref().as_table() {
                Some(table) => tables.push((table, line)),
                None => fault(line),
            }
        }
        tables
    }
}
