//! Services that lbctl adds, changes and removes.

use super::pool::{new_pool, taken};
use super::unchanged;
use crate::membership::draft::Draft;
use crate::membership::{Refusal, RefusalCode, ServiceAdd, ServiceSet};
use crate::spec::{Name, Origin, ServiceSpec, nearest};

impl Draft<'_> {
    pub(super) fn service_add(&mut self, add: &ServiceAdd) -> Result<String, Refusal> {
        let name = &add.name;
        let own_pool = add.pool.is_none();
        if !own_pool && (!add.backends.is_empty() || !add.keys().is_empty()) {
            return Err(Refusal::new(
                RefusalCode::Invalid,
                format!(
                    "service {:?} names a pool and has backends, a health check or other keys of a pool of its own",
                    name.as_str()
                ),
                "leave the pool out, or change that pool with lbctl backend add and lbctl pool set",
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
        let pool = own_pool.then(|| add.keys().applied(new_pool(name, true)));
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
        new.shadow_local = set.shadow_local.unwrap_or(new.shadow_local);
        let keys = set.keys();
        let pool_changed = !keys.is_empty() && self.set_pool(&new.pool, &keys)?;
        if new != old {
            self.cli().services.insert(name.clone(), new);
            self.sync_service(name);
        } else if !pool_changed {
            return Ok(unchanged(&format!("service {name}")));
        }
        Ok(format!("service {name} changed"))
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
}
