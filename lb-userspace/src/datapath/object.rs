//! The BPF object: the program as it was built into this binary.
//!
//! In: `lbd.bpf.o`, embedded by build.rs; `LBD_BPF_OBJECT` names another one at run time (tests, a program under work).
//! Out: its bytes, aligned as an ELF parser wants them, with type information that the kernel takes.

use std::env;
use std::fs;
use std::path::PathBuf;

use super::{DatapathError, btf};

/// Environment variable that names an object to load instead of the embedded one.
pub const OBJECT_VARIABLE: &str = "LBD_BPF_OBJECT";

/// Copied before it is parsed: an allocation is aligned as an ELF parser wants it.
static EMBEDDED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/lbd.bpf.o"));

/// The object to load.
///
/// # Errors
/// [`DatapathError::NoObject`] where this binary was built without one, [`DatapathError::Object`] if the named file
/// cannot be read.
pub(super) fn bytes() -> Result<Vec<u8>, DatapathError> {
    if let Some(path) = env::var_os(OBJECT_VARIABLE).filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        return match fs::read(&path) {
            Ok(bytes) if bytes.is_empty() => Err(DatapathError::Object {
                what: path.display().to_string(),
                reason: "the file is empty".into(),
            }),
            Ok(bytes) => Ok(mended(bytes)),
            Err(error) => {
                Err(DatapathError::Object { what: path.display().to_string(), reason: error.to_string() })
            }
        };
    }
    if EMBEDDED.is_empty() { Err(DatapathError::NoObject) } else { Ok(mended(EMBEDDED.to_vec())) }
}

fn mended(mut object: Vec<u8>) -> Vec<u8> {
    btf::mend(&mut object);
    object
}

/// Whether there is an object to load at all; tests of the kernel parts skip without one.
pub fn is_available() -> bool {
    env::var_os(OBJECT_VARIABLE).is_some_and(|path| !path.is_empty()) || !EMBEDDED.is_empty()
}
