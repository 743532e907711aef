//! The BPF object: the program as it was built into this binary.
//!
//! In: `lbd.bpf.o`, embedded by build.rs; `LBD_BPF_OBJECT` names another one at run time (tests, a program under work).
//! Out: its bytes, eight-byte aligned as an ELF parser wants them.

use std::borrow::Cow;
use std::env;
use std::fs;
use std::path::PathBuf;

use super::DatapathError;

/// Environment variable that names an object to load instead of the embedded one.
pub const OBJECT_VARIABLE: &str = "LBD_BPF_OBJECT";

/// The alignment an embedded ELF file needs.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

static EMBEDDED: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/lbd.bpf.o")));

/// The object to load.
///
/// # Errors
/// [`DatapathError::NoObject`] where this binary was built without one, [`DatapathError::Object`] if the named file
/// cannot be read.
pub(super) fn bytes() -> Result<Cow<'static, [u8]>, DatapathError> {
    if let Some(path) = env::var_os(OBJECT_VARIABLE).filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        return match fs::read(&path) {
            Ok(bytes) if bytes.is_empty() => Err(DatapathError::Object {
                what: path.display().to_string(),
                reason: "the file is empty".into(),
            }),
            Ok(bytes) => Ok(Cow::Owned(bytes)),
            Err(error) => {
                Err(DatapathError::Object { what: path.display().to_string(), reason: error.to_string() })
            }
        };
    }
    if EMBEDDED.0.is_empty() { Err(DatapathError::NoObject) } else { Ok(Cow::Borrowed(&EMBEDDED.0)) }
}

/// Whether there is an object to load at all; tests of the kernel parts skip without one.
pub fn is_available() -> bool {
    bytes().is_ok()
}
