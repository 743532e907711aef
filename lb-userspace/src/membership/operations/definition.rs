//! Services, pools and backends that lbctl adds, changes and removes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::unchanged;
use crate::membership::draft::Draft;
use crate::membership::{
    CliObjects, MemberId, NewBackend, PoolAdd, Refusal, RefusalCode, ServiceAdd, ServiceSet,
};
use crate::membership::{StateOverride, Then};
use crate::spec::{
    BackendAddress, HealthSpec, Name, Origin, PoolSpec, ServiceSpec, format_duration, nearest,
};

impl Draft<'_> {
    fn cli(&mut self) -> &mut CliObjects {
        self.revised = true;
        Arc::make_mut(&mut self.next.definitions.cli)
    }

    pub(super) fn service_add(&mut self, add: &ServiceAdd) -> Result<String, Refusal> {
        let name = &add.name;
        let own_pool = add.pool.is_none();
        if !own_pool && (!add.backends.is_empty() || add.health.is_some()) {
            return Err(Refusal::new(
                RefusalCode::Invalid,
                format!(
                    "service {:?} names a pool and has backends or a health check of its own",
                    name.as_str()
                ),
                "leave the pool out, or add the backends to that pool with lbctl backend add",
            ));
        }
        let service = ServiceSpec {
            name: name.clone(),
            origin: Origin::Cli,
            listen: add.listen.clone(),
            listen_lines: Vec::new(),
            pool: add.pool.clone().unwrap_or_else(|| name.clone()),
            forward: add.forward,
            affinity: add.affinity,
            on_loss: add.on_loss,
            when_none: add.when_none,
            shadow_local: add.shadow_local,
        };
        let pool = own_pool.then(|| new_pool(name, true, add.health.as_ref(), None));
        if let Some(there) = self.next.definitions.service(name) {
            let so = *there == service && pool.as_ref().is_none_or(|pool| self.is_so(pool, &add.backends));
            let origin = there.origin.clone();
            return match so {
                true => Ok(unchanged(&format!("service {name}"))),
                false => Err(taken("service", name, &origin)),
            };
        }
        if let Some(pool) = pool {
            self.insert_pool(pool, &add.backends)?;
        }
        self.cli().services.insert(name.clone(), service);
        self.sync_service(name);
        Ok(format!("service {name} added"))
    }

    /// lbctl's pool of this name is exactly this, with these backends.
    fn is_so(&self, pool: &PoolSpec, backends: &[NewBackend]) -> bool {
        let cli = &self.next.definitions.cli;
        let members = cli.backends.get(&pool.name);
        let wanted: BTreeMap<BackendAddress, u16> = backends.iter().map(|b| (b.address, b.weight)).collect();
        cli.pools.get(&pool.name) == Some(pool)
            && members.map_or(wanted.is_empty(), |members| *members == wanted)
    }

    fn insert_pool(&mut self, pool: PoolSpec, backends: &[NewBackend]) -> Result<(), Refusal> {
        let name = pool.name.clone();
        if let Some(there) = self.next.definitions.pool_alone(&name) {
            let mut refusal = taken("pool", &name, &there.origin.clone());
            refusal.hint = Some(format!("use another name, or use this pool: --pool {name}"));
            return Err(refusal);
        }
        let members: BTreeMap<BackendAddress, u16> = backends.iter().map(|b| (b.address, b.weight)).collect();
        if members.len() != backends.len() {
            return Err(Refusal::new(
                RefusalCode::Invalid,
                format!("pool {:?} names a backend twice", name.as_str()),
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

    pub(super) fn service_set(&mut self, set: &ServiceSet) -> Result<String, Refusal> {
        let name = &set.name;
        let old = self.own_service(name, "change")?;
        let mut new = old.clone();
        new.pool = set.pool.clone().unwrap_or(new.pool);
        new.listen = set.listen.clone().unwrap_or(new.listen);
        new.forward = set.forward.unwrap_or(new.forward);
        new.affinity = set.affinity.unwrap_or(new.affinity);
        new.on_loss = set.on_loss.unwrap_or(new.on_loss);
        new.when_none = set.when_none.unwrap_or(new.when_none);
        let pool_changed = match &set.health {
            Some(health) => self.set_health(&new.pool, health)?,
            None => false,
        };
        if new != old {
            self.cli().services.insert(name.clone(), new);
            self.sync_service(name);
        } else if !pool_changed {
            return Ok(unchanged(&format!("service {name}")));
        }
        Ok(format!("service {name} changed"))
    }

    /// True: it is another than before.
    fn set_health(&mut self, name: &Name, health: &HealthSpec) -> Result<bool, Refusal> {
        let Some(old) = self.next.definitions.cli.pools.get(name).cloned() else {
            let origin = self.next.definitions.pool_alone(name).map(|pool| pool.origin.clone());
            let what = format!("pool {:?}", name.as_str());
            return Err(match origin {
                Some(origin) => Refusal::owner(&what, &origin, "change", None),
                None => Refusal::not_found("pool", name.as_str(), None),
            });
        };
        let new = PoolSpec { health: health.clone(), health_is_default: false, ..old.clone() };
        if new == old {
            return Ok(false);
        }
        self.cli().pools.insert(name.clone(), new);
        self.sync_pool(name);
        Ok(true)
    }

    pub(super) fn service_remove(&mut self, name: &Name) -> Result<String, Refusal> {
        let service = self.own_service(name, "remove")?;
        self.cli().services.remove(name);
        self.sync_service(name);
        let pool = &service.pool;
        let shared = self.next.services.values().any(|other| other.pool == *pool);
        let own = self.next.definitions.cli.pools.get(pool).is_some_and(|pool| pool.inline);
        if own && !shared {
            self.drop_pool(pool);
        }
        Ok(format!("service {name} removed"))
    }

    fn own_service(&self, name: &Name, verb: &str) -> Result<ServiceSpec, Refusal> {
        let Some(service) = self.next.definitions.service(name) else {
            let known = self.next.definitions.service_names().map(Name::as_str);
            return Err(Refusal::not_found("service", name.as_str(), nearest(name.as_str(), known)));
        };
        match service.origin {
            Origin::Cli => Ok(service.clone()),
            _ => {
                let instead = (verb == "remove").then(|| {
                    format!("lbctl backend disable {name} ADDR for each of its backends, with --force,")
                });
                let what = format!("service {:?}", name.as_str());
                Err(Refusal::owner(&what, &service.origin, verb, instead))
            }
        }
    }

    pub(super) fn pool_add(&mut self, add: &PoolAdd) -> Result<String, Refusal> {
        let pool = new_pool(&add.name, false, add.health.as_ref(), add.maglev);
        if self.is_so(&pool, &add.backends) {
            return Ok(unchanged(&format!("pool {}", add.name)));
        }
        self.insert_pool(pool, &add.backends)?;
        Ok(format!("pool {} added", add.name))
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

    fn drop_pool(&mut self, name: &Name) {
        let cli = self.cli();
        cli.pools.remove(name);
        cli.backends.remove(name);
        self.sync_pool(name);
    }

    pub(super) fn backend_add(
        &mut self,
        pool: &Name,
        address: BackendAddress,
        weight: u16,
    ) -> Result<String, Refusal> {
        let pool = self.resolve_pool(pool)?;
        let id = MemberId { pool, address };
        if !self.next.pools.contains_key(&id.pool) {
            return Err(Refusal::not_found("pool", id.pool.as_str(), None));
        }
        let there =
            self.next.definitions.cli.backends.get(&id.pool).and_then(|members| members.get(&address));
        match there {
            Some(there) if *there == weight => return Ok(unchanged(&format!("backend {id}"))),
            Some(there) => {
                return Err(Refusal::new(
                    RefusalCode::Invalid,
                    format!("backend {id} was added before, with weight {there}"),
                    format!("change it with lbctl backend set {} {address} --weight {weight}", id.pool),
                ));
            }
            None => {}
        }
        let others: Vec<String> = self
            .next
            .member(&id)
            .map(|member| member.claims.iter().map(|claim| claim.origin.to_string()).collect())
            .unwrap_or_default();
        self.cli().backends.entry(id.pool.clone()).or_default().insert(address, weight);
        self.sync_pool(&id.pool);
        Ok(match others.is_empty() {
            true => format!("backend {id} added"),
            false => format!("backend {id} is now defined by lbctl too, besides {}", others.join(", ")),
        })
    }

    pub(super) fn backend_remove(
        &mut self,
        id: &MemberId,
        drain: Option<Duration>,
    ) -> Result<String, Refusal> {
        self.own_backend(id)?;
        if let Some(deadline) = drain.filter(|_| self.next.member(id).is_some()) {
            let until = self.now.after(deadline);
            self.set_override(id, |over| {
                over.state = Some(StateOverride::Draining {
                    deadline: Some(until),
                    then: Then::Remove,
                    expired: false,
                });
            });
            return Ok(format!("backend {id} is drained, to be removed in {}", format_duration(deadline)));
        }
        self.remove_claim(id);
        Ok(match self.next.member(id).and_then(|member| member.claims.first()) {
            Some(claim) => {
                format!("backend {id} is no longer defined by lbctl; it stays, by {}", claim.origin)
            }
            None => format!("backend {id} removed"),
        })
    }

    /// Refuses to remove what lbctl did not add.
    pub(super) fn own_backend(&self, id: &MemberId) -> Result<(), Refusal> {
        let cli = self.next.definitions.cli.backends.get(&id.pool);
        if cli.is_some_and(|members| members.contains_key(&id.address)) {
            return Ok(());
        }
        let Some(claim) = self.next.member(id).and_then(|member| member.claims.first()) else {
            return Err(Refusal::no_backend(&id.pool, id.address));
        };
        let instead = format!("lbctl backend disable {} {}", id.pool, id.address);
        Err(Refusal::owner(&format!("backend {id}"), &claim.origin, "remove", Some(instead)))
    }

    /// Takes lbctl's word for this backend back.
    pub(in crate::membership) fn remove_claim(&mut self, id: &MemberId) {
        let cli = self.cli();
        if let Some(members) = cli.backends.get_mut(&id.pool) {
            members.remove(&id.address);
            if members.is_empty() {
                cli.backends.remove(&id.pool);
            }
        }
        self.sync_pool(&id.pool);
    }
}

fn new_pool(name: &Name, inline: bool, health: Option<&HealthSpec>, maglev: Option<u32>) -> PoolSpec {
    PoolSpec {
        name: name.clone(),
        origin: Origin::Cli,
        inline,
        backends: Vec::new(),
        health: health.cloned().unwrap_or_default(),
        health_is_default: health.is_none(),
        maglev,
    }
}

/// The name is in use for something else.
fn taken(what: &str, name: &Name, origin: &Origin) -> Refusal {
    match origin {
        Origin::Cli => Refusal::new(
            RefusalCode::Invalid,
            format!("{what} {:?} exists already, and is not exactly so", name.as_str()),
            format!("change it with lbctl {what} set {name}, or use another name"),
        ),
        _ => Refusal::owner(&format!("{what} {:?}", name.as_str()), origin, "add", None),
    }
}
