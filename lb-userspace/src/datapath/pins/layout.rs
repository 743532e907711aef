//! The paths below a pin directory: `<pin>/v<ABI>/maps/NAME`, `links/INTERFACE`, `programs/NAME`.

use std::path::{Path, PathBuf};

use lb_common::ABI_VERSION;

/// The paths below a pin directory.
#[derive(Clone, Debug)]
pub(in crate::datapath) struct Layout {
    base: PathBuf,
}

impl Layout {
    pub(in crate::datapath) fn new(pin: &Path) -> Self {
        Self::of(pin, ABI_VERSION)
    }

    /// Of any version of the ABI.
    pub(in crate::datapath) fn of(pin: &Path, version: u32) -> Self {
        Self { base: pin.join(format!("v{version}")) }
    }

    /// The directory of the version.
    pub(in crate::datapath) fn base(&self) -> &Path {
        &self.base
    }

    /// The set of maps in use.
    pub(in crate::datapath) fn maps(&self) -> PathBuf {
        self.base.join("maps")
    }

    pub(super) fn new_maps(&self) -> PathBuf {
        self.base.join("maps_new")
    }

    pub(super) fn old_maps(&self) -> PathBuf {
        self.base.join("maps_old")
    }

    /// The directory of links, one for each interface.
    pub(in crate::datapath) fn links(&self) -> PathBuf {
        self.base.join("links")
    }

    /// The link of an interface. A name of an interface holds no `/` (kernel: dev_valid_name), but a bpffs refuses dots.
    pub(in crate::datapath) fn link(&self, interface: &str) -> PathBuf {
        self.links().join(link_file(interface))
    }

    /// The directory of programs.
    pub(in crate::datapath) fn programs(&self) -> PathBuf {
        self.base.join("programs")
    }
}

/// The file of an interface's link: the name with `%` and `.` written as `%25` and `%2e`, since a bpffs reserves dots.
pub(in crate::datapath) fn link_file(interface: &str) -> String {
    interface.replace('%', "%25").replace('.', "%2e")
}

/// The interface of a link's file.
pub(in crate::datapath) fn link_interface(file: &str) -> String {
    file.replace("%2e", ".").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_with_dots_have_a_file() {
        for name in ["eth0", "eth0.100", "a%b.c", "%2e"] {
            assert!(!link_file(name).contains('.'));
            assert_eq!(link_interface(&link_file(name)), name);
        }
    }
}
