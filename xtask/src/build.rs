//! `cargo xtask build`: the BPF object, then the programs that embed it.
//!
//! In: a toolchain that is ready. Out: `target/bpf/lbd.bpf.o` and `lbd`, `lbctl`.
//! Invariant: the object's file changes only when its bytes do, so the host side is not compiled again for nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, anyhow};

use crate::{
    process,
    toolchain::{Compiler, Found, Kind, Ready, TARGET},
    workspace::{Binaries, Profile, Workspace, cargo},
};

/// The profile in Cargo.toml that BPF code is compiled with.
pub(crate) const BPF_PROFILE: &str = "bpf";

pub(crate) fn run(workspace: &Workspace, profile: Profile) -> Result<()> {
    let ready = Found::look()?
        .ready()
        .map_err(|missing| anyhow!("{missing}; `cargo xtask setup` installs it or says how"))?;
    let binaries = everything(workspace, &ready, profile)?;
    println!("built {} and {}", workspace.shown(&binaries.lbd), workspace.shown(&binaries.lbctl));
    Ok(())
}

/// Object and programs.
pub(crate) fn everything(workspace: &Workspace, ready: &Ready, profile: Profile) -> Result<Binaries> {
    object(workspace, ready)?;
    programs(workspace, profile)
}

/// The programs, with the object that lies in its place.
pub(crate) fn programs(workspace: &Workspace, profile: Profile) -> Result<Binaries> {
    let mut command = cargo();
    command.current_dir(&workspace.root).args(["build", "--package", "lb-userspace", "--bins"]);
    if profile == Profile::Release {
        command.arg("--release");
    }
    process::stream(&mut command)?;
    Ok(workspace.binaries(profile))
}

/// Builds the object and puts it in its place. A given object stays where it is: `LBD_BPF_OBJECT` reaches
/// `lb-userspace/build.rs` as well.
pub(crate) fn object(workspace: &Workspace, ready: &Ready) -> Result<()> {
    match ready {
        Ready::Object(path) => println!("BPF object: {} (LBD_BPF_OBJECT)", path.display()),
        Ready::Compiler(compiler, linker) => {
            println!("BPF object: rustc {}, LLVM {}", compiler.release, compiler.llvm);
            process::stream(
                cargo_for_bpf(workspace, compiler, linker, "build").args(["--profile", BPF_PROFILE]),
            )?;
            let built = workspace.bpf_target().join(TARGET).join(BPF_PROFILE).join("lb-ebpf");
            let stripped = without_dwarf(compiler, built)?;
            let bytes = fs::read(&stripped).with_context(|| format!("cannot read {}", stripped.display()))?;
            install(&bytes, &workspace.object())?;
        }
    }
    Ok(())
}

/// A copy of the object with what the loader and the verifier read, BTF and its line information among it, and without the
/// DWARF that LLVM makes BTF from: 1.1 MB instead of 6.
fn without_dwarf(compiler: &Compiler, built: PathBuf) -> Result<PathBuf> {
    let Some(objcopy) = compiler.objcopy() else {
        println!("BPF object: with its DWARF, as there is no llvm-objcopy here");
        return Ok(built);
    };
    let stripped = built.with_extension("stripped");
    process::capture(Command::new(objcopy).arg("--strip-debug").args([&built, &stripped]))?;
    Ok(stripped)
}

/// Cargo set up for the BPF crate; `verb` is build or check.
pub(crate) fn cargo_for_bpf(
    workspace: &Workspace,
    compiler: &Compiler,
    linker: &Path,
    verb: &str,
) -> Command {
    let mut command = match &compiler.kind {
        Kind::Prebuilt(rustc) => {
            let mut command = cargo();
            command.env("RUSTC", rustc).arg(verb);
            // aya-ebpf uses unstable features. It alone is let: our own crate stays on what stable offers.
            command.env("RUSTC_BOOTSTRAP", "aya_ebpf");
            command
        }
        Kind::Nightly => {
            let mut command = Command::new("rustup");
            command.args(["run", "nightly", "cargo", verb, "-Zbuild-std=core"]);
            command.env_remove("RUSTC").env_remove("RUSTUP_TOOLCHAIN");
            command
        }
    };
    command
        .current_dir(&workspace.root)
        .args(["--package", "lb-ebpf", "--target", TARGET, "--target-dir"])
        .arg(workspace.bpf_target())
        .env("RUSTFLAGS", rustflags())
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env(linker_variable(), linker);
    command
}

/// Cpu v2, not v3: v3 keeps 32-bit values in half of a stack slot that held a pointer before, which takes CAP_PERFMON ("attempt to corrupt
/// spilled pointer"), and was not measurably faster. aya-ebpf reads registers of the traced machine's layout (`bpf_target_arch`); BTF comes from the debug info. Without
/// `--disable-expand-memcpy-in-order` small copies and clearings become calls of loops over single bytes (measured: 60 ns a packet).
fn rustflags() -> String {
    format!(
        "--cfg=bpf_target_arch=\"{}\" -Ctarget-cpu=v2 -Cdebuginfo=2 -Clink-arg=--btf -Clink-arg=--disable-expand-memcpy-in-order",
        std::env::consts::ARCH
    )
}

/// The variable Cargo reads the target's linker from.
fn linker_variable() -> String {
    format!("CARGO_TARGET_{}_LINKER", TARGET.to_uppercase().replace('-', "_"))
}

/// Writes `bytes` to `place` unless they are there. By rename: whoever reads meanwhile sees the old or the new object.
fn install(bytes: &[u8], place: &PathBuf) -> Result<bool> {
    if fs::read(place).is_ok_and(|there| there == bytes) {
        return Ok(false);
    }
    let new = place.with_extension("o.new");
    fs::write(&new, bytes).with_context(|| format!("cannot write {}", new.display()))?;
    fs::rename(&new, place).with_context(|| format!("cannot replace {}", place.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_object_is_left_alone() {
        let place = std::env::temp_dir().join(format!("lbd-xtask-install-{}.o", std::process::id()));
        assert!(install(b"one", &place).unwrap());
        let first = fs::metadata(&place).unwrap().modified().unwrap();
        assert!(!install(b"one", &place).unwrap());
        assert_eq!(fs::metadata(&place).unwrap().modified().unwrap(), first);
        assert!(install(b"two", &place).unwrap());
        assert_eq!(fs::read(&place).unwrap(), b"two");
        fs::remove_file(&place).unwrap();
    }

    #[test]
    fn cargo_finds_the_linker_by_this_name() {
        assert!(
            linker_variable().starts_with("CARGO_TARGET_BPFE")
                && linker_variable().ends_with("_UNKNOWN_NONE_LINKER")
        );
    }
}
