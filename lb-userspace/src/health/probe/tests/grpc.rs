//! grpc: against a server of grpc.health.v1 in this process.

use h2::server::{self, SendResponse};
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use hyper::{Request, Response};

use super::*;
use crate::spec::GrpcCheck;

fn grpc(service: &str) -> HealthSpec {
    let check = GrpcCheck { service: service.to_owned(), ..GrpcCheck::default() };
    HealthSpec { kind: HealthKind::Grpc(check), timeout: GENEROUS, ..HealthSpec::default() }
}

/// What a server says: the status of HTTP, the message, `grpc-status`.
#[derive(Clone, Copy)]
struct Said {
    http: u16,
    message: &'static [u8],
    code: Option<&'static str>,
}

const SERVING: Said = Said { http: 200, message: &[0, 0, 0, 0, 2, 8, 1], code: Some("0") };

/// What is said to a path and a message.
type Answer = fn(&str, &[u8]) -> Said;

/// A server that answers as `answer` makes of the path, the content type and the message of a call.
async fn health_server(answer: Answer) -> SocketAddr {
    let serve = move |stream: TcpStream| async move {
        let Ok(mut connection) = server::handshake(stream).await else { return };
        while let Some(Ok((request, respond))) = connection.accept().await {
            tokio::spawn(reply(request, respond, answer));
        }
    };
    super::server(serve).await.0
}

async fn reply(request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>, answer: Answer) {
    assert_eq!(request.headers()["content-type"], "application/grpc");
    assert_eq!(request.headers()["te"], "trailers");
    assert_eq!(request.method(), "POST");
    let path = request.uri().path().to_owned();
    let mut body = request.into_body();
    let mut message = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        message.extend_from_slice(&data);
    }
    let said = answer(&path, &message);
    let mut response = Response::builder().status(said.http);
    let mut trailers = HeaderMap::new();
    if let Some(code) = said.code {
        trailers.insert("grpc-status", code.parse().unwrap());
        if said.message.is_empty() {
            // "Trailers-only": everything is in the head.
            response = response.header("grpc-status", code);
        }
    }
    let response = response.body(()).unwrap();
    let mut stream = respond.send_response(response, said.message.is_empty()).unwrap();
    if !said.message.is_empty() {
        stream.send_data(Bytes::from_static(said.message), false).unwrap();
        stream.send_trailers(trailers).unwrap();
    }
}

#[tokio::test]
async fn a_server_says_whether_it_serves() {
    let address = health_server(|path, message| {
        let status = |message: &'static [u8]| Said { message, ..SERVING };
        match (path, message) {
            ("/grpc.health.v1.Health/Check", [0, 0, 0, 0, 0]) => SERVING,
            (_, b"\0\0\0\0\x06\x0a\x04down") => status(&[0, 0, 0, 0, 2, 8, 2]),
            (_, b"\0\0\0\0\x05\x0a\x03new") => status(&[0, 0, 0, 0, 0]),
            (_, b"\0\0\0\0\x05\x0a\x03odd") => status(&[0, 0, 0, 0, 2, 9, 1]),
            _ => Said { message: &[], code: Some("5"), ..SERVING },
        }
    })
    .await;
    assert_finding(&ask(address, &grpc(""), "").await, ProbeResult::Success, "SERVING");
    assert_finding(
        &ask(address, &grpc("down"), "").await,
        ProbeResult::Status,
        "NOT_SERVING, expected SERVING",
    );
    assert_finding(&ask(address, &grpc("new"), "").await, ProbeResult::Status, "UNKNOWN, expected SERVING");
    let unknown = ask(address, &grpc("other"), "").await;
    assert_finding(&unknown, ProbeResult::Status, "NOT_FOUND: the server knows no service \"other\"");
    assert_finding(&ask(address, &grpc("odd"), "").await, ProbeResult::Protocol, "no grpc.health.v1");
}

#[tokio::test]
async fn what_is_no_answer_of_grpc_fails() {
    let cases: [(Answer, ProbeResult, &str); 4] = [
        (
            |_, _| Said { message: &[], code: Some("12"), ..SERVING },
            ProbeResult::Status,
            "has no grpc.health.v1",
        ),
        (|_, _| Said { code: Some("14"), ..SERVING }, ProbeResult::Status, "gRPC status 14"),
        (|_, _| Said { message: &[], code: None, ..SERVING }, ProbeResult::Protocol, "no grpc-status"),
        (|_, _| Said { http: 404, message: &[], code: None }, ProbeResult::Status, "HTTP 404, expected gRPC"),
    ];
    for (answer, result, text) in cases {
        assert_finding(&ask(health_server(answer).await, &grpc(""), "").await, result, text);
    }
    let http1 = canned("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
    let report = ask(http1, &grpc(""), "").await;
    assert!(matches!(report.result, ProbeResult::Protocol | ProbeResult::Reset), "{report:?}");
    assert_finding(&ask(nobody().await, &grpc(""), "").await, ProbeResult::Refused, "refused");
    let (mute, _server) = super::server(|stream| async move {
        let _kept_open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let spec = HealthSpec { timeout: SHORT, ..grpc("") };
    assert_finding(
        &ask(mute, &spec, "").await,
        ProbeResult::Timeout,
        "connected, but no gRPC answer within 300ms",
    );
}
