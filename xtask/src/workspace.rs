//! Where things are.
//!
//! In: what Cargo says about this workspace. Out: paths. Invariant: the object has one fixed place, which
//! `lb-userspace/build.rs` looks at too: `bpf/lbd.bpf.o` under the target directory.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::process;

/// Root and target directory of the workspace this xtask was built from.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
}

/// The two programs people run.
pub(crate) struct Binaries {
    pub(crate) lbd: PathBuf,
    pub(crate) lbctl: PathBuf,
}

/// How the host side is compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
}

impl Workspace {
    /// Asks Cargo: the target directory may come from the environment or a configuration file.
    pub(crate) fn find() -> Result<Self> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.parent().context("xtask lies in the root of the file system")?.to_path_buf();
        let metadata = process::capture(cargo().current_dir(&root).args([
            "metadata",
            "--no-deps",
            "--format-version=1",
        ]))?;
        let metadata: serde_json::Value =
            serde_json::from_str(&metadata).context("`cargo metadata` did not answer in JSON")?;
        let target =
            metadata["target_directory"].as_str().context("`cargo metadata` names no target directory")?;
        Ok(Self { root, target: PathBuf::from(target) })
    }

    /// The BPF object that `lb-userspace` embeds.
    pub(crate) fn object(&self) -> PathBuf {
        self.bpf_target().join("lbd.bpf.o")
    }

    /// Cargo's target directory of the BPF build: its own, so that it never waits for or invalidates the host build.
    pub(crate) fn bpf_target(&self) -> PathBuf {
        self.target.join("bpf")
    }

    pub(crate) fn binaries(&self, profile: Profile) -> Binaries {
        let directory = self.target.join(match profile {
            Profile::Dev => "debug",
            Profile::Release => "release",
        });
        Binaries { lbd: directory.join("lbd"), lbctl: directory.join("lbctl") }
    }

    /// `path` as a person reads it: relative to the root where it lies inside.
    pub(crate) fn shown<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

/// The Cargo that runs us; another one only when xtask was started by hand. Without what Cargo told us of our own package: some build scripts
/// look at that (ring's), and would run again, and most of the daemon with them, after each Cargo that people start themselves.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}
