//! TLS on a probe's connection.
//!
//! In: an open connection, whom to trust ([`TlsCheck`]) and a deadline. Out: the encrypted connection. Invariant: every probe makes a full
//! handshake, for a resumed session would never look at the certificate again.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, Error};
use tokio::net::TcpStream;
use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Deadline, Finding, ProbeResult, finding_of};
use crate::spec::{TlsCheck, format_duration};

mod anyone;
mod trust;

use trust::Key;

/// What a connection is used for (ALPN).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Alpn {
    Http1,
    Http2,
}

/// Makes the connection an encrypted one. `host` is the name of the check's request.
///
/// # Errors
/// What the failure says about the backend, or about this host's certificates.
pub(super) async fn connect(
    stream: TcpStream,
    address: SocketAddr,
    host: Option<&str>,
    check: &TlsCheck,
    alpn: Alpn,
    deadline: Deadline,
) -> Result<TlsStream<TcpStream>, Finding> {
    let name = check.sni.as_deref().or(host.map(without_port));
    let server = match name {
        None => ServerName::IpAddress(address.ip().into()),
        Some(name) => ServerName::try_from(name.to_owned()).map_err(|_invalid| {
            (ProbeResult::Local, Cow::Owned(format!("{name:?} is no name that TLS can ask for: write sni")))
        })?,
    };
    let key = Key { ca: check.ca.clone(), insecure: check.insecure, alpn };
    let config = trust::config(key, deadline).await;
    let config = config.map_err(|text| (ProbeResult::Local, Cow::Owned(text)))?;
    match timeout_at(deadline.at, TlsConnector::from(config).connect(server, stream)).await {
        Ok(connected) => connected.map_err(|error| finding_of_tls(&error)),
        Err(_elapsed) => {
            let timeout = format_duration(deadline.timeout);
            Err((
                ProbeResult::Timeout,
                Cow::Owned(format!("connected, but no TLS handshake within {timeout}")),
            ))
        }
    }
}

/// `a.example:8443` and `[::1]:443` without their port.
fn without_port(host: &str) -> &str {
    match (host.strip_prefix('[').and_then(|rest| rest.split_once(']')), host.rsplit_once(':')) {
        (Some((address, _)), _) => address,
        (None, Some((name, port))) if !name.contains(':') && port.bytes().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    }
}

/// What a failed handshake says about the backend.
fn finding_of_tls(error: &io::Error) -> Finding {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let text = match tls {
        Some(Error::InvalidCertificate(certificate)) => distrust(certificate),
        Some(Error::AlertReceived(alert)) => format!("the backend ended the TLS handshake: {alert:?}"),
        Some(Error::InvalidMessage(_)) => "the answer is not TLS".to_owned(),
        Some(other) => format!("TLS handshake: {other}"),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            return (ProbeResult::Reset, Cow::Borrowed("connection closed during the TLS handshake"));
        }
        None => return finding_of(error),
    };
    (ProbeResult::Tls, Cow::Owned(text))
}

/// Why a certificate is not accepted; rustls' own words hold times, which differ from probe to probe.
fn distrust(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the backend's certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the backend's certificate is not valid yet".to_owned()
        }
        CertificateError::UnknownIssuer => {
            "the backend's certificate is of an unknown issuer: name its ca".to_owned()
        }
        CertificateError::BadSignature => {
            "the backend's certificate is not signed by the issuer of that name in ca".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "the backend's certificate is not for {} (but for {}): set host or sni",
            expected.to_str(),
            presented.join(", ")
        ),
        other => format!("the backend's certificate: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_without_its_port() {
        for (host, name) in [
            ("a.example", "a.example"),
            ("a.example:8443", "a.example"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("::1", "::1"),
        ] {
            assert_eq!(without_port(host), name);
        }
    }
}
