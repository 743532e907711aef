//! `[pool.discover]` and `[[pool.discover]]`.
//!
//! In: the table of a pool. Out: its sources with their lines. Invariant: keys that mean nothing for a source's type are
//! refused, never ignored; a source that cannot be read is a problem and takes nothing from the others.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use toml::de::DeTable;

use super::keys;
use super::section::Section;
use super::settings::set;
use crate::spec::{
    DnsRecords, DnsSource, FileSource, HttpSource, HttpUrl, MAX_DISCOVERED, SourceKind, SourceSpec,
    format_duration, limits,
};

/// The port of the DNS.
const DNS_PORT: u16 = 53;

/// Reads what a type of source has of its own.
type Reader = fn(&Section<'_>) -> Option<SourceKind>;

/// Keys that every source has.
const COMMON: [&str; 3] = ["type", "allow_empty", "max_backends"];
const DNS: [&str; 7] = ["name", "record", "port", "server", "min_interval", "max_interval", "timeout"];
const FILE: [&str; 1] = ["path"];
const HTTP: [&str; 5] = ["url", "ca", "insecure", "interval", "timeout"];
/// Keys that say whom to trust.
const TRUST: [&str; 2] = ["ca", "insecure"];

/// The sources of this pool, in their order.
pub(super) fn read(pool: &Section<'_>) -> Vec<SourceSpec> {
    let Some(item) = pool.item("discover") else { return Vec::new() };
    let value = item.get_ref();
    let tables = match (value.as_table(), value.as_array()) {
        (Some(table), _) => vec![(table, pool.line_of("discover"))],
        (None, Some(_)) => pool.tables("discover"),
        (None, None) => {
            let hint = "write discover = { type = \"dns\", name = \"web.example.com\" }";
            pool.fault(pool.line_of("discover"), "discover is neither a table nor a list of tables", hint);
            Vec::new()
        }
    };
    tables.into_iter().filter_map(|(table, line)| source(pool, table, line)).collect()
}

fn source<'a>(pool: &Section<'a>, table: &'a DeTable<'a>, line: u32) -> Option<SourceSpec> {
    let label = format!("discover of {}", pool.label);
    let section = Section::open(pool.document, table, label, line, keys::DISCOVER);
    let kind = kind(&section);
    let mut allow_empty = false;
    set(&mut allow_empty, section.boolean("allow_empty"));
    let mut max_backends = MAX_DISCOVERED;
    set(&mut max_backends, section.integer("max_backends", limits::SOURCE_BACKENDS));
    Some(SourceSpec { kind: kind?, allow_empty, max_backends, origin: pool.document.origin(line) })
}

fn kind(section: &Section<'_>) -> Option<SourceKind> {
    let hint = "write \"dns\", \"file\" or \"http\"";
    if !section.has("type") {
        section.fault(section.line, "type is missing", hint);
    }
    let (text, line) = section.string("type")?;
    let (means, read): (&[&str], Reader) = match text {
        "dns" => (&DNS, dns),
        "file" => (&FILE, file),
        "http" => (&HTTP, http),
        _ => {
            section.fault(line, format!("type = {text:?} is unknown"), hint);
            return None;
        }
    };
    let others = DNS.iter().chain(&FILE).chain(&HTTP);
    let mut strange: Vec<&str> =
        others.copied().filter(|key| !means.contains(key) && !COMMON.contains(key)).collect();
    strange.dedup();
    for key in strange.into_iter().filter(|key| section.has(key)) {
        section.fault(section.line_of(key), format!("{key} means nothing for type = {text:?}"), "remove it");
    }
    read(section)
}

/// A text that must be there.
fn needed<'a>(section: &Section<'a>, key: &str, example: &str) -> Option<(&'a str, u32)> {
    if !section.has(key) {
        section.fault(section.line, format!("{key} is missing"), format!("write {key} = {example:?}"));
    }
    section.string(key)
}

fn dns(section: &Section<'_>) -> Option<SourceKind> {
    let name =
        needed(section, "name", "web.example.com").and_then(|(text, line)| dns_name(section, text, line));
    let mut dns = DnsSource::new(name.unwrap_or_default());
    set(&mut dns.record, section.parsed("record"));
    if section.has("port") {
        dns.port = section.integer("port", 1..=u16::MAX);
        if dns.record == DnsRecords::Srv {
            let message = "port means nothing for record = \"srv\", whose records have their own";
            section.fault(section.line_of("port"), message, "remove it");
        }
    }
    if let Some((text, line)) = section.string("server") {
        dns.server = server(text);
        if dns.server.is_none() {
            let hint = "write \"127.0.0.1:5353\", or leave it out for those of /etc/resolv.conf";
            section.fault(line, format!("server = {text:?} is no address of a DNS server"), hint);
        }
    }
    set(&mut dns.min_interval, section.duration("min_interval", limits::SOURCE_RHYTHM));
    set(&mut dns.max_interval, section.duration("max_interval", limits::SOURCE_RHYTHM));
    set(&mut dns.timeout, section.duration("timeout", limits::SOURCE_TIMEOUT));
    if dns.min_interval > dns.max_interval {
        let (low, high) = (format_duration(dns.min_interval), format_duration(dns.max_interval));
        let message = format!("min_interval = \"{low}\" is longer than max_interval = \"{high}\"");
        section.fault(section.line_of("min_interval"), message, "write the shorter one as min_interval");
    }
    (!dns.name.is_empty()).then_some(SourceKind::Dns(dns))
}

/// An address, with the port of the DNS where it names none.
fn server(text: &str) -> Option<SocketAddr> {
    let bare = || text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, DNS_PORT));
    text.parse()
        .ok()
        .or_else(bare)
        .filter(|server: &SocketAddr| server.port() != 0 && !server.ip().is_unspecified())
}

/// The name in small letters and without the dot of the root, so that one name is written in one way.
fn dns_name(section: &Section<'_>, text: &str, line: u32) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if name.parse::<IpAddr>().is_ok() {
        let hint = format!("write backends = [{name:?}] in the pool");
        section.fault(line, format!("name = {text:?} is an address, not a name"), hint);
        return None;
    }
    // RFC 1035, 2.3.4; letters as host names have them, and the underscore of SRV names.
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(inner);
    if name.len() > 253 || !name.split('.').all(is_label) {
        let hint =
            "write the whole name, such as \"web.example.com\" (one with other letters in its xn-- form)";
        section.fault(line, format!("name = {text:?} is no name of the DNS"), hint);
        return None;
    }
    Some(name)
}

fn file(section: &Section<'_>) -> Option<SourceKind> {
    let (text, line) = needed(section, "path", "/etc/lbd/web.list")?;
    let path = PathBuf::from(text);
    if !path.is_absolute() || path.file_name().is_none() {
        section.fault(
            line,
            format!("path = {text:?} is no absolute path of a file"),
            "write \"/etc/lbd/web.list\"",
        );
        return None;
    }
    Some(SourceKind::File(FileSource { path }))
}

fn http(section: &Section<'_>) -> Option<SourceKind> {
    let url = needed(section, "url", "http://10.0.0.1:8080/backends");
    let url = url.and_then(|(text, line)| section.accept(line, text.parse::<HttpUrl>()));
    let mut http = HttpSource::new(url.as_ref().map(ToString::to_string).unwrap_or_default());
    set(&mut http.interval, section.duration("interval", limits::SOURCE_RHYTHM));
    set(&mut http.timeout, section.duration("timeout", limits::SOURCE_TIMEOUT));
    if let Some((path, line)) = section.string("ca") {
        match path.starts_with('/') {
            true => http.ca = Some(path.into()),
            false => section.fault(line, format!("ca = {path:?} is no absolute path"), "begin it with \"/\""),
        }
    }
    set(&mut http.insecure, section.boolean("insecure"));
    if url.as_ref().is_some_and(|url| !url.is_encrypted) {
        for key in TRUST.into_iter().filter(|key| section.has(key)) {
            let message = format!("{key} means nothing for a url that is not https");
            section.fault(section.line_of(key), message, "remove it, or write https://");
        }
    }
    url.map(|_| SourceKind::Http(http))
}
