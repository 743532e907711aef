//! objcopy of some LLVM: what takes the DWARF out of the object.
//!
//! In: the compiler, which is never far from one. Out: the program, or nothing. Invariant: none is installed for this; an
//! object with its DWARF works as well and is five times as large.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::Compiler;
use crate::process;

/// The first of: the one beside the LLVM that the linker uses (Debian), the one that rustup brings along, PATH. Every
/// version will do, since what is removed is judged by the sections' names alone. GNU's does not know BPF.
pub(super) fn find(compiler: &Compiler) -> Option<PathBuf> {
    let debian = Some(crate::setup::llvm_prefix(compiler.llvm).join("bin/llvm-objcopy"));
    let sysroot = process::capture(compiler.rustc().args(["--print", "sysroot"]));
    let rustup = sysroot.ok().and_then(|sysroot| in_sysroot(Path::new(sysroot.trim())));
    let found = debian.into_iter().chain(rustup).find(|path| path.is_file());
    found.or_else(|| process::find_program("llvm-objcopy"))
}

/// `lib/rustlib/HOST/bin/rust-objcopy`; a sysroot has programs of one host only.
fn in_sysroot(sysroot: &Path) -> Option<PathBuf> {
    let hosts = fs::read_dir(sysroot.join("lib/rustlib")).ok()?;
    hosts.flatten().map(|host| host.path().join("bin/rust-objcopy")).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rustups_own_is_found_whatever_the_host() {
        let sysroot = std::env::temp_dir().join(format!("lbd-xtask-sysroot-{}", std::process::id()));
        let program = sysroot.join("lib/rustlib/some-host/bin/rust-objcopy");
        fs::create_dir_all(sysroot.join("lib/rustlib/a-target/lib")).unwrap();
        assert_eq!(in_sysroot(&sysroot), None);
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::write(&program, "").unwrap();
        assert_eq!(in_sysroot(&sysroot), Some(program));
        fs::remove_dir_all(&sysroot).unwrap();
    }
}
