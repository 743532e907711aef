//! TLS on a probe's connection.
//!
//! In: an open connection, whom to trust ([`TlsCheck`]) and a deadline. Out: the encrypted connection. Invariants: every probe
//! makes a full handshake, for a resumed session would never look at the certificate again; certificates to trust are read
//! again when their file has changed, those of the system after [`SYSTEM_AGE`].

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, Error, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Deadline, Finding, ProbeResult, finding_of};
use crate::spec::{TlsCheck, format_duration};

mod anyone;

/// After so long the system's certificates are read again.
const SYSTEM_AGE: Duration = Duration::from_secs(600);

/// A CA file of more than this is none.
const CA_LIMIT_LEN: u64 = 16 * 1024 * 1024;

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
    let config = config(check, alpn).await.map_err(|text| (ProbeResult::Local, Cow::Owned(text)))?;
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

/// What makes one configuration differ from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    ca: Option<PathBuf>,
    insecure: bool,
    alpn: Alpn,
}

/// A file as it was when it was read: inode, length, time of change.
type Stamp = (u64, u64, i64, i64);

struct Known {
    config: Arc<ClientConfig>,
    stamp: Option<Stamp>,
    read: Instant,
}

/// Made once for all probes: the system's certificates alone take milliseconds to read.
static CONFIGS: LazyLock<Mutex<HashMap<Key, Known>>> = LazyLock::new(Mutex::default);

/// The configuration for this check, from what is known already if that is still so.
async fn config(check: &TlsCheck, alpn: Alpn) -> Result<Arc<ClientConfig>, String> {
    let key = Key { ca: check.ca.clone(), insecure: check.insecure, alpn };
    let stamp = match &key.ca {
        Some(path) => {
            Some(stamp(path).map_err(|error| format!("cannot read ca {}: {error}", path.display()))?)
        }
        None => None,
    };
    // Held while it is read, so that ten thousand checks that begin together read it once.
    let mut configs = CONFIGS.lock().await;
    if let Some(known) = configs.get(&key)
        && known.stamp == stamp
        && (stamp.is_some() || key.insecure || known.read.elapsed() < SYSTEM_AGE)
    {
        return Ok(Arc::clone(&known.config));
    }
    let made = tokio::task::spawn_blocking({
        let key = key.clone();
        move || make(&key)
    });
    let config = Arc::new(made.await.map_err(|error| format!("cannot read certificates: {error}"))??);
    configs.insert(key, Known { config: Arc::clone(&config), stamp, read: Instant::now() });
    Ok(config)
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.ino(), metadata.len(), metadata.ctime(), metadata.ctime_nsec()))
}

fn make(key: &Key) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be used: {error}"))?;
    let builder = match key.insecure {
        true => builder.dangerous().with_custom_certificate_verifier(Arc::new(anyone::Anyone(provider))),
        false => builder.with_root_certificates(roots(key.ca.as_deref())?),
    };
    let mut config = builder.with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = match key.alpn {
        Alpn::Http1 => vec![b"http/1.1".to_vec()],
        Alpn::Http2 => vec![b"h2".to_vec()],
    };
    Ok(config)
}

/// Whom to trust: those of the file, else those of the system (SSL_CERT_FILE and SSL_CERT_DIR, as with OpenSSL).
fn roots(ca: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(
                "this host has no certificates to trust: install ca-certificates, or name a ca".to_owned()
            );
        }
        return Ok(roots);
    };
    let file = || format!("ca {}", path.display());
    let metadata = std::fs::metadata(path).map_err(|error| format!("cannot read {}: {error}", file()))?;
    if !metadata.is_file() || metadata.len() > CA_LIMIT_LEN {
        return Err(format!("{} is no file of certificates", file()));
    }
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| format!("cannot read {}: {error}", file()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| format!("{} is not PEM: {error}", file()))?;
        roots.add(certificate).map_err(|error| format!("{} holds no usable certificate: {error}", file()))?;
    }
    match roots.is_empty() {
        true => Err(format!("{} holds no certificate", file())),
        false => Ok(roots),
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
