//! What people are told about an interface that cannot be had, or not as they asked.

use std::io;

use super::Mode;
use crate::datapath::{DatapathError, driver, privilege};

pub(in crate::datapath) fn missing(name: &str) -> DatapathError {
    DatapathError::NoInterface { name: name.to_owned() }
}

/// The sentence of a fall-back to generic mode.
pub(super) fn fall_back(name: &str, error: &io::Error) -> String {
    format!("{name} is in generic mode, which is slower: {}", why_not_native(name, error))
}

fn why_not_native(name: &str, error: &io::Error) -> String {
    let driver =
        driver::name(name).map_or_else(|| format!("{name} has no driver that"), |d| format!("driver {d}"));
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) if driver.ends_with("that") => format!("{driver} supports XDP"),
        Some(libc::EOPNOTSUPP) => format!("{driver} has no XDP support"),
        Some(libc::ERANGE | libc::E2BIG | libc::EINVAL) => {
            format!("{driver} refuses XDP as the interface is set ({error}): look at its mtu, queues and LRO")
        }
        _ => format!("{driver} refuses XDP ({error})"),
    }
}

pub(super) fn refusal(name: &str, mode: Mode, error: &io::Error) -> DatapathError {
    let is_refusal = matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES));
    let (reason, remedy) = match mode {
        _ if is_refusal => (error.to_string(), privilege::remedy(Some(error))),
        Mode::Native => (
            why_not_native(name, error),
            "set datapath.mode = \"generic\" (or \"auto\"), which works on every interface".to_owned(),
        ),
        Mode::Generic => (error.to_string(), privilege::remedy(Some(error))),
    };
    DatapathError::Attach { interface: name.to_owned(), mode: mode.as_str(), reason, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_native_mode_names_the_reason_and_the_way_out() {
        let error = refusal("lo", Mode::Native, &io::Error::from_raw_os_error(libc::EOPNOTSUPP)).to_string();
        assert!(error.contains("lo has no driver that supports XDP"), "{error}");
        assert!(error.contains("mode = \"generic\""), "{error}");
    }
}
