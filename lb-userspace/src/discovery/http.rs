//! HTTP endpoints that serve a list of backends as JSON.
//!
//! In: an [`HttpSource`]. Out: its backends; the last ones, where the endpoint says that they are still right (304). Invariants: a
//! request ends at its time-out whatever the endpoint does; of an answer no more is read than [`MOST_BYTES`]; redirects are not
//! followed, so that what is asked is what the configuration names.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, ETAG, HOST, HeaderValue, IF_NONE_MATCH, LOCATION, USER_AGENT,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Answer, Found, MOST_BYTES, backends};
use crate::health::encrypted;
use crate::spec::{HttpSource, HttpUrl, TlsCheck, format_duration};

/// A head longer than this is no answer.
const HEAD_LEN: usize = 16 * 1024;
/// How lbd names itself.
const AGENT: &str = concat!("lbd-discovery/", env!("CARGO_PKG_VERSION"));

/// One endpoint, and what it said last.
pub(super) struct Endpoint {
    source: HttpSource,
    /// So many backends it may name.
    most: u32,
    last: Option<(HeaderValue, Found)>,
}

/// What came back.
enum Reply {
    /// What it said last is still right.
    Same,
    /// A document, with its mark if it has one.
    New(Option<HeaderValue>, Vec<u8>),
}

impl Endpoint {
    pub(super) fn new(source: &HttpSource, most: u32) -> Self {
        Self { source: source.clone(), most, last: None }
    }

    pub(super) async fn ask(&mut self) -> Result<Answer, String> {
        let url = &self.source.url;
        let parts: HttpUrl = url.parse().map_err(|error: crate::spec::SyntaxError| error.to_string())?;
        let tag = self.last.as_ref().map(|(tag, _)| tag.clone());
        let reply = match timeout(self.source.timeout, request(&self.source, &parts, tag)).await {
            Ok(reply) => reply.map_err(|why| format!("{url} {why}"))?,
            Err(_elapsed) => {
                let limit = format_duration(self.source.timeout);
                return Err(format!("{url} has not answered whole within {limit}"));
            }
        };
        let stands = self.source.interval;
        match (reply, &self.last) {
            (Reply::Same, Some((_, found))) => Ok(Answer { found: found.clone(), stands }),
            (Reply::Same, None) => {
                Err(format!("{url} answers 304 although it was not asked what has changed"))
            }
            (Reply::New(tag, body), _) => {
                let found = backends::of_json(&body, self.most)
                    .map_err(|why| format!("{url} serves no list of backends: {why}"))?;
                self.last = tag.map(|tag| (tag, found.clone()));
                Ok(Answer { found, stands })
            }
        }
    }
}

/// One request on a connection of its own; the sentence of an error goes on after the URL.
async fn request(source: &HttpSource, url: &HttpUrl, tag: Option<HeaderValue>) -> Result<Reply, String> {
    let mut request = Request::get(url.path.as_str())
        .header(HOST, url.authority())
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, "application/json")
        .header(CONNECTION, "close");
    if let Some(tag) = tag {
        request = request.header(IF_NONE_MATCH, tag);
    }
    let request = request.body(Empty::new()).map_err(|error| format!("makes no request: {error}"))?;
    let (stream, address) = connect(url, source.timeout).await?;
    if !url.is_encrypted {
        return exchange(stream, request).await;
    }
    let trust = TlsCheck { sni: None, ca: source.ca.clone(), insecure: source.insecure };
    let stream = encrypted(stream, address, &url.host, &trust, source.timeout).await;
    // Health checks, whose words these are, know backends only.
    let stream =
        stream.map_err(|why| format!("cannot be trusted: {}", why.replace("the backend", "the endpoint")))?;
    exchange(stream, request).await
}

/// The way to the endpoint, in half of `limit` at most.
async fn connect(url: &HttpUrl, limit: Duration) -> Result<(TcpStream, SocketAddr), String> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((url.host.as_str(), url.port))
        .await
        .map_err(|error| format!("names a host that is not found: {error}"))?
        .collect();
    connect_to(&addresses, limit / 2).await
}

/// A connection to the first that answers; one that does not takes no more than its share of the time.
async fn connect_to(addresses: &[SocketAddr], limit: Duration) -> Result<(TcpStream, SocketAddr), String> {
    let mut fault = "names a host without an address".to_owned();
    let share = limit / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    for address in addresses {
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok((stream, *address)),
            Ok(Err(error)) => fault = format!("cannot be reached at {address}: {error}"),
            Err(_elapsed) => fault = format!("cannot be reached at {address}: no answer"),
        }
    }
    Err(fault)
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Empty<Bytes>>,
) -> Result<Reply, String> {
    let fault = |error: hyper::Error| format!("does not answer in HTTP: {error}");
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_LEN).handshake(TokioIo::new(stream)).await.map_err(fault)?;
    let mut connection = pin!(connection);
    let mut reply = pin!(async {
        let response = sender.send_request(request).await.map_err(fault)?;
        read(response).await
    });
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            reply = &mut reply => return reply,
            // Its fault, if it has one, is that of the request too.
            _ended = &mut connection, if open => open = false,
        }
    }
}

async fn read(response: Response<hyper::body::Incoming>) -> Result<Reply, String> {
    let (head, body) = response.into_parts();
    let text = |name| head.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    match head.status {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED => return Ok(Reply::Same),
        status if status.is_redirection() => {
            let to = text(LOCATION).unwrap_or("elsewhere");
            return Err(format!(
                "answers {} and points to {to:?}: redirects are not followed, write that URL",
                status.as_u16()
            ));
        }
        status => return Err(format!("answers {}, expected 200", status.as_u16())),
    }
    let too_long = || format!("serves more than {} MiB, of which nothing is read further", MOST_BYTES >> 20);
    let announced = text(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if announced.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > MOST_BYTES)) {
        return Err(too_long());
    }
    let tag = head.headers.get(ETAG).cloned();
    let whole = Limited::new(body, MOST_BYTES).collect().await.map_err(|error| {
        match error.is::<LengthLimitError>() {
            true => too_long(),
            false => format!("does not serve the whole document: {error}"),
        }
    })?;
    Ok(Reply::New(tag, whole.to_bytes().to_vec()))
}

#[cfg(test)]
mod tests;
