//! What changes something: changes of the configuration, and flushing flows.

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use tokio::time::Instant;

use super::super::server::Peer;
use super::super::types::{ChangeRequest, FlowFilter};
use super::super::{ApiError, Command, ErrorCode, Handle};
use super::reply::{Reply, Result, body as read_body, from_json};
use super::wait::{InVain, admitted, until_served};
use super::{refuse_unknown, wait_time};
use crate::membership::{Change, Options};
use crate::spec::format_duration;

/// `POST /v1/changes`
pub(super) async fn change(
    State(handle): State<Handle>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result {
    let request = parse(&read_body(body).await?)?;
    let if_revision = match headers.get(header::IF_MATCH) {
        Some(value) => Some(revision_of(value.to_str().unwrap_or_default())?),
        None => request.if_revision,
    };
    let options = Options { if_revision, force: request.force, dry_run: request.dry_run };
    let change = Change { operations: request.operations, options };
    let admitted = admitted(&change);
    let who = peer.to_string();
    let done = handle.ask(|reply| Command::Change { who, change, reply }).await?;
    if let Some(limit) = request.wait.and_then(wait_time).filter(|_| !done.dry_run) {
        let end = Instant::now() + limit;
        until_served(&handle, &admitted, end).await.map_err(|InVain { what, why, pool }| {
            let (revision, limit) = (done.revision, format_duration(limit));
            ApiError::new(
                ErrorCode::WaitTimeout,
                format!("the change is done (revision {revision}), but {what} after {limit}: {why}"),
            )
            .hint(pool.map_or("see lbctl status".to_owned(), |pool| format!("see lbctl backend list {pool}")))
        })?;
    }
    Reply::new(done.revision, done)
}

/// A list of operations alone, or with conditions.
fn parse(body: &Bytes) -> Result<ChangeRequest> {
    let is_list = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    match is_list {
        true => Ok(ChangeRequest { operations: from_json(body)?, ..ChangeRequest::default() }),
        false => from_json(body),
    }
}

/// The number in `"7"`.
fn revision_of(tag: &str) -> Result<u64> {
    let number = tag.trim().trim_start_matches("W/").trim_matches('"').parse();
    number.map_err(|_| {
        ApiError::new(ErrorCode::BadRequest, format!("If-Match is {tag:?}, which is no revision"))
            .hint("send the ETag of the answer that was looked at, such as \"7\"")
    })
}

/// `POST /v1/flows/flush`
pub(super) async fn flush_flows(
    State(handle): State<Handle>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Result {
    let filter: FlowFilter = from_json(&read_body(body).await?)?;
    refuse_unknown(&handle, &filter)?;
    let who = peer.to_string();
    let flushed = handle.ask(|reply| Command::FlushFlows { who, filter, reply }).await?;
    Reply::new(handle.snapshot.load().revision, flushed)
}
