//! The http check: is an HTTP/1.1 request answered with a status that counts as healthy?
//!
//! In: an address, an [`HttpCheck`] and a deadline. Out: the finding. Invariant: only the head of the answer is read, of
//! at most [`HEAD_LIMIT_LEN`] bytes, and no more than [`READ_LIMIT_LEN`] in all; a server that never ends, dribbles, or
//! accepts and says nothing fails at the deadline.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::pin::pin;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout_at;

use super::{Deadline, Finding, ProbeResult, finding_of, tcp};
use crate::spec::{HttpCheck, format_duration};

/// A head longer than this is no answer to a health check.
const HEAD_LIMIT_LEN: usize = 16 * 1024;

/// So much is read of one server at most, interim answers (100-continue) and the beginning of the body included.
const READ_LIMIT_LEN: u64 = 64 * 1024;

/// How lbd names itself to the backend.
const AGENT: &str = concat!("lbd-health/", env!("CARGO_PKG_VERSION"));

/// The whole check.
///
/// # Errors
/// A finding other than an HTTP answer.
pub(super) async fn ask(
    address: SocketAddr,
    check: &HttpCheck,
    deadline: Deadline,
) -> Result<Finding, Finding> {
    let request = request(address, check)?;
    let stream = tcp::connect(address, deadline).await?;
    let status = match timeout_at(deadline.at, exchange(stream, request)).await {
        Ok(answer) => answer.map_err(|error| finding_of_http(&error))?,
        Err(_elapsed) => {
            let text = format!("connected, but no HTTP answer within {}", format_duration(deadline.timeout));
            return Err((ProbeResult::Timeout, Cow::Owned(text)));
        }
    };
    Ok(judge(status, check))
}

/// The request of every probe of this check.
fn request(address: SocketAddr, check: &HttpCheck) -> Result<Request<Empty<Bytes>>, Finding> {
    let host = check.host.clone().unwrap_or_else(|| address.to_string());
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

/// Sends the request and waits for the head of the final answer.
async fn exchange(stream: TcpStream, request: Request<Empty<Bytes>>) -> hyper::Result<StatusCode> {
    let (reader, writer) = stream.into_split();
    let io = TokioIo::new(tokio::io::join(reader.take(READ_LIMIT_LEN), writer));
    let (mut sender, connection) = http1::Builder::new().max_buf_size(HEAD_LIMIT_LEN).handshake(io).await?;
    // Dropped when it ends: a request that it leaves unanswered then fails instead of waiting.
    let mut connection = pin!(async move { connection.await.err() });
    let mut answer = pin!(sender.send_request(request));
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
    answer.map(|response| response.status()).map_err(|error| fault.unwrap_or(error))
}

/// Whether this status counts as healthy.
fn judge(status: StatusCode, check: &HttpCheck) -> Finding {
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

/// What a failed exchange says about the backend.
fn finding_of_http(error: &hyper::Error) -> Finding {
    let io = std::iter::successors(std::error::Error::source(error), |cause| cause.source())
        .find_map(|cause| cause.downcast_ref::<std::io::Error>());
    if let Some(io) = io {
        return finding_of(io);
    }
    let (result, text) = if error.is_parse_too_large() {
        (ProbeResult::Protocol, "the head of the HTTP answer is longer than 16 KiB or has over 100 fields")
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        (ProbeResult::Reset, "connection closed before the HTTP answer was whole")
    } else {
        return (ProbeResult::Protocol, Cow::Owned(format!("the answer is not HTTP/1: {error}")));
    };
    (result, Cow::Borrowed(text))
}
