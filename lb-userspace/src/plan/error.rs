//! Why there is no plan: something does not fit, or what is desired contradicts itself.

use crate::desired::{Desired, PoolKey};
use crate::image::Image;
use crate::store::Table;

/// See the module. Nothing was changed when this is returned.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlanError {
    /// A map has too few entries.
    #[error("the map {map} is full: {needed} {what} needed, {free} of {entries} entries free{resting}; {remedy}",
        map = .map.name(), resting = Resting(*.resting))]
    Full {
        /// Which map.
        map: Table,
        /// What it holds, in the plural.
        what: &'static str,
        /// Entries needed at once.
        needed: u64,
        /// Entries free (in one piece, where a piece is needed).
        free: u64,
        /// Entries it has.
        entries: u64,
        /// Entries that come back when the flows that hold them have ended.
        resting: u64,
        /// What to do.
        remedy: &'static str,
    },
    /// What is desired cannot be: a fault of lbd.
    #[error("{0}; this is a fault of lbd, please report it")]
    Contradiction(String),
}

/// Words about entries that rest, if there are any.
struct Resting(u64);

impl std::fmt::Display for Resting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => Ok(()),
            resting => write!(f, " ({resting} come back when the flows that hold them have ended)"),
        }
    }
}

/// Maps are as large as what is configured asks for, and twice that: what rests in them, or is moved, finds no room.
const REMEDY: &str = "entries come back as flows end (`lbctl flows flush` ends them), or change less at once";

impl PlanError {
    pub(super) fn pools_full(image: &Image, desired: &Desired) -> Self {
        let new = |key: &&PoolKey| !image.pools.values().any(|pool| pool.key().as_ref() == Some(*key));
        Self::full(
            Table::Pools,
            "new pools",
            desired.pools.keys().filter(new).count() as u64,
            u64::from(image.sizes.pools).saturating_sub(image.pools.len() as u64 + 1),
            image.sizes.pools,
        )
    }

    pub(super) fn services_full(image: &Image, needed: usize) -> Self {
        let resting = image.rest.services.len() as u64;
        let used = image.services.len() as u64 + resting + 1;
        let free = u64::from(image.sizes.services).saturating_sub(used);
        let full = Self::full(Table::Services, "new listeners", needed as u64, free, image.sizes.services);
        full.with_resting(resting)
    }

    pub(super) const fn full(map: Table, what: &'static str, needed: u64, free: u64, entries: u32) -> Self {
        Self::Full { map, what, needed, free, entries: entries as u64, resting: 0, remedy: REMEDY }
    }

    fn with_resting(self, waiting: u64) -> Self {
        match self {
            Self::Full { map, what, needed, free, entries, remedy, .. } => {
                Self::Full { map, what, needed, free, entries, resting: waiting, remedy }
            }
            other @ Self::Contradiction(_) => other,
        }
    }

    pub(super) fn name_too_long(name: &str) -> Self {
        Self::Contradiction(format!("the name {name:?} has {} bytes, names have at most 63", name.len()))
    }
}
