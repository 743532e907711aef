//! What a map is made as, and whether a pinned one is that.

use std::collections::BTreeMap;

use aya::maps::MapType;
use aya_obj::Object;

use crate::datapath::DatapathError;
use crate::datapath::maps::MAPS;
use crate::datapath::sizes::Sizes;
use crate::datapath::syscall::{self, MapInfo};

/// What the kernel is asked for when a map is created, and what a pinned one must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::datapath) struct Shape {
    pub(in crate::datapath) kind: u32,
    pub(in crate::datapath) key_size: u32,
    pub(in crate::datapath) value_size: u32,
    pub(in crate::datapath) max_entries: u32,
    pub(in crate::datapath) flags: u32,
}

impl Shape {
    /// Whether contents can be taken over entry by entry: everything but the number of entries is the same.
    pub(in crate::datapath) fn has_layout_of(&self, other: &Self) -> bool {
        Self { max_entries: 0, ..*self } == Self { max_entries: 0, ..*other }
    }

    /// Whether only the values are larger than those of `older`, and perhaps more.
    pub(in crate::datapath) fn has_grown_from(&self, older: &Self) -> bool {
        self.value_size > older.value_size
            && self.has_layout_of(&Self { value_size: self.value_size, ..*older })
    }

    /// How `found` differs, for people; `None` if it does not.
    pub(super) fn difference(&self, found: &Self) -> Option<String> {
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
pub(in crate::datapath) fn wanted(
    object: &[u8],
    sizes: &Sizes,
) -> Result<BTreeMap<&'static str, Shape>, DatapathError> {
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
}
