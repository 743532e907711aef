//! What is defined, and by whom: the file's objects and lbctl's, and the two together.
//!
//! In: the file's [`Spec`], what lbctl added ([`CliObjects`]), what discovery sources say ([`Discovered`]). Out: services and
//! pools with the members of every origin. Invariant: the file's objects change by a reload alone, lbctl's by its own
//! operations alone, a source's by its answers alone; a member of lbctl's whose pool the file no longer defines is kept here,
//! without effect, until the pool is back or lbctl removes it; an answer goes with its source.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::discovered::Discovered;
use crate::spec::{BackendAddress, BackendSpec, Name, Origin, PoolSpec, ServiceSpec, Spec};

/// What lbctl (or another user of the API) added.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CliObjects {
    /// Services by name.
    pub services: BTreeMap<Name, ServiceSpec>,
    /// Pools by name; their members are in `backends`.
    pub pools: BTreeMap<Name, PoolSpec>,
    /// Members by pool, of lbctl's pools and of the file's: address and weight.
    pub backends: BTreeMap<Name, BTreeMap<BackendAddress, u16>>,
}

impl CliObjects {
    /// lbctl added nothing.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.pools.is_empty() && self.backends.is_empty()
    }
}

/// Everything that is defined.
#[derive(Clone, Debug, Default)]
pub(super) struct Definitions {
    /// The file, whole.
    pub(super) file: Arc<Spec>,
    /// Where in it each service is, and each pool.
    file_services: Arc<BTreeMap<Name, usize>>,
    file_pools: Arc<BTreeMap<Name, usize>>,
    /// What lbctl added.
    pub(super) cli: Arc<CliObjects>,
    /// What sources of the defined pools say, as far as it is taken.
    pub(super) discovered: Arc<Discovered>,
}

impl Definitions {
    /// All together; answers whose source is not defined are left out.
    pub(super) fn new(file: Arc<Spec>, cli: Arc<CliObjects>, mut discovered: Arc<Discovered>) -> Self {
        if !discovered.is_empty() {
            Arc::make_mut(&mut discovered).keep_defined(&file.pools);
        }
        let services = file.services.iter().map(|service| service.name.clone()).zip(0..);
        let pools = file.pools.iter().map(|pool| pool.name.clone()).zip(0..);
        Self {
            file_services: Arc::new(services.collect()),
            file_pools: Arc::new(pools.collect()),
            file,
            cli,
            discovered,
        }
    }

    /// Nothing was defined, taken away or said since one was made of the other.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.file, &other.file)
            && Arc::ptr_eq(&self.cli, &other.cli)
            && Arc::ptr_eq(&self.discovered, &other.discovered)
    }

    /// The service of this name, whoever defined it.
    pub(super) fn service(&self, name: &Name) -> Option<&ServiceSpec> {
        let of_file = self.file_services.get(name).and_then(|at| self.file.services.get(*at));
        of_file.or_else(|| self.cli.services.get(name))
    }

    /// The pool of this name with its own definition's members only.
    pub(super) fn pool_alone(&self, name: &Name) -> Option<&PoolSpec> {
        let of_file = self.file_pools.get(name).and_then(|at| self.file.pools.get(*at));
        of_file.or_else(|| self.cli.pools.get(name))
    }

    /// The pool of this name with the members of every origin, the file's first.
    pub(super) fn pool(&self, name: &Name) -> Option<PoolSpec> {
        let mut pool = self.pool_alone(name)?.clone();
        self.join(&mut pool);
        Some(pool)
    }

    /// Adds the members that others than its own definition give this pool.
    fn join(&self, pool: &mut PoolSpec) {
        let added = self.cli.backends.get(&pool.name).into_iter().flatten();
        pool.backends.extend(added.map(|(address, weight)| BackendSpec {
            address: *address,
            weight: *weight,
            origin: Origin::Cli,
        }));
        pool.backends.extend(self.discovered.members(&pool.name));
    }

    /// The pools that this one stands in for.
    pub(super) fn stood_in_for<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = &'a Name> {
        let of_file = self.file_pools.values().filter_map(|at| self.file.pools.get(*at));
        let pools = of_file.chain(self.cli.pools.values());
        let is_behind =
            move |pool: &&PoolSpec| pool.backup.as_ref().is_some_and(|backup| backup.pool == *name);
        pools.filter(is_behind).map(|pool| &pool.name)
    }

    /// Services of `pool` send packets to the backends of `other`: it is the same pool, or stands in for it.
    pub(super) fn sends_to(&self, pool: &Name, other: &Name) -> bool {
        let backup = || Some(&self.pool_alone(pool)?.backup.as_ref()?.pool);
        pool == other || backup() == Some(other)
    }

    /// Every service's name.
    pub(super) fn service_names(&self) -> impl Iterator<Item = &Name> {
        self.file_services.keys().chain(self.cli.services.keys())
    }

    /// Every pool's name.
    pub(super) fn pool_names(&self) -> impl Iterator<Item = &Name> {
        self.file_pools.keys().chain(self.cli.pools.keys())
    }

    /// Pools that lbctl added members to and that nobody defines any more.
    pub(super) fn orphaned(&self) -> impl Iterator<Item = &Name> {
        self.cli.backends.keys().filter(|name| self.pool_alone(name).is_none())
    }

    /// The file's, lbctl's and the sources' objects as one spec, names that both define twice: for `validate`.
    pub(super) fn merged(&self) -> Spec {
        let mut spec = Spec::clone(&self.file);
        spec.services.extend(self.cli.services.values().cloned());
        spec.pools.extend(self.cli.pools.values().cloned());
        spec.pools.iter_mut().for_each(|pool| self.join(pool));
        spec
    }
}
