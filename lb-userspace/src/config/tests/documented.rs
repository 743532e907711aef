//! `docs/config.md` says what the code does: the same keys, the same defaults, examples that are right.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::config::keys::{DEFAULTS, TABLES};
use crate::spec::{
    Affinity, BackupSpec, DEFAULT_WEIGHT, DaemonSpec, DatapathSpec, DnsSource, ExecCheck, Forward, GrpcCheck,
    HealthSpec, HttpCheck, HttpSource, MAX_DISCOVERED, OnLoss, PassiveSpec, RecordType, TimeoutSpec,
    TlsCheck, WhenNone, format_duration,
};

const PAGE: &str = include_str!("../../../../docs/config.md");

/// The headings of the page for the tables of the code.
fn heading(table: &str) -> &str {
    match table {
        "the main file, outside of any table" => "## The main file",
        "[daemon]" => "## `[daemon]`",
        "[datapath]" => "## `[datapath]`",
        "[datapath.timeouts]" => "## `[datapath.timeouts]`",
        "[defaults]" => "## `[defaults]`",
        "[[service]]" => "## `[[service]]`",
        "[[pool]]" => "## `[[pool]]`",
        _ if table.starts_with("discovery") => "### Discovery: `[pool.discover]`",
        _ if table.starts_with("a backend") => "### A backend: `{ address = \"10.0.0.13\", weight = 5 }`",
        _ if table.starts_with("passive") => "### Passive health: `passive = { patience = \"500ms\" }`",
        _ if table.starts_with("a backup") => "### A backup: `backup = { pool = \"sorry\" }`",
        _ if table.starts_with("health") => "### Health: `health = { type = \"http\" }` or `[pool.health]`",
        _ => panic!("{table} has no heading in docs/config.md"),
    }
}

/// Keys and defaults of the table under a heading.
fn documented(heading: &str) -> BTreeMap<String, String> {
    let section =
        PAGE.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading}")).1;
    let section = section.find("\n#").map_or(section, |end| &section[..end]);
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 5, "{row}");
        assert!(cells[3].ends_with(['.', ')']), "the meaning is a sentence: {row}");
        (cells[1].trim_matches('`').to_owned(), cells[2].trim_matches('`').to_owned())
    })
    .collect()
}

/// The default of every key that has one, as the code has it.
fn defaults(table: &str) -> BTreeMap<&'static str, String> {
    let quoted = |text: &str| format!("{text:?}");
    let duration = |duration| format!("{:?}", format_duration(duration));
    let policies = || {
        vec![
            ("forward", quoted(Forward::default().as_str())),
            ("affinity", quoted(Affinity::default().as_str())),
            ("on_loss", quoted(OnLoss::default().as_str())),
            ("when_none", quoted(WhenNone::default().as_str())),
            ("shadow_local", "false".to_owned()),
        ]
    };
    let standby = || {
        vec![
            ("panic_below", quoted("0%")),
            ("slow_start", duration(Duration::ZERO)),
            ("passive", "true".to_owned()),
        ]
    };
    let pairs = match table {
        "[daemon]" => {
            let daemon = DaemonSpec::default();
            vec![
                ("socket", quoted(&daemon.socket.display().to_string())),
                ("state", quoted(&daemon.state.display().to_string())),
                ("metrics", quoted(&daemon.metrics.unwrap().to_string())),
                ("on_exit", quoted(daemon.on_exit.as_str())),
            ]
        }
        "[datapath]" => {
            let datapath = DatapathSpec::default();
            assert_eq!(datapath.flows, 1_048_576);
            vec![
                ("mode", quoted(datapath.mode.as_str())),
                ("flows", "1_048_576".to_owned()),
                ("pin", quoted(&datapath.pin.display().to_string())),
                ("seed_file", quoted(&datapath.seed_file.display().to_string())),
                ("probe_prefix", {
                    let [v4, v6] = datapath.probe_prefix.nets().map(|net| quoted(&net.to_string()));
                    format!("[{v4}, {v6}]")
                }),
            ]
        }
        "[datapath.timeouts]" => {
            let TimeoutSpec { tcp, tcp_syn, tcp_closing, udp } = TimeoutSpec::default();
            let pairs = [("tcp", tcp), ("tcp_syn", tcp_syn), ("tcp_closing", tcp_closing), ("udp", udp)];
            pairs.map(|(key, value)| (key, duration(value))).to_vec()
        }
        "[defaults]" => [policies(), standby()].concat(),
        "[[service]]" => policies(),
        "[[pool]]" => standby(),
        _ if table.starts_with("passive") => {
            let passive = PassiveSpec::default();
            vec![
                ("patience", duration(passive.patience)),
                ("eject", duration(passive.eject)),
                ("max_ejected", quoted(&passive.max_ejected.to_string())),
            ]
        }
        _ if table.starts_with("a backup") => {
            let backup = BackupSpec::new("sorry".parse().unwrap());
            vec![
                ("below", quoted(&backup.below.to_string())),
                ("above", quoted(&backup.above.to_string())),
                ("hold", duration(backup.hold)),
            ]
        }
        _ if table.starts_with("discovery") => {
            let (dns, http) = (DnsSource::new("web.example"), HttpSource::new("http://10.0.0.1/"));
            assert_eq!((dns.timeout.as_secs(), http.timeout.as_secs()), (2, 5));
            vec![
                ("record", quoted(dns.record.as_str())),
                ("min_interval", duration(dns.min_interval)),
                ("max_interval", duration(dns.max_interval)),
                ("interval", duration(http.interval)),
                ("insecure", http.insecure.to_string()),
                ("allow_empty", "false".to_owned()),
                ("max_backends", MAX_DISCOVERED.to_string()),
            ]
        }
        _ if table.starts_with("a backend") => vec![("weight", DEFAULT_WEIGHT.to_string())],
        _ if table.starts_with("health") => {
            let (health, http) = (HealthSpec::default(), HttpCheck::default());
            vec![
                ("type", quoted(health.kind.as_str())),
                ("interval", duration(health.interval)),
                ("jitter", quoted(&health.jitter.to_string())),
                ("timeout", duration(health.timeout)),
                ("via", quoted(health.via.as_str())),
                ("rise", health.rise.to_string()),
                ("fall", health.fall.to_string()),
                ("path", quoted(&http.path)),
                ("method", quoted(&http.method)),
                ("insecure", TlsCheck::default().insecure.to_string()),
                ("tls", GrpcCheck::default().tls.to_string()),
                ("service", quoted(&GrpcCheck::default().service)),
                ("record", quoted(RecordType::default().as_str())),
                ("user", quoted(&ExecCheck::default().user)),
            ]
        }
        _ => Vec::new(),
    };
    pairs.into_iter().collect()
}

#[test]
fn every_key_is_described_with_its_default() {
    for (table, keys) in TABLES.iter().copied().chain([("[defaults]", DEFAULTS)]) {
        let page = documented(heading(table));
        let values = defaults(table);
        let code: BTreeMap<String, String> = keys
            .iter()
            .map(|key| (key.name.to_owned(), values.get(key.name).cloned().unwrap_or_else(|| "–".to_owned())))
            .collect();
        assert_eq!(page, code, "{table}");
    }
}

#[test]
fn a_file_of_defaults_is_a_file_without_them() {
    let mut written = String::from("[datapath]\ninterfaces = [\"eth0\"]\n");
    for table in ["[datapath]", "[daemon]", "[datapath.timeouts]", "[defaults]"] {
        if table != "[datapath]" {
            written += &format!("{table}\n");
        }
        for (key, value) in defaults(table) {
            written += &format!("{key} = {value}\n");
        }
    }
    let health: Vec<String> = defaults("health")
        .iter()
        .filter(|(key, _)| matches!(**key, "type" | "interval" | "jitter" | "timeout" | "rise" | "fall"))
        .map(|(key, value)| format!("{key} = {value}"))
        .collect();
    written += &format!("health = {{ {} }}\n", health.join(", "));
    let service = "[[service]]\nname = \"s\"\nlisten = [\"192.0.2.1:80/tcp\"]\nbackends = [\"10.0.0.1\"]\n";
    let mut spelled = parse(&format!("{written}{service}"), "x").unwrap().spec;
    let mut silent = parse(&format!("{HEAD}{service}"), "x").unwrap().spec;
    // Where they stand differs, nothing else.
    for spec in [&mut spelled, &mut silent] {
        let origin = crate::spec::Origin::Cli;
        spec.services[0].origin = origin.clone();
        spec.services[0].listen_lines.clear();
        spec.pools[0].origin = origin.clone();
        spec.pools[0].backends[0].origin = origin;
    }
    assert_eq!(spelled, silent);
}

#[test]
fn the_examples_of_the_page_are_right() {
    let blocks: Vec<&str> =
        PAGE.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 3);
    for block in blocks {
        assert_eq!(said(block), [] as [&str; 0], "in\n{block}");
        assert!(parse(block, "lbd.toml").is_ok(), "{block}");
    }
    assert!(PAGE.contains(MINIMAL_EXAMPLE));
}

#[test]
fn the_messages_of_the_page_are_the_messages_of_the_code() {
    let start = "[datapath]\ninterfaces = [\"eth0\"]\n\n\n\n\n\n\n\n\n[defaults.health]\nintervall = \"2s\"\n\n\n\n[[service]]\nname = \"web\"\n";
    let text = format!("{start}backends = [\"10.0.0.1\"]\nlisten = [\"203.0.113.10:443\"]\n");
    let messages = said(&text);
    assert_eq!(messages.len(), 2);
    for message in messages {
        assert!(PAGE.contains(&message), "docs/config.md lacks\n{message}");
    }
}
