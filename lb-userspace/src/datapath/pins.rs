//! What outlives the daemon: the directories of pins, and whether the pinned maps are the ones this program wants.
//!
//! In: the pin path and the object's wishes. Out: a directory with every map, old or to be made, and what was found
//! ([`Adoption`]). Invariants: a pinned map is used only if type, key, value, entries and flags are what the object wants
//! (aya 0.14 compares nothing); the directory `maps` is always a whole set, because a new set is built beside it as
//! `maps_new` and put in its place by renaming.
//!
//! Layout: `<pin>/v<ABI>/maps/NAME`, `links/INTERFACE`, `programs/NAME`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::maps::MapType;
use aya_obj::Object;
use lb_common::{ABI_VERSION, Control, Service, Word};
use zerocopy::FromBytes;

use super::mapped::Mapped;
use super::maps::MAPS;
use super::seed::Seed;
use super::sizes::Sizes;
use super::syscall::{self, MapInfo, ObjectKind};
use super::{DatapathError, bpffs, tuning};

/// The paths below a pin directory.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    base: PathBuf,
}

impl Layout {
    pub(super) fn new(pin: &Path) -> Self {
        Self { base: pin.join(format!("v{ABI_VERSION}")) }
    }

    /// The directory of this ABI.
    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    /// The set of maps in use.
    pub(super) fn maps(&self) -> PathBuf {
        self.base.join("maps")
    }

    fn new_maps(&self) -> PathBuf {
        self.base.join("maps_new")
    }

    fn old_maps(&self) -> PathBuf {
        self.base.join("maps_old")
    }

    /// The directory of links, one for each interface.
    pub(super) fn links(&self) -> PathBuf {
        self.base.join("links")
    }

    /// The link of an interface. A name of an interface holds no `/` (kernel: dev_valid_name), but a bpffs refuses dots.
    pub(super) fn link(&self, interface: &str) -> PathBuf {
        self.links().join(link_file(interface))
    }

    /// The directory of programs.
    pub(super) fn programs(&self) -> PathBuf {
        self.base.join("programs")
    }
}

/// The file of an interface's link: the name with `%` and `.` written as `%25` and `%2e`, since a bpffs reserves dots.
pub(super) fn link_file(interface: &str) -> String {
    interface.replace('%', "%25").replace('.', "%2e")
}

/// The interface of a link's file.
pub(super) fn link_interface(file: &str) -> String {
    file.replace("%2e", ".").replace("%25", "%")
}

/// What was found under the pin path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Adoption {
    /// Nothing: every map is new.
    Fresh,
    /// All maps, as wanted: contents and attached programs go on.
    Adopted,
    /// Maps that do not fit were made anew; each with a sentence. What could be copied was.
    Migrated {
        /// One sentence a map.
        what: Vec<String>,
    },
}

/// What the kernel is asked for when a map is created, and what a pinned one must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    pub(super) kind: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) flags: u32,
}

impl Shape {
    /// Whether contents can be taken over entry by entry: everything but the number of entries is the same.
    pub(super) fn has_layout_of(&self, other: &Self) -> bool {
        Self { max_entries: 0, ..*self } == Self { max_entries: 0, ..*other }
    }

    /// How `found` differs, for people; `None` if it does not.
    fn difference(&self, found: &Self) -> Option<String> {
        let fields = [
            ("type", found.kind, self.kind),
            ("key size", found.key_size, self.key_size),
            ("value size", found.value_size, self.value_size),
            ("entries", found.max_entries, self.max_entries),
            ("flags", found.flags, self.flags),
        ];
        let differing: Vec<String> = fields
            .into_iter()
            .filter(|(_, found, wanted)| found != wanted)
            .map(|(what, found, wanted)| format!("{what} {found} instead of {wanted}"))
            .collect();
        (!differing.is_empty()).then(|| differing.join(", "))
    }
}

impl From<MapInfo> for Shape {
    fn from(info: MapInfo) -> Self {
        let is_device_map = [MapType::DevMap as u32, MapType::DevMapHash as u32].contains(&info.kind);
        let ignored = if is_device_map { syscall::MAP_READONLY_FOR_PROGRAMS } else { 0 };
        Self {
            kind: info.kind,
            key_size: info.key_size,
            value_size: info.value_size,
            max_entries: info.max_entries,
            flags: info.flags & !ignored,
        }
    }
}

/// The shape of every map that lbd pins, as the object defines it and `sizes` say.
pub(super) fn wanted(object: &[u8], sizes: &Sizes) -> Result<BTreeMap<&'static str, Shape>, DatapathError> {
    let refused = |reason: String| DatapathError::Object { what: "the BPF object".into(), reason };
    let object = Object::parse(object).map_err(|error| refused(error.to_string()))?;
    let mut shapes = BTreeMap::new();
    for name in MAPS {
        let map = object.maps.get(name).ok_or_else(|| {
            refused(format!(
                "it has no map {name}; it was built from another version of lbd (cargo xtask build)"
            ))
        })?;
        let shape = Shape {
            kind: map.map_type(),
            key_size: map.key_size(),
            value_size: map.value_size(),
            max_entries: sizes.entries(name).unwrap_or(map.max_entries()),
            flags: map.map_flags(),
        };
        shapes.insert(name, shape);
    }
    Ok(shapes)
}

/// A set of maps on its way into use.
#[derive(Debug)]
pub(super) struct Staged {
    /// Where every map is or is to be pinned.
    pub(super) directory: PathBuf,
    /// What was found.
    pub(super) adoption: Adoption,
    /// The maps that `directory` gets anew though there is a pinned one, and the pinned one.
    pub(super) replaced: BTreeMap<&'static str, (OwnedFd, Shape)>,
    /// Maps of the set in use that were not there.
    pub(super) missing: Vec<&'static str>,
}

/// Looks at the pinned maps and prepares the directory for the loader: the set in use if it fits, else a new one in which
/// the maps that fit are already pinned.
pub(super) fn stage(
    layout: &Layout,
    wanted: &BTreeMap<&'static str, Shape>,
) -> Result<Staged, DatapathError> {
    recover(layout).map_err(|error| broken(layout.base(), &error))?;
    let mut staged = Staged {
        directory: layout.maps(),
        adoption: Adoption::Adopted,
        replaced: BTreeMap::new(),
        missing: Vec::new(),
    };
    if !layout.maps().is_dir() {
        staged.adoption = Adoption::Fresh;
        staged.missing = wanted.keys().copied().collect();
        staged.directory = layout.new_maps();
        bpffs::make_directory(&staged.directory).map_err(|error| broken(&staged.directory, &error))?;
        return Ok(staged);
    }
    refuse_foreign(&layout.maps(), wanted)?;
    let mut what = Vec::new();
    let mut fitting = Vec::new();
    for (&name, shape) in wanted {
        match open_map(&layout.maps().join(name))? {
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
pub(super) fn commit(layout: &Layout, staged: &Staged) -> Result<(), DatapathError> {
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

/// Opens a pinned map; `None` if nothing is there.
pub(super) fn open_map(path: &Path) -> Result<Option<(OwnedFd, Shape)>, DatapathError> {
    let Some(object) = open(path, ObjectKind::Map)? else { return Ok(None) };
    let info = syscall::map_info(object.as_fd()).map_err(|error| broken(path, &error))?;
    Ok(Some((object, info.into())))
}

/// Opens a pinned object that must be of this kind; `None` if nothing is there.
pub(super) fn open(path: &Path, kind: ObjectKind) -> Result<Option<OwnedFd>, DatapathError> {
    let object = match syscall::open_pin(path) {
        Ok(object) => object,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(broken(path, &error)),
    };
    match syscall::kind(object.as_fd()) {
        Ok(Some(found)) if found == kind => Ok(Some(object)),
        Ok(found) => Err(DatapathError::Pin {
            path: path.to_path_buf(),
            reason: format!(
                "is {}, lbd keeps {} there",
                found.map_or("something else", ObjectKind::as_str),
                kind.as_str()
            ),
            remedy: "remove it, or set datapath.pin to another directory".into(),
        }),
        Err(error) => Err(broken(path, &error)),
    }
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

/// What the pinned maps remember of the daemon before.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// The seed the tables were made with.
    pub(super) seed: Option<Seed>,
    /// The features that the services in the maps need.
    pub(super) features: u32,
}

impl Remembered {
    /// Reads a directory in which maps of fitting shape are pinned, or none.
    pub(super) fn read(directory: &Path) -> Result<Self, DatapathError> {
        let seed = mapped::<Control>(directory, "control")?
            .and_then(|control| control.first().map(|control| control.seed.each_ref().map(Word::load)))
            .and_then(Seed::from_words);
        let features =
            mapped::<Service>(directory, "services")?.map_or(0, |services| tuning::features_of(&services));
        Ok(Self { seed, features })
    }
}

fn mapped<T: FromBytes>(directory: &Path, name: &'static str) -> Result<Option<Mapped<T>>, DatapathError> {
    let path = directory.join(name);
    let Some((map, shape)) = open_map(&path)? else { return Ok(None) };
    if shape.value_size as usize != size_of::<T>() {
        return Ok(None);
    }
    Mapped::new(map.as_fd(), shape.max_entries).map(Some).map_err(|error| broken(&path, &error))
}

/// The sizes of the pinned set of maps; `None` if there is none, or one that does not hang together.
pub(super) fn present_sizes(layout: &Layout) -> Option<Sizes> {
    let entries = |name: &str| Some(open_map(&layout.maps().join(name)).ok()??.1.max_entries);
    Some(Sizes {
        directory_buckets: entries("directory")?,
        services: entries("services")?,
        pools: entries("pools")?,
        maglev_words: entries("maglev")?,
        backends: entries("backends")?,
        next_hops: entries("next_hops")?,
        flow_buckets: entries("flows4")?,
        reply_buckets: entries("replies4")?,
    })
}

pub(super) fn broken(path: &Path, error: &io::Error) -> DatapathError {
    let remedy = match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => "run lbd as the user who owns the pins, with CAP_BPF".into(),
        _ => format!(
            "`lbd detach` removes all pins (traffic stops), or set datapath.pin to another directory than {}",
            path.parent().unwrap_or(path).display()
        ),
    };
    DatapathError::Pin { path: path.to_path_buf(), reason: error.to_string(), remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `BPF_F_MMAPABLE`.
    const MAP_MMAPABLE: u32 = 1 << 10;

    fn shape() -> Shape {
        Shape { kind: 2, key_size: 4, value_size: 64, max_entries: 256, flags: MAP_MMAPABLE }
    }

    #[test]
    fn every_field_of_a_shape_is_compared_and_named() {
        assert_eq!(shape().difference(&shape()), None);
        let found = Shape { kind: 1, key_size: 8, value_size: 32, max_entries: 1024, flags: 0 };
        let difference = shape().difference(&found).unwrap();
        for part in
            ["type 1 instead of 2", "key size 8", "value size 32", "entries 1024 instead of 256", "flags 0"]
        {
            assert!(difference.contains(part), "{difference}");
        }
    }

    #[test]
    fn only_the_number_of_entries_may_differ_for_contents_to_be_copied() {
        assert!(shape().has_layout_of(&Shape { max_entries: 1, ..shape() }));
        assert!(!shape().has_layout_of(&Shape { value_size: 72, ..shape() }));
        assert!(!shape().has_layout_of(&Shape { flags: 0, ..shape() }));
    }

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

    #[test]
    fn interface_names_with_dots_have_a_file() {
        for name in ["eth0", "eth0.100", "a%b.c", "%2e"] {
            assert!(!link_file(name).contains('.'));
            assert_eq!(link_interface(&link_file(name)), name);
        }
    }
}
