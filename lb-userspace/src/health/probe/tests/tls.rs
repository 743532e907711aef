//! https: whom a probe trusts.

use std::io::Write as _;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tempfile::NamedTempFile;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::spec::{GrpcCheck, HttpsCheck, TlsCheck};

/// Those who sign.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    file: NamedTempFile,
}

fn ca(name: &str) -> Ca {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(certificate.pem().as_bytes()).unwrap();
    Ca { issuer: Issuer::new(params, key), file }
}

impl Ca {
    /// A server with a certificate for this name, made otherwise by `change`, that speaks the first of these protocols that is asked
    /// for and answers every request alike.
    async fn server(&self, name: &str, alpn: &[&str], change: impl Fn(&mut CertificateParams)) -> SocketAddr {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let serve = move |stream: TcpStream| {
            let acceptor = acceptor.clone();
            async move {
                // A client that does not trust us hangs up.
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                read_request(&mut stream).await;
                let _closed_early =
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwell").await;
            }
        };
        server(serve).await.0
    }

    fn trusted(&self) -> TlsCheck {
        TlsCheck { ca: Some(self.file.path().to_owned()), ..TlsCheck::default() }
    }
}

fn https(host: Option<&str>, tls: TlsCheck) -> HealthSpec {
    let http =
        HttpCheck { host: host.map(str::to_owned), body: Some("well".to_owned()), ..HttpCheck::default() };
    HealthSpec {
        kind: HealthKind::Https(HttpsCheck { http, tls }),
        timeout: GENEROUS,
        ..HealthSpec::default()
    }
}

#[tokio::test]
async fn a_certificate_has_to_be_signed_for_the_name_asked_for() {
    let ca = ca("ours");
    let address = ca.server("a.example", &["http/1.1"], |_| {}).await;
    let well = ask(address, &https(Some("a.example:8443"), ca.trusted()), "").await;
    assert_finding(&well, ProbeResult::Success, "HTTP 200 with \"well\"");
    let sni = TlsCheck { sni: Some("a.example".to_owned()), ..ca.trusted() };
    assert_finding(&ask(address, &https(Some("b.example"), sni), "").await, ProbeResult::Success, "HTTP 200");
    let other = ask(address, &https(Some("b.example"), ca.trusted()), "").await;
    assert_finding(&other, ProbeResult::Tls, "certificate is not for b.example");
    assert!(other.detail.contains("a.example") && other.detail.contains("set host or sni"), "{other:?}");
    let by_address = ask(address, &https(None, ca.trusted()), "").await;
    assert_finding(&by_address, ProbeResult::Tls, "certificate is not for 127.0.0.1");
}

#[tokio::test]
async fn an_address_may_be_in_the_certificate() {
    let ca = ca("ours");
    let address = ca.server("127.0.0.1", &[], |_| {}).await;
    assert_finding(&ask(address, &https(None, ca.trusted()), "").await, ProbeResult::Success, "HTTP 200");
}

#[tokio::test]
async fn who_is_not_trusted_fails_unless_anyone_is() {
    let (ours, theirs) = (ca("ours"), ca("theirs"));
    let address = theirs.server("a.example", &[], |_| {}).await;
    for tls in [ours.trusted(), TlsCheck::default()] {
        let report = ask(address, &https(Some("a.example"), tls), "").await;
        assert_finding(&report, ProbeResult::Tls, "of an unknown issuer: name its ca");
    }
    let same_name = ca("theirs");
    let report = ask(address, &https(Some("a.example"), same_name.trusted()), "").await;
    assert_finding(&report, ProbeResult::Tls, "not signed by the issuer");
    let anyone = TlsCheck { insecure: true, ..TlsCheck::default() };
    assert_finding(&ask(address, &https(None, anyone), "").await, ProbeResult::Success, "HTTP 200");
}

#[tokio::test]
async fn the_time_of_a_certificate_matters_and_the_text_holds_none() {
    let ca = ca("ours");
    let expired = ca.server("a.example", &[], |params| params.not_after = date_time_ymd(2020, 1, 1)).await;
    let report = ask(expired, &https(Some("a.example"), ca.trusted()), "").await;
    assert_eq!((report.result, &*report.detail), (ProbeResult::Tls, "the backend's certificate has expired"));
    let early = ca.server("a.example", &[], |params| params.not_before = date_time_ymd(2200, 1, 1)).await;
    let report = ask(early, &https(Some("a.example"), ca.trusted()), "").await;
    assert_finding(&report, ProbeResult::Tls, "is not valid yet");
}

#[tokio::test]
async fn a_changed_ca_file_is_read_again_and_one_that_cannot_be_read_is_nobodys_fault() {
    let (first, mut second) = (ca("ours"), ca("theirs"));
    let address = first.server("a.example", &[], |_| {}).await;
    let spec = https(Some("a.example"), second.trusted());
    assert_finding(&ask(address, &spec, "").await, ProbeResult::Tls, "unknown issuer");
    let both = std::fs::read(first.file.path()).unwrap();
    second.file.write_all(&both).unwrap();
    comes_to(address, &spec, ProbeResult::Success, "HTTP 200").await;
    std::fs::write(second.file.path(), "nonsense").unwrap();
    comes_to(address, &spec, ProbeResult::Local, "holds no certificate").await;
    assert_eq!(ProbeResult::Local.success(), None);
    second.file.close().unwrap();
    comes_to(address, &spec, ProbeResult::Local, "cannot read ca").await;
}

/// The file is not looked at by each probe: asks until it was.
async fn comes_to(address: SocketAddr, spec: &HealthSpec, result: ProbeResult, text: &str) {
    let begin = std::time::Instant::now();
    loop {
        let report = ask(address, spec, "").await;
        let is_seen = report.result == result && report.detail.contains(text);
        if is_seen || begin.elapsed() > Duration::from_secs(30) {
            return assert_finding(&report, result, text);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_is_not_tls_fails() {
    let ca = ca("ours");
    let plain = canned("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    // The answer comes only after a whole request of HTTP, which TLS is not: the server that waits for its end is the mute one.
    let mut spec = https(Some("a.example"), ca.trusted());
    spec.timeout = SHORT;
    assert_finding(&ask(plain, &spec, "").await, ProbeResult::Timeout, "no TLS handshake within 300ms");
    let (garbage, _server) = server(|mut stream| async move {
        let _closed_early = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await;
        let _ends = stream.read(&mut [0; 1024]).await;
    })
    .await;
    let report = ask(garbage, &https(Some("a.example"), ca.trusted()), "").await;
    assert_finding(&report, ProbeResult::Tls, "not TLS");
    let (closed, _server) = server(|mut stream| async move {
        let _hello = stream.read(&mut [0; 1024]).await;
    })
    .await;
    let report = ask(closed, &https(Some("a.example"), ca.trusted()), "").await;
    assert_finding(&report, ProbeResult::Reset, "closed during the TLS handshake");
}

#[tokio::test]
async fn grpc_over_tls_wants_http2() {
    let ca = ca("ours");
    let address = ca.server("a.example", &["http/1.1"], |_| {}).await;
    let check =
        GrpcCheck { tls: true, host: Some("a.example".into()), trust: ca.trusted(), ..GrpcCheck::default() };
    let spec =
        HealthSpec { kind: HealthKind::Grpc(check.clone()), timeout: GENEROUS, ..HealthSpec::default() };
    assert_finding(&ask(address, &spec, "").await, ProbeResult::Tls, "NoApplicationProtocol");
    let silent = ca.server("a.example", &[], |_| {}).await;
    assert_finding(&ask(silent, &spec, "").await, ProbeResult::Protocol, "no HTTP/2 over TLS");
}
