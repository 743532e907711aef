//! Debian's packages.
//!
//! In: names. Out: installed packages. Invariants: nothing installed is removed for them (apt stops instead), and no
//! service that a package brings is started, now or at boot: nginx, PostgreSQL and Redis are wanted as programs.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{process, progress};

/// Debian's maintainer scripts ask this program whether a service may be started.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Programs whose packages bring a service, and its name.
const SERVICES: [(&str, &str); 3] =
    [("nginx", "nginx"), ("pg_createcluster", "postgresql"), ("redis-server", "redis-server")];

pub(crate) fn update() -> Result<()> {
    progress::run("apt-get update", apt(&["update"]))
}

/// Is there a version of `package` to install?
pub(crate) fn offers(package: &str) -> bool {
    let shown = process::capture(Command::new("apt-cache").args(["show", "--no-all-versions", package]));
    shown.is_ok_and(|text| text.lines().any(|line| line.starts_with("Version: ")))
}

pub(crate) fn install(packages: &[String]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let missing = |(program, _): &(&str, &str)| process::find_program(program).is_none();
    let new: Vec<_> = SERVICES.into_iter().filter(missing).collect();
    let policy = Policy::forbid_starts()?;
    // --reinstall: what is asked for is missing, whatever the package database believes.
    let mut command = apt(&["install", "--reinstall", "--no-install-recommends", "--no-remove"]);
    command.args(packages);
    let label = match packages {
        [one] => format!("installing {one}"),
        several => format!("installing {} packages", several.len()),
    };
    let installed = progress::run(&label, command);
    drop(policy);
    installed.context(
        "apt could not install them. If it says that packages would be removed: remove them yourself (Debian's own \
         `rustc` and `rustup` packages exclude rustc-web), or name another rustc that has `core` for BPF by \
         LBD_BPF_RUSTC",
    )?;
    for (_, service) in new.into_iter().filter(|(program, _)| process::find_program(program).is_some()) {
        // Installed for us: it would start at the next boot and take its port.
        process::capture(Command::new("update-rc.d").args([service, "disable"]))
            .with_context(|| format!("{service} was installed, but its service could not be disabled"))?;
    }
    Ok(())
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(arguments)
        // Another apt may be at work (unattended upgrades just after boot): wait for it.
        .args(["--yes", "--quiet", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=300"])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C.UTF-8");
    command
}

/// While it lives, no service is started.
struct Policy {
    ours: bool,
}

impl Policy {
    /// A policy that is there (containers have one) stays as it is.
    fn forbid_starts() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        fs::write(POLICY, policy(std::process::id())).with_context(|| format!("cannot write {POLICY}"))?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot make {POLICY} executable"))?;
        Ok(Self { ours: true })
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.ours {
            // If it stays, it allows everything as soon as this process has ended.
            let _ = fs::remove_file(POLICY);
        }
    }
}

/// 101 is "forbidden". It holds only while we live, so a setup that was killed leaves no machine whose services do not
/// start.
fn policy(process: u32) -> String {
    format!(
        "#!/bin/sh\n# Written by lbd's `cargo xtask setup` while it installs packages; safe to delete.\n\
         if kill -0 {process} 2>/dev/null; then exit 101; fi\nexit 0\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(process: u32) -> Option<i32> {
        Command::new("sh").args(["-c", &policy(process)]).status().unwrap().code()
    }

    #[test]
    fn services_are_forbidden_while_setup_lives_and_no_longer() {
        assert_eq!(ask(std::process::id()), Some(101));
        let mut ended = Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        assert_eq!(ask(ended.id()), Some(0));
    }

    #[test]
    fn apt_never_asks() {
        let command = process::line(&apt(&["install"]));
        assert!(command.contains("--yes") && command.contains("DEBIAN_FRONTEND=noninteractive"), "{command}");
    }
}
