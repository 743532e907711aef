//! The keys of every table of the configuration.
//!
//! Invariant: a key that is not here is refused, and `docs/config.md` describes each one that is (a test compares them).

/// A key and a value it could have, as it would be written.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) example: &'static str,
}

const fn key(name: &'static str, example: &'static str) -> Key {
    Key { name, example }
}

pub(super) const ROOT: &[Key] = &[
    key("include", "[\"conf.d/*.toml\"]"),
    key("daemon", "{ socket = \"/run/lbd/lbd.sock\" }"),
    key("datapath", "{ interfaces = [\"eth0\"] }"),
    key("defaults", "{ forward = \"full-nat\" }"),
    key("pool", "[{ name = \"web\", backends = [\"10.0.0.11\"] }]"),
    key("service", "[{ name = \"web\", listen = [\"203.0.113.10:443/tcp\"], pool = \"web\" }]"),
];

pub(super) const INCLUDED: &[Key] = &[
    key("pool", "[{ name = \"web\", backends = [\"10.0.0.11\"] }]"),
    key("service", "[{ name = \"web\", listen = [\"203.0.113.10:443/tcp\"], pool = \"web\" }]"),
];

pub(super) const DAEMON: &[Key] = &[
    key("socket", "\"/run/lbd/lbd.sock\""),
    key("state", "\"/var/lib/lbd\""),
    key("metrics", "\"127.0.0.1:9472\""),
    key("on_exit", "\"keep\""),
    key("admin", "\"lbd-admin\""),
    key("read", "\"lbd-read\""),
];

pub(super) const DATAPATH: &[Key] = &[
    key("interfaces", "[\"eth0\"]"),
    key("mode", "\"auto\""),
    key("flows", "1_048_576"),
    key("pin", "\"/sys/fs/bpf/lbd\""),
    key("seed_file", "\"/var/lib/lbd/seed\""),
    key("snat", "[\"192.0.2.10\"]"),
    key("tunnel_source", "[\"192.0.2.11\"]"),
    key("probe_prefix", "[\"198.18.0.0/15\"]"),
    key("timeouts", "{ udp = \"60s\" }"),
];

pub(super) const TIMEOUTS: &[Key] =
    &[key("tcp", "\"1h\""), key("tcp_syn", "\"10s\""), key("tcp_closing", "\"30s\""), key("udp", "\"60s\"")];

pub(super) const DEFAULTS: &[Key] = &[
    key("forward", "\"full-nat\""),
    key("affinity", "\"flow\""),
    key("on_loss", "\"reselect\""),
    key("when_none", "\"reset\""),
    key("shadow_local", "false"),
    key("maglev", "4093"),
    key("panic_below", "\"50%\""),
    key("slow_start", "\"30s\""),
    key("passive", "{ patience = \"500ms\" }"),
    key("health", "{ type = \"tcp\" }"),
];

pub(super) const POOL: &[Key] = &[
    key("name", "\"web\""),
    key("backends", "[\"10.0.0.11\", \"10.0.0.12:8443\"]"),
    key("discover", "{ type = \"dns\", name = \"web.example.com\" }"),
    key("health", "{ type = \"http\", path = \"/healthz\" }"),
    key("maglev", "4093"),
    key("panic_below", "\"50%\""),
    key("slow_start", "\"30s\""),
    key("backup", "\"sorry\""),
    key("passive", "{ patience = \"500ms\" }"),
];

pub(super) const SERVICE: &[Key] = &[
    key("name", "\"web\""),
    key("listen", "[\"203.0.113.10:443/tcp\"]"),
    key("pool", "\"web\""),
    key("backends", "[\"10.0.0.11\", \"10.0.0.12:8443\"]"),
    key("forward", "\"full-nat\""),
    key("affinity", "\"flow\""),
    key("on_loss", "\"reselect\""),
    key("when_none", "\"reset\""),
    key("shadow_local", "false"),
    key("health", "{ type = \"http\", path = \"/healthz\" }"),
    key("maglev", "4093"),
    key("panic_below", "\"50%\""),
    key("slow_start", "\"30s\""),
    key("backup", "\"sorry\""),
    key("passive", "{ patience = \"500ms\" }"),
];

/// What belongs to a pool and stands in a service only beside backends of its own.
pub(super) const OF_POOL: [&str; 6] = ["health", "maglev", "panic_below", "slow_start", "backup", "passive"];

pub(super) const PASSIVE: &[Key] =
    &[key("patience", "\"500ms\""), key("eject", "\"10s\""), key("max_ejected", "\"34%\"")];

pub(super) const BACKUP: &[Key] =
    &[key("pool", "\"sorry\""), key("below", "\"25%\""), key("above", "\"50%\""), key("hold", "\"10s\"")];

pub(super) const BACKEND: &[Key] = &[key("address", "\"10.0.0.13\""), key("weight", "5")];

pub(super) const DISCOVER: &[Key] = &[
    key("type", "\"dns\""),
    key("name", "\"web.example.com\""),
    key("record", "\"a+aaaa\""),
    key("port", "8080"),
    key("server", "\"127.0.0.1:53\""),
    key("min_interval", "\"1s\""),
    key("max_interval", "\"60s\""),
    key("path", "\"/etc/lbd/web.list\""),
    key("url", "\"http://10.0.0.1:8080/backends\""),
    key("ca", "\"/etc/lbd/ca.pem\""),
    key("insecure", "true"),
    key("interval", "\"10s\""),
    key("timeout", "\"2s\""),
    key("allow_empty", "false"),
    key("max_backends", "1000"),
];

pub(super) const HEALTH: &[Key] = &[
    key("type", "\"http\""),
    key("interval", "\"2s\""),
    key("fast_interval", "\"500ms\""),
    key("jitter", "\"10%\""),
    key("timeout", "\"1s\""),
    key("rise", "2"),
    key("fall", "3"),
    key("port", "8080"),
    key("via", "\"service\""),
    key("path", "\"/healthz\""),
    key("method", "\"GET\""),
    key("host", "\"www.example.com\""),
    key("expect", "[200, 204]"),
    key("body", "\"ok\""),
    key("sni", "\"www.example.com\""),
    key("ca", "\"/etc/lbd/ca.pem\""),
    key("insecure", "true"),
    key("tls", "true"),
    key("service", "\"my.package.Service\""),
    key("send", "'ping\\n'"),
    key("query", "\"example.com\""),
    key("record", "\"A\""),
    key("answer", "\"192.0.2.1\""),
    key("command", "[\"/usr/local/bin/check\", \"--quick\"]"),
    key("user", "\"nobody\""),
];

/// Every table by the name under which people know it.
pub(super) const TABLES: &[(&str, &[Key])] = &[
    ("the main file, outside of any table", ROOT),
    ("[daemon]", DAEMON),
    ("[datapath]", DATAPATH),
    ("[datapath.timeouts]", TIMEOUTS),
    ("[[service]]", SERVICE),
    ("[[pool]]", POOL),
    ("discovery, [pool.discover]", DISCOVER),
    ("a backend, { address = \"10.0.0.13\", weight = 5 }", BACKEND),
    ("a backup, { pool = \"sorry\" }", BACKUP),
    ("passive, { patience = \"500ms\" }", PASSIVE),
    ("health, { type = \"http\" }", HEALTH),
];

/// The table where a key that was found elsewhere would be right.
pub(super) fn home_of(name: &str) -> Option<&'static str> {
    TABLES.iter().find(|(_, keys)| keys.iter().any(|key| key.name == name)).map(|(table, _)| *table)
}
