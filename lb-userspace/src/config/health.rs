//! `health = { … }` and `[pool.health]`.
//!
//! In: a health table and the defaults beneath it. Out: a [`HealthSpec`]. Invariant: what a table does not say comes from the
//! defaults key by key, and keys that mean nothing for the resulting type are refused, never ignored.

use super::section::Section;
use super::settings::set;
use crate::spec::{
    DnsCheck, ExecCheck, GrpcCheck, HealthKind, HealthSpec, HttpCheck, HttpsCheck, TlsCheck, UdpCheck,
    limits, nearest, unescape,
};

/// The check that this table makes of the one beneath it.
pub(super) fn read(section: &Section<'_>, beneath: &HealthSpec) -> HealthSpec {
    let mut health = beneath.clone();
    // A type that cannot be read says nothing against the keys beside it; what is wrong with them is said all the same.
    let readable = kind(section, &beneath.kind);
    let known = readable.is_some();
    health.kind = readable.or_else(|| meant(section)).unwrap_or_else(|| beneath.kind.clone());
    set(&mut health.interval, section.duration("interval", limits::CHECK_RHYTHM));
    if section.has("fast_interval") {
        health.fast_interval = section.duration("fast_interval", limits::CHECK_RHYTHM);
    }
    set(&mut health.jitter, section.parsed("jitter"));
    set(&mut health.timeout, section.duration("timeout", limits::CHECK_RHYTHM));
    set(&mut health.rise, section.integer("rise", limits::CHECKS));
    set(&mut health.fall, section.integer("fall", limits::CHECKS));
    set(&mut health.via, section.parsed("via"));
    match health.kind {
        HealthKind::Icmp if section.has("port") => {
            section.fault(section.line_of("port"), "port means nothing for type = \"icmp\"", "remove it");
        }
        _ if section.has("port") => health.port = section.integer("port", 1..=u16::MAX),
        _ => {}
    }
    if known {
        strangers(section, &health.kind);
    }
    match &mut health.kind {
        HealthKind::Http(http) => request(section, http),
        HealthKind::Https(https) => {
            request(section, &mut https.http);
            trust(section, &mut https.tls);
        }
        HealthKind::Grpc(grpc) => call(section, grpc),
        HealthKind::Udp(udp) => datagram(section, udp),
        HealthKind::Dns(dns) => question(section, dns),
        HealthKind::Exec(exec) => program(section, exec),
        HealthKind::Tcp | HealthKind::Icmp | HealthKind::None => {}
    }
    health
}

/// The type, with what is beneath it if that is of the same type; `None`: it cannot be read.
fn kind(section: &Section<'_>, beneath: &HealthKind) -> Option<HealthKind> {
    if !section.has("type") {
        return Some(beneath.clone());
    }
    let (text, line) = section.string("type")?;
    match (text, beneath) {
        _ if text == beneath.as_str() => return Some(beneath.clone()),
        // The request is the same with TLS and without.
        ("https", HealthKind::Http(http)) => {
            return Some(HealthKind::Https(HttpsCheck { http: http.clone(), tls: TlsCheck::default() }));
        }
        ("http", HealthKind::Https(https)) => return Some(HealthKind::Http(https.http.clone())),
        _ => {}
    }
    let named = HealthKind::named(text);
    if named.is_none() {
        let hint = match nearest(text, HealthKind::NAMES.into_iter()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("write {}", either(&HealthKind::NAMES)),
        };
        section.fault(line, format!("type = {text:?} is unknown"), hint);
    }
    named
}

/// What an unreadable type was probably meant to be, by the keys beside it.
fn meant(section: &Section<'_>) -> Option<HealthKind> {
    let (_, kinds) = HealthKind::KEYS.iter().find(|(key, _)| section.has(key))?;
    HealthKind::named(kinds.first()?)
}

/// Keys that belong to other types.
fn strangers(section: &Section<'_>, kind: &HealthKind) {
    for (key, kinds) in HealthKind::KEYS.iter().filter(|(key, _)| section.has(key)) {
        if !kinds.contains(&kind.as_str()) {
            let message = format!("{key} means nothing for type = \"{}\"", kind.as_str());
            let hint = format!("add type = {}, or remove it", either(kinds));
            section.fault(section.line_of(key), message, hint);
        }
    }
}

/// `"a", "b" or "c"`
fn either(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

fn text(section: &Section<'_>, key: &str) -> Option<String> {
    section.string(key).map(|(text, _)| text.to_owned())
}

/// A key that may be absent: what the table says, else what is beneath.
fn optional(section: &Section<'_>, key: &str, value: &mut Option<String>) {
    if section.has(key) {
        *value = text(section, key);
    }
}

fn request(section: &Section<'_>, http: &mut HttpCheck) {
    set(&mut http.path, text(section, "path"));
    set(&mut http.method, text(section, "method"));
    optional(section, "host", &mut http.host);
    optional(section, "body", &mut http.body);
    let Some(statuses) = section.array("expect") else { return };
    http.expect = statuses.into_iter().filter_map(|item| section.number("expect", item, 100..=599)).collect();
}

fn trust(section: &Section<'_>, tls: &mut TlsCheck) {
    optional(section, "sni", &mut tls.sni);
    if let Some((path, line)) = section.string("ca") {
        match path.starts_with('/') && !path.contains('\0') {
            true => tls.ca = Some(path.into()),
            false => section.fault(line, format!("ca = {path:?} is no absolute path"), "begin it with \"/\""),
        }
    }
    set(&mut tls.insecure, section.boolean("insecure"));
}

fn call(section: &Section<'_>, grpc: &mut GrpcCheck) {
    set(&mut grpc.service, text(section, "service"));
    optional(section, "host", &mut grpc.host);
    set(&mut grpc.tls, section.boolean("tls"));
    trust(section, &mut grpc.trust);
}

fn datagram(section: &Section<'_>, udp: &mut UdpCheck) {
    let bytes = |key| {
        let (text, line) = section.string(key)?;
        section.accept(line, unescape(text)).map(|_| text.to_owned())
    };
    set(&mut udp.send, bytes("send"));
    if section.has("expect") {
        udp.expect = match section.item("expect").is_some_and(|item| item.get_ref().as_array().is_some()) {
            true => {
                let line = section.line_of("expect");
                section.fault(line, "expect is an array, not a string", "write expect = 'pong'");
                None
            }
            false => bytes("expect"),
        };
    }
}

fn question(section: &Section<'_>, dns: &mut DnsCheck) {
    set(&mut dns.query, text(section, "query"));
    set(&mut dns.record, section.parsed("record"));
    optional(section, "answer", &mut dns.answer);
}

fn program(section: &Section<'_>, exec: &mut ExecCheck) {
    let words = section.strings("command");
    set(&mut exec.command, words.map(|words| words.into_iter().map(|(word, _)| word.to_owned()).collect()));
    set(&mut exec.user, text(section, "user"));
}
