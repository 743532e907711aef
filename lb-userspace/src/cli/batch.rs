//! `lbctl batch`: many changes, one revision.
//!
//! In: lines, each of which is what would follow `lbctl`. Out: one change. Invariants: the lines are read by the very definition that
//! reads arguments; nothing is sent before every line is understood; whatever is wrong with a line, its number is said.

mod words;

use std::io::Read;
use std::path::Path;

use clap::Parser;

use super::args::{Arguments, ChangeArguments, Command};
use super::change::Wanted;
use super::session::Session;
use super::{Outcome, backend, overrides, pool, service, usage};
use crate::api::types::Operation;
use crate::api::{ApiError, ErrorCode};

/// Global options, which have no meaning for one line of many.
const GLOBAL: [&str; 4] = ["--socket", "--output", "--json", "--quiet"];

/// What the lines ask for.
#[derive(Debug, Default)]
struct Batch {
    operations: Vec<Operation>,
    /// The line of each operation.
    lines: Vec<u32>,
    /// Lines that destroy something without a --yes of their own.
    destroying: Vec<u32>,
}

pub(super) async fn run(session: &Session, file: Option<&Path>, how: ChangeArguments) -> Outcome {
    let name = file.map_or_else(|| "-".to_owned(), |file| file.display().to_string());
    let text = read(file).map_err(|error| {
        ApiError::new(ErrorCode::Usage, format!("cannot read {name} ({error})"))
            .hint("name a file with one command a line, or write them to standard input")
    })?;
    let Batch { operations, lines, destroying } =
        parse(&text).map_err(|(line, error)| at(error, &name, line))?;
    if operations.is_empty() {
        session.say(&format!("{name} has no commands: nothing was done"));
        return Ok(0);
    }
    let destroys = destroying.first().map(|line| match destroying.len() {
        1 => format!("takes something away (line {line})"),
        count => format!("takes something away in {count} lines (the first is {line})"),
    });
    Wanted { operations, how, destroys }.submit(session).await.map_err(|error| {
        let line = error.0.operation.and_then(|operation| lines.get(operation)).copied();
        match line {
            Some(line) => at(error, &name, line),
            None => error,
        }
    })
}

fn read(file: Option<&Path>) -> std::io::Result<String> {
    match file.filter(|file| *file != Path::new("-")) {
        Some(file) => std::fs::read_to_string(file),
        None => {
            let mut text = String::new();
            std::io::stdin().lock().read_to_string(&mut text)?;
            Ok(text)
        }
    }
}

/// The same error with the line it is about. What stands in the way may be defined elsewhere: that is said in words, then.
fn at(mut error: ApiError, file: &str, line: u32) -> ApiError {
    if let Some(other) = error.0.file.take() {
        let place = error.0.line.map_or_else(|| other.clone(), |line| format!("{other}:{line}"));
        error.0.message = format!("{place}: {}", error.0.message);
    }
    (error.0.file, error.0.line) = (Some(file.to_owned()), Some(line));
    error
}

fn parse(text: &str) -> Result<Batch, (u32, ApiError)> {
    let mut batch = Batch::default();
    for (number, line) in (1..).zip(text.lines()) {
        let wanted = parse_line(line).map_err(|error| (number, error))?;
        let Some(Wanted { operations, how, destroys }) = wanted else { continue };
        batch.lines.extend(operations.iter().map(|_| number));
        batch.operations.extend(operations);
        if destroys.is_some() && !how.yes {
            batch.destroying.push(number);
        }
    }
    Ok(batch)
}

/// What a line asks for; `None`: it is empty, or a comment.
fn parse_line(line: &str) -> Result<Option<Wanted>, ApiError> {
    let wrong = |message: String| ApiError::new(ErrorCode::Usage, message);
    let mut words = words::split(line).map_err(wrong)?;
    if words.first().is_some_and(|word| word == "lbctl") {
        words.remove(0);
    }
    if words.is_empty() {
        return Ok(None);
    }
    let is_global = |word: &&String| {
        // -ojson, -qj: short ones may stand in one word.
        let letters = word.strip_prefix('-').filter(|rest| !rest.starts_with('-')).unwrap_or_default();
        letters.chars().take_while(char::is_ascii_alphabetic).any(|letter| "ojq".contains(letter))
            || GLOBAL.iter().any(|global| word.split('=').next() == Some(global))
    };
    if let Some(option) = words.iter().take_while(|word| *word != "--").find(is_global) {
        return Err(wrong(format!("{option} is for all lines: give it to lbctl batch itself")));
    }
    let arguments = Arguments::try_parse_from(std::iter::once("lbctl".to_owned()).chain(words));
    let wanted = match arguments.map_err(|error| usage::in_api(&error))?.command {
        Command::Backend(command) => backend::wanted(command),
        Command::Service(command) => service::wanted(command)?,
        Command::Pool(command) => pool::wanted(command)?,
        Command::Override(command) => overrides::wanted(command)?,
        _ => None,
    };
    let wanted = wanted.ok_or_else(|| {
        wrong("this changes nothing that a batch could hold".to_owned())
            .hint("a line is a change: backend add, service set, override clear and so on")
    })?;
    if (ChangeArguments { yes: false, ..wanted.how.clone() }) != ChangeArguments::default() {
        return Err(wrong("options of the change are for all lines".to_owned())
            .hint("give --wait, --if-revision, --force, --dry-run and --max-moved to lbctl batch itself"));
    }
    Ok(Some(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_operations_that_know_their_line() {
        let text = "# a deploy\n\nlbctl backend add web 10.0.0.1 10.0.0.2 --weight 3\nbackend drain 'web' \"10.0.0.3\"  # old\n";
        let batch = parse(text).unwrap();
        assert_eq!((batch.operations.len(), batch.lines), (3, vec![3, 3, 4]));
        assert!(batch.destroying.is_empty());
        let batch = parse("backend rm web 10.0.0.1\nservice rm web --yes\n").unwrap();
        assert_eq!(batch.destroying, [1]);
    }

    #[test]
    fn whatever_is_wrong_names_its_line() {
        for (line, part) in [
            ("backend frobnicate", "frobnicate"),
            ("backend add web 10.0.0.300", "10.0.0.300"),
            ("backend add web '10.0.0.1", "quot"),
            ("backend list web", "changes nothing"),
            ("status", "changes nothing"),
            ("batch -f other", "changes nothing"),
            ("backend add web 10.0.0.1 --wait", "for all lines"),
            ("backend add web 10.0.0.1 --force", "for all lines"),
            ("--socket=/x backend add web 10.0.0.1", "--socket=/x"),
            ("-j backend add web 10.0.0.1", "-j"),
            ("service set web", "what to change"),
            ("-ojson backend add web 10.0.0.1", "-ojson is for all lines"),
            ("-qj backend add web 10.0.0.1", "-qj is for all lines"),
            ("--help", "Changes and shows"),
        ] {
            let (number, error) = parse(&format!("# first\n{line}\n")).unwrap_err();
            let said = format!("{} {}", error.0.message, error.0.hint.clone().unwrap_or_default());
            assert_eq!((number, error.code()), (2, ErrorCode::Usage), "{line}: {said}");
            assert!(said.contains(part), "{line}: {said}");
        }
    }

    #[test]
    fn an_error_keeps_the_place_of_what_stands_in_the_way() {
        let mut error = ApiError::new(ErrorCode::Owner, "it is the file's");
        (error.0.file, error.0.line) = (Some("lbd.toml".to_owned()), Some(7));
        assert_eq!(at(error, "-", 3).to_string(), "-:3: lbd.toml:7: it is the file's");
    }
}
