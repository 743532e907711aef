//! The grpc check: does the server say of itself, or of one of its services, that it serves?
//!
//! In: a peer, a [`GrpcCheck`] and a deadline. Out: the finding. Invariant: one call of grpc.health.v1.Health/Check over
//! HTTP/2, of whose answer at most [`READ_LIMIT_LEN`] is read.
//!
//! The two messages have one field each, so they are written and read here; a gRPC library would be forty crates for that.

use std::borrow::Cow;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;

use h2::client::{self, ResponseFuture};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout_at;

use super::limited::Limited;
use super::peer::Peer;
use super::tls::{self, Alpn};
use super::{AGENT, Deadline, Finding, ProbeResult, finding_of, tcp};
use crate::spec::{GrpcCheck, format_duration};

/// So much is read of one server at most.
const READ_LIMIT_LEN: usize = 64 * 1024;
/// A message longer than this is no answer to a health check.
const MESSAGE_LIMIT_LEN: usize = 1024;
const HEAD_LIMIT_LEN: u32 = 16 * 1024;
/// Compressed or not (1), length (4).
const PREFIX_LEN: usize = 5;

const PATH: &str = "/grpc.health.v1.Health/Check";

/// `ServingStatus` of the answer.
const SERVING: u64 = 1;

/// The whole check.
///
/// # Errors
/// A finding other than an answer.
pub(super) async fn ask(peer: Peer, check: &GrpcCheck, deadline: Deadline) -> Result<Finding, Finding> {
    let request = request(peer.named, check).map_err(|error| {
        (ProbeResult::Local, Cow::Owned(format!("the check makes no gRPC call: {error}")))
    })?;
    let stream = tcp::connect(peer, deadline).await?;
    if !check.tls {
        return answer(stream, request, check, deadline).await;
    }
    let stream =
        tls::connect(stream, peer.named, check.host.as_deref(), &check.trust, Alpn::Http2, deadline).await?;
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err((ProbeResult::Protocol, Cow::Borrowed("the backend speaks no HTTP/2 over TLS (ALPN)")));
    }
    answer(stream, request, check, deadline).await
}

fn request(address: SocketAddr, check: &GrpcCheck) -> Result<Request<()>, hyper::http::Error> {
    let host = check.host.as_deref().or(check.trust.sni.as_deref().filter(|_| check.tls));
    let host = host.map_or_else(|| address.to_string(), str::to_owned);
    let scheme = if check.tls { "https" } else { "http" };
    let uri = Uri::builder().scheme(scheme).authority(host).path_and_query(PATH).build()?;
    Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(USER_AGENT, AGENT)
        .body(())
}

/// What the answer to the call says, if one comes in time.
async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<()>,
    check: &GrpcCheck,
    deadline: Deadline,
) -> Result<Finding, Finding> {
    match timeout_at(deadline.at, exchange(stream, request, &check.service)).await {
        Ok(answer) => answer.map_err(|error| finding_of_h2(&error)).map(|answer| answer.judge(check)),
        Err(_elapsed) => {
            let text = format!("connected, but no gRPC answer within {}", format_duration(deadline.timeout));
            Err((ProbeResult::Timeout, Cow::Owned(text)))
        }
    }
}

/// What came back.
struct Answer {
    status: StatusCode,
    /// `grpc-status`, in the trailers, or in the head where there is nothing else.
    code: Option<u32>,
    message: Vec<u8>,
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<()>,
    service: &str,
) -> Result<Answer, h2::Error> {
    let io = Limited::new(stream, READ_LIMIT_LEN);
    let handshake = client::Builder::new()
        .enable_push(false)
        .initial_max_send_streams(1)
        .max_header_list_size(HEAD_LIMIT_LEN)
        .handshake::<_, Bytes>(io);
    let (mut sender, connection) = handshake.await?;
    let mut connection = pin!(connection);
    let mut call = pin!(async move {
        let (response, mut body) = sender.send_request(request, false)?;
        body.send_data(call_of(service), true)?;
        read(response).await
    });
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            answer = &mut call => return answer,
            ended = poll_fn(|context| connection.as_mut().poll(context)), if open => {
                ended?;
                open = false;
            }
        }
    }
}

async fn read(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let response = response.await?;
    let status = response.status();
    let head_code = code(response.headers());
    let mut body = response.into_body();
    let mut message = Vec::new();
    while message.len() < MESSAGE_LIMIT_LEN
        && let Some(data) = body.data().await
    {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        message.extend_from_slice(&data);
    }
    let trailers = match message.len() < MESSAGE_LIMIT_LEN {
        true => body.trailers().await?,
        false => None,
    };
    Ok(Answer { status, code: trailers.as_ref().and_then(code).or(head_code), message })
}

fn code(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status").and_then(|value: &HeaderValue| value.to_str().ok()?.parse().ok())
}

/// `HealthCheckRequest { service }` (field 1, a string) with its prefix.
fn call_of(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(1 << 3 | 2);
        let mut len = service.len();
        while len >= 0x80 {
            message.push(u8::try_from(len & 0x7f).unwrap_or_default() | 0x80);
            len >>= 7;
        }
        message.push(u8::try_from(len).unwrap_or_default());
        message.extend_from_slice(service.as_bytes());
    }
    let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0][..], &len.to_be_bytes(), &message].concat().into()
}

/// The status of a `HealthCheckResponse` (field 1, an enum) with its prefix; 0, UNKNOWN, is not written. `None`: it is no such
/// message.
fn serving_status(bytes: &[u8]) -> Option<u64> {
    let (prefix, mut message) = bytes.split_at_checked(PREFIX_LEN)?;
    let (compressed, len) = prefix.split_first()?;
    let len = u32::from_be_bytes(len.try_into().ok()?);
    if *compressed != 0 || usize::try_from(len).ok()? != message.len() {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let value_len = match key & 7 {
            0 => {
                let value = varint(&mut message)?;
                if key >> 3 == 1 {
                    status = value;
                }
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        message = message.get(value_len..)?;
    }
    Some(status)
}

/// Takes a number off the front.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

impl Answer {
    /// Whether this counts as healthy.
    fn judge(&self, check: &GrpcCheck) -> Finding {
        let status = |text: String| (ProbeResult::Status, Cow::Owned(text));
        let of = match check.service.as_str() {
            "" => String::new(),
            service => format!(" {service:?}"),
        };
        match (self.status, self.code) {
            (StatusCode::OK, Some(0)) => {}
            (StatusCode::OK, Some(5)) => {
                return status(format!("gRPC NOT_FOUND: the server knows no service{of}"));
            }
            (StatusCode::OK, Some(12)) => {
                return status("gRPC UNIMPLEMENTED: the server has no grpc.health.v1".to_owned());
            }
            (StatusCode::OK, Some(code)) => return status(format!("gRPC status {code}, expected 0")),
            (StatusCode::OK, None) => {
                return (
                    ProbeResult::Protocol,
                    Cow::Borrowed("the answer is not gRPC: it has no grpc-status"),
                );
            }
            (code, _) => return status(format!("HTTP {}, expected gRPC", code.as_u16())),
        }
        match serving_status(&self.message) {
            Some(SERVING) => (ProbeResult::Success, Cow::Borrowed("SERVING")),
            Some(0) => status("UNKNOWN, expected SERVING".to_owned()),
            Some(2) => status("NOT_SERVING, expected SERVING".to_owned()),
            Some(3) => status(format!("SERVICE_UNKNOWN: the server knows no service{of}")),
            Some(other) => status(format!("serving status {other}, expected SERVING")),
            None => {
                (ProbeResult::Protocol, Cow::Borrowed("the answer is no grpc.health.v1.HealthCheckResponse"))
            }
        }
    }
}

/// What a failed call says about the backend.
fn finding_of_h2(error: &h2::Error) -> Finding {
    match error.get_io() {
        Some(io)
            if matches!(io.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::BrokenPipe) =>
        {
            (ProbeResult::Reset, Cow::Borrowed("connection closed before the gRPC answer was whole"))
        }
        Some(io) => finding_of(io),
        None if error.is_remote() => {
            (ProbeResult::Reset, Cow::Owned(format!("the backend broke off: {error}")))
        }
        None => (ProbeResult::Protocol, Cow::Owned(format!("the answer is not HTTP/2: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_grpc_health_v1() {
        assert_eq!(call_of("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(call_of("a.B")[..], *b"\0\0\0\0\x05\x0a\x03a.B");
        let long = call_of(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 0x2f, 0x0a, 0xac, 0x02]);
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 1]), Some(SERVING));
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), Some(0));
        // A field of tomorrow before it: number 9, three bytes.
        assert_eq!(serving_status(&[0, 0, 0, 0, 7, 0x4a, 3, 1, 2, 3, 8, 2]), Some(2));
    }

    #[test]
    fn what_is_no_such_message_has_no_status() {
        for bad in [
            &b""[..],
            &[0, 0, 0, 0],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 3, 8, 1],
            &[0, 0, 0, 0, 1, 8],
            &[0, 0, 0, 0, 2, 8, 0x80],
            &[0, 0, 0, 0, 2, 0x0a, 9],
            &[0, 0, 0, 0, 1, 0x0b],
            &[0, 0, 0, 0, 11, 8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255],
        ] {
            assert_eq!(serving_status(bad), None, "{bad:?}");
        }
    }
}
