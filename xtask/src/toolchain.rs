//! What can build the BPF object on this machine.
//!
//! In: the environment (`LBD_BPF_OBJECT`, `LBD_BPF_RUSTC`, `LBD_BPF_LINKER`) and the programs installed.
//! Out: a compiler that has, or can build, `core` for BPF, and a bpf-linker that reads this compiler's bitcode.
//! Invariant: a linker counts as working only when it has linked a program compiled by that very compiler: LLVM
//! refuses bitcode of a newer version, and a linker whose LLVM was removed does not start at all.

mod compiler;
mod linker;
mod objcopy;
mod object;

use std::path::PathBuf;

use anyhow::{Result, bail};

pub(crate) use self::{
    compiler::{Compiler, Kind},
    linker::Linker,
};

/// The BPF target of this machine's byte order.
pub(crate) const TARGET: &str =
    if cfg!(target_endian = "little") { "bpfel-unknown-none" } else { "bpfeb-unknown-none" };

/// What was found. `compiler` and `linker` do not matter when an object is given.
pub(crate) struct Found {
    pub(crate) object: Option<PathBuf>,
    pub(crate) compiler: Option<Compiler>,
    pub(crate) linker: Linker,
}

/// All that a BPF build needs.
pub(crate) enum Ready {
    /// Built elsewhere; `LBD_BPF_OBJECT` names it.
    Object(PathBuf),
    Compiler(Compiler, PathBuf),
}

impl Found {
    /// Looks; changes nothing. An explicit variable that points nowhere is an error rather than passed over.
    pub(crate) fn look() -> Result<Self> {
        let object = variable("LBD_BPF_OBJECT");
        if let Some(object) = object {
            if !object.is_absolute() {
                bail!(
                    "LBD_BPF_OBJECT={}: has to be an absolute path, as builds run in several places",
                    object.display()
                );
            }
            if let Err(why) = object::is_bpf(&object) {
                bail!("LBD_BPF_OBJECT={}: {why}; build it, or unset the variable", object.display());
            }
            return Ok(Self { object: Some(object), compiler: None, linker: Linker::Missing });
        }
        let compiler = Compiler::find()?;
        let linker = compiler.as_ref().map_or(Ok(Linker::Missing), Linker::find)?;
        Ok(Self { object: None, compiler, linker })
    }

    /// Everything there? Else a sentence that says what is missing.
    pub(crate) fn ready(self) -> Result<Ready, String> {
        match (self.object, self.compiler, self.linker) {
            (Some(object), _, _) => Ok(Ready::Object(object)),
            (None, Some(compiler), Linker::Works(linker)) => Ok(Ready::Compiler(compiler, linker)),
            (None, None, _) => Err(format!("no rustc with `core` for {TARGET}")),
            (None, Some(compiler), Linker::Missing) => {
                Err(format!("no bpf-linker for LLVM {}", compiler.llvm))
            }
            (None, Some(_), Linker::Broken { path, why }) => {
                Err(format!("{} does not work with this rustc: {why}", path.display()))
            }
        }
    }
}

/// A variable that names a path; empty is unset.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
