//! What the pinned maps remember of the daemon before.

use std::os::fd::AsFd;
use std::path::Path;

use lb_common::{Control, Service, Word};
use zerocopy::FromBytes;

use super::{Layout, broken, open_map};
use crate::datapath::mapped::Mapped;
use crate::datapath::seed::Seed;
use crate::datapath::sizes::Sizes;
use crate::datapath::{DatapathError, tuning};

/// What the pinned maps remember of the daemon before.
#[derive(Debug, Default)]
pub(in crate::datapath) struct Remembered {
    /// The seed the tables were made with.
    pub(in crate::datapath) seed: Option<Seed>,
    /// The features that the services in the maps need.
    pub(in crate::datapath) features: u32,
}

impl Remembered {
    /// Reads a directory in which maps of fitting shape are pinned, or none.
    pub(in crate::datapath) fn read(directory: &Path) -> Result<Self, DatapathError> {
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
pub(in crate::datapath) fn present_sizes(layout: &Layout) -> Option<Sizes> {
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
