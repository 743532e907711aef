//! What is otherwise in one configuration than in another, in words.
//!
//! In: two configurations, whole (definitions of all origins, overrides). Out: a sentence for each key, object and backend that
//! differs. Invariants: no sentence exactly where nothing differs but places; a key that this module has never heard of is
//! told of too, because the values are compared as they are written down.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::membership::OverrideEntry;
use crate::spec::{BackendAddress, BackendSpec, Name, PoolSpec, ServiceSpec, SourceSpec, Spec};

/// What `new` says otherwise than `old`.
pub fn differences(old: &Spec, new: &Spec) -> Vec<String> {
    let mut found = Vec::new();
    keys("", &Settings::of(old), &Settings::of(new), &mut found);
    services(old, new, &mut found);
    pools(old, new, &mut found);
    if found.is_empty() && !old.means_the_same(new) {
        found.push("the same in another order".to_owned());
    }
    found
}

/// Which overrides `new` has otherwise than `old`.
pub fn override_differences(old: &[OverrideEntry], new: &[OverrideEntry]) -> Vec<String> {
    let by_backend = |entries: &[OverrideEntry]| -> BTreeMap<String, String> {
        let entry = |entry: &OverrideEntry| {
            (format!("{}/{}", entry.pool, entry.address), crate::membership::in_words(&entry.value))
        };
        entries.iter().map(entry).collect()
    };
    let (old, new) = (by_backend(old), by_backend(new));
    let ended = old.iter().filter(|(id, _)| !new.contains_key(*id));
    let ended = ended.map(|(id, over)| format!("backend {id}: no longer {over}"));
    let other = new.iter().filter(|(id, over)| old.get(*id) != Some(over));
    ended.chain(other.map(|(id, over)| format!("backend {id}: {over}"))).collect()
}

/// What is not a service or a pool.
#[derive(Serialize)]
struct Settings<'a> {
    daemon: &'a crate::spec::DaemonSpec,
    datapath: &'a crate::spec::DatapathSpec,
}

impl<'a> Settings<'a> {
    const fn of(spec: &'a Spec) -> Self {
        Self { daemon: &spec.daemon, datapath: &spec.datapath }
    }
}

fn services(old: &Spec, new: &Spec, found: &mut Vec<String>) {
    let by_name = |spec: &Spec| -> BTreeMap<Name, ServiceSpec> {
        spec.services.iter().map(|service| (service.name.clone(), service.without_place())).collect()
    };
    let (old, new) = (by_name(old), by_name(new));
    found.extend(gone(&old, &new).map(|name| format!("service {name} is removed")));
    for (name, service) in &new {
        match old.get(name) {
            None => {
                let listen: Vec<String> = service.listen.iter().map(ToString::to_string).collect();
                let (listen, pool, forward) = (listen.join(", "), &service.pool, service.forward);
                found.push(format!("service {name} is added: {listen}, {forward}, pool {pool}"));
            }
            Some(old) if old == service => {}
            Some(old) => keys(&format!("service {name}: "), old, service, found),
        }
    }
}

fn pools(old: &Spec, new: &Spec, found: &mut Vec<String>) {
    let by_name = |spec: &Spec| -> BTreeMap<Name, PoolSpec> {
        spec.pools.iter().map(|pool| (pool.name.clone(), pool.without_place())).collect()
    };
    let (old, new) = (by_name(old), by_name(new));
    found.extend(gone(&old, &new).map(|name| format!("pool {name} is removed")));
    for (name, pool) in &new {
        match old.get(name) {
            None => found.push(format!("pool {name} is added: {}", count(pool.backends.len()))),
            Some(old) if old == pool => {}
            Some(old) => {
                keys(&format!("pool {name}: "), &without_backends(old), &without_backends(pool), found);
                backends(name, &old.backends, &pool.backends, found);
                sources(name, &old.discover, &pool.discover, found);
            }
        }
    }
}

fn count(backends: usize) -> String {
    format!("{backends} backend{}", if backends == 1 { "" } else { "s" })
}

fn without_backends(pool: &PoolSpec) -> PoolSpec {
    PoolSpec { backends: Vec::new(), discover: Vec::new(), ..pool.clone() }
}

fn backends(pool: &Name, old: &[BackendSpec], new: &[BackendSpec], found: &mut Vec<String>) {
    // The first word on a weight is the one that counts.
    let by_address = |backends: &[BackendSpec]| -> BTreeMap<BackendAddress, u16> {
        backends.iter().rev().map(|backend| (backend.address, backend.weight)).collect()
    };
    let (old, new) = (by_address(old), by_address(new));
    found.extend(gone(&old, &new).map(|address| format!("pool {pool}: backend {address} is removed")));
    for (address, weight) in &new {
        match old.get(address) {
            None => found.push(format!("pool {pool}: backend {address} is added, weight {weight}")),
            Some(before) if before == weight => {}
            Some(before) => {
                found.push(format!("pool {pool}: backend {address}: weight {before} → {weight}"));
            }
        }
    }
}

fn sources(pool: &Name, old: &[SourceSpec], new: &[SourceSpec], found: &mut Vec<String>) {
    let by_name = |sources: &[SourceSpec]| -> BTreeMap<String, SourceSpec> {
        sources.iter().map(|source| (source.name(), source.clone())).collect()
    };
    let (old, new) = (by_name(old), by_name(new));
    found.extend(gone(&old, &new).map(|source| format!("pool {pool}: discovery by {source} ends")));
    for (name, source) in &new {
        match old.get(name) {
            None => found.push(format!("pool {pool}: discovery by {name} begins")),
            Some(before) => keys(&format!("pool {pool}: discovery by {name}: "), before, source, found),
        }
    }
}

fn gone<'a, K: Ord, V>(old: &'a BTreeMap<K, V>, new: &BTreeMap<K, V>) -> impl Iterator<Item = &'a K> {
    old.keys().filter(|key| !new.contains_key(key))
}

/// The keys in which two values differ, as they are written down.
fn keys<T: Serialize>(what: &str, old: &T, new: &T, found: &mut Vec<String>) {
    let leaves = |value: &T| {
        let mut leaves = BTreeMap::new();
        // What cannot be written down cannot have been accepted.
        collect(String::new(), &serde_json::to_value(value).unwrap_or_default(), &mut leaves);
        leaves
    };
    let (old, new) = (leaves(old), leaves(new));
    let all = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
    for key in all.filter(|key| old.get(*key) != new.get(*key)) {
        let text =
            |leaves: &BTreeMap<String, String>| leaves.get(key).map_or("none", String::as_str).to_owned();
        found.push(format!("{what}{key}: {} → {}", text(&old), text(&new)));
    }
}

fn collect(path: String, value: &Value, leaves: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                collect(path, value, leaves);
            }
        }
        // As if it were not there.
        Value::Null => {}
        value => drop(leaves.insert(path, text(value))),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "none".to_owned(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(", "),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn spec(text: &str, name: &str) -> Spec {
        config::parse(text, name).unwrap().spec
    }

    const OLD: &str = r#"
[datapath]
interfaces = ["eth0"]
[[pool]]
name = "web"
backends = ["10.0.0.1", { address = "10.0.0.2", weight = 5 }, "10.0.0.3"]
[[service]]
name = "web"
listen = ["203.0.113.10:80/tcp"]
pool = "web"
[[service]]
name = "old"
listen = ["203.0.113.10:81/tcp"]
backends = ["10.0.0.9"]
"#;

    #[test]
    fn what_only_moved_is_no_difference() {
        let moved = format!("# a comment\n\n{OLD}");
        assert_eq!(differences(&spec(OLD, "a.toml"), &spec(&moved, "b.toml")), Vec::<String>::new());
    }

    #[test]
    fn every_kind_of_difference_is_a_sentence() {
        let new = r#"
[datapath]
interfaces = ["eth0"]
[datapath.timeouts]
udp = "30s"
[[pool]]
name = "web"
backends = ["10.0.0.1", { address = "10.0.0.2", weight = 7 }, "10.0.0.4:81"]
health = { type = "http", path = "/healthz" }
[[service]]
name = "web"
listen = ["203.0.113.10:80/tcp", "203.0.113.10:80/udp"]
pool = "web"
affinity = "client"
[[service]]
name = "new"
listen = ["203.0.113.10:82/tcp"]
pool = "web"
"#;
        let found = differences(&spec(OLD, "a"), &spec(new, "a"));
        for sentence in [
            "datapath.timeouts.udp: 60 → 30",
            "service old is removed",
            "service new is added: 203.0.113.10:82/tcp, full-nat, pool web",
            "service web: affinity: flow → client",
            "service web: listen: 203.0.113.10:80/tcp → 203.0.113.10:80/tcp, 203.0.113.10:80/udp",
            "pool old is removed",
            "pool web: backend 10.0.0.3 is removed",
            "pool web: backend 10.0.0.4:81 is added, weight 1",
            "pool web: backend 10.0.0.2: weight 5 → 7",
        ] {
            assert!(found.iter().any(|found| found == sentence), "{sentence}: {found:#?}");
        }
        assert!(found.iter().any(|found| found.contains("/healthz")), "{found:#?}");
    }

    #[test]
    fn another_order_is_said() {
        let two = |first: &str, second: &str| {
            let pool = |name| format!("[[pool]]\nname = \"{name}\"\nbackends = [\"10.0.0.1\"]\n");
            let text = format!("[datapath]\ninterfaces = [\"eth0\"]\n{}{}", pool(first), pool(second));
            spec(&text, "a")
        };
        assert_eq!(differences(&two("a", "b"), &two("b", "a")), ["the same in another order"]);
    }

    #[test]
    fn sources_are_told_by_their_names() {
        let file = |sources: &str| {
            let text = format!(
                "[datapath]\ninterfaces = [\"eth0\"]\n[[pool]]\nname = \"web\"\n{sources}\n[[service]]\nname = \"web\"\nlisten = [\"192.0.2.1:80/tcp\"]\npool = \"web\"\n"
            );
            spec(&text, "lbd.toml")
        };
        let old = file(
            "[[pool.discover]]\ntype = \"dns\"\nname = \"a\"\n[[pool.discover]]\ntype = \"file\"\npath = \"/b\"\n",
        );
        let new = file(
            "[[pool.discover]]\ntype = \"http\"\nurl = \"http://c/\"\n[[pool.discover]]\ntype = \"dns\"\nname = \"a\"\nmax_interval = \"5s\"\n",
        );
        assert_eq!(
            differences(&old, &new),
            [
                "pool web: discovery by file:/b ends",
                "pool web: discovery by dns:a: max_interval: 60 → 5",
                "pool web: discovery by http://c/ begins",
            ]
        );
    }
}
