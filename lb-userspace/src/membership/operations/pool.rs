//! Pools that lbctl adds and removes, by themselves or with their service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::unchanged;
use crate::membership::draft::Draft;
use crate::membership::{CliObjects, NewBackend, PoolAdd, PoolKeys, Refusal, RefusalCode};
use crate::spec::{BackendAddress, HealthSpec, Name, Origin, PassiveSpec, Percent, PoolSpec, nearest};

impl Draft<'_> {
    /// What lbctl added, to be changed: there will be something to write down.
    pub(super) fn cli(&mut self) -> &mut CliObjects {
        self.revised = true;
        Arc::make_mut(&mut self.next.definitions.cli)
    }

    /// lbctl's pool of this name is exactly this, with these backends.
    pub(super) fn is_so(&self, pool: &PoolSpec, backends: &[NewBackend]) -> bool {
        let cli = &self.next.definitions.cli;
        let members = cli.backends.get(&pool.name);
        let wanted: BTreeMap<BackendAddress, u16> = backends.iter().map(|b| (b.address, b.weight)).collect();
        cli.pools.get(&pool.name) == Some(pool)
            && members.map_or(wanted.is_empty(), |members| *members == wanted)
    }

    /// A new pool of lbctl's with its first members.
    pub(super) fn insert_pool(&mut self, pool: PoolSpec, backends: &[NewBackend]) -> Result<(), Refusal> {
        let name = pool.name.clone();
        if let Some(there) = self.next.definitions.pool_alone(&name) {
            let mut refusal = taken("pool", &name, &there.origin.clone());
            if pool.inline {
                refusal.hint = Some(format!("use another name, or use this pool: --pool {name}"));
            }
            return Err(refusal);
        }
        let members: BTreeMap<BackendAddress, u16> = backends.iter().map(|b| (b.address, b.weight)).collect();
        let mut named = BTreeSet::new();
        if let Some(twice) = backends.iter().find(|backend| !named.insert(backend.address)) {
            return Err(Refusal::new(
                RefusalCode::Invalid,
                format!("backend {} is named twice for pool {:?}", twice.address, name.as_str()),
                "name it once; a larger share is a larger weight",
            ));
        }
        let cli = self.cli();
        cli.pools.insert(name.clone(), pool);
        if !members.is_empty() {
            cli.backends.entry(name.clone()).or_default().extend(members);
        }
        self.sync_pool(&name);
        Ok(())
    }

    pub(super) fn pool_add(&mut self, add: &PoolAdd) -> Result<String, Refusal> {
        let pool = add.keys().applied(new_pool(&add.name, false));
        if self.is_so(&pool, &add.backends) {
            return Ok(unchanged(&format!("pool {}", add.name)));
        }
        self.insert_pool(pool, &add.backends)?;
        Ok(format!("pool {} added", add.name))
    }

    pub(super) fn pool_set(&mut self, name: &Name, keys: &PoolKeys) -> Result<String, Refusal> {
        Ok(match self.set_pool(name, keys)? {
            true => format!("pool {name} changed"),
            false => unchanged(&format!("pool {name}")),
        })
    }

    /// Changes what a pool of lbctl's is besides its backends. True: it is another than before.
    pub(super) fn set_pool(&mut self, name: &Name, keys: &PoolKeys) -> Result<bool, Refusal> {
        let Some(old) = self.next.definitions.cli.pools.get(name).cloned() else {
            let known = self.next.definitions.pool_names().map(Name::as_str);
            let near = nearest(name.as_str(), known).map(ToOwned::to_owned);
            let origin = self.next.definitions.pool_alone(name).map(|pool| pool.origin.clone());
            return Err(match origin {
                Some(origin) => Refusal::owner(&format!("pool {:?}", name.as_str()), &origin, "change", None),
                None => Refusal::not_found("pool", name.as_str(), near.as_deref()),
            });
        };
        let new = keys.applied(old.clone());
        if new == old {
            return Ok(false);
        }
        self.cli().pools.insert(name.clone(), new);
        self.sync_pool(name);
        Ok(true)
    }

    pub(super) fn pool_remove(&mut self, name: &Name) -> Result<String, Refusal> {
        let Some(pool) = self.next.definitions.pool_alone(name) else {
            let known = self.next.definitions.pool_names().map(Name::as_str);
            return Err(Refusal::not_found("pool", name.as_str(), nearest(name.as_str(), known)));
        };
        if pool.origin != Origin::Cli {
            let what = format!("pool {:?}", name.as_str());
            return Err(Refusal::owner(&what, &pool.origin.clone(), "remove", None));
        }
        if let Some(user) = self.next.services.values().find(|service| service.pool == *name) {
            return Err(Refusal::new(
                RefusalCode::Invalid,
                format!("pool {:?} is used by service {:?}", name.as_str(), user.name.as_str()),
                format!("remove the service first: lbctl service remove {}", user.name),
            )
            .at(&user.origin.clone()));
        }
        self.drop_pool(name);
        Ok(format!("pool {name} removed"))
    }

    pub(super) fn drop_pool(&mut self, name: &Name) {
        let cli = self.cli();
        cli.pools.remove(name);
        cli.backends.remove(name);
        self.added.retain(|id| id.pool != *name);
        self.sync_pool(name);
    }
}

/// A pool of lbctl's without members, as one is that says nothing.
pub(super) fn new_pool(name: &Name, inline: bool) -> PoolSpec {
    PoolSpec {
        name: name.clone(),
        origin: Origin::Cli,
        inline,
        backends: Vec::new(),
        discover: Vec::new(),
        health: HealthSpec::default(),
        health_is_default: true,
        maglev: None,
        panic_below: Percent::ZERO,
        slow_start: Duration::ZERO,
        backup: None,
        passive: Some(PassiveSpec::default()),
    }
}

/// The name is in use for something else.
pub(super) fn taken(what: &str, name: &Name, origin: &Origin) -> Refusal {
    match origin {
        Origin::Cli => Refusal::new(
            RefusalCode::Invalid,
            format!("{what} {:?} exists already, and is not exactly so", name.as_str()),
            format!("change it with lbctl {what} set {name}, or use another name"),
        ),
        _ => Refusal::owner(&format!("{what} {:?}", name.as_str()), origin, "add", None),
    }
}
