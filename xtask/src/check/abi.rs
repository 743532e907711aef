//! The bytes that kernel and daemon agree on do not change by accident.
//!
//! In: the declarations in `lb-common/src` (types, constants, numbers; no functions, no prose) and what was written down
//! of them in `lb-common/abi.lock`. Out: what differs. Invariant: a layout that differs is seen before a daemon of the
//! same ABI version adopts maps of the other layout.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result, bail, ensure};

use super::{code, sources::Source};
use crate::workspace::Workspace;

const PLACE: &str = "lb-common/abi.lock";
const HEAD: &str =
    "# What lb-common declares, as of the ABI version in it. Written by `cargo xtask check --accept-abi`.\n";
const VERSION: &str = "pub const ABI_VERSION: u32 = ";

pub(super) fn check(sources: &[Source]) -> Result<String> {
    let now = listing(sources);
    let lock =
        sources.iter().find(|source| source.path == PLACE).with_context(|| format!("there is no {PLACE}"))?;
    compare(&lock.text, &now)?;
    Ok(String::new())
}

/// Writes down what is declared now.
pub(super) fn accept(workspace: &Workspace, sources: &[Source]) -> Result<()> {
    let place = workspace.root.join(PLACE);
    fs::write(&place, listing(sources)).with_context(|| format!("cannot write {}", place.display()))
}

fn compare(lock: &str, now: &str) -> Result<()> {
    let then: BTreeSet<&str> = lock.lines().collect();
    let new: BTreeSet<&str> = now.lines().collect();
    if then == new {
        return Ok(());
    }
    let gone = then.difference(&new).map(|line| format!("  - {line}"));
    let come = new.difference(&then).map(|line| format!("  + {line}"));
    let differences: Vec<String> = gone.chain(come).collect();
    ensure!(
        version(lock) == version(now),
        "{PLACE} is of another ABI version:\n{}\n{ACCEPT}",
        differences.join("\n")
    );
    bail!(
        "{PLACE}: lb-common declares something else, and ABI_VERSION is the same:\n{}\n\
         If bytes in a map changed their place or meaning, raise ABI_VERSION (lb-common/src/lib.rs): programs of the old \
         layout may be loaded in somebody's kernel. {ACCEPT}",
        differences.join("\n")
    );
}

const ACCEPT: &str = "Then `cargo xtask check --accept-abi` writes it down.";

fn version(listing: &str) -> Option<&str> {
    listing.lines().find_map(|line| line.split_once(VERSION)).map(|(_, number)| number)
}

/// One declaration a line, with its file's name in front.
fn listing(sources: &[Source]) -> String {
    let mut text = HEAD.to_owned();
    for source in sources {
        let Some(name) = source.path.strip_prefix("lb-common/src/").filter(|_| source.is_rust()) else {
            continue;
        };
        for declaration in declarations(&source.text) {
            text.push_str(&format!("{name}: {declaration}\n"));
        }
    }
    text
}

/// The top-level items that declare bytes or numbers.
fn declarations(text: &str) -> Vec<String> {
    let code = code::lines(text).join(" ");
    let items = items(&code).into_iter().map(normal);
    items.filter(|item| declares(item)).collect()
}

/// Types, constants, modules of constants, and calls of macros that make such.
fn declares(item: &str) -> bool {
    let head = item.split(['{', '=', ';']).next().unwrap_or_default();
    let mut words =
        code::words(head).filter(|word| !matches!(*word, "repr" | "C" | "transparent" | "align" | "packed"));
    let kind = words.find(|word| !matches!(*word, "pub" | "crate") && word.parse::<u32>().is_err());
    match kind {
        Some("struct" | "enum" | "union" | "type") => true,
        Some("const" | "static") => !head.contains(" fn "),
        Some("mod") => item.ends_with('}'),
        Some("u8" | "u16" | "u32" | "u64") => true,
        Some(_) => head.trim_end().ends_with('!') && !head.contains("macro_rules"),
        None => false,
    }
}

/// Splits at the ends of items: `;` or `}` outside all brackets.
fn items(code: &str) -> Vec<&str> {
    let (mut items, mut from, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, c) in code.char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && matches!(c, ';' | '}') {
            items.push(&code[from..=at]);
            from = at + 1;
        }
    }
    items
}

/// One space between words; no attribute but `repr`.
fn normal(item: &str) -> String {
    let mut kept = String::new();
    let mut rest = item;
    while let Some(at) = rest.find('#') {
        kept.push_str(&rest[..at]);
        let end = attribute_len(&rest[at..]);
        let attribute = &rest[at..at + end];
        if attribute.contains("repr") {
            kept.push_str(attribute);
        }
        rest = &rest[at + end..];
    }
    kept.push_str(rest);
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// From `#` to the bracket that closes it.
fn attribute_len(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' if depth == 1 => return at + 1,
            ']' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = r#"//! Module.
use crate::Word;

/// Documented; ends with a semicolon.
#[repr(C, align(64))]
#[derive(FromBytes, Default)]
pub struct Bucket {
    /// The entries.
    pub entries: [Entry; WAYS],
}
pub const WAYS: usize = 4;
pub mod states { pub const LIVE: u8 = 1; }
pub struct Word(UnsafeCell<u64>);
#[repr(u8)] pub enum E { A = 1, B = 2 }
macro_rules! reasons { ($a:ident) => { pub struct $a; }; }
reasons! { /// one
    One = 1, "one"; }
impl Bucket { pub const fn len(&self) -> usize { 4 } }
pub const fn twice(x: u32) -> u32 { x * 2 }
mod word;
#[cfg(test)]
fn helper() {}
"#;

    fn lib(version: u32, more: &str) -> Source {
        let text = format!("pub const ABI_VERSION: u32 = {version};\n{more}");
        Source { path: "lb-common/src/lib.rs".into(), text }
    }

    #[test]
    fn declarations_are_kept_and_code_and_prose_are_not() {
        assert_eq!(
            declarations(CODE),
            [
                "#[repr(C, align(64))] pub struct Bucket { pub entries: [Entry; WAYS], }",
                "pub const WAYS: usize = 4;",
                "pub mod states { pub const LIVE: u8 = 1; }",
                "pub struct Word(UnsafeCell<u64>);",
                "#[repr(u8)] pub enum E { A = 1, B = 2 }",
                "reasons! { One = 1, ; }",
            ]
        );
    }

    #[test]
    fn a_changed_layout_needs_a_new_version() {
        let lock = listing(&[lib(1, CODE)]);
        assert!(compare(&lock, &listing(&[lib(1, CODE)])).is_ok());
        assert!(compare(&lock, &listing(&[lib(1, &CODE.replace("x * 2", "x * 3"))])).is_ok());
        let changed = CODE.replace("A = 1", "A = 3");
        let said = compare(&lock, &listing(&[lib(1, &changed)])).unwrap_err().to_string();
        assert!(
            said.contains("raise ABI_VERSION") && said.contains("+ lib.rs: #[repr(u8)] pub enum E { A = 3"),
            "{said}"
        );
        let said = compare(&lock, &listing(&[lib(2, &changed)])).unwrap_err().to_string();
        assert!(said.contains("another ABI version") && said.contains("--accept-abi"), "{said}");
    }
}
