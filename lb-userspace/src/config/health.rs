//! `health = { … }` and `[pool.health]`.
//!
//! In: a health table and the defaults beneath it. Out: a [`HealthSpec`]. Invariant: what a table does not say comes from the
//! defaults key by key, and keys that mean nothing for the resulting type are refused, never ignored.

use std::time::Duration;

use super::section::Section;
use super::settings::set;
use crate::spec::{HealthKind, HealthSpec, HttpCheck};

/// Keys that mean something for `type = "http"` only.
const HTTP_KEYS: [&str; 4] = ["path", "method", "host", "expect"];

/// From a rhythm that is no load test to one that still finds a fault on the same day.
const RHYTHM: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);

/// The check that this table makes of the one beneath it.
pub(super) fn read(section: &Section<'_>, beneath: &HealthSpec) -> HealthSpec {
    let mut health = beneath.clone();
    health.kind = kind(section, &beneath.kind);
    set(&mut health.interval, section.duration("interval", RHYTHM));
    set(&mut health.timeout, section.duration("timeout", RHYTHM));
    set(&mut health.rise, section.integer("rise", 1..=1000));
    set(&mut health.fall, section.integer("fall", 1..=1000));
    if section.has("port") {
        health.port = section.integer("port", 1..=u16::MAX);
    }
    match &mut health.kind {
        HealthKind::Http(http) => request(section, http),
        kind => {
            for key in HTTP_KEYS.into_iter().filter(|key| section.has(key)) {
                let message = format!("{key} means nothing for type = \"{}\"", kind.as_str());
                section.fault(section.line_of(key), message, "add type = \"http\", or remove it");
            }
        }
    }
    health
}

fn kind(section: &Section<'_>, beneath: &HealthKind) -> HealthKind {
    // A type that cannot be read says nothing against the keys beside it.
    let meant = || match HTTP_KEYS.iter().any(|key| section.has(key)) {
        true => HealthKind::Http(HttpCheck::default()),
        false => beneath.clone(),
    };
    let Some((text, line)) = section.string("type") else {
        return if section.has("type") { meant() } else { beneath.clone() };
    };
    match (text, beneath) {
        ("tcp", _) => HealthKind::Tcp,
        ("none", _) => HealthKind::None,
        ("http", HealthKind::Http(http)) => HealthKind::Http(http.clone()),
        ("http", _) => HealthKind::Http(HttpCheck::default()),
        _ => {
            section.fault(line, format!("type = {text:?} is unknown"), "write \"tcp\", \"http\" or \"none\"");
            meant()
        }
    }
}

fn request(section: &Section<'_>, http: &mut HttpCheck) {
    let text = |key| section.string(key).map(|(text, _)| text.to_owned());
    set(&mut http.path, text("path"));
    set(&mut http.method, text("method"));
    if section.has("host") {
        http.host = text("host");
    }
    let Some(statuses) = section.array("expect") else { return };
    http.expect = statuses.into_iter().filter_map(|item| section.number("expect", item, 100..=599)).collect();
}
