//! What handlers share: how a request is read and an answer written.
//!
//! In: query, body, a value. Out: the typed request, a JSON response. Invariant: no body is longer or slower than allowed,
//! and no answer is without its version.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Query;
use axum::http::{HeaderValue, Response, StatusCode, Uri, header};
use axum::response::IntoResponse;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::types::{Answer, ErrorAnswer};
use super::super::{ApiError, ErrorCode};
use crate::spec::{Name, SyntaxError};

/// What every handler gives back.
pub(super) type Result<T = Reply> = std::result::Result<T, ApiError>;

/// A body with the revision it was made at.
pub(super) struct Reply {
    revision: u64,
    body: Vec<u8>,
}

impl Reply {
    pub(super) fn new<T: Serialize>(revision: u64, body: T) -> Result {
        let body = serde_json::to_vec(&Answer::new(body)).map_err(|error| {
            ApiError::new(ErrorCode::Internal, format!("the answer cannot be written as JSON ({error})"))
        })?;
        Ok(Self { revision, body })
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response<Body> {
        let mut response = json(StatusCode::OK, self.body);
        if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", self.revision)) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let status = StatusCode::from_u16(self.code().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&Answer::new(ErrorAnswer { error: *self.0 })).unwrap_or_default();
        json(status, body)
    }
}

fn json(status: StatusCode, mut body: Vec<u8>) -> Response<Body> {
    body.push(b'\n');
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The largest body, bytes.
const BODY_LEN: usize = 32 << 20;

/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T> {
    let bad = |error| {
        ApiError::new(ErrorCode::BadRequest, format!("the query of {uri} is not understood: {error}"))
    };
    Ok(Query::try_from_uri(uri).map_err(bad)?.0)
}

pub(super) fn name(text: &str) -> Result<Name> {
    text.parse()
        .map_err(|error: SyntaxError| ApiError::new(ErrorCode::BadRequest, error.message).hint(error.hint))
}

/// A body as JSON; an unknown or missing field is named.
pub(super) fn from_json<T: DeserializeOwned>(body: &Bytes) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        ApiError::new(ErrorCode::BadRequest, format!("the body is not understood: {error}"))
            .hint("see docs/config.md for the keys; an lbctl of another version than lbd may say others")
    })
}

/// The whole body, within size and time.
pub(super) async fn body(body: Body) -> Result<Bytes> {
    let read = tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, BODY_LEN));
    match read.await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(ApiError::new(
            ErrorCode::TooLarge,
            format!("the body could not be read, or is larger than {BODY_LEN} bytes"),
        )
        .hint("send fewer operations at a time; a configuration or backup of this size cannot be taken over by the API")),
        Err(_) => {
            let seconds = BODY_TIME.as_secs();
            Err(ApiError::new(ErrorCode::BadRequest, format!("the body took longer than {seconds} s")))
        }
    }
}
