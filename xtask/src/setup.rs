//! `cargo xtask setup`: what this machine lacks to build and test lbd.
//!
//! In: the machine. Out: a BPF toolchain that was tried and the programs that tests and demo use, or the commands that
//! a person has to run. Invariant: everything is announced before it is installed; what is there is left alone; a second
//! run finds nothing to do.

mod apt;
mod host;
mod plan;

use anyhow::{Result, bail};

pub(crate) use self::host::{is_root, llvm_prefix};
use self::{
    host::{Host, Tool},
    plan::{Inventory, LinkerNeed, Plan},
};
use crate::{
    progress,
    toolchain::{Found, Kind, Linker, Ready},
    workspace::{Workspace, cargo},
};

/// The bpf-linker that this code was built and tested with.
pub(crate) const LINKER_VERSION: &str = "0.13.0";

/// Installs what is missing, or with `dry_run` only says what that is.
pub(crate) fn run(workspace: &Workspace, dry_run: bool) -> Result<()> {
    let found = Found::look()?;
    let plan = Plan::make(&inventory(&found), &Host::look());
    if plan.is_empty() {
        println!("{}", describe(&found));
        println!("Programs for tests and demo: all there. Nothing to do.");
        return Ok(());
    }
    print!("{}", plan.announce());
    if let Some(commands) = &plan.by_hand {
        bail!("{BY_HAND}\n\n{}", commands.join("\n"));
    }
    if !dry_run {
        println!("{}", describe(&carry_out(workspace, &plan)?));
        println!("Setup is complete.");
    }
    Ok(())
}

const BY_HAND: &str = "setup cannot install this itself: that needs root and apt. By hand:";

/// What a verb that needs a machine that is set up may count on.
pub(crate) enum Prepared {
    Ready(Ready),
    /// A person has to do something first, which was said; this is what is missing.
    ByHand(String),
}

/// For the verbs that need a machine that is set up: silent when it is. An installation that failed is an error.
pub(crate) fn ensure(workspace: &Workspace) -> Result<Prepared> {
    let mut found = Found::look()?;
    let plan = Plan::make(&inventory(&found), &Host::look());
    if !plan.is_empty() {
        print!("{}", plan.announce());
        match &plan.by_hand {
            Some(commands) => println!("{BY_HAND}\n\n{}\n", commands.join("\n")),
            None => found = carry_out(workspace, &plan)?,
        }
    }
    Ok(found.ready().map_or_else(Prepared::ByHand, Prepared::Ready))
}

fn inventory(found: &Found) -> Inventory {
    let llvm = found.compiler.as_ref().map(|compiler| compiler.llvm);
    let linker = match (&found.object, &found.linker) {
        (Some(_), _) | (None, Linker::Works(_)) => None,
        (None, Linker::Missing) => Some("bpf-linker is not installed".to_owned()),
        (None, Linker::Broken { path, why }) => Some(format!("{} does not work here: {why}", path.display())),
    };
    Inventory {
        compiler_missing: found.object.is_none() && found.compiler.is_none(),
        linker: linker.map(|why| LinkerNeed { why, llvm, llvm_installed: llvm.is_some_and(host::has_llvm) }),
        tools: Tool::missing(),
    }
}

/// Installs, and looks again: what counts is what is found afterwards.
fn carry_out(workspace: &Workspace, plan: &Plan) -> Result<Found> {
    if plan.needs_apt() {
        apt::update()?;
        let compiler_offered = !plan.compiler || apt::offers(plan::DEBIAN_CORE);
        apt::install(&plan.packages(compiler_offered))?;
        if !compiler_offered {
            let commands = plan::nightly_commands().join("\n");
            bail!("apt offers no {} on this system. Instead run:\n\n{commands}", plan::DEBIAN_CORE);
        }
    }
    if plan.linker {
        install_linker(workspace)?;
    }
    let missing: Vec<&str> = Tool::missing().iter().map(|tool| tool.program).collect();
    if !missing.is_empty() {
        bail!("apt reported success, but there is still no {} on PATH", missing.join(", "));
    }
    Found::look()
}

/// Builds bpf-linker for the LLVM of the rustc that is there now: only after that is installed is its LLVM known.
fn install_linker(workspace: &Workspace) -> Result<()> {
    let found = Found::look()?;
    let Some(compiler) = found.compiler else { bail!("no rustc for BPF after installing one") };
    if matches!(found.linker, Linker::Works(_)) {
        return Ok(());
    }
    let llvm = compiler.llvm;
    if !host::has_llvm(llvm) {
        let package = plan::llvm_package(llvm);
        if !apt::offers(&package) {
            let commands = plan::binary_linker_commands().join("\n");
            bail!("apt offers no {package} to build bpf-linker with. Instead run:\n\n{commands}");
        }
        apt::install(&[package])?;
    }
    let mut command = cargo();
    command
        .current_dir(&workspace.root)
        .args(plan::linker_arguments(llvm))
        .env("LLVM_PREFIX", host::llvm_prefix(llvm))
        // Its own debug info helps nobody here and costs a third of the time.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        // The work is done inside LLVM: optimising the Rust around it costs a minute and saves nothing.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    progress::run(&format!("building bpf-linker {LINKER_VERSION} for LLVM {llvm}"), command)?;
    match Found::look()?.linker {
        Linker::Works(_) => Ok(()),
        Linker::Missing => {
            bail!("bpf-linker was installed but is not found: put Cargo's bin directory on PATH")
        }
        Linker::Broken { path, why } => bail!("{} was built but does not work: {why}", path.display()),
    }
}

fn describe(found: &Found) -> String {
    match (&found.object, &found.compiler, &found.linker) {
        (Some(object), _, _) => format!("BPF object: {} (LBD_BPF_OBJECT)", object.display()),
        (None, Some(compiler), Linker::Works(linker)) => {
            let rustc = match &compiler.kind {
                Kind::Prebuilt(path) => path.display().to_string(),
                Kind::Nightly => "rustup's nightly, building core".to_owned(),
            };
            let (release, llvm) = (&compiler.release, compiler.llvm);
            format!("BPF toolchain: rustc {release} (LLVM {llvm}, {rustc}), {}", linker.display())
        }
        _ => "BPF toolchain: incomplete".to_owned(),
    }
}
