//! `cargo xtask check`: what a machine can say about the code before a person reads it.
//!
//! In: the workspace. Out: one line a step, the findings of the steps that failed, and a verdict. All steps run, so one
//! run shows everything. Invariant: each finding names file, line, rule and why.

mod abi;
mod bpf;
mod code;
mod licences;
mod rules;
mod sources;

use std::process::Command;

use anyhow::Result;

use self::sources::Source;
use crate::{
    process, progress,
    workspace::{Workspace, cargo},
};

/// Longer files are named: they usually hold two concepts. No error, for sometimes they hold one.
const LONG_FILE_LINES: usize = 400;

/// False when a step found something. With `accept_abi`, what lb-common declares now is written down as right.
pub(crate) fn run(workspace: &Workspace, accept_abi: bool) -> Result<bool> {
    if accept_abi {
        abi::accept(workspace, &sources::all(workspace)?)?;
    }
    let mut well = true;
    for (name, command) in cargo_steps(workspace) {
        well &= step(name, || process::combined(command));
    }
    well &= step("BPF crate", || bpf::check(workspace));
    well &= step("licences", || licences::check(workspace));
    let sources = sources::all(workspace)?;
    well &= step("ABI", || abi::check(&sources));
    well &= step("rules", || rules_hold(&sources));
    report_long_files(&sources);
    println!("{}", if well { "check: all is well" } else { "check: FAILED" });
    Ok(well)
}

/// Runs a step; what it found is shown below its line.
fn step(name: &str, run: impl FnOnce() -> Result<String>) -> bool {
    print!("{name} … ");
    progress::flush();
    match run() {
        Ok(note) => {
            println!("ok{note}");
            true
        }
        Err(findings) => {
            println!("FAILED\n{findings:#}");
            false
        }
    }
}

fn cargo_steps(workspace: &Workspace) -> [(&'static str, Command); 3] {
    let host = ["--workspace", "--exclude", "lb-ebpf"];
    let mut format = cargo();
    format.args(["fmt", "--all", "--check"]);
    let mut clippy = cargo();
    clippy.arg("clippy").args(host).args([
        "--all-targets",
        "--keep-going",
        "--quiet",
        "--",
        "--deny",
        "warnings",
    ]);
    // The documentation is for those who work on lbd: with private items, and links to them.
    let mut doc = cargo();
    doc.arg("doc")
        .args(host)
        .args(["--no-deps", "--document-private-items", "--keep-going", "--quiet"])
        .env("RUSTDOCFLAGS", "--deny warnings --allow rustdoc::private_intra_doc_links");
    [("format", format), ("clippy", clippy), ("rustdoc", doc)].map(|(name, mut command)| {
        command.current_dir(&workspace.root);
        (name, command)
    })
}

fn rules_hold(sources: &[Source]) -> Result<String> {
    let findings: Vec<String> = rules::findings(sources).iter().map(ToString::to_string).collect();
    anyhow::ensure!(findings.is_empty(), "{}", findings.join("\n"));
    Ok(format!(" ({} files)", sources.len()))
}

fn report_long_files(sources: &[Source]) {
    for source in sources.iter().filter(|source| source.is_rust()) {
        let lines = source.text.lines().count();
        if lines > LONG_FILE_LINES {
            println!("note: {}: {lines} lines; about 300 are aimed at: split it by concept", source.path);
        }
    }
}
