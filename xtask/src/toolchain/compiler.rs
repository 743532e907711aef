//! The compiler of the BPF object.
//!
//! In: candidates in the order of design.md §5. Out: the first that has `core` for BPF, or a nightly that can build it.
//! Invariant: the rustc that compiles everything else is never changed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{TARGET, objcopy, variable};
use crate::process;

/// Where Debian's packages put rustc. Named by path, so that rustup's stays the default for everything else.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// How `core` for BPF comes about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Installed with this rustc: no nightly, no `-Zbuild-std`.
    Prebuilt(PathBuf),
    /// rustup's nightly builds it from rust-src.
    Nightly,
}

/// A compiler for the BPF object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compiler {
    pub(crate) kind: Kind,
    pub(crate) release: String,
    /// The major version of its LLVM: the linker must have the same.
    pub(crate) llvm: u32,
}

impl Compiler {
    pub(crate) fn find() -> Result<Option<Self>> {
        if let Some(path) = variable("LBD_BPF_RUSTC") {
            if !has_core(&path) {
                bail!("LBD_BPF_RUSTC={}: this rustc has no `core` for {TARGET}", path.display());
            }
            return Self::prebuilt(path).map(Some);
        }
        for path in [PathBuf::from(DEBIAN_RUSTC), PathBuf::from("rustc")] {
            if has_core(&path) {
                return Self::prebuilt(path).map(Some);
            }
        }
        Self::nightly()
    }

    /// rustc itself, ready for arguments.
    pub(crate) fn rustc(&self) -> Command {
        match &self.kind {
            Kind::Prebuilt(path) => Command::new(path),
            Kind::Nightly => nightly_rustc(),
        }
    }

    /// An LLVM's objcopy, if there is one.
    pub(crate) fn objcopy(&self) -> Option<PathBuf> {
        objcopy::find(self)
    }

    fn prebuilt(path: PathBuf) -> Result<Self> {
        let (release, llvm) = version(&mut Command::new(&path))?;
        Ok(Self { kind: Kind::Prebuilt(path), release, llvm })
    }

    /// Only when rust-src is there: without it, nightly is no better than stable.
    fn nightly() -> Result<Option<Self>> {
        let Ok(sysroot) = process::capture(nightly_rustc().args(["--print", "sysroot"])) else {
            return Ok(None);
        };
        if !Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").is_dir() {
            return Ok(None);
        }
        let (release, llvm) = version(&mut nightly_rustc())?;
        Ok(Some(Self { kind: Kind::Nightly, release, llvm }))
    }
}

fn nightly_rustc() -> Command {
    let mut command = Command::new("rustup");
    // rustup would download a missing toolchain unasked.
    command.env("RUSTUP_AUTO_INSTALL", "0").args(["run", "nightly", "rustc"]);
    command
}

/// Does this rustc have the compiled `core` of the target?
fn has_core(rustc: &Path) -> bool {
    let directory =
        process::capture(Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]));
    let Ok(entries) = directory.map(|path| fs::read_dir(path.trim())) else { return false };
    entries.into_iter().flatten().flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libcore-") && name.ends_with(".rlib")
    })
}

fn version(rustc: &mut Command) -> Result<(String, u32)> {
    let text = process::capture(rustc.arg("-vV"))?;
    parse_version(&text)
        .with_context(|| format!("`{}` says neither its release nor its LLVM", process::line(rustc)))
}

/// Release and LLVM major from the answer to `rustc -vV`.
fn parse_version(text: &str) -> Option<(String, u32)> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let llvm = field("LLVM version")?.split('.').next()?.trim().parse().ok()?;
    Some((field("release")?.trim().to_owned(), llvm))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\nbinary: rustc\n\
        commit-hash: ac68faa20c58cbccd01ee7208bf3b6e93a7d7f96\ncommit-date: 2026-05-25\n\
        host: x86_64-unknown-linux-gnu\nrelease: 1.96.0\nLLVM version: 22.1.8\n";

    #[test]
    fn release_and_llvm_are_read_from_rustc() {
        assert_eq!(parse_version(DEBIAN), Some(("1.96.0".to_owned(), 22)));
        let nightly = DEBIAN.replace("release: 1.96.0", "release: 1.97.0-nightly");
        assert_eq!(parse_version(&nightly), Some(("1.97.0-nightly".to_owned(), 22)));
    }

    #[test]
    fn a_rustc_without_llvm_is_no_bpf_compiler() {
        // A build with the Cranelift backend alone says no LLVM version.
        assert_eq!(parse_version("release: 1.96.0\n"), None);
        assert_eq!(parse_version("release: 1.96.0\nLLVM version: unknown\n"), None);
    }
}
