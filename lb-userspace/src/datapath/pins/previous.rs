//! Pins of an older version of the map ABI, whose place this one takes.
//!
//! In: the pin path. Out: [`Previous`]: its directory, and which of its maps mean something else to this version. Invariant: nothing below it
//! is changed; whoever takes its place removes it, last of all. A later version's pins are left alone, and its program on its interfaces: nobody here
//! knows what is in its maps, and without them its connections would be lost.

use std::path::Path;

use lb_common::ABI_VERSION;

use super::Layout;
use crate::datapath::bpffs;

/// The version of the map ABI before any that was ever pinned.
const NONE_YET: u32 = 0;

/// Each version after the first, and the maps in which it moved a byte or changed its meaning. They are made anew, and filled from the others:
/// by the first plan, the reply index from the flow tables. Every other map is taken over as it is, and with it what is in it.
const CHANGED: [(u32, &[&str]); 1] = [
    // The hash of what a reply carries got its lowest bit: the tags of all words are others.
    (2, &["replies4", "replies6"]),
];

const _: () = assert!(CHANGED.len() + 1 == ABI_VERSION as usize, "say what the new version changed");

/// The pins of an older version.
#[derive(Debug)]
pub(in crate::datapath) struct Previous {
    /// Its version.
    pub(in crate::datapath) version: u32,
    /// Where its pins are.
    pub(in crate::datapath) layout: Layout,
    /// The maps that mean something else now.
    pub(in crate::datapath) changed: Vec<&'static str>,
}

impl Previous {
    /// The newest older version's pins below this path.
    pub(in crate::datapath) fn find(pin: &Path) -> Option<Self> {
        let version = versions(pin).into_iter().filter(|version| *version < ABI_VERSION).max()?;
        let changed = changed_since(version, ABI_VERSION)?;
        Some(Self { version, layout: Layout::of(pin, version), changed })
    }

    /// What is told of it.
    pub(in crate::datapath) fn told(&self) -> String {
        format!("they are of version {} of the map ABI, this is {ABI_VERSION}", self.version)
    }
}

/// The versions of which there are pins.
fn versions(pin: &Path) -> Vec<u32> {
    // A directory that cannot be read is told of by whoever has to use it.
    let names = bpffs::names(pin).unwrap_or_default();
    names.iter().filter_map(|name| name.strip_prefix('v')?.parse().ok()).collect()
}

/// The maps that differ in meaning between two versions; `None` if the older is not known, or not older.
fn changed_since(older: u32, newer: u32) -> Option<Vec<&'static str>> {
    if older == NONE_YET || older > newer {
        return None;
    }
    let later = CHANGED.iter().filter(|(version, _)| *version > older && *version <= newer);
    Some(later.flat_map(|(_, maps)| maps.iter().copied()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_between_two_versions_is_known() {
        assert_eq!(changed_since(1, 2), Some(vec!["replies4", "replies6"]));
        assert_eq!(changed_since(2, 2), Some(vec![]));
        assert_eq!(changed_since(3, 2), None);
        assert_eq!(changed_since(0, 2), None);
    }

    #[test]
    fn the_newest_older_version_is_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let found = || Previous::find(directory.path()).map(|previous| previous.version);
        let make = |name: &str| std::fs::create_dir(directory.path().join(name)).unwrap();
        assert_eq!(found(), None);
        for name in ["vx", "maps", &format!("v{ABI_VERSION}")] {
            make(name);
        }
        assert_eq!(found(), None);
        make("v4000");
        make("v0");
        assert_eq!(found(), None, "nobody knows what is in them");
        make("v1");
        assert_eq!(found(), Some(1));
    }
}
