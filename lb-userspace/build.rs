//! Puts the BPF object where the loader can embed it.
//!
//! In: the object, from `LBD_BPF_OBJECT` or from where `cargo xtask build` leaves it (`target/bpf/lbd.bpf.o`).
//! Out: `$OUT_DIR/lbd.bpf.o`, a copy, or an empty file where there is no object: a plain `cargo build` works without a
//! BPF toolchain, and the daemon says at run time that it was built without one.
//! Invariant: Cargo runs this again exactly when the object changed, came or went.

use std::{
    env,
    error::Error,
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

const OBJECT: &str = "lbd.bpf.o";

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run by Cargo only")?);
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LBD_BPF_OBJECT");

    let object = match env::var_os("LBD_BPF_OBJECT").filter(|path| !path.is_empty()) {
        Some(path) => named_object(PathBuf::from(path))?,
        None => built_object(&out)?,
    };
    println!("cargo::rerun-if-changed={}", object.display());
    fs::copy(&object, out.join(OBJECT))
        .map_err(|error| format!("cannot copy {}: {error}", object.display()))?;
    Ok(())
}

/// What the user named must be there: an empty program instead would be a surprise at run time.
fn named_object(path: PathBuf) -> Result<PathBuf, Box<dyn Error>> {
    if !path.is_absolute() {
        return Err(format!("LBD_BPF_OBJECT={}: has to be an absolute path", path.display()).into());
    }
    match fs::metadata(&path) {
        Ok(found) if found.is_file() && found.len() > 0 => Ok(path),
        Ok(_) => {
            Err(format!("LBD_BPF_OBJECT={}: not a BPF object (empty, or no file)", path.display()).into())
        }
        Err(error) => Err(format!("LBD_BPF_OBJECT={}: {error}", path.display()).into()),
    }
}

/// The fixed place under the target directory. Where nothing was built yet, an empty file is left there: Cargo can
/// watch a file that exists, while a missing one would make it run this script, and compile the crate, every time.
fn built_object(out: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let directory = target_directory(out)?.join("bpf");
    let object = directory.join(OBJECT);
    if !object.exists() {
        fs::create_dir_all(&directory)?;
        let placeholder = File::create_new(&object)?;
        // Older than this run, or Cargo takes it for a change that came after it.
        placeholder.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(86_400))?;
    }
    Ok(object)
}

/// Cargo marks the target directory with a CACHEDIR.TAG, unless it was there before; then it is four above
/// `target/debug/build/<package>/out`.
fn target_directory(out: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let marked = out.ancestors().find(|directory| directory.join("CACHEDIR.TAG").is_file());
    let target =
        marked.or_else(|| out.ancestors().nth(4)).ok_or("OUT_DIR does not lie in a target directory")?;
    Ok(target.to_path_buf())
}
