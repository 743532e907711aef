//! Every map, opened and mapped.
//!
//! In: the directory in which all maps are pinned. Out: [`Maps`]: typed slices over the arrays that the daemon writes, and
//! descriptors of the rest. Invariant: each map's value size was compared with the type before it was mapped.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use lb_common::{
    Backend, Control, DirectoryBucket, Explanation, FilterWord, FlowBucket4, FlowBucket6, MaglevWord,
    NameEntry, NextHop, Pool, ReplyBucket, Service, Source,
};
use zerocopy::FromBytes;

use super::DatapathError;
use super::mapped::Mapped;
use super::pins::{self, Shape};

/// The pinned maps, by name; docs/internals.md has the table.
pub(super) const MAPS: [&str; 23] = [
    "backend_counters",
    "backends",
    "control",
    "devices",
    "directory",
    "endpoint_filter",
    "explanation",
    "flow_counters",
    "flows4",
    "flows6",
    "interface_counters",
    "maglev",
    "next_hops",
    "pool_names",
    "pools",
    "reason_counters",
    "replies4",
    "replies6",
    "route_cache",
    "service_counters",
    "service_names",
    "services",
    "sources",
];

/// The maps of one datapath.
#[derive(Debug)]
pub(super) struct Maps {
    pub(super) directory: Mapped<DirectoryBucket>,
    pub(super) services: Mapped<Service>,
    pub(super) service_names: Mapped<NameEntry>,
    pub(super) pools: Mapped<Pool>,
    pub(super) pool_names: Mapped<NameEntry>,
    pub(super) maglev: Mapped<MaglevWord>,
    pub(super) backends: Mapped<Backend>,
    pub(super) next_hops: Mapped<NextHop>,
    pub(super) sources: Mapped<Source>,
    pub(super) endpoint_filter: Mapped<FilterWord>,
    pub(super) control: Mapped<Control>,
    pub(super) flows4: Mapped<FlowBucket4>,
    pub(super) flows6: Mapped<FlowBucket6>,
    pub(super) replies4: Mapped<ReplyBucket>,
    pub(super) replies6: Mapped<ReplyBucket>,
    pub(super) explanation: Mapped<Explanation>,
    handles: Handles,
}

/// Each map's descriptor and shape.
type Handles = BTreeMap<&'static str, (OwnedFd, Shape)>;

impl Maps {
    /// Opens every map in a directory.
    pub(super) fn open(directory: &Path) -> Result<Self, DatapathError> {
        let mut handles = BTreeMap::new();
        for name in MAPS {
            let path = directory.join(name);
            let (map, shape) = pins::open_map(&path)?.ok_or_else(|| DatapathError::Pin {
                path,
                reason: "is not there".into(),
                remedy: "start lbd, which makes it".into(),
            })?;
            handles.insert(name, (map, shape));
        }
        let open = Opened { directory, handles: &handles };
        Ok(Self {
            directory: open.mapped("directory")?,
            services: open.mapped("services")?,
            service_names: open.mapped("service_names")?,
            pools: open.mapped("pools")?,
            pool_names: open.mapped("pool_names")?,
            maglev: open.mapped("maglev")?,
            backends: open.mapped("backends")?,
            next_hops: open.mapped("next_hops")?,
            sources: open.mapped("sources")?,
            endpoint_filter: open.mapped("endpoint_filter")?,
            control: open.mapped("control")?,
            flows4: open.mapped("flows4")?,
            flows6: open.mapped("flows6")?,
            replies4: open.mapped("replies4")?,
            replies6: open.mapped("replies6")?,
            explanation: open.mapped("explanation")?,
            handles,
        })
    }

    /// A map's descriptor, for reading and writing values of `value_len` bytes: the kernel takes the map's word for the
    /// length of a buffer, so it is compared here.
    pub(super) fn handle(
        &self,
        name: &'static str,
        value_len: usize,
    ) -> Result<BorrowedFd<'_>, DatapathError> {
        match self.handles.get(name) {
            Some((map, shape)) if shape.value_size as usize == value_len => Ok(map.as_fd()),
            found => Err(DatapathError::Map {
                map: name,
                action: "use",
                reason: format!(
                    "its values have {} bytes, this lbd knows {value_len}; it belongs to another build",
                    found.map_or(0, |(_, shape)| shape.value_size)
                ),
            }),
        }
    }

    /// Every map and where it is pinned in a directory.
    pub(super) fn pins(&self, directory: &Path) -> impl Iterator<Item = (PathBuf, BorrowedFd<'_>)> {
        self.handles.iter().map(move |(name, (map, _))| (directory.join(name), map.as_fd()))
    }

    /// Length of a map's values, bytes; `None` for a name that is none of lbd's.
    pub(super) fn value_size(&self, name: &str) -> Option<u32> {
        self.handles.get(name).map(|(_, shape)| shape.value_size)
    }

    /// A map's number of entries; 0 for a name that is none of lbd's.
    pub(super) fn entries(&self, name: &str) -> u32 {
        self.handles.get(name).map_or(0, |(_, shape)| shape.max_entries)
    }
}

/// The opened descriptors, on their way to be mapped.
struct Opened<'a> {
    directory: &'a Path,
    handles: &'a Handles,
}

impl Opened<'_> {
    fn mapped<T: FromBytes>(&self, name: &'static str) -> Result<Mapped<T>, DatapathError> {
        let failed = |reason: String| DatapathError::Map { map: name, action: "map into memory", reason };
        let (map, shape) = self.handles.get(name).ok_or_else(|| failed("it is not open".into()))?;
        let value_size = shape.value_size;
        if value_size as usize != size_of::<T>() {
            return Err(failed(format!(
                "its values have {value_size} bytes, this lbd knows {}: {} belongs to another build (lbd detach removes it)",
                size_of::<T>(),
                self.directory.display()
            )));
        }
        Mapped::new(map.as_fd(), shape.max_entries).map_err(|error| failed(error.to_string()))
    }
}
