//! `ADDR:PORT` as people type it: the ends of a packet to explain, the servers of `lbd try`.
//!
//! In: text. Out: a [`SocketAddr`], or what is wrong with it and how it is written. Invariant: whoever reads the error sees what
//! they gave and the same as it should have been, as far as that can be guessed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZero;

use serde::Deserialize as _;

use super::SyntaxError;
use super::address::{bracketed, parse_ip, parse_port, split_port};

/// How the errors call it.
const ROLE: &str = "endpoint";
/// An address to show where none was given.
const EXAMPLE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const EXAMPLE_PORT: u16 = 80;

/// Reads `10.0.0.1:80` or `[2001:db8::1]:80`.
///
/// # Errors
/// What is missing or wrong, and an example of the right form.
pub fn parse_endpoint(text: &str) -> Result<SocketAddr, SyntaxError> {
    parse_endpoint_near(text, EXAMPLE)
}

/// As [`parse_endpoint`] where `near` is the address that is most probably meant by one who names none.
///
/// # Errors
/// As [`parse_endpoint`].
pub fn parse_endpoint_near(text: &str, near: IpAddr) -> Result<SocketAddr, SyntaxError> {
    let fault = |why: &str, hint: String| Err(SyntaxError::new(format!("{ROLE} {text:?} {why}"), hint));
    let port = text.strip_prefix(':').unwrap_or(text).parse::<NonZero<u16>>();
    if let Ok(port) = port {
        return fault("is a port without an address", format!("write {}:{port}", bracketed(near)));
    }
    if let Ok(addr) = text.parse::<IpAddr>() {
        let written = format!("write {}:{EXAMPLE_PORT}, or another port", bracketed(addr.to_canonical()));
        return fault("has no port", written);
    }
    let (addr, port) = split_port(text);
    if addr == "localhost" {
        let port = port.and_then(|port| port.parse().ok()).map_or(EXAMPLE_PORT, NonZero::<u16>::get);
        return fault("has a name where an address belongs", format!("write {}:{port}", Ipv4Addr::LOCALHOST));
    }
    let addr = parse_ip(addr, ROLE, text)?;
    match port {
        None => fault("has no port", format!("write {}:{EXAMPLE_PORT}, or another port", bracketed(addr))),
        Some(port) => Ok(SocketAddr::new(addr, parse_port(port, ROLE, text)?)),
    }
}

/// For `deserialize_with`: text as [`parse_endpoint`] reads it.
pub(crate) fn deserialize_endpoint<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_endpoint(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_they_print() {
        for text in ["10.0.0.1:80", "[2001:db8::1]:80", "127.0.0.1:65535", "[::1]:1"] {
            assert_eq!(parse_endpoint(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_endpoint_is_shown_with_what_it_should_have_been() {
        for (text, expected) in [
            ("8081", r#"endpoint "8081" is a port without an address: write 10.0.0.1:8081"#),
            (":8081", r#"endpoint ":8081" is a port without an address: write 10.0.0.1:8081"#),
            ("10.0.0.1", r#"endpoint "10.0.0.1" has no port: write 10.0.0.1:80, or another port"#),
            ("2001:db8::1", r#"endpoint "2001:db8::1" has no port: write [2001:db8::1]:80, or another port"#),
            (
                "[2001:db8::1]",
                r#"endpoint "[2001:db8::1]" has no port: write [2001:db8::1]:80, or another port"#,
            ),
            (
                "localhost:8081",
                r#"endpoint "localhost:8081" has a name where an address belongs: write 127.0.0.1:8081"#,
            ),
            (
                "localhost:x",
                r#"endpoint "localhost:x" has a name where an address belongs: write 127.0.0.1:80"#,
            ),
            ("0", r#"endpoint "0" has no valid IP address: write it as 10.0.0.1:80 or [2001:db8::1]:80"#),
            (
                "::ffff:10.0.0.1",
                r#"endpoint "::ffff:10.0.0.1" has no port: write 10.0.0.1:80, or another port"#,
            ),
            (
                "web-1:80",
                r#"endpoint "web-1:80" has a name where an address belongs: names are not resolved; write the IP address, such as 10.0.0.1:80"#,
            ),
            (
                "10.0.0.1:99999",
                r#"endpoint "10.0.0.1:99999" has the port "99999": a port is a number from 1 to 65535, as in 10.0.0.1:80"#,
            ),
            (
                "10.0.0.300:80",
                r#"endpoint "10.0.0.300:80" has no valid IP address: write it as 10.0.0.1:80 or [2001:db8::1]:80"#,
            ),
            ("", r#"endpoint "" has no valid IP address: write it as 10.0.0.1:80 or [2001:db8::1]:80"#),
            (
                "[::ffff:10.0.0.1]:80",
                r#"endpoint "[::ffff:10.0.0.1]:80" has an IPv4 address written as IPv6: write 10.0.0.1"#,
            ),
            (
                "[fe80::1%eth0]:80",
                r#"endpoint "[fe80::1%eth0]:80" has a zone: lbd finds the interface by itself; leave %… out, as in [2001:db8::1]:80"#,
            ),
        ] {
            assert_eq!(parse_endpoint(text).unwrap_err().to_string(), expected);
        }
        let near = parse_endpoint_near("8081", IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap_err();
        assert_eq!(near.hint, "write 127.0.0.1:8081");
    }
}
