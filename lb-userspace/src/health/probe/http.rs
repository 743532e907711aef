//! The http and https checks: is an HTTP/1.1 request answered with a status, and if asked for with a body, that count as healthy?
//!
//! In: a peer, an [`HttpCheck`] and a deadline. Out: the finding. Invariant: of the head at most [`HEAD_LIMIT_LEN`] is read,
//! of the body, if it matters at all, at most [`BODY_LIMIT_LEN`], and no more than [`READ_LIMIT_LEN`] in all; a server that
//! never ends, dribbles, or accepts and says nothing fails at the deadline.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::pin::pin;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout_at;

use super::limited::Limited;
use super::peer::Peer;
use super::tls::{self, Alpn};
use super::{AGENT, Deadline, Finding, ProbeResult, contains, finding_of, tcp};
use crate::spec::{HttpCheck, HttpsCheck, format_duration};

/// A head longer than this is no answer to a health check.
const HEAD_LIMIT_LEN: usize = 16 * 1024;

/// What is expected of a body has to be in its beginning.
const BODY_LIMIT_LEN: usize = 64 * 1024;

/// So much is read of one server at most, interim answers (100-continue), the framing of chunks and the beginning of a body that
/// nobody wants included.
const READ_LIMIT_LEN: usize = 64 * 1024;

/// The whole http check.
///
/// # Errors
/// A finding other than an HTTP answer.
pub(super) async fn ask(peer: Peer, check: &HttpCheck, deadline: Deadline) -> Result<Finding, Finding> {
    let request = request(peer.named, check, check.host.as_deref())?;
    let stream = tcp::connect(peer, deadline).await?;
    answer(stream, request, check, deadline).await
}

/// The whole https check.
///
/// # Errors
/// A finding other than an HTTP answer.
pub(super) async fn ask_tls(peer: Peer, check: &HttpsCheck, deadline: Deadline) -> Result<Finding, Finding> {
    let HttpsCheck { http, tls } = check;
    let request = request(peer.named, http, http.host.as_deref().or(tls.sni.as_deref()))?;
    let stream = tcp::connect(peer, deadline).await?;
    let stream = tls::connect(stream, peer.named, http.host.as_deref(), tls, Alpn::Http1, deadline).await?;
    answer(stream, request, http, deadline).await
}

/// The request of every probe of this check.
fn request(
    address: SocketAddr,
    check: &HttpCheck,
    host: Option<&str>,
) -> Result<Request<Empty<Bytes>>, Finding> {
    let host = host.map_or_else(|| address.to_string(), str::to_owned);
    Request::builder()
        .method(check.method.as_str())
        .uri(check.path.as_str())
        .header(HOST, host)
        .header(USER_AGENT, AGENT)
        .header(CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| {
            (ProbeResult::Local, Cow::Owned(format!("the check makes no HTTP request: {error}")))
        })
}

/// What the answer to the request says, if one comes in time.
async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Empty<Bytes>>,
    check: &HttpCheck,
    deadline: Deadline,
) -> Result<Finding, Finding> {
    match timeout_at(deadline.at, exchange(stream, request, check)).await {
        Ok(answer) => answer.map_err(|error| finding_of_http(&error)),
        Err(_elapsed) => {
            let text = format!("connected, but no HTTP answer within {}", format_duration(deadline.timeout));
            Err((ProbeResult::Timeout, Cow::Owned(text)))
        }
    }
}

/// Sends the request and waits for the head of the final answer, and for as much of the body as it takes.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Empty<Bytes>>,
    check: &HttpCheck,
) -> hyper::Result<Finding> {
    let limit_len = READ_LIMIT_LEN + if check.body.is_some() { BODY_LIMIT_LEN } else { 0 };
    let io = TokioIo::new(Limited::new(stream, limit_len));
    let (mut sender, connection) = http1::Builder::new().max_buf_size(HEAD_LIMIT_LEN).handshake(io).await?;
    // Dropped when it ends: a request that it leaves unanswered then fails instead of waiting.
    let mut connection = pin!(async move { connection.await.err() });
    let mut answer = pin!(async move {
        let response = sender.send_request(request).await?;
        judge(response, check).await
    });
    let mut fault = None;
    let mut open = true;
    let answer = loop {
        tokio::select! {
            biased;
            answer = &mut answer => break answer,
            ended = &mut connection, if open => (open, fault) = (false, ended),
        }
    };
    // The connection knows better than the request what went wrong.
    answer.map_err(|error| fault.unwrap_or(error))
}

/// Whether this answer counts as healthy.
async fn judge(response: Response<Incoming>, check: &HttpCheck) -> hyper::Result<Finding> {
    let status = judge_status(response.status(), check);
    let Some(wanted) = check.body.as_deref().filter(|_| status.0 == ProbeResult::Success) else {
        return Ok(status);
    };
    Ok(match body_contains(response.into_body(), wanted.as_bytes()).await? {
        true => (ProbeResult::Success, Cow::Owned(format!("{} with {wanted:?}", status.1))),
        false => {
            (ProbeResult::Answer, Cow::Owned(format!("{}, but without {wanted:?} in its body", status.1)))
        }
    })
}

fn judge_status(status: StatusCode, check: &HttpCheck) -> Finding {
    let code = status.as_u16();
    if check.accepts(code) {
        return (ProbeResult::Success, Cow::Owned(format!("HTTP {code}")));
    }
    let expected = match check.expect.as_slice() {
        [] => "200-399".to_owned(),
        codes => codes.iter().map(u16::to_string).collect::<Vec<_>>().join(", "),
    };
    (ProbeResult::Status, Cow::Owned(format!("HTTP {code}, expected {expected}")))
}

/// Whether the first [`BODY_LIMIT_LEN`] of a body contain this; no more is read than it takes to know.
async fn body_contains(mut body: Incoming, wanted: &[u8]) -> hyper::Result<bool> {
    let mut seen: Vec<u8> = Vec::new();
    while seen.len() < BODY_LIMIT_LEN {
        let Some(frame) = body.frame().await.transpose()? else { break };
        let Ok(data) = frame.into_data() else { continue };
        // It may lie across the border of two frames.
        let from = seen.len().saturating_sub(wanted.len());
        let room = BODY_LIMIT_LEN - seen.len();
        seen.extend_from_slice(data.get(..room).unwrap_or(&data));
        if contains(seen.get(from..).unwrap_or_default(), wanted) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a failed exchange says about the backend.
fn finding_of_http(error: &hyper::Error) -> Finding {
    let io = std::iter::successors(std::error::Error::source(error), |cause| cause.source())
        .find_map(|cause| cause.downcast_ref::<std::io::Error>());
    // A body that ends too early is an io::Error of hyper's own making.
    if let Some(io) = io.filter(|io| io.kind() != std::io::ErrorKind::UnexpectedEof) {
        return finding_of(io);
    }
    let (result, text) = if error.is_parse_too_large() {
        (ProbeResult::Protocol, "the head of the HTTP answer is longer than 16 KiB or has over 100 fields")
    } else if io.is_some() || error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        (ProbeResult::Reset, "connection closed before the HTTP answer was whole")
    } else {
        return (ProbeResult::Protocol, Cow::Owned(format!("the answer is not HTTP/1: {error}")));
    };
    (result, Cow::Borrowed(text))
}
