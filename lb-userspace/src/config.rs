//! The configuration file: TOML in, a [`Spec`] with a place for every object out.
//!
//! In: a path, standard input or a text. Out: [`Loaded`] (the spec, its warnings, the texts it was read from and their
//! fingerprint) or [`ConfigErrors`]: every problem found, each with file, line and remedy, in the order of the lines.
//! Invariant: a spec that comes out has passed [`crate::spec::validate()`]; nothing is half-read.

mod backends;
mod discover;
mod document;
mod health;
mod keys;
mod objects;
mod passive;
mod section;
mod settings;
mod source;
mod standby;

use std::fmt;
use std::io::Read;
use std::path::Path;

use crate::spec::{Place, Problem, Spec, validate_known};
use document::Document;
use objects::Objects;
use section::Section;
pub use source::SourceFile;

/// Where lbd looks when it is not told.
pub const DEFAULT_PATH: &str = "/etc/lbd/lbd.toml";

/// The smallest configuration that does something.
pub const MINIMAL_EXAMPLE: &str = r#"[datapath]
interfaces = ["eth0"]

[[service]]
name     = "web"
listen   = ["203.0.113.10:80/tcp"]
backends = ["10.0.0.11", "10.0.0.12"]
"#;

/// A configuration that may be run.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What is wanted.
    pub spec: Spec,
    /// What works, perhaps not as meant.
    pub warnings: Vec<Problem>,
    /// The texts, the main file first, then the included ones in the order of reading.
    pub sources: Vec<SourceFile>,
    /// SHA-256 over the texts, as hexadecimal digits: the same texts give the same fingerprint wherever they lie.
    pub fingerprint: String,
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub struct ConfigErrors {
    /// At least one error; warnings found on the way are among them. Sorted by file and line.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().filter(|problem| problem.is_error()).enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl From<Problem> for ConfigErrors {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

/// Reads the file at `path` and what it includes.
///
/// # Errors
/// The file cannot be read, is no TOML, or says something that cannot work.
pub fn load(path: &Path) -> Result<Loaded, ConfigErrors> {
    let main = source::read(path)?;
    assemble(main, path.parent())
}

/// Reads a text called `name` in messages; what it includes is looked for relative to `base`, and refused without one.
///
/// # Errors
/// As [`load`].
pub fn load_text(text: &str, name: &str, base: Option<&Path>) -> Result<Loaded, ConfigErrors> {
    assemble(SourceFile { path: name.to_owned(), text: text.to_owned() }, base)
}

/// Reads what `input` delivers, called `name` in messages; what it includes is looked for relative to `base`.
///
/// # Errors
/// As [`load`].
pub fn load_from(input: &mut dyn Read, name: &str, base: Option<&Path>) -> Result<Loaded, ConfigErrors> {
    assemble(source::read_from(input, name)?, base)
}

/// Reads a text called `name` in messages, which may not include others.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, name: &str) -> Result<Loaded, ConfigErrors> {
    load_text(text, name, None)
}

fn assemble(main: SourceFile, base: Option<&Path>) -> Result<Loaded, ConfigErrors> {
    let mut problems = Vec::new();
    let mut objects = Objects::default();
    let mut spec = Spec::default();
    let included = main_file(&main, base, &mut spec, &mut objects, &mut problems);
    let mut sources = vec![main];
    for path in included {
        match source::read(&path) {
            Ok(file) => {
                included_file(&file, &mut objects, &mut problems);
                sources.push(file);
            }
            Err(problem) => {
                problems.push(problem);
                objects.incomplete();
            }
        }
    }
    let judged = objects.judge();
    (spec.pools, spec.services) = (judged.pools, judged.services);
    // A warning about what is only half-read would mislead.
    let found = validate_known(&spec, &judged.gaps)
        .into_iter()
        .filter(|problem| judged.complete || problem.is_error());
    problems.extend(found);
    if judged.complete && spec.services.is_empty() && !problems.iter().any(Problem::is_error) {
        let place = sources.first().map(|main| Place::File { path: main.path.clone() });
        problems.extend(place.map(|place| {
            Problem::warning(
                place,
                "there is no service, so every packet passes untouched",
                "write a [[service]], or add one with `lbctl service add`",
            )
        }));
    }
    order(&mut problems, &sources);
    match problems.iter().any(Problem::is_error) {
        true => Err(ConfigErrors { problems }),
        false => Ok(Loaded { spec, warnings: problems, fingerprint: source::fingerprint(&sources), sources }),
    }
}

/// Reads the main file; returns the files it includes.
fn main_file(
    file: &SourceFile,
    base: Option<&Path>,
    spec: &mut Spec,
    objects: &mut Objects,
    problems: &mut Vec<Problem>,
) -> Vec<std::path::PathBuf> {
    let document = Document::new(file);
    let Some(table) = document.parse() else {
        problems.extend(document.into_problems());
        objects.incomplete();
        return Vec::new();
    };
    let root = Section::root(&document, &table, keys::ROOT);
    if table.get_ref().is_empty() {
        document.push(Problem::error(
            Place::File { path: file.path.clone() },
            "the configuration is empty",
            format!("write at least\n\n{MINIMAL_EXAMPLE}"),
        ));
    } else {
        objects.note_settings(&settings::read(&root, spec));
        objects.note_suspects(&root);
        objects.read_defaults(&root);
        objects.read(&root);
    }
    let found = document.found();
    let included = source::included(&root, base);
    if document.found() > found {
        objects.incomplete();
    }
    problems.extend(document.into_problems());
    included
}

fn included_file(file: &SourceFile, objects: &mut Objects, problems: &mut Vec<Problem>) {
    let document = Document::new(file);
    match document.parse() {
        Some(table) => {
            let root = Section::root(&document, &table, keys::INCLUDED);
            objects.note_suspects(&root);
            objects.read(&root);
        }
        None => objects.incomplete(),
    }
    problems.extend(document.into_problems());
}

/// Sorts by file in the order of reading, then by line; problems of a whole file come first.
fn order(problems: &mut [Problem], sources: &[SourceFile]) {
    let file = |path: &str| sources.iter().position(|source| source.path == path).unwrap_or(usize::MAX);
    problems.sort_by_key(|problem| match &problem.place {
        Place::File { path } => (file(path), 0),
        Place::Line { path, line } => (file(path), *line),
        Place::Setting { .. } | Place::Cli | Place::Discovery { .. } => (usize::MAX, 0),
    });
}

#[cfg(test)]
mod tests;
