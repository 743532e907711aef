//! What lbctl's operations do to definitions and overrides.
//!
//! In: one [`Operation`]. Out: a changed [`Draft`], or the rule that refuses it. Invariants: only what lbctl added is added,
//! changed or removed here; everything else is an override; an operation that changes nothing says "unchanged".

mod backend;
mod hand;
mod pool;
mod service;

use super::draft::Draft;
use super::{MemberId, Operation, Refusal};
use crate::spec::{BackendAddress, Name, nearest};

impl Draft<'_> {
    /// Does one operation.
    pub(super) fn operate(&mut self, operation: &Operation) -> Result<(), Refusal> {
        let note = match operation {
            Operation::ServiceAdd(add) => self.service_add(add)?,
            Operation::ServiceSet(set) => self.service_set(set)?,
            Operation::ServiceRemove { name } => self.service_remove(name)?,
            Operation::PoolAdd(add) => self.pool_add(add)?,
            Operation::PoolSet(set) => self.pool_set(&set.name, &set.keys())?,
            Operation::PoolRemove { name } => self.pool_remove(name)?,
            Operation::BackendAdd { pool, address, weight } => self.backend_add(pool, *address, *weight)?,
            Operation::BackendRemove { pool, address, drain } => {
                let id = self.resolve(pool, *address)?;
                self.backend_remove(&id, *drain)?
            }
            Operation::BackendWeight { pool, address, weight } => {
                let id = self.existing(pool, *address)?;
                self.weight(&id, *weight)
            }
            Operation::BackendDrain { pool, address, deadline, then } => {
                let id = self.existing(pool, *address)?;
                self.drain(&id, *deadline, *then)?
            }
            Operation::BackendDisable { pool, address } => {
                let id = self.existing(pool, *address)?;
                self.disable(&id)
            }
            Operation::BackendEnable { pool, address } => {
                let id = self.existing(pool, *address)?;
                self.enable(&id)?
            }
            Operation::OverrideClear { pool, address } => {
                let id = self.existing(pool, *address)?;
                self.clear(&id)
            }
            Operation::OverrideClearAll => self.clear_all(),
        };
        self.outcome.notes.push(note);
        Ok(())
    }

    /// The pool of this name, or that of the service of this name.
    fn resolve_pool(&self, name: &Name) -> Result<Name, Refusal> {
        if self.next.pools.contains_key(name) {
            return Ok(name.clone());
        }
        if let Some(service) = self.next.services.get(name) {
            return Ok(service.pool.clone());
        }
        // Members of lbctl's in a pool that the file no longer defines can still be removed.
        if self.next.definitions.cli.backends.contains_key(name) {
            return Ok(name.clone());
        }
        let known = self.next.pools.keys().chain(self.next.services.keys()).map(Name::as_str);
        Err(Refusal::not_found("pool", name.as_str(), nearest(name.as_str(), known)))
    }

    /// The backend meant by a pool's or service's name and an address: the port may be left out where one backend has that
    /// address.
    fn resolve(&self, pool: &Name, address: BackendAddress) -> Result<MemberId, Refusal> {
        let pool = self.resolve_pool(pool)?;
        let known: Vec<BackendAddress> = match self.next.pools.get(&pool) {
            Some(pool) => pool.members.keys().copied().collect(),
            None => {
                self.next.definitions.cli.backends.get(&pool).into_iter().flatten().map(|(a, _)| *a).collect()
            }
        };
        if known.contains(&address) {
            return Ok(MemberId { pool, address });
        }
        let same_ip = || known.iter().filter(|known| address.port.is_none() && known.ip == address.ip);
        match (same_ip().next(), same_ip().count()) {
            (Some(only), 1) => Ok(MemberId { pool, address: *only }),
            (_, 0) => Err(Refusal::no_backend(&pool, address)),
            _ => {
                let all = same_ip().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let mut refusal = Refusal::no_backend(&pool, address);
                refusal.hint = Some(format!("name the port: {all}"));
                Err(refusal)
            }
        }
    }

    /// As [`Self::resolve`], of a pool that is there.
    fn existing(&self, pool: &Name, address: BackendAddress) -> Result<MemberId, Refusal> {
        let id = self.resolve(pool, address)?;
        match self.next.pools.contains_key(&id.pool) {
            true => Ok(id),
            false => Err(Refusal::not_found("pool", id.pool.as_str(), None)),
        }
    }
}

/// The note of an operation after which everything is as it was.
fn unchanged(what: &str) -> String {
    format!("{what}: unchanged")
}
