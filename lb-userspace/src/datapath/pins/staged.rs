//! A set of maps on its way into use: built beside the one in use, and put in its place by renaming.
//!
//! In: the shapes wanted, what is pinned. Out: a directory for the loader. Invariant: whenever it is cut short, the next start finishes
//! or undoes it from which directories are there.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::{Adoption, Layout, Previous, Shape, broken, open_map};
use crate::datapath::{DatapathError, bpffs, syscall};

/// A set of maps on its way into use.
#[derive(Debug)]
pub(in crate::datapath) struct Staged {
    /// Where every map is or is to be pinned.
    pub(in crate::datapath) directory: PathBuf,
    /// What was found.
    pub(in crate::datapath) adoption: Adoption,
    /// The maps that `directory` gets anew though there is a pinned one, and the pinned one.
    pub(in crate::datapath) replaced: BTreeMap<&'static str, (OwnedFd, Shape)>,
    /// Maps of the set in use that were not there, or meant something else.
    pub(in crate::datapath) missing: Vec<&'static str>,
}

impl Staged {
    /// Whether a map of this name is made anew.
    pub(in crate::datapath) fn makes(&self, name: &str) -> bool {
        self.missing.contains(&name) || self.replaced.contains_key(name)
    }
}

/// Looks at the pinned maps and prepares the directory for the loader: the set in use if it fits, else a new one in which
/// the maps that fit are already pinned. If there is no set, that of `previous` is what is in use.
pub(in crate::datapath) fn stage(
    layout: &Layout,
    previous: Option<&Previous>,
    wanted: &BTreeMap<&'static str, Shape>,
) -> Result<Staged, DatapathError> {
    recover(layout).map_err(|error| broken(layout.base(), &error))?;
    if layout.maps().is_dir() {
        refuse_foreign(&layout.maps(), wanted)?;
        return stage_from(layout, &layout.maps(), (&[], Vec::new()), wanted);
    }
    let Some(previous) = previous else { return fresh(layout, wanted) };
    recover(&previous.layout).map_err(|error| broken(previous.layout.base(), &error))?;
    stage_from(layout, &previous.layout.maps(), (&previous.changed, vec![previous.told()]), wanted)
}

/// Every map is new.
fn fresh(layout: &Layout, wanted: &BTreeMap<&'static str, Shape>) -> Result<Staged, DatapathError> {
    let directory = layout.new_maps();
    bpffs::make_directory(&directory).map_err(|error| broken(&directory, &error))?;
    let missing = wanted.keys().copied().collect();
    Ok(Staged { directory, adoption: Adoption::Fresh, replaced: BTreeMap::new(), missing })
}

/// From the maps in `from`, those excepted that mean something else (`changed`).
fn stage_from(
    layout: &Layout,
    from: &Path,
    (changed, mut what): (&[&'static str], Vec<String>),
    wanted: &BTreeMap<&'static str, Shape>,
) -> Result<Staged, DatapathError> {
    let mut staged = Staged {
        directory: layout.maps(),
        adoption: Adoption::Adopted,
        replaced: BTreeMap::new(),
        missing: Vec::new(),
    };
    let mut fitting = Vec::new();
    for (&name, shape) in wanted {
        if changed.contains(&name) {
            what.push(format!("{name}: means something else"));
            staged.missing.push(name);
            continue;
        }
        match open_map(&from.join(name))? {
            None => {
                what.push(format!("{name}: not pinned"));
                staged.missing.push(name);
            }
            Some((map, found)) => match shape.difference(&found) {
                None => fitting.push((name, map)),
                Some(difference) => {
                    what.push(format!("{name}: {difference}"));
                    staged.replaced.insert(name, (map, found));
                }
            },
        }
    }
    if what.is_empty() {
        return Ok(staged);
    }
    forget_flows(wanted, &mut staged, &mut fitting, &mut what);
    staged.adoption = Adoption::Migrated { what };
    staged.directory = layout.new_maps();
    bpffs::make_directory(&staged.directory).map_err(|error| broken(&staged.directory, &error))?;
    for (name, map) in fitting {
        let path = staged.directory.join(name);
        syscall::pin(map.as_fd(), &path).map_err(|error| broken(&path, &error))?;
    }
    Ok(staged)
}

/// Flows name services and backends by number. If those numbers are lost, and so given anew, the flows must not be
/// found under them.
fn forget_flows(
    wanted: &BTreeMap<&'static str, Shape>,
    staged: &mut Staged,
    fitting: &mut Vec<(&'static str, OwnedFd)>,
    what: &mut Vec<String>,
) {
    let is_lost = |name: &&str| {
        let fits =
            |(_, found): &(OwnedFd, Shape)| wanted.get(name).is_some_and(|shape| shape.has_layout_of(found));
        staged.missing.contains(name) || staged.replaced.get(name).is_some_and(|old| !fits(old))
    };
    let Some(lost) = ["services", "pools", "backends"].iter().find(|name| is_lost(name)) else { return };
    for name in ["flows4", "flows6", "replies4", "replies6"] {
        staged.replaced.remove(name);
        fitting.retain(|(fitting, _)| *fitting != name);
        what.push(format!(
            "{name}: emptied, because its entries mean nothing without the contents of {lost}"
        ));
    }
}

/// Puts the new set in the place of the old one. The states between are the ones [`recover`] knows.
pub(in crate::datapath) fn commit(layout: &Layout, staged: &Staged) -> Result<(), DatapathError> {
    if staged.directory == layout.maps() {
        return Ok(());
    }
    let renamed = || -> io::Result<()> {
        if layout.maps().is_dir() {
            fs::rename(layout.maps(), layout.old_maps())?;
        }
        fs::rename(&staged.directory, layout.maps())?;
        bpffs::remove_tree(&layout.old_maps())
    };
    renamed().map_err(|error| broken(&layout.maps(), &error))
}

/// Finishes or undoes a change of sets that was cut short.
fn recover(layout: &Layout) -> io::Result<()> {
    let (maps, new, old) = (layout.maps(), layout.new_maps(), layout.old_maps());
    if !maps.is_dir() && old.is_dir() {
        // The old set was on its way out, so the new one is whole.
        fs::rename(if new.is_dir() { &new } else { &old }, &maps)?;
    }
    bpffs::remove_tree(&new)?;
    bpffs::remove_tree(&old)
}

fn refuse_foreign(directory: &Path, wanted: &BTreeMap<&'static str, Shape>) -> Result<(), DatapathError> {
    let names = bpffs::names(directory).map_err(|error| broken(directory, &error))?;
    match names.into_iter().find(|name| !wanted.contains_key(name.as_str())) {
        None => Ok(()),
        Some(name) => Err(DatapathError::Pin {
            path: directory.join(name),
            reason: "is not a map of lbd".into(),
            remedy: "remove it, or set datapath.pin to another directory".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_on_its_way_is_finished_or_undone() {
        // A bpffs renames directories as every filesystem does; the states are made on an ordinary one.
        for (present, whole) in [
            (vec!["maps_new"], None),
            (vec!["maps", "maps_new"], Some("maps")),
            (vec!["maps_old", "maps_new"], Some("maps_new")),
            (vec!["maps", "maps_old"], Some("maps")),
            (vec!["maps_old"], Some("maps_old")),
            (vec!["maps"], Some("maps")),
            (vec![], None),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let layout = Layout::new(directory.path());
            for name in &present {
                fs::create_dir_all(layout.base().join(name)).unwrap();
                fs::write(layout.base().join(name).join("from"), name).unwrap();
            }
            recover(&layout).unwrap();
            let found = fs::read_to_string(layout.maps().join("from")).ok();
            assert_eq!(found.as_deref(), whole, "{present:?}");
            assert!(!layout.base().join("maps_new").exists() && !layout.base().join("maps_old").exists());
        }
    }
}
