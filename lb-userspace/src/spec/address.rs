//! Where clients send to and where backends are.
//!
//! In: text such as `203.0.113.10:443/tcp` or `[2001:db8::20]:8080`. Out: [`Listener`], [`BackendAddress`], which print as
//! they were read. Invariant: a port is 1–65535 or absent; an IPv4 address is never written inside an IPv6 one.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::SyntaxError;

/// What runs over IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl FromStr for Protocol {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => Err(SyntaxError::new(format!("unknown protocol {text:?}"), "write tcp or udp")),
        }
    }
}

/// A vip, a port or every port, and a protocol: `203.0.113.10:443/tcp`, `[2001:db8::10]:any/udp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Listener {
    /// The vip.
    pub addr: IpAddr,
    /// `None`: every port that no other listener of the same address and protocol names.
    pub port: Option<u16>,
    /// TCP or UDP.
    pub protocol: Protocol,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port.map_or("any".to_owned(), |port| port.to_string());
        f.pad(&format!("{}:{port}/{}", bracketed(self.addr), self.protocol))
    }
}

impl FromStr for Listener {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let fault = |why: &str, hint: String| Err(SyntaxError::new(format!("listener {text:?} {why}"), hint));
        let Some((endpoint, protocol)) = text.rsplit_once('/') else {
            return fault("has no protocol", format!("write {text}/tcp or {text}/udp"));
        };
        let Ok(protocol) = protocol.parse::<Protocol>() else {
            return fault(
                &format!("has the unknown protocol {protocol:?}"),
                "write /tcp or /udp at its end".into(),
            );
        };
        if endpoint.starts_with(':') || endpoint.starts_with("*:") {
            return fault("has no address", format!("name the vip, such as 203.0.113.10:443/{protocol}"));
        }
        let (addr, port) = split_port(endpoint);
        let addr = parse_ip(addr, "listener", text)?;
        let port = match port {
            None => {
                let addr = bracketed(addr);
                return fault(
                    "has no port",
                    format!("write {addr}:443/{protocol}, or {addr}:any/{protocol} for every port"),
                );
            }
            Some("any") => None,
            Some(port) => Some(parse_port(port, "listener", text)?),
        };
        Ok(Self { addr, port, protocol })
    }
}

/// A backend's address and, where it differs from the listener's, its port: `10.0.0.12`, `10.0.0.12:8443`,
/// `2001:db8::20`, `[2001:db8::20]:8443`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackendAddress {
    /// Where it is.
    pub ip: IpAddr,
    /// `None`: the port the client asked for.
    pub port: Option<u16>,
}

impl fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => self.ip.fmt(f),
            Some(port) => f.pad(&format!("{}:{port}", bracketed(self.ip))),
        }
    }
}

impl FromStr for BackendAddress {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        if text.contains('/') {
            return Err(SyntaxError::new(
                format!("backend {text:?} has a protocol or a prefix length"),
                "write the address alone, such as 10.0.0.11 or 10.0.0.11:8443; protocols belong to listeners",
            ));
        }
        // A bare IPv6 address has colons but no port.
        if let Ok(ip) = text.parse::<Ipv6Addr>() {
            return Ok(Self { ip: unmapped(ip, "backend", text)?, port: None });
        }
        let (ip, port) = split_port(text);
        let ip = parse_ip(ip, "backend", text)?;
        Ok(Self { ip, port: port.map(|port| parse_port(port, "backend", text)).transpose()? })
    }
}

/// `::1` as `[::1]`, the form that may be followed by a port.
pub(super) fn bracketed(addr: IpAddr) -> String {
    match addr {
        IpAddr::V4(addr) => addr.to_string(),
        IpAddr::V6(addr) => format!("[{addr}]"),
    }
}

/// Splits at the colon before the port; an IPv6 address in brackets keeps its brackets.
pub(super) fn split_port(endpoint: &str) -> (&str, Option<&str>) {
    match endpoint.rsplit_once(':') {
        Some((addr, port)) if (addr.ends_with(']') || !addr.contains(':')) && !port.contains(']') => {
            (addr, Some(port))
        }
        _ => (endpoint, None),
    }
}

/// How an IPv4 and an IPv6 address are written in this role.
const fn examples(role: &str) -> (&'static str, &'static str) {
    match role.as_bytes() {
        b"listener" => ("203.0.113.10:443/tcp", "[2001:db8::10]:443/tcp"),
        b"backend" => ("10.0.0.11 or 10.0.0.11:8443", "[2001:db8::20]:8443"),
        _ => ("10.0.0.1:80", "[2001:db8::1]:80"),
    }
}

pub(super) fn parse_ip(addr: &str, role: &str, text: &str) -> Result<IpAddr, SyntaxError> {
    let fault = |why: &str, hint: String| Err(SyntaxError::new(format!("{role} {text:?} {why}"), hint));
    let (v4, v6) = examples(role);
    if let Some(inner) = addr.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return match inner.parse::<Ipv6Addr>() {
            Ok(ip) => unmapped(ip, role, text),
            Err(_) if inner.contains('%') => {
                fault("has a zone", format!("lbd finds the interface by itself; leave %… out, as in {v6}"))
            }
            Err(_) => fault("has no IPv6 address in its brackets", format!("write it as {v6}")),
        };
    }
    match addr.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => Ok(IpAddr::V4(ip)),
        Ok(IpAddr::V6(_)) => {
            fault("has an IPv6 address without brackets", format!("write it in brackets, such as {v6}"))
        }
        Err(_) if addr.contains(':') => fault(
            "has no address before its port",
            format!("write an IPv6 address in brackets, such as {v6}"),
        ),
        Err(_) if addr.contains(|c: char| c.is_ascii_alphabetic()) => fault(
            "has a name where an address belongs",
            format!("names are not resolved; write the IP address, such as {v4}"),
        ),
        Err(_) => fault("has no valid IP address", format!("write it as {v4} or {v6}")),
    }
}

/// `::ffff:10.0.0.1` is an IPv4 address to every kernel table and would never match as IPv6.
fn unmapped(ip: Ipv6Addr, role: &str, text: &str) -> Result<IpAddr, SyntaxError> {
    match ip.to_ipv4_mapped() {
        None => Ok(IpAddr::V6(ip)),
        Some(inner) => Err(SyntaxError::new(
            format!("{role} {text:?} has an IPv4 address written as IPv6"),
            format!("write {inner}"),
        )),
    }
}

pub(super) fn parse_port(port: &str, role: &str, text: &str) -> Result<u16, SyntaxError> {
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(port) if port != 0 && digits => Ok(port),
        _ => Err(SyntaxError::new(
            format!("{role} {text:?} has the port {port:?}"),
            format!("a port is a number from 1 to 65535, as in {}", examples(role).0),
        )),
    }
}

macro_rules! string_form {
    ($($type:ty),+) => {$(
        impl TryFrom<String> for $type {
            type Error = SyntaxError;

            fn try_from(text: String) -> Result<Self, SyntaxError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    )+};
}
string_form!(Listener, BackendAddress);
