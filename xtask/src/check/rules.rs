//! The rules of the house that can be read off the text.
//!
//! In: sources. Out: findings with file, line, rule and why. Pure.
//! The rules themselves: docs/architecture.md and CONTRIBUTING.md.

use std::fmt;

use super::{code, sources::Source};

/// A broken rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    what: String,
    why: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}: {}", self.path, self.line, self.what, self.why)
    }
}

/// All findings, by file and line.
pub(crate) fn findings(sources: &[Source]) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in sources {
        any_text(source, &mut found);
        if source.is_rust() {
            rust(source, &mut found);
        } else if source.path.ends_with("Cargo.toml") {
            manifest(source, &mut found);
        } else if source.path.ends_with(".md") {
            links(source, sources, &mut found);
        } else if source.path == "Cargo.lock" {
            lock(source, &mut found);
        }
    }
    found.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    found
}

/// Words in the code of some files that do not belong there.
struct Forbidden {
    applies: fn(&str) -> bool,
    words: &'static [&'static str],
    why: &'static str,
}

const AYA: &[&str] = &["aya", "aya_obj", "aya_log"];
const AYA_EBPF: &[&str] = &["aya_ebpf", "aya_log_ebpf"];

const FORBIDDEN: &[Forbidden] = &[
    Forbidden {
        applies: |path| !within(path, &["lb-userspace/src/datapath", "tests/", "xtask/"]),
        words: AYA,
        why: "aya only in lb-userspace/src/datapath, so that the next aya touches one place",
    },
    Forbidden {
        applies: |path| !within(path, &["lb-ebpf/"]),
        words: AYA_EBPF,
        why: "aya-ebpf only in lb-ebpf: everything else runs on the host too",
    },
    Forbidden {
        applies: is_core,
        words: &["tokio", "fs", "TcpStream", "TcpListener", "UdpSocket", "UnixStream", "sleep", "thread"],
        why: "the core does no I/O: events and `now` come in as arguments, so that tests can fast-forward it",
    },
    Forbidden {
        applies: |path| within(path, &["lb-userspace/src/cli/"]),
        words: &["controller", "membership"],
        why: "the command line reaches the daemon through api::client alone",
    },
    Forbidden {
        applies: |path| within(path, &["lb-datapath/src/", "lb-ebpf/src/"]) && !path.contains("/testing"),
        words: &["println", "eprintln", "std"],
        why: "packet code is no_std; only its tests and lb-datapath/src/testing run with std",
    },
];

/// membership, ids, maglev, plan, spec: one file or a directory of that name. Their tests may read the clock.
fn is_core(path: &str) -> bool {
    let Some(rest) =
        path.strip_prefix("lb-userspace/src/").filter(|rest| !is_tests(rest) && !rest.contains("/tests/"))
    else {
        return false;
    };
    let module = rest.split(['/', '.']).next().unwrap_or_default();
    ["membership", "ids", "maglev", "plan", "spec", "desired"].contains(&module)
}

/// A test module in a file of its own: its name says what it is.
fn is_tests(path: &str) -> bool {
    path.ends_with("/tests.rs")
}

fn within(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| path.starts_with(place))
}

fn rust(source: &Source, found: &mut Vec<Finding>) {
    let code = code::lines(&source.text);
    let tests_from = code.iter().position(|line| line.trim() == "#[cfg(test)]").unwrap_or(code.len());
    for (index, line) in code.iter().enumerate() {
        for rule in FORBIDDEN.iter().filter(|rule| (rule.applies)(&source.path)) {
            // Tests at the end of a file may use what tests use.
            let std_in_tests = rule.words.contains(&"std") && index >= tests_from;
            if let Some(word) = code::words(line).find(|word| rule.words.contains(word))
                && !std_in_tests
            {
                found.push(finding(source, index, format!("`{word}`"), rule.why));
            }
        }
        line_rules(source, index, line, found);
    }
    file_rules(source, found);
}

fn line_rules(source: &Source, index: usize, line: &str, found: &mut Vec<Finding>) {
    let dense: String = line.chars().filter(|c| !c.is_whitespace()).collect();
    if is_core(&source.path) {
        for clock in ["Instant::now", "SystemTime::now"] {
            if dense.contains(clock) {
                let why = "the core has no clock: `now` is an argument";
                found.push(finding(source, index, format!("`{clock}`"), why));
            }
        }
    }
    if source.path.starts_with("lb-datapath/src/") && (dense.contains("cfg(") || dense.contains("cfg!(")) {
        // String contents are blanked, so a feature shows as `feature=`.
        let allowed = ["cfg(test)", "cfg(feature=", "cfg(any(test,feature="];
        if !allowed.iter().any(|form| dense.contains(form)) {
            let why = "no cfg in packet logic: what can be switched off is data (design: load-time constant)";
            found.push(finding(source, index, "`cfg`".to_owned(), why));
        }
    }
}

fn file_rules(source: &Source, found: &mut Vec<Finding>) {
    let first = source.text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
    if !first.is_some_and(|line| line.starts_with("//!")) && !is_tests(&source.path) {
        let why = "every module says what comes in, what goes out and its invariant";
        found.push(finding(source, 0, "no `//!` at the top".to_owned(), why));
    }
    let name = source.path.rsplit('/').next().unwrap_or_default();
    if ["utils.rs", "util.rs", "helpers.rs", "helper.rs", "manager.rs", "misc.rs"].contains(&name) {
        let why = "a file is named by its concept; this name can hold anything";
        found.push(finding(source, 0, format!("`{name}`"), why));
    }
    let forbids = || source.text.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]");
    if source.path == "lb-datapath/src/lib.rs" && !forbids() {
        let why = "what happens to a packet is safe code; unsafe is the shell's (lb-ebpf)";
        found.push(finding(source, 0, "no `#![forbid(unsafe_code)]`".to_owned(), why));
    }
}

/// Dependencies follow the same borders as code.
fn manifest(source: &Source, found: &mut Vec<Finding>) {
    for (index, line) in source.text.lines().enumerate() {
        let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
        let homes: &[&str] = match name {
            "aya" | "aya-obj" | "aya-log" => &["Cargo.toml", "lb-userspace/Cargo.toml", "tests/Cargo.toml"],
            "aya-ebpf" | "aya-log-ebpf" => &["Cargo.toml", "lb-ebpf/Cargo.toml"],
            _ => continue,
        };
        if !homes.contains(&source.path.as_str()) {
            let why = "aya belongs to lb-userspace and the tests, aya-ebpf to lb-ebpf";
            found.push(finding(source, index, format!("`{name}`"), why));
        }
    }
}

fn lock(source: &Source, found: &mut Vec<Finding>) {
    for (index, line) in source.text.lines().enumerate() {
        let Some(origin) = line.strip_prefix("source = ") else { continue };
        if origin != "\"registry+https://github.com/rust-lang/crates.io-index\"" {
            found.push(finding(
                source,
                index,
                origin.to_owned(),
                "crates come from crates.io, for everybody alike",
            ));
        }
    }
}

/// Words that say "not finished", and paths of somebody's machine. Put together here, or this file would break its own
/// rule.
const UNFINISHED: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
const MACHINE_PATHS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

fn any_text(source: &Source, found: &mut Vec<Finding>) {
    for (index, line) in source.text.lines().enumerate() {
        if let Some(word) = code::words(line).find(|word| UNFINISHED.contains(word)) {
            let why = "what is committed is finished; an open end is an issue";
            found.push(finding(source, index, format!("`{word}`"), why));
        }
        if let Some(path) = MACHINE_PATHS.iter().find(|path| line.contains(**path)) {
            let why = "a path of one machine; say it relative to the repository";
            found.push(finding(source, index, format!("`{path}`"), why));
        }
    }
}

/// Links between documents lead somewhere.
fn links(source: &Source, sources: &[Source], found: &mut Vec<Finding>) {
    let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    for (index, line) in source.text.lines().enumerate() {
        for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            let target = resolve(folder, path);
            let prefix = format!("{target}/");
            if !sources.iter().any(|file| file.path == target || file.path.starts_with(&prefix)) {
                found.push(finding(source, index, format!("link to `{link}`"), "there is no such file"));
            }
        }
    }
}

/// `path` as seen from `folder`, both relative to the root.
fn resolve(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

fn finding(source: &Source, index: usize, what: String, why: &'static str) -> Finding {
    Finding { path: source.path.clone(), line: index + 1, what, why }
}

#[cfg(test)]
mod tests;
