//! `[daemon]` and `[datapath]`.
//!
//! In: the root of the main file. Out: the two in the spec, defaults where a key is absent. Invariant: a value that passes
//! can be tried on a host; whether the host has the interface or the path is for later.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use super::keys;
use super::section::{Missing, Section};
use crate::spec::{
    DaemonSpec, DatapathSpec, Place, ProbePrefix, Problem, Spec, TimeoutSpec, limits, unusable,
};

/// IFNAMSIZ without its terminating zero.
const MAX_INTERFACE_LEN: usize = 15;

/// Reads both; returns the keys of `[datapath]` that could not be read.
pub(super) fn read(root: &Section<'_>, spec: &mut Spec) -> Missing {
    if let Some(section) = root.table("daemon", "[daemon]".into(), keys::DAEMON) {
        daemon(&section, &mut spec.daemon);
    }
    match root.table("datapath", "[datapath]".into(), keys::DATAPATH) {
        Some(section) => return datapath(&section, &mut spec.datapath),
        None if root.has("datapath") || root.suspects().contains("datapath") => {}
        None => root.document.push(Problem::error(
            Place::File { path: root.document.path().to_owned() },
            "no interface is named, so lbd would see no packet",
            "write\n\n[datapath]\ninterfaces = [\"eth0\"]\n",
        )),
    }
    keys::DATAPATH.iter().map(|key| key.name).collect()
}

fn daemon(section: &Section<'_>, daemon: &mut DaemonSpec) {
    path(section, "socket", &mut daemon.socket);
    if let Some(text) = daemon.socket.to_str().filter(|text| text.ends_with('/')) {
        let message = format!("socket = {text:?} names a directory");
        section.fault(section.line_of("socket"), message, format!("write \"{text}lbd.sock\""));
    }
    path(section, "state", &mut daemon.state);
    set(&mut daemon.on_exit, section.parsed("on_exit"));
    if let Some((text, line)) = section.string("metrics") {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => daemon.metrics = Some(address),
            _ if text.is_empty() => daemon.metrics = None,
            _ => section.fault(
                line,
                format!("metrics = {text:?} is no address with a port"),
                "write \"127.0.0.1:9472\", or \"\" for no metrics",
            ),
        }
    }
    for (key, group) in [("admin", &mut daemon.admin), ("read", &mut daemon.read)] {
        let Some((text, line)) = section.string(key) else { continue };
        match text.is_empty() || text.contains(|c: char| c == ':' || c.is_whitespace()) {
            true => {
                section.fault(line, format!("{key} = {text:?} is no group"), "write the name of a Unix group")
            }
            false => *group = Some(text.to_owned()),
        }
    }
}

fn datapath(section: &Section<'_>, datapath: &mut DatapathSpec) -> Missing {
    let mut missing = section.suspects();
    section.noting(&mut missing, "interfaces", |_| interfaces(section, datapath));
    set(&mut datapath.mode, section.parsed("mode"));
    set(&mut datapath.flows, section.integer("flows", limits::FLOWS));
    path(section, "pin", &mut datapath.pin);
    path(section, "seed_file", &mut datapath.seed_file);
    let snat = section.noting(&mut missing, "snat", |key| sources(section, key));
    set(&mut datapath.snat, snat.map(|snat| snat.into_iter().map(|(addr, _)| addr).collect()));
    tunnel_source(section, datapath);
    set(&mut datapath.probe_prefix, probe_prefix(section));
    if let Some(section) = section.table("timeouts", "[datapath.timeouts]".into(), keys::TIMEOUTS) {
        let TimeoutSpec { tcp, tcp_syn, tcp_closing, udp } = &mut datapath.timeouts;
        for (key, value) in [("tcp", tcp), ("tcp_syn", tcp_syn), ("tcp_closing", tcp_closing), ("udp", udp)] {
            set(value, section.duration(key, limits::IDLE));
        }
    }
    missing
}

/// An array of addresses without ports that packets can come from, each with its line.
fn sources(section: &Section<'_>, key: &str) -> Option<Vec<(IpAddr, u32)>> {
    let accept = |(text, line): (&str, u32)| match source(text) {
        Ok(addr) => Some((addr, line)),
        Err((why, hint)) => {
            let message = format!("{key} in {} names {why}", section.label);
            section.document.push(Problem::error(section.document.place(line), message, hint));
            None
        }
    };
    Some(section.strings(key)?.into_iter().filter_map(accept).collect())
}

/// The address, or what is wrong with it and what to write.
fn source(text: &str) -> Result<IpAddr, (String, String)> {
    let Ok(addr) = text.parse::<IpAddr>() else {
        return Err((
            format!("{text:?}, which is no IP address"),
            "write 192.0.2.10 or 2001:db8::10".to_owned(),
        ));
    };
    let why = match addr {
        _ if addr.is_loopback() => Some("no packet with it leaves this host"),
        _ => unusable(addr),
    };
    match (why, addr.to_canonical()) {
        (Some(why), _) => {
            let why = format!("{text}, which cannot be a source: {why}");
            Err((why, "write an address of this host".to_owned()))
        }
        (None, inner) if inner != addr => {
            Err((format!("{text}, an IPv4 address written as IPv6"), format!("write {inner}")))
        }
        (None, _) => Ok(addr),
    }
}

/// A prefix for each family; the one that is not written is the default.
fn probe_prefix(section: &Section<'_>) -> Option<ProbePrefix> {
    let net = |(text, line): (&str, u32)| match text.parse::<IpNet>() {
        Ok(net) => Some(net),
        Err(_) => {
            let message = format!("probe_prefix names {text:?}, which is no prefix");
            section.fault(line, message, "write 198.18.0.0/15 or fd00:1:2:3::/64");
            None
        }
    };
    let nets: Vec<IpNet> = section.strings("probe_prefix")?.into_iter().filter_map(net).collect();
    section.accept(section.line_of("probe_prefix"), nets.try_into())
}

/// The outer header has one source for each family.
fn tunnel_source(section: &Section<'_>, datapath: &mut DatapathSpec) {
    for (addr, line) in sources(section, "tunnel_source").into_iter().flatten() {
        match datapath.tunnel_source.iter().find(|first| first.is_ipv4() == addr.is_ipv4()) {
            Some(first) => {
                let family = if addr.is_ipv4() { "IPv4" } else { "IPv6" };
                let message = format!("tunnel_source names two {family} addresses, {first} and {addr},");
                section.fault(line, message, "keep one: all tunnels of a family have the same source");
            }
            None => datapath.tunnel_source.push(addr),
        }
    }
}

fn interfaces(section: &Section<'_>, datapath: &mut DatapathSpec) {
    let names = section.strings("interfaces");
    let found = section.document.found();
    for (name, line) in names.iter().flatten().copied() {
        let odd = |c: char| c == '/' || c.is_whitespace() || c.is_control();
        if name.is_empty()
            || name.len() > MAX_INTERFACE_LEN
            || name.contains(odd)
            || name == "."
            || name == ".."
        {
            section.fault(
                line,
                format!("{name:?} is no name of an interface"),
                "write it as `ip link` shows it",
            );
        } else if datapath.interfaces.iter().any(|known| known == name) {
            section.fault(line, format!("the interface {name:?} is named twice"), "name it once");
        } else {
            datapath.interfaces.push(name.to_owned());
        }
    }
    let said_something = section.document.found() > found;
    let wrong_type = section.has("interfaces") && names.is_none();
    if datapath.interfaces.is_empty() && !said_something && !wrong_type {
        section.fault(
            section.line_of("interfaces"),
            "no interface is named",
            "write interfaces = [\"eth0\"], those that clients and backends are reached by",
        );
    }
}

/// A path that means the same wherever the daemon is started.
fn path(section: &Section<'_>, key: &str, path: &mut PathBuf) {
    let Some((text, line)) = section.string(key) else { return };
    match text.starts_with('/') && !text.contains('\0') {
        true => *path = text.into(),
        false => section.fault(line, format!("{key} = {text:?} is no absolute path"), "begin it with \"/\""),
    }
}

/// Replaces a default by what the file says.
pub(super) fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}
