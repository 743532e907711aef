//! Probes against real sockets on loopback: every way a server can be well or fail.

use std::net::Ipv4Addr;
use std::sync::Arc;

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use super::*;
use crate::spec::HttpCheck;

mod body;
mod datagram;
mod grpc;
mod tls;

/// Long enough for any answer on loopback on a busy machine.
const GENEROUS: Duration = Duration::from_secs(10);

/// How long the tests wait for servers that never answer.
const SHORT: Duration = Duration::from_millis(300);

/// The check of an address itself.
async fn ask(address: SocketAddr, spec: &HealthSpec, pools: &str) -> ProbeReport {
    super::ask(address, None, spec, pools).await
}

fn tcp(timeout: Duration) -> HealthSpec {
    HealthSpec { kind: HealthKind::Tcp, timeout, ..HealthSpec::default() }
}

fn http(timeout: Duration, check: HttpCheck) -> HealthSpec {
    HealthSpec { kind: HealthKind::Http(check), timeout, ..HealthSpec::default() }
}

/// A server whose connections are each served by `serve`; ends with the handle's abort or the runtime.
async fn server<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> (SocketAddr, JoinHandle<()>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    (address, accepting)
}

/// A server that reads the whole request, answers with these bytes and closes.
async fn canned(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer: Arc<[u8]> = answer.into().into();
    let serve = move |mut stream: TcpStream| {
        let answer = Arc::clone(&answer);
        async move {
            read_request(&mut stream).await;
            // The prober may hang up before all of it is sent.
            let _closed_early = stream.write_all(&answer).await;
        }
    };
    server(serve).await.0
}

async fn read_request(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.is_ok_and(|len| len == 1) {
        request.extend(byte);
    }
    String::from_utf8_lossy(&request).into_owned()
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    listener.local_addr().unwrap()
}

async fn check(address: SocketAddr) -> ProbeReport {
    ask(address, &http(GENEROUS, HttpCheck::default()), "").await
}

fn assert_finding(report: &ProbeReport, result: ProbeResult, text: &str) {
    assert_eq!(report.result, result, "{report:?}");
    assert!(report.detail.contains(text), "{report:?}");
}

/// A server that reads a request if it has an answer to it, gives that, and says how the connection ended then.
async fn ended(
    answer: Option<&'static [u8]>,
) -> (SocketAddr, JoinHandle<()>, UnboundedReceiver<Result<usize, io::ErrorKind>>) {
    let (ended, end) = unbounded_channel();
    let (address, serving) = server(move |mut stream| {
        let ended = ended.clone();
        async move {
            if let Some(answer) = answer {
                read_request(&mut stream).await;
                stream.write_all(answer).await.unwrap();
            }
            // A FIN would be read as the end.
            let read = stream.read(&mut [0]).await;
            ended.send(read.map_err(|error| error.kind())).unwrap();
        }
    })
    .await;
    (address, serving, end)
}

#[tokio::test]
async fn tcp_success_ends_in_a_reset_and_leaves_no_time_wait() {
    let (address, _server, mut end) = ended(None).await;
    assert_finding(&ask(address, &tcp(GENEROUS), "").await, ProbeResult::Success, "connected");
    assert_eq!(end.recv().await.unwrap(), Err(io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn an_http_check_ends_in_a_reset_alone() {
    let (address, _server, mut end) = ended(Some(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")).await;
    assert_finding(&check(address).await, ProbeResult::Success, "HTTP 200");
    assert_eq!(end.recv().await.unwrap(), Err(io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn refused_is_said_by_both_checks() {
    let address = nobody().await;
    for spec in [tcp(GENEROUS), http(GENEROUS, HttpCheck::default())] {
        let report = ask(address, &spec, "").await;
        assert_finding(&report, ProbeResult::Refused, "connection refused");
        assert!(report.latency < GENEROUS);
    }
}

/// A full accept queue makes the kernel drop SYNs in silence, as a lost host does.
#[tokio::test]
async fn a_syn_that_is_dropped_fails_after_the_timeout() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut fill = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        fill.push(stream);
        assert!(fill.len() < 16, "a backlog of 0 must be full by now");
    }
    for spec in [tcp(SHORT), http(SHORT, HttpCheck::default())] {
        let report = ask(address, &spec, "").await;
        assert_finding(&report, ProbeResult::Timeout, "no answer to the connection request within 300ms");
        assert!(report.latency >= SHORT && report.latency < GENEROUS, "{report:?}");
    }
}

#[tokio::test]
async fn accepting_without_answering_passes_tcp_and_fails_http() {
    let (address, _server) = server(|stream| async move {
        let _kept_open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    assert_finding(&ask(address, &tcp(GENEROUS), "").await, ProbeResult::Success, "connected");
    let report = ask(address, &http(SHORT, HttpCheck::default()), "").await;
    assert_finding(&report, ProbeResult::Timeout, "connected, but no HTTP answer within 300ms");
    assert!(report.latency >= SHORT, "{report:?}");
}

#[tokio::test]
async fn a_status_is_judged_and_the_body_is_not_waited_for() {
    let ok = canned("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nbegun").await;
    assert_finding(&check(ok).await, ProbeResult::Success, "HTTP 200");
    let moved = canned("HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n").await;
    assert_finding(&check(moved).await, ProbeResult::Success, "HTTP 302");
    let old = canned("HTTP/1.0 204 No Content\r\n\r\n").await;
    assert_finding(&check(old).await, ProbeResult::Success, "HTTP 204");
    let broken = canned("HTTP/1.1 500 Oh No\r\ncontent-length: 0\r\n\r\n").await;
    assert_finding(&check(broken).await, ProbeResult::Status, "HTTP 500, expected 200-399");
    let only_204 = http(GENEROUS, HttpCheck { expect: vec![204, 404], ..HttpCheck::default() });
    assert_finding(&ask(ok, &only_204, "").await, ProbeResult::Status, "HTTP 200, expected 204, 404");
    assert_finding(&ask(old, &only_204, "").await, ProbeResult::Success, "HTTP 204");
    let early = canned("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Later\r\ncontent-length: 0\r\n\r\n").await;
    assert_finding(&check(early).await, ProbeResult::Status, "HTTP 503");
}

#[tokio::test]
async fn the_request_is_what_the_check_says() {
    let (seen, mut requests) = tokio::sync::mpsc::unbounded_channel();
    let (address, _server) = server(move |mut stream| {
        let seen = seen.clone();
        async move {
            seen.send(read_request(&mut stream).await).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n").await.unwrap();
        }
    })
    .await;
    assert_eq!(check(address).await.result, ProbeResult::Success);
    let plain = requests.recv().await.unwrap();
    assert!(plain.starts_with("GET / HTTP/1.1\r\n"), "{plain}");
    assert!(
        plain.contains(&format!("host: {address}\r\n")) && plain.contains("connection: close\r\n"),
        "{plain}"
    );
    assert!(plain.contains("user-agent: lbd-health/"), "{plain}");
    let check = HttpCheck {
        path: "/live?deep=1".into(),
        method: "HEAD".into(),
        host: Some("www.example.org".into()),
        ..HttpCheck::default()
    };
    assert_eq!(ask(address, &http(GENEROUS, check), "").await.result, ProbeResult::Success);
    let own = requests.recv().await.unwrap();
    assert!(own.starts_with("HEAD /live?deep=1 HTTP/1.1\r\n"), "{own}");
    assert!(own.contains("host: www.example.org\r\n"), "{own}");
}

#[tokio::test]
async fn what_is_not_http_fails_at_once() {
    for garbage in
        [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"\x16\x03\x01\x00\xff\x00\x00\x00", b"HTTP/9.9 200 OK\r\n\r\n"]
    {
        let report = check(canned(garbage).await).await;
        assert_finding(&report, ProbeResult::Protocol, "not HTTP/1");
        assert!(report.latency < GENEROUS);
    }
    let silent_end = check(canned("").await).await;
    assert_finding(&silent_end, ProbeResult::Reset, "connection closed before the HTTP answer was whole");
    let half = check(canned("HTTP/1.1 200 OK\r\nserver: x").await).await;
    assert_finding(&half, ProbeResult::Reset, "connection closed before the HTTP answer was whole");
}

#[tokio::test]
async fn an_endless_head_ends_at_the_limit_of_bytes() {
    let (address, _server) = server(|mut stream| async move {
        let mut open = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await.is_ok();
        while open {
            open = stream.write_all(&[b'a'; 4096]).await.is_ok();
        }
    })
    .await;
    let report = check(address).await;
    assert_finding(&report, ProbeResult::Protocol, "longer than 16 KiB");
    assert!(report.latency < GENEROUS, "{report:?}");
}

#[tokio::test]
async fn endless_interim_answers_end_at_the_limit_of_bytes() {
    let (address, _server) = server(|mut stream| async move {
        while stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n").await.is_ok() {}
    })
    .await;
    let report = check(address).await;
    assert_eq!(report.result, ProbeResult::Reset, "{report:?}");
    assert!(report.latency < GENEROUS, "{report:?}");
}

#[tokio::test]
async fn a_server_that_dribbles_fails_at_the_deadline() {
    let (address, _server) = server(|mut stream| async move {
        let mut tick = tokio::time::interval(SHORT / 30);
        let mut open = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await.is_ok();
        while open {
            tick.tick().await;
            open = stream.write_all(b"a").await.is_ok();
        }
    })
    .await;
    let report = ask(address, &http(SHORT, HttpCheck::default()), "").await;
    assert_finding(&report, ProbeResult::Timeout, "connected, but no HTTP answer");
    assert!(report.latency >= SHORT && report.latency < GENEROUS, "{report:?}");
}

#[tokio::test]
async fn a_check_that_cannot_be_asked_says_nothing_about_the_backend() {
    let address = canned("HTTP/1.1 200 OK\r\n\r\n").await;
    let check = HttpCheck { method: "NO GOOD".into(), ..HttpCheck::default() };
    let report = ask(address, &http(GENEROUS, check), "").await;
    assert_finding(&report, ProbeResult::Local, "makes no HTTP request");
    assert_eq!(report.result.success(), None);
}

#[test]
fn a_failure_long_after_the_deadline_is_lbds_own() {
    use ProbeResult::{Protocol, Refused, Reset, Status, Success, Timeout, Unreachable};
    let ms = Duration::from_millis;
    for result in [Timeout, Reset, Status, Protocol] {
        assert!(
            !stalled(result, ms(1500), ms(1000)),
            "{result:?} with a timer that was half as late as it was long"
        );
        assert!(stalled(result, ms(1501), ms(1000)), "{result:?} later than that");
        // A short timeout is missed by a little on every busy machine.
        assert!(!stalled(result, ms(60), ms(10)) && stalled(result, ms(61), ms(10)), "{result:?}");
    }
    for answer in [Success, Refused, Unreachable] {
        assert!(!stalled(answer, ms(60_000), ms(1000)), "{answer:?} was heard");
    }
}

#[test]
fn errors_have_their_own_words() {
    let finding = |code| finding_of(&io::Error::from_raw_os_error(code));
    let expected = [
        (libc::ECONNREFUSED, ProbeResult::Refused, "connection refused"),
        (libc::EHOSTUNREACH, ProbeResult::Unreachable, "host unreachable"),
        (libc::ENETUNREACH, ProbeResult::Unreachable, "no route"),
        (libc::EADDRNOTAVAIL, ProbeResult::Unreachable, "source"),
        (libc::EPERM, ProbeResult::Unreachable, "firewall"),
        (libc::ETIMEDOUT, ProbeResult::Timeout, "no answer"),
        (libc::ECONNRESET, ProbeResult::Reset, "connection reset"),
        (libc::EMFILE, ProbeResult::Local, "Too many open files"),
        (libc::EINVAL, ProbeResult::Unreachable, "cannot connect"),
    ];
    for (code, result, text) in expected {
        let (found, detail) = finding(code);
        assert_eq!(found, result, "{detail}");
        assert!(detail.contains(text), "{detail}");
    }
}
