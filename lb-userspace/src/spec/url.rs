//! `http://HOST[:PORT]/PATH` or `https://…`, as the configuration names an endpoint.
//!
//! In: text. Out: its parts. Invariant: what passes can be sent as one request line and one Host header, and holds no secret
//! that would be shown wherever the source is named.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use super::SyntaxError;

/// An HTTP URL in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    /// https.
    pub is_encrypted: bool,
    /// A name or an address; an IPv6 address without brackets.
    pub host: String,
    /// 80, or 443 for https, unless it says otherwise.
    pub port: u16,
    /// Path and query, `/` first.
    pub path: String,
}

impl HttpUrl {
    /// Host and, if it is not the usual one, port: the Host header (RFC 9110, 7.2).
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == default_port(self.is_encrypted) { host } else { format!("{host}:{}", self.port) }
    }
}

const fn default_port(is_encrypted: bool) -> u16 {
    if is_encrypted { 443 } else { 80 }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_encrypted { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

impl FromStr for HttpUrl {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let fault = |why: &str, hint: &str| Err(SyntaxError::new(format!("url {text:?} {why}"), hint));
        let example = "write it as http://10.0.0.1:8080/backends";
        let (is_encrypted, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return fault("does not begin with http:// or https://", example),
        };
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return fault(
                "has characters that no URL has",
                "percent-encode spaces and other special characters",
            );
        }
        if text.contains('#') {
            return fault("has a fragment", "leave out the # and what follows");
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return fault("has a user or password, which would be shown in status and logs", "leave it out");
        }
        let Some((host, port)) = host_and_port(authority, default_port(is_encrypted)) else {
            return fault("has no valid host", example);
        };
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { is_encrypted, host, port, path })
    }
}

fn host_and_port(authority: &str, default: u16) -> Option<(String, u16)> {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => {
            host.parse::<Ipv6Addr>().ok()?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    let port = match port {
        None => default,
        Some(port) => port.parse().ok().filter(|parsed| *parsed != 0 && !port.starts_with('+'))?,
    };
    (!host.is_empty() && host.chars().all(named)).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, host, port, path, shown) in [
            ("http://10.0.0.1", "10.0.0.1", 80, "/", "http://10.0.0.1/"),
            ("http://10.0.0.1:8080/b?x=1", "10.0.0.1", 8080, "/b?x=1", "http://10.0.0.1:8080/b?x=1"),
            ("http://[2001:db8::1]:81/", "2001:db8::1", 81, "/", "http://[2001:db8::1]:81/"),
            ("https://a", "a", 443, "/", "https://a/"),
            ("https://a:80/b", "a", 80, "/b", "https://a:80/b"),
            ("http://Registry.example?x", "Registry.example", 80, "/?x", "http://Registry.example/?x"),
        ] {
            let url: HttpUrl = text.parse().unwrap();
            assert_eq!((url.host.as_str(), url.port, url.path.as_str()), (host, port, path));
            assert_eq!(url.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_url_is_refused_with_a_reason() {
        for (text, why) in [
            ("10.0.0.1/b", "does not begin"),
            ("http://", "no valid host"),
            ("http://a:0/", "no valid host"),
            ("http://a:x/", "no valid host"),
            ("http://[::1/", "no valid host"),
            ("http://user:word@a/", "user or password"),
            ("http://a/b#c", "fragment"),
            ("http://a/b c", "characters"),
        ] {
            let error = text.parse::<HttpUrl>().unwrap_err();
            assert!(error.message.contains(why), "{text}: {error}");
        }
    }
}
