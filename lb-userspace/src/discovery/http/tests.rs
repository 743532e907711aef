use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// An endpoint that answers each request with what is told, and keeps the requests.
struct Served {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

/// What is sent after the head has been read: bytes, and then so many more blocks of 64 KiB.
async fn serve(answers: Vec<(String, usize)>) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/web.json", listener.local_addr().unwrap());
    let requests: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&requests);
    tokio::spawn(async move {
        for (answer, blocks) in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            kept.lock().unwrap().push(String::from_utf8(request).unwrap());
            // Whoever has enough goes away in the middle.
            let _ = stream.write_all(answer.as_bytes()).await;
            let block = vec![b' '; 65_536];
            for _ in 0..blocks {
                if stream.write_all(&block).await.is_err() {
                    break;
                }
            }
            if answer.contains("X-Hang") {
                std::future::pending::<()>().await;
            }
        }
    });
    Served { url, requests }
}

fn whole(status: &str, headers: &str, body: &str) -> (String, usize) {
    (format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len()), 0)
}

async fn ask_all(answers: Vec<(String, usize)>) -> (Vec<Result<Vec<String>, String>>, Served) {
    let count = answers.len();
    let served = serve(answers).await;
    let source = HttpSource { timeout: Duration::from_secs(2), ..HttpSource::new(&served.url) };
    let mut endpoint = Endpoint::new(&source, 1_000);
    let mut results = Vec::new();
    for _ in 0..count {
        let answer = endpoint.ask().await;
        results.push(answer.map(|answer| answer.found.backends.keys().map(ToString::to_string).collect()));
    }
    (results, served)
}

#[tokio::test]
async fn a_document_is_asked_for_again_only_if_it_changed() {
    let one = vec!["10.0.0.1:80".to_owned()];
    let two = vec!["10.0.0.2".to_owned()];
    let (results, served) = ask_all(vec![
        whole("200 OK", "ETag: \"v1\"\r\n", r#"{"backends":[{"address":"10.0.0.1:80"}]}"#),
        ("HTTP/1.1 304 Not Modified\r\n\r\n".to_owned(), 0),
        whole("503 Sorry", "", "later"),
        ("HTTP/1.1 304 Not Modified\r\n\r\n".to_owned(), 0),
        whole("200 OK", "", r#"["10.0.0.2"]"#),
        whole("200 OK", "", r#"["10.0.0.2"]"#),
    ])
    .await;
    let sorry = Err(format!("{} answers 503, expected 200", served.url));
    assert_eq!(results, [Ok(one.clone()), Ok(one.clone()), sorry, Ok(one), Ok(two.clone()), Ok(two)]);
    let requests = served.requests.lock().unwrap();
    let asks = |request: &String| request.to_lowercase().contains("if-none-match: \"v1\"");
    let conditional: Vec<bool> = requests.iter().map(asks).collect();
    assert_eq!(conditional, [false, true, true, true, true, false]);
    assert!(requests[0].starts_with("GET /web.json HTTP/1.1\r\n"), "{}", requests[0]);
    let host = format!("host: {}\r\n", served.url.split('/').nth(2).unwrap());
    assert!(requests[0].to_lowercase().contains(&host), "{}", requests[0]);
}

#[tokio::test]
async fn what_is_no_list_is_refused_and_says_why() {
    let (results, served) = ask_all(vec![
        whole("302 Found", "Location: http://other/\r\n", ""),
        whole("200 OK", "", "<html>"),
        ("nonsense\r\n\r\n".to_owned(), 0),
        ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[".to_owned(), 0),
        ("HTTP/1.1 304 Not Modified\r\n\r\n".to_owned(), 0),
        whole("204 No Content", "", ""),
        whole("200 OK", "", &"[".repeat(1_000_000)),
        whole("200 OK", "", "\0\u{1}\u{7f}\u{fffd}"),
        whole("200 OK", "", r#"{"backends":{"address":7}}"#),
        whole("200 OK", "", r#"[{"address":"10.0.0.1","weight":"much"}]"#),
    ])
    .await;
    let wanted = [
        "answers 302 and points to \"http://other/\": redirects are not followed",
        "serves no list of backends: it is no JSON",
        "does not answer in HTTP",
        "does not serve the whole document",
        "answers 304 although",
        "answers 204, expected 200",
        "serves no list of backends",
        "serves no list of backends",
        "serves no list of backends",
        "serves no list of backends",
    ];
    for (result, why) in results.into_iter().zip(wanted) {
        let error = result.unwrap_err();
        assert!(error.starts_with(&served.url) && error.contains(why), "{why}: {error}");
    }
}

#[tokio::test]
async fn a_body_without_end_is_cut_off_at_the_bound() {
    let gigabyte = 1 << 30;
    let (results, served) = ask_all(vec![
        (format!("HTTP/1.1 200 OK\r\nContent-Length: {gigabyte}\r\n\r\n"), gigabyte / 65_536),
        ("HTTP/1.1 200 OK\r\n\r\n".to_owned(), gigabyte / 65_536),
        // One chunk of a gigabyte.
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40000000\r\n".to_owned(), gigabyte / 65_536),
    ])
    .await;
    for result in results {
        let error = result.unwrap_err();
        assert_eq!(error, format!("{} serves more than 4 MiB, of which nothing is read further", served.url));
    }
}

#[tokio::test]
async fn an_endpoint_that_hangs_ends_at_its_time_out() {
    let served =
        serve(vec![("HTTP/1.1 200 OK\r\nX-Hang: 1\r\nContent-Length: 9\r\n\r\n[".to_owned(), 0)]).await;
    let source = HttpSource { timeout: Duration::from_millis(200), ..HttpSource::new(&served.url) };
    let error = Endpoint::new(&source, 1_000).ask().await.err().unwrap();
    assert_eq!(error, format!("{} has not answered whole within 200ms", served.url));
    let gone = HttpSource::new("http://127.0.0.1:1/");
    let error = Endpoint::new(&gone, 1_000).ask().await.err().unwrap();
    assert!(error.starts_with("http://127.0.0.1:1/ cannot be reached at 127.0.0.1:1: "), "{error}");
}

#[tokio::test]
async fn an_endpoint_that_drips_ends_at_its_time_out_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (gone, leaves) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
        let mut open = stream.write_all(head).await.is_ok();
        let mut drip = tokio::time::interval(Duration::from_millis(20));
        while open {
            drip.tick().await;
            open = stream.write_all(b" ").await.is_ok();
        }
        gone.send(()).unwrap();
    });
    let source = HttpSource { timeout: Duration::from_millis(300), ..HttpSource::new(&url) };
    let error = Endpoint::new(&source, 1_000).ask().await.err().unwrap();
    assert_eq!(error, format!("{url} has not answered whole within 300ms"));
    // The connection is closed, not left to drip.
    tokio::time::timeout(Duration::from_secs(30), leaves).await.unwrap().unwrap();
}

/// A certificate for 127.0.0.1 that signs itself, in a file, and a server that has it and says one backend.
async fn serve_encrypted() -> (String, tempfile::NamedTempFile) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // Who does not trust us hangs up.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(whole("200 OK", "", r#"["10.0.0.1:80"]"#).0.as_bytes()).await.unwrap();
            let _closed_early = stream.shutdown().await;
        }
    });
    (url, file)
}

#[tokio::test]
async fn an_encrypted_endpoint_is_believed_if_it_is_trusted() {
    let (url, certificate) = serve_encrypted().await;
    let (_, other) = serve_encrypted().await;
    let ask = |source: HttpSource| async move {
        Endpoint::new(&source, 1_000).ask().await.map(|answer| answer.found)
    };
    let trusting = |ca: &std::path::Path| HttpSource { ca: Some(ca.to_owned()), ..HttpSource::new(&url) };
    assert_eq!(ask(trusting(certificate.path())).await.unwrap().backends.len(), 1);
    let error = ask(trusting(other.path())).await.unwrap_err();
    assert!(error.starts_with(&format!("{url} cannot be trusted: the endpoint's certificate")), "{error}");
    let insecure = HttpSource { insecure: true, ..HttpSource::new(&url) };
    assert_eq!(ask(insecure).await.unwrap().backends.len(), 1);
    let plain = HttpSource::new(url.replace("https", "http"));
    assert!(ask(plain).await.is_err());
}

/// The first of two addresses does not answer at all: the other has its time still.
#[tokio::test]
async fn one_address_that_does_not_answer_does_not_take_the_time_of_the_next() {
    let silent = tokio::net::TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let silent = silent.listen(1).unwrap();
    let address = silent.local_addr().unwrap();
    // Nobody is let in, and when its queue is full nobody is answered.
    let mut waiting = Vec::new();
    while let Ok(stream) = timeout(Duration::from_secs(1), TcpStream::connect(address)).await {
        waiting.push(stream.unwrap());
    }
    let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [address, good.local_addr().unwrap()];
    let (_, reached) = connect_to(&addresses, Duration::from_secs(1)).await.unwrap();
    assert_eq!(reached, addresses[1]);
    let error = connect_to(&addresses[..1], Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(error, format!("cannot be reached at {address}: no answer"));
}
