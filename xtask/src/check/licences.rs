//! What we depend on may be shipped with us.
//!
//! In: Cargo's metadata. Out: crates whose licence is not known to be permissive. Invariant: Cargo.lock is up to date,
//! or Cargo refuses (`--locked`).

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    process,
    workspace::{Workspace, cargo},
};

/// Licences that ask for no more than to be named. Another one needs a person's judgement, and then a line here.
const PERMISSIVE: [&str; 12] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

pub(super) fn check(workspace: &Workspace) -> Result<String> {
    let rustc = process::capture(Command::new("rustc").arg("-vV"))?;
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    let mut metadata = cargo();
    metadata.current_dir(&workspace.root).args([
        "metadata",
        "--format-version=1",
        "--locked",
        "--filter-platform",
        host,
    ]);
    let metadata: Value = serde_json::from_str(&process::capture(&mut metadata)?)
        .context("`cargo metadata` did not answer in JSON")?;
    let packages = metadata["packages"].as_array().context("`cargo metadata` names no packages")?;
    let findings: Vec<String> = packages.iter().filter_map(finding).collect();
    ensure!(findings.is_empty(), "{}", findings.join("\n"));
    Ok(format!(" ({} crates)", packages.len()))
}

fn finding(package: &Value) -> Option<String> {
    let (name, version) = (package["name"].as_str()?, package["version"].as_str()?);
    match package["license"].as_str() {
        Some(expression) if is_permissive(expression) => None,
        Some(expression) => Some(format!(
            "Cargo.lock: {name} {version} is licensed {expression}: not on the list in xtask/src/check/licences.rs"
        )),
        None => Some(format!("Cargo.lock: {name} {version} names no licence")),
    }
}

/// An SPDX expression; `/` is what old crates write for OR. AND binds tighter than OR.
fn is_permissive(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    split(&expression, " OR ")
        .into_iter()
        .any(|choice| split(choice, " AND ").into_iter().all(is_permissive_term))
}

fn is_permissive_term(term: &str) -> bool {
    let term = term.trim();
    match term.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => is_permissive(inner),
        None => PERMISSIVE.contains(&term),
    }
}

/// Splits at `operator` outside parentheses.
fn split<'a>(expression: &'a str, operator: &str) -> Vec<&'a str> {
    let (mut parts, mut from, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, c) in expression.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 && at >= from && expression[at..].starts_with(operator) => {
                parts.push(&expression[from..at]);
                from = at + operator.len();
            }
            _ => {}
        }
    }
    parts.push(&expression[from..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_permissive_choice_is_enough() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-2.0-only OR MIT",
            "(MIT OR GPL-3.0) AND Unicode-3.0",
            "Zlib OR (GPL-2.0 AND MIT)",
        ] {
            assert!(is_permissive(good), "{good}");
        }
    }

    #[test]
    fn every_part_that_holds_has_to_be_permissive() {
        for bad in ["GPL-2.0-only", "MIT AND GPL-3.0", "LGPL-2.1 OR GPL-2.0", "(MIT OR ISC) AND SSPL-1.0", ""]
        {
            assert!(!is_permissive(bad), "{bad}");
        }
    }

    #[test]
    fn a_crate_without_a_licence_is_named() {
        let package = serde_json::json!({"name": "a", "version": "1.0.0", "license": null});
        assert_eq!(finding(&package), Some("Cargo.lock: a 1.0.0 names no licence".to_owned()));
    }
}
