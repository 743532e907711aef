//! `cargo xtask demo`, `soak` and `bench`: set up, build, hand over to a program of the tests crate.
//!
//! In: the program's name and its arguments, passed on untouched. Out: its exit status.
//! Invariant: the program has the terminal, and signals reach it.

use std::{ffi::OsString, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Error, Result, bail};

use crate::{
    build, process,
    setup::{self, Prepared},
    workspace::{Profile, Workspace, cargo},
};

/// Returns only if it fails.
pub(crate) fn program(workspace: &Workspace, name: &str, arguments: &[OsString]) -> Result<()> {
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        return help(workspace, name);
    }
    let ready = match setup::ensure(workspace)? {
        Prepared::Ready(ready) => ready,
        Prepared::ByHand(missing) => bail!("this needs the BPF object: {missing}"),
    };
    let binaries = build::everything(workspace, &ready, Profile::Release)?;
    let mut build = cargo();
    build.current_dir(&workspace.root).args(["build", "--release", "--package", "lbd-tests", "--bin", name]);
    process::stream(&mut build)?;
    let mut command = Command::new(workspace.target.join("release").join(name));
    command
        .args(arguments)
        .env("PATH", process::path_variable()?)
        .env("LBD_BIN", &binaries.lbd)
        .env("LBCTL_BIN", &binaries.lbctl);
    // In place of this process: Ctrl-C then concerns one program, which cleans up after itself.
    Err(Error::from(command.exec())).with_context(|| format!("cannot start `{}`", process::line(&command)))
}

/// What the program can do is to be had without a machine that is set up, and without a release build.
fn help(workspace: &Workspace, name: &str) -> Result<()> {
    let mut command = cargo();
    command.current_dir(&workspace.root).args([
        "run",
        "--package",
        "lbd-tests",
        "--bin",
        name,
        "--",
        "--help",
    ]);
    process::stream(&mut command)
}
