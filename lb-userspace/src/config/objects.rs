//! `[defaults]`, `[[pool]]` and `[[service]]`.
//!
//! In: the roots of the main file and of the included ones. Out: pools and services with their places. Invariant: an object
//! with a mistake in it is set aside, so that one mistake is reported once and not again as its consequences.

use std::collections::HashSet;
use std::time::Duration;

use toml::de::DeTable;

use super::section::{Missing, Section};
use super::settings::set;
use super::{backends, discover, health, keys, passive, standby};
use crate::spec::{
    Affinity, Forward, Gaps, HealthSpec, Listener, MAGLEV_SIZES, Name, OnLoss, PassiveSpec, Percent,
    PoolSpec, Problem, ServiceSpec, WhenNone,
};

/// What a service or a pool is where it says nothing.
#[derive(Clone, Debug)]
struct Defaults {
    forward: Forward,
    affinity: Affinity,
    on_loss: OnLoss,
    when_none: WhenNone,
    shadow_local: bool,
    maglev: Option<u32>,
    panic_below: Percent,
    slow_start: Duration,
    passive: Option<PassiveSpec>,
    health: HealthSpec,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            forward: Forward::default(),
            affinity: Affinity::default(),
            on_loss: OnLoss::default(),
            when_none: WhenNone::default(),
            shadow_local: false,
            maglev: None,
            panic_below: Percent::ZERO,
            slow_start: Duration::ZERO,
            passive: Some(PassiveSpec::default()),
            health: HealthSpec::default(),
        }
    }
}

/// The objects read so far.
#[derive(Default)]
pub(super) struct Objects {
    defaults: Defaults,
    /// Keys of `[defaults]` that could not be read.
    default_gaps: HashSet<&'static str>,
    pools: Vec<PoolSpec>,
    services: Vec<ServiceSpec>,
    gaps: Gaps,
    /// Something could not be read.
    broken: bool,
    /// Objects that were given a name.
    nameless: u32,
}

/// Objects that may be judged together.
pub(super) struct Judged {
    pub(super) pools: Vec<PoolSpec>,
    pub(super) services: Vec<ServiceSpec>,
    /// What could not be read of them.
    pub(super) gaps: Gaps,
    /// Everything could be read.
    pub(super) complete: bool,
}

impl Objects {
    /// A file could not be read at all: anything may be in it.
    pub(super) fn incomplete(&mut self) {
        (self.broken, self.gaps.some_pools, self.gaps.some_users) = (true, true, true);
    }

    /// Tables of a file that an unknown key was probably meant to be: what is in them was not read.
    pub(super) fn note_suspects(&mut self, root: &Section<'_>) {
        for suspect in root.suspects() {
            self.broken = true;
            match suspect {
                "pool" => self.gaps.some_pools = true,
                "service" => self.gaps.some_users = true,
                "defaults" => self.default_gaps.extend(keys::DEFAULTS.iter().map(|key| key.name)),
                _ => {}
            }
        }
    }

    /// `[datapath]` has mistakes in these keys.
    pub(super) fn note_settings(&mut self, missing: &HashSet<&'static str>) {
        self.gaps.interfaces |= missing.contains("interfaces");
        self.gaps.snat |= missing.contains("snat");
    }

    /// `[defaults]`, which holds for the included files too.
    pub(super) fn read_defaults(&mut self, root: &Section<'_>) {
        let found = root.document.found();
        match root.table("defaults", "[defaults]".into(), keys::DEFAULTS) {
            Some(section) => self.defaults_of(&section),
            None if root.has("defaults") => {
                self.default_gaps.extend(keys::DEFAULTS.iter().map(|key| key.name))
            }
            None => {}
        }
        self.broken |= root.document.found() > found;
    }

    fn defaults_of(&mut self, section: &Section<'_>) {
        let (defaults, mut gaps) = (&mut self.defaults, section.suspects());
        set(&mut defaults.forward, section.noting(&mut gaps, "forward", |key| section.parsed(key)));
        set(&mut defaults.affinity, section.noting(&mut gaps, "affinity", |key| section.parsed(key)));
        set(&mut defaults.on_loss, section.parsed("on_loss"));
        set(&mut defaults.when_none, section.parsed("when_none"));
        set(&mut defaults.shadow_local, section.boolean("shadow_local"));
        defaults.maglev = section.noting(&mut gaps, "maglev", |_| maglev(section));
        set(&mut defaults.panic_below, standby::panic_below(section));
        set(&mut defaults.slow_start, standby::slow_start(section));
        defaults.passive = passive::read(section, Some(PassiveSpec::default()));
        defaults.health = section.noting(&mut gaps, "health", |key| {
            let own = section.table(key, "[defaults.health]".into(), keys::HEALTH);
            own.map_or_else(HealthSpec::default, |own| health::read(&own, &HealthSpec::default()))
        });
        self.default_gaps = gaps;
    }

    /// The pools and services of one file.
    pub(super) fn read(&mut self, root: &Section<'_>) {
        let found = root.document.found();
        for (table, line) in root.tables("pool") {
            self.read_pool(root, table, line);
        }
        for (table, line) in root.tables("service") {
            self.read_service(root, table, line);
        }
        let readable = |key: &str| root.item(key).is_none_or(|item| item.get_ref().as_array().is_some());
        self.gaps.some_pools |= !readable("pool");
        self.gaps.some_users |= !readable("service");
        self.broken |= root.document.found() > found;
    }

    fn read_pool<'a>(&mut self, root: &Section<'a>, table: &'a DeTable<'a>, line: u32) {
        let section = Section::open(root.document, table, label("pool", table), line, keys::POOL);
        let name = self.name(&section, "pool");
        let mut gaps = section.suspects();
        let pool = self.pool(&section, name, false, &mut gaps);
        self.gaps.note(&pool.origin, gaps);
        self.pools.push(pool);
    }

    fn pool(&self, section: &Section<'_>, name: Name, inline: bool, gaps: &mut Missing) -> PoolSpec {
        let label = format!("health of {}", section.label);
        let own = section.noting(gaps, "health", |key| {
            let table = section.table(key, label, keys::HEALTH);
            table.map(|table| health::read(&table, &self.defaults.health))
        });
        self.inherit(section, gaps, ["health", "maglev"]);
        PoolSpec {
            origin: section.document.origin(section.line),
            inline,
            backends: section.noting(gaps, "backends", |_| backends::read(section)),
            discover: if inline {
                Vec::new()
            } else {
                section.noting(gaps, "backends", |_| discover::read(section))
            },
            health_is_default: own.is_none(),
            health: own.unwrap_or_else(|| self.defaults.health.clone()),
            maglev: section.noting(gaps, "maglev", |_| maglev(section)).or(self.defaults.maglev),
            panic_below: standby::panic_below(section).unwrap_or(self.defaults.panic_below),
            slow_start: standby::slow_start(section).unwrap_or(self.defaults.slow_start),
            backup: standby::backup(section, gaps),
            passive: passive::read(section, self.defaults.passive),
            name,
        }
    }

    fn read_service<'a>(&mut self, root: &Section<'a>, table: &'a DeTable<'a>, line: u32) {
        let section = Section::open(root.document, table, label("service", table), line, keys::SERVICE);
        let name = self.name(&section, "service");
        let mut gaps = section.suspects();
        let pool = section.noting(&mut gaps, "pool", |_| pool_of(&section, &name));
        // Nobody has this name, and the gap is noted.
        let pool = pool.unwrap_or_else(|| self.placeholder());
        let service = self.service(&section, name.clone(), pool, &mut gaps);
        // Read where it has no place too: what is wrong in it is said at once.
        let inline = self.pool(&section, name, true, &mut gaps);
        self.gaps.some_users |= gaps.contains("pool");
        self.gaps.note(&service.origin, gaps);
        self.services.push(service);
        if section.has("backends") {
            self.pools.push(inline);
        }
    }

    fn service(&self, section: &Section<'_>, name: Name, pool: Name, gaps: &mut Missing) -> ServiceSpec {
        let (listen, listen_lines) =
            section.noting(gaps, "listen", |_| listeners(section)).into_iter().unzip();
        self.inherit(section, gaps, ["forward", "affinity"]);
        let forward = section.noting(gaps, "forward", |key| section.parsed(key));
        let affinity = section.noting(gaps, "affinity", |key| section.parsed(key));
        ServiceSpec {
            name,
            origin: section.document.origin(section.line),
            listen,
            listen_lines,
            pool,
            forward: forward.unwrap_or(self.defaults.forward),
            affinity: affinity.unwrap_or(self.defaults.affinity),
            on_loss: section.parsed("on_loss").unwrap_or(self.defaults.on_loss),
            when_none: section.parsed("when_none").unwrap_or(self.defaults.when_none),
            shadow_local: section.boolean("shadow_local").unwrap_or(self.defaults.shadow_local),
        }
    }

    /// Keys that come from `[defaults]`, where they could not be read. A health table takes from there what it does not say.
    fn inherit(&self, section: &Section<'_>, gaps: &mut Missing, keys: [&'static str; 2]) {
        let inherited = |key: &&'static str| *key == "health" || !section.has(key);
        gaps.extend(keys.into_iter().filter(inherited).filter(|key| self.default_gaps.contains(key)));
    }

    /// The object's name. One that has none is judged under a name that nothing else has.
    fn name(&mut self, section: &Section<'_>, kind: &str) -> Name {
        name(section, kind).unwrap_or_else(|| {
            self.gaps.some_pools = true;
            self.placeholder()
        })
    }

    fn placeholder(&mut self) -> Name {
        self.nameless += 1;
        Name::unnamed(self.nameless)
    }

    /// What may be judged.
    pub(super) fn judge(self) -> Judged {
        Judged { pools: self.pools, services: self.services, gaps: self.gaps, complete: !self.broken }
    }
}

/// The pool a service names, or the one made of its own backends.
fn pool_of(section: &Section<'_>, name: &Name) -> Option<Name> {
    let push = |line, message, hint| {
        section.document.push(Problem::error(section.document.place(line), message, hint));
    };
    let named = section.parsed("pool");
    match (section.has("pool"), section.has("backends")) {
        (true, true) => {
            let message = format!("{} has both pool and backends", section.label);
            push(section.line_of("backends"), message, "keep one of them");
            None
        }
        (false, false) => {
            let message = format!("{} has neither a pool nor backends", section.label);
            let hint = "write pool = \"web\" with a [[pool]] of that name, or backends = [\"10.0.0.11\"]";
            push(section.line, message, hint);
            None
        }
        (false, true) => Some(name.clone()),
        (true, false) => {
            for key in keys::OF_POOL.into_iter().filter(|key| section.has(key)) {
                let message = format!("{key} belongs to the pool and cannot stand");
                section.fault(section.line_of(key), message, "write it in the [[pool]]");
            }
            named
        }
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
