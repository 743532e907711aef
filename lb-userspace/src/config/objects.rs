//! `[defaults]`, `[[pool]]` and `[[service]]`.
//!
//! In: the roots of the main file and of the included ones. Out: pools and services with their places. Invariant: an object
//! with a mistake in it is set aside, so that one mistake is reported once and not again as its consequences.

use std::collections::HashSet;

use toml::de::DeTable;

use super::section::{Item, Section};
use super::settings::set;
use super::{health, keys};
use crate::spec::{
    Affinity, BackendAddress, BackendSpec, DEFAULT_WEIGHT, Forward, HealthSpec, Listener, MAGLEV_SIZES, Name,
    OnLoss, PoolSpec, Problem, ServiceSpec, WhenNone,
};

/// What a service or a pool is where it says nothing.
#[derive(Clone, Debug, Default)]
struct Defaults {
    forward: Forward,
    affinity: Affinity,
    on_loss: OnLoss,
    when_none: WhenNone,
    shadow_local: bool,
    maglev: Option<u32>,
    health: HealthSpec,
}

/// The objects read so far.
#[derive(Default)]
pub(super) struct Objects {
    defaults: Defaults,
    pools: Vec<PoolSpec>,
    services: Vec<ServiceSpec>,
    /// Names of pools that were set aside: a service that names one of them is not at fault.
    broken_pools: HashSet<Name>,
    broken: bool,
    /// Even the names are not known: nothing can be said about references.
    unread: bool,
}

/// Objects that may be judged together.
pub(super) struct Judged {
    pub(super) pools: Vec<PoolSpec>,
    pub(super) services: Vec<ServiceSpec>,
    /// Nothing was set aside.
    pub(super) complete: bool,
}

impl Objects {
    /// A file could not be read at all.
    pub(super) fn incomplete(&mut self) {
        (self.broken, self.unread) = (true, true);
    }

    /// `[defaults]`, which holds for the included files too.
    pub(super) fn read_defaults(&mut self, root: &Section<'_>) {
        let found = root.document.found();
        if let Some(section) = root.table("defaults", "[defaults]".into(), keys::DEFAULTS) {
            let defaults = &mut self.defaults;
            set(&mut defaults.forward, section.parsed("forward"));
            set(&mut defaults.affinity, section.parsed("affinity"));
            set(&mut defaults.on_loss, section.parsed("on_loss"));
            set(&mut defaults.when_none, section.parsed("when_none"));
            set(&mut defaults.shadow_local, section.boolean("shadow_local"));
            defaults.maglev = maglev(&section);
            if let Some(section) = section.table("health", "[defaults.health]".into(), keys::HEALTH) {
                defaults.health = health::read(&section, &HealthSpec::default());
            }
        }
        if root.document.found() > found {
            self.incomplete();
        }
    }

    /// The pools and services of one file.
    pub(super) fn read(&mut self, root: &Section<'_>) {
        for (table, line) in root.tables("pool") {
            self.read_pool(root, table, line);
        }
        for (table, line) in root.tables("service") {
            self.read_service(root, table, line);
        }
    }

    fn read_pool<'a>(&mut self, root: &Section<'a>, table: &'a DeTable<'a>, line: u32) {
        let found = root.document.found();
        let section = Section::open(root.document, table, label("pool", table), line, keys::POOL);
        let name = name(&section, "pool");
        let pool = name.clone().map(|name| self.pool(&section, name, false));
        match pool {
            Some(pool) if root.document.found() == found => self.pools.push(pool),
            _ => self.set_aside(name),
        }
    }

    fn set_aside(&mut self, pool: Option<Name>) {
        self.broken = true;
        match pool {
            Some(name) => drop(self.broken_pools.insert(name)),
            None => self.unread = true,
        }
    }

    fn pool(&self, section: &Section<'_>, name: Name, inline: bool) -> PoolSpec {
        let label = format!("health of {}", section.label);
        let own = section.table("health", label, keys::HEALTH);
        PoolSpec {
            origin: section.document.origin(section.line),
            inline,
            backends: backends(section, &name),
            health_is_default: own.is_none(),
            health: own.map_or_else(
                || self.defaults.health.clone(),
                |own| health::read(&own, &self.defaults.health),
            ),
            maglev: maglev(section).or(self.defaults.maglev),
            name,
        }
    }

    fn read_service<'a>(&mut self, root: &Section<'a>, table: &'a DeTable<'a>, line: u32) {
        let found = root.document.found();
        let section = Section::open(root.document, table, label("service", table), line, keys::SERVICE);
        let name = name(&section, "service");
        let own = section.has("backends");
        let pool = self.pool_of(&section, name.as_ref());
        let service = name.clone().zip(pool).map(|(name, pool)| self.service(&section, name, pool));
        let inline = name.clone().filter(|_| own).map(|name| self.pool(&section, name, true));
        if root.document.found() > found {
            return self.set_aside(name);
        }
        self.services.extend(service);
        self.pools.extend(inline);
    }

    /// The pool a service names, or the one made of its own backends.
    fn pool_of(&self, section: &Section<'_>, name: Option<&Name>) -> Option<Name> {
        let own = section.has("backends");
        let named = section.has("pool");
        match (named, own) {
            (true, true) => {
                let message = format!("{} has both pool and backends", section.label);
                let place = section.document.place(section.line_of("backends"));
                section.document.push(Problem::error(place, message, "keep one of them"));
                None
            }
            (false, false) => {
                let message = format!("{} has neither a pool nor backends", section.label);
                let hint = "write pool = \"web\" with a [[pool]] of that name, or backends = [\"10.0.0.11\"]";
                section.document.push(Problem::error(section.document.place(section.line), message, hint));
                None
            }
            (false, true) => name.cloned(),
            (true, false) => {
                for key in ["health", "maglev"].into_iter().filter(|key| section.has(key)) {
                    let hint = "write it in the [[pool]]";
                    section.fault(
                        section.line_of(key),
                        format!("{key} belongs to the pool and cannot stand"),
                        hint,
                    );
                }
                section.parsed("pool")
            }
        }
    }

    fn service(&self, section: &Section<'_>, name: Name, pool: Name) -> ServiceSpec {
        let (listen, listen_lines) = listeners(section).into_iter().unzip();
        ServiceSpec {
            name,
            origin: section.document.origin(section.line),
            listen,
            listen_lines,
            pool,
            forward: section.parsed("forward").unwrap_or(self.defaults.forward),
            affinity: section.parsed("affinity").unwrap_or(self.defaults.affinity),
            on_loss: section.parsed("on_loss").unwrap_or(self.defaults.on_loss),
            when_none: section.parsed("when_none").unwrap_or(self.defaults.when_none),
            shadow_local: section.boolean("shadow_local").unwrap_or(self.defaults.shadow_local),
        }
    }

    /// What may be judged; without defaults that hold or names that are known, nothing may.
    pub(super) fn judge(self) -> Judged {
        if self.unread {
            return Judged { pools: Vec::new(), services: Vec::new(), complete: false };
        }
        let broken = self.broken_pools;
        let services = self.services.into_iter().filter(|service| !broken.contains(&service.pool)).collect();
        Judged { pools: self.pools, services, complete: !self.broken }
    }
}

/// `pool "web"`, or `[[pool]]` while it has no name.
fn label(kind: &str, table: &DeTable<'_>) -> String {
    match table.get("name").and_then(|name| name.get_ref().as_str()) {
        Some(name) => format!("{kind} {name:?}"),
        None => format!("[[{kind}]]"),
    }
}

fn name(section: &Section<'_>, kind: &str) -> Option<Name> {
    if !section.has("name") {
        let place = section.document.place(section.line);
        let hint = "write name = \"web\" in it";
        section.document.push(Problem::error(place, format!("this [[{kind}]] has no name"), hint));
    }
    let (text, line) = section.string("name")?;
    match text.parse::<Name>() {
        Ok(name) => Some(name),
        Err(error) => {
            section.document.push(Problem::error(section.document.place(line), error.message, error.hint));
            None
        }
    }
}

fn listeners(section: &Section<'_>) -> Vec<(Listener, u32)> {
    let listeners = section.strings("listen").unwrap_or_default().into_iter();
    listeners.filter_map(|(text, line)| Some((section.accept(line, text.parse())?, line))).collect()
}

fn maglev(section: &Section<'_>) -> Option<u32> {
    let size = section.integer("maglev", 1..=u32::MAX)?;
    if !MAGLEV_SIZES.contains(&size) {
        let hint =
            "write 1021, 4093, 16381 or 65537, or leave it out: lbd then chooses by the number of backends";
        section.fault(section.line_of("maglev"), format!("maglev = {size} is no size of a table"), hint);
        return None;
    }
    Some(size)
}

fn backends(section: &Section<'_>, pool: &Name) -> Vec<BackendSpec> {
    let items = section.array("backends").unwrap_or_default();
    items.into_iter().enumerate().filter_map(|(index, item)| backend(section, pool, index, item)).collect()
}

fn backend<'a>(section: &Section<'a>, pool: &Name, index: usize, item: &'a Item<'a>) -> Option<BackendSpec> {
    let line = section.document.line(&item.span());
    let origin = section.document.origin(line);
    if let Some(text) = item.get_ref().as_str() {
        let address = section.accept(line, text.parse())?;
        return Some(BackendSpec { address, weight: DEFAULT_WEIGHT, origin });
    }
    let Some(table) = item.get_ref().as_table() else {
        let hint = "write \"10.0.0.11\" or { address = \"10.0.0.11\", weight = 5 }";
        section.fault(line, format!("backend {} is neither an address nor a table", index + 1), hint);
        return None;
    };
    let label = match table.get("address").and_then(|address| address.get_ref().as_str()) {
        Some(address) => format!("backend {address:?} of pool {:?}", pool.as_str()),
        None => format!("backend {} of pool {:?}", index + 1, pool.as_str()),
    };
    let entry = Section::open(section.document, table, label, line, keys::BACKEND);
    if !entry.has("address") {
        entry.fault(line, "address is missing", "write { address = \"10.0.0.11\", weight = 5 }");
    }
    let (text, line) = entry.string("address")?;
    let address: BackendAddress = section.accept(line, text.parse())?;
    let weight = match entry.has("weight") {
        true => entry.integer("weight", 0..=u16::MAX)?,
        false => DEFAULT_WEIGHT,
    };
    Some(BackendSpec { address, weight, origin })
}
