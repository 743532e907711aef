//! bpf-linker: found, and tried.
//!
//! In: the compiler it has to fit. Out: a linker that linked a program of that compiler, or why none did.
//! Invariant: nothing outside a temporary directory is written.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{Compiler, Kind, TARGET, object, variable};
use crate::process;

/// The smallest XDP program there is.
const PROBE: &str = r#"#![no_std]
#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp")]
pub extern "C" fn probe(_context: *mut u8) -> u32 {
    2
}
"#;

/// What is known about bpf-linker here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Linker {
    Works(PathBuf),
    Missing,
    Broken { path: PathBuf, why: String },
}

impl Linker {
    /// The first working one of: `LBD_BPF_LINKER`, Cargo's bin directory, PATH.
    pub(crate) fn find(compiler: &Compiler) -> Result<Self> {
        let probe = Probe::compile(compiler)?;
        if let Some(path) = variable("LBD_BPF_LINKER") {
            if let Err(why) = probe.link(&path) {
                bail!("LBD_BPF_LINKER={} cannot link what this rustc makes: {why}", path.display());
            }
            return Ok(Self::Works(path));
        }
        let installed =
            cargo_bin().map(|directory| directory.join("bpf-linker")).filter(|path| path.exists());
        let mut broken = Self::Missing;
        for path in installed.into_iter().chain(process::find_program("bpf-linker")) {
            match probe.link(&path) {
                Ok(()) => return Ok(Self::Works(path)),
                Err(why) if broken == Self::Missing => broken = Self::Broken { path, why },
                Err(_) => {}
            }
        }
        Ok(broken)
    }
}

/// Where `cargo install` puts programs.
fn cargo_bin() -> Option<PathBuf> {
    let home = || std::env::home_dir().map(|home| home.join(".cargo"));
    let root = variable("CARGO_INSTALL_ROOT").or_else(|| variable("CARGO_HOME")).or_else(home)?;
    Some(root.join("bin"))
}

/// A compiled program in a directory of its own.
struct Probe {
    directory: PathBuf,
}

impl Probe {
    fn compile(compiler: &Compiler) -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("lbd-xtask-probe-{}", std::process::id()));
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let probe = Self { directory };
        fs::write(probe.path("probe.rs"), PROBE).context("cannot write the linker's probe")?;
        let mut rustc = compiler.rustc();
        rustc.args([
            "--edition=2024",
            "--crate-type=lib",
            "--emit=llvm-bc",
            "-Cpanic=abort",
            "-Copt-level=2",
        ]);
        // Nightly has no `core` for BPF yet; bitcode of the host is as good for the question of the LLVM version.
        if matches!(compiler.kind, Kind::Prebuilt(_)) {
            rustc.args(["--target", TARGET]);
        }
        rustc.args(["-o".into(), probe.path("probe.bc").into_os_string(), probe.path("probe.rs").into()]);
        process::capture(&mut rustc)?;
        Ok(probe)
    }

    /// Links it; an error is the linker's own last words.
    fn link(&self, linker: &Path) -> Result<(), String> {
        let arguments: [OsString; 7] = [
            "--target=bpf".into(),
            "--emit=obj".into(),
            "--export".into(),
            "probe".into(),
            "--output".into(),
            self.path("probe.o").into(),
            self.path("probe.bc").into(),
        ];
        let output = Command::new(linker).args(arguments).output().map_err(|error| error.to_string())?;
        if output.status.success() {
            return object::is_bpf(&self.path("probe.o")).map_err(|why| format!("its output: {why}"));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(said
            .lines()
            .rfind(|line| !line.trim().is_empty())
            .unwrap_or("it failed and said nothing")
            .to_owned())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // Left behind it is a few kilobytes in a temporary directory; nobody to tell.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The probe's two halves without a BPF toolchain: any file stands for the compiled program.
    fn probe(name: &str) -> Probe {
        let directory = std::env::temp_dir().join(format!("lbd-xtask-test-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        Probe { directory }
    }

    fn script(probe: &Probe, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = probe.path("linker");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn a_linker_of_another_llvm_is_told_by_its_last_words() {
        let probe = probe("mismatch");
        let linker =
            script(&probe, "echo 'error: Invalid record (Producer LLVM22 Reader LLVM21)' >&2; exit 1");
        assert_eq!(
            probe.link(&linker),
            Err("error: Invalid record (Producer LLVM22 Reader LLVM21)".to_owned())
        );
    }

    #[test]
    fn a_linker_that_cannot_start_is_broken() {
        let probe = probe("missing");
        assert!(probe.link(&probe.path("not-there")).is_err());
    }

    #[test]
    fn a_program_that_links_nothing_is_no_linker() {
        let probe = probe("idle");
        assert!(probe.link(&script(&probe, "exit 0")).is_err());
    }

    #[test]
    fn a_linker_that_makes_a_bpf_object_works() {
        let probe = probe("works");
        // Little-endian 64-bit ELF, relocatable, machine 247.
        let linker = script(&probe, r"printf '\177ELF\002\001\001\0\0\0\0\0\0\0\0\0\001\0\367\0' > ${6}");
        assert_eq!(probe.link(&linker), Ok(()));
    }
}
