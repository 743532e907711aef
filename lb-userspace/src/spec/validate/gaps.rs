//! What is missing of a spec because it could not be read.
//!
//! In: the mistakes of the config reader, object by object. Out: whether a value is what its owner wrote. Invariant: nobody is
//! blamed for what follows from a mistake that is named already; what does not follow from it is judged all the same.

use std::collections::{HashMap, HashSet};

use crate::spec::Origin;

/// Keys that could not be read; the default stands in their place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gaps {
    keys: HashMap<Origin, HashSet<&'static str>>,
    /// Some pool has no name that could be read, or a whole file could not: a name that nobody has may be one of theirs.
    pub(crate) some_pools: bool,
    /// Some service may use any pool.
    pub(crate) some_users: bool,
    /// `interfaces` is not what was written.
    pub(crate) interfaces: bool,
    /// `snat` is not what was written.
    pub(crate) snat: bool,
}

impl Gaps {
    /// These keys of the pool or service defined there could not be read.
    pub(crate) fn note(&mut self, origin: &Origin, keys: HashSet<&'static str>) {
        if !keys.is_empty() {
            self.keys.entry(origin.clone()).or_default().extend(keys);
        }
    }

    /// One of these keys of the pool or service defined there could not be read.
    pub(super) fn at(&self, origin: &Origin, keys: &[&str]) -> bool {
        self.keys.get(origin).is_some_and(|missing| keys.iter().any(|key| missing.contains(key)))
    }

    /// One of these keys could not be read of some pool or service.
    pub(super) fn anywhere(&self, keys: &[&str]) -> bool {
        self.some_users || self.keys.values().any(|missing| keys.iter().any(|key| missing.contains(key)))
    }
}
