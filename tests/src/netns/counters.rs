//! The kernel's protocol counters of a namespace (/proc/net/snmp, netstat, snmp6).
//!
//! In: a namespace. Out: every counter by the name `nstat` gives it (`TcpInCsumErrors`, `Udp6InCsumErrors`, `TcpExtTCPTimeouts`).
//! veth hides wrong checksums from clients that only look at answers: these counters do not.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

use super::Namespace;

/// Counters that stay 0 on a network where every frame is right.
pub const FAULTS: &[&str] = &[
    "TcpInCsumErrors",
    "UdpInCsumErrors",
    "IcmpInCsumErrors",
    "IpInHdrErrors",
    "Ip6InHdrErrors",
    "Udp6InCsumErrors",
    "Icmp6InCsumErrors",
];

/// The counters at one moment.
#[derive(Clone, Debug, Default)]
pub struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// Reads the counters of a namespace. TCP's count both families, UDP's and IP's are apart (`Udp…`, `Udp6…`).
    pub fn read(namespace: &Namespace) -> Result<Counters> {
        // /proc/net is that of the process's first thread; /proc/thread-self/net is that of the one in the namespace.
        let read = |file: &str| {
            let path = format!("/proc/thread-self/net/{file}");
            fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
        };
        namespace.run(|| {
            let mut counters = BTreeMap::new();
            parse_pairs(&read("snmp")?, &mut counters);
            parse_pairs(&read("netstat")?, &mut counters);
            parse_lines(&read("snmp6")?, &mut counters);
            Ok(Counters(counters))
        })?
    }

    /// One counter; nothing if the kernel has no such counter.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// Those of [`FAULTS`] that are not 0.
    pub fn faults(&self) -> Vec<(&'static str, u64)> {
        FAULTS
            .iter()
            .filter_map(|name| Some((*name, self.get(name)?)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

/// `Tcp: A B` over `Tcp: 1 2`, as in snmp and netstat.
fn parse_pairs(text: &str, counters: &mut BTreeMap<String, u64>) {
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let Some((prefix, names)) = names.split_once(':') else { continue };
        let Some((_, values)) = values.split_once(':') else { continue };
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            // MaxConn is -1: not a counter.
            if let Ok(value) = value.parse() {
                counters.insert(format!("{prefix}{name}"), value);
            }
        }
    }
}

/// `Ip6InReceives  17`, as in snmp6.
fn parse_lines(text: &str, counters: &mut BTreeMap<String, u64>) {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(Ok(value))) = (words.next(), words.next().map(str::parse)) {
            counters.insert(name.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_are_read_under_nstat_names() {
        let mut counters = BTreeMap::new();
        parse_pairs("Tcp: MaxConn InSegs InCsumErrors\nTcp: -1 12 3\n", &mut counters);
        parse_lines("Ip6InReceives       \t7\nUdp6InCsumErrors 2\n", &mut counters);
        let counters = Counters(counters);
        assert_eq!(counters.get("TcpInSegs"), Some(12));
        assert_eq!(counters.get("TcpMaxConn"), None);
        assert_eq!(counters.get("Ip6InReceives"), Some(7));
        assert_eq!(counters.faults(), [("TcpInCsumErrors", 3), ("Udp6InCsumErrors", 2)]);
    }
}
