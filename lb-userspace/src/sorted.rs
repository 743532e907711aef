//! Trees without holes.
//!
//! In: many entries for a map. Out: the map. Why: a tree into which entries come one by one in their order keeps its nodes half empty, and
//! a hundred thousand backends are in a dozen of them.

use std::collections::BTreeMap;

/// From one new entry for so many old ones on, the tree is built anew.
const MANY: usize = 16;

/// Adds entries; those of a key that is there take its place.
pub(crate) fn extend<K: Ord, V>(map: &mut BTreeMap<K, V>, mut new: BTreeMap<K, V>) {
    match new.len() * MANY > map.len() {
        true => map.append(&mut new),
        false => map.extend(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_entries_are_added_and_take_the_place_of_others() {
        for new in [1_usize, 1000] {
            let mut map: BTreeMap<u32, &str> = (0..100).map(|key| (key, "old")).collect();
            extend(&mut map, (99..).take(new).map(|key| (key, "new")).collect());
            assert_eq!(map.len(), 99 + new);
            assert_eq!((map[&98], map[&99]), ("old", "new"));
        }
    }
}
