//! What is meant, whatever its place: a definition that only moved, within a file or to another one, is no change.
//!
//! In: specs as read. Out: the same with every path and line forgotten, to be compared. Invariant: whose a definition is stays.

use super::{FileName, Origin, PoolSpec, ServiceSpec, Spec};

impl Origin {
    /// The same owner, nowhere in particular.
    fn forget_place(&mut self) {
        if let Self::File { path, line } = self {
            *path = FileName::default();
            *line = 0;
        }
    }
}

impl ServiceSpec {
    /// What it means.
    #[must_use]
    pub fn without_place(&self) -> Self {
        let mut service = self.clone();
        service.origin.forget_place();
        service.listen_lines.clear();
        service
    }
}

impl PoolSpec {
    /// What it means.
    #[must_use]
    pub fn without_place(&self) -> Self {
        let mut pool = self.clone();
        pool.origin.forget_place();
        pool.backends.iter_mut().for_each(|backend| backend.origin.forget_place());
        pool.discover.iter_mut().for_each(|source| source.origin.forget_place());
        pool
    }
}

impl Spec {
    /// Both mean the same, wherever it is written.
    pub fn means_the_same(&self, other: &Self) -> bool {
        let same_services = || {
            self.services.len() == other.services.len()
                && self
                    .services
                    .iter()
                    .zip(&other.services)
                    .all(|(a, b)| a == b || a.without_place() == b.without_place())
        };
        let same_pools = || {
            self.pools.len() == other.pools.len()
                && self
                    .pools
                    .iter()
                    .zip(&other.pools)
                    .all(|(a, b)| a == b || a.without_place() == b.without_place())
        };
        self.daemon == other.daemon && self.datapath == other.datapath && same_services() && same_pools()
    }
}
