//! The files a configuration is read from.
//!
//! In: a path, or the include patterns of the main file. Out: texts, or why there is none. Invariant: a file is read whole
//! and once; one that is no configuration by its size or encoding is refused before it is parsed.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::MINIMAL_EXAMPLE;
use super::section::Section;
use crate::spec::{Place, Problem};

/// A configuration beyond this size is a mistake (a thousand services with a hundred backends are about 2 MiB).
const MAX_LEN: u64 = 4 << 20;

/// A text and the path it was read from, as the user named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// For messages.
    pub path: String,
    /// The whole text.
    pub text: String,
}

/// Reads one file.
pub(super) fn read(path: &Path) -> Result<SourceFile, Problem> {
    let name = path.display().to_string();
    let mut file = File::open(path).map_err(|error| unreadable(&name, &error))?;
    read_from(&mut file, &name)
}

/// Reads what is called `name` to its end.
pub(super) fn read_from(input: &mut dyn Read, name: &str) -> Result<SourceFile, Problem> {
    let mut bytes = Vec::new();
    input.take(MAX_LEN + 1).read_to_end(&mut bytes).map_err(|error| unreadable(name, &error))?;
    Ok(SourceFile { text: text(name, bytes)?, path: name.to_owned() })
}

/// Why there is no text.
fn unreadable(name: &str, error: &std::io::Error) -> Problem {
    let fault =
        |message: &str, hint: &str| Problem::error(Place::File { path: name.to_owned() }, message, hint);
    match error.kind() {
        ErrorKind::NotFound => fault(
            "the configuration file does not exist",
            &format!("name another with --config, or write it; at least\n\n{MINIMAL_EXAMPLE}"),
        ),
        ErrorKind::PermissionDenied => fault(
            "the configuration file may not be read",
            "let the user that runs lbd read it, or run as root",
        ),
        ErrorKind::IsADirectory => fault(
            "the configuration is a directory, not a file",
            "name the file in it; more files can be added with include = [\"conf.d/*.toml\"]",
        ),
        _ => fault(
            &format!("the configuration file cannot be read ({error})"),
            "check the path and the filesystem it is on",
        ),
    }
}

/// The bytes of a file as text.
fn text(name: &str, bytes: Vec<u8>) -> Result<String, Problem> {
    let place = || Place::File { path: name.to_owned() };
    if u64::try_from(bytes.len()).is_ok_and(|len| len > MAX_LEN) {
        return Err(Problem::error(
            place(),
            "the configuration file is larger than 4 MiB",
            "name a configuration file; a large one can be split with include = [\"conf.d/*.toml\"]",
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let lines = error.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count();
        let line = u32::try_from(lines + 1).unwrap_or(u32::MAX);
        Problem::error(
            Place::Line { path: name.to_owned(), line },
            "the configuration file is not UTF-8 text from here on",
            "save it as UTF-8",
        )
    })
}

/// SHA-256 over the texts and their lengths.
pub(super) fn fingerprint(sources: &[SourceFile]) -> String {
    let mut hash = Sha256::new();
    for source in sources {
        hash.update(u64::try_from(source.text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(&source.text);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The files that `include` names, sorted within each pattern, each once.
pub(super) fn included(root: &Section<'_>, base: Option<&Path>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for (pattern, line) in root.strings("include").unwrap_or_default() {
        let fault = |message: String, hint: &str| {
            root.document.push(Problem::error(root.document.place(line), message, hint));
        };
        let Some(base) = base else {
            fault(
                format!("include {pattern:?} has no directory to start from"),
                "read the configuration from a file",
            );
            continue;
        };
        let full = Path::new(&glob::Pattern::escape(&base.display().to_string())).join(pattern);
        let paths = match glob::glob(&full.display().to_string()) {
            Ok(paths) => paths,
            Err(error) => {
                fault(
                    format!("include {pattern:?} is no valid pattern ({error})"),
                    "write \"conf.d/*.toml\"",
                );
                continue;
            }
        };
        let before = files.len();
        for path in paths {
            match path {
                Ok(path) if files.contains(&path) => {}
                Ok(path) => files.push(path),
                Err(error) => fault(
                    format!("include {pattern:?} cannot be followed ({error})"),
                    "let the user that runs lbd read the directory",
                ),
            }
        }
        let literal = !pattern.contains(['*', '?', '[']);
        if literal && files.len() == before && !base.join(pattern).exists() {
            fault(
                format!("include {pattern:?} does not exist"),
                "correct the path; it is relative to this file",
            );
        }
    }
    files
}
