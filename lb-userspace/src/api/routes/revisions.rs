//! Revisions: listed, shown, put back, carried away.
//!
//! The whole of a configuration names the programs and files that lbd uses with its own rights: it is given to its owner alone, and taken
//! from nobody else.

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};

use super::super::access::{ForOwner, Peer};
use super::super::server::Stopping;
use super::super::types::{Back, Conditions, RestoreRequest, RevisionQuery};
use super::super::{ApiError, Command, ErrorCode, Handle};
use super::changes::{options, served_whole};
use super::reply::{Reply, Result, body as read_body, from_json, query};

/// `GET /v1/revisions`
pub(super) async fn list(State(handle): State<Handle>) -> Result {
    let list = handle.ask(|reply| Command::Revisions { reply }).await?;
    Reply::new(handle.snapshot.load().revision, list)
}

/// `GET /v1/revisions/N`
pub(super) async fn show(
    _: ForOwner,
    State(handle): State<Handle>,
    Path(number): Path<String>,
    uri: Uri,
) -> Result {
    let RevisionQuery { against } = query(&uri)?;
    let number = number_of(&number)?;
    let detail = handle.ask(|reply| Command::Revision { number, against, reply }).await?;
    Reply::new(handle.snapshot.load().revision, detail)
}

/// `POST /v1/revisions/N/rollback`
pub(super) async fn rollback(
    State(handle): State<Handle>,
    Extension(peer): Extension<Peer>,
    Extension(stopping): Extension<Stopping>,
    Path(number): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result {
    let back = Back::Revision(number_of(&number)?);
    let body = read_body(body).await?;
    let conditions: Conditions = if body.is_empty() { Conditions::default() } else { from_json(&body)? };
    put_back(&handle, peer, &stopping, &headers, back, &conditions).await
}

/// `GET /v1/backup`
pub(super) async fn backup(_: ForOwner, State(handle): State<Handle>) -> Result {
    let backup = handle.ask(|reply| Command::Backup { reply }).await?;
    Reply::new(backup.revision, backup)
}

/// `POST /v1/restore`
pub(super) async fn restore(
    _: ForOwner,
    State(handle): State<Handle>,
    Extension(peer): Extension<Peer>,
    Extension(stopping): Extension<Stopping>,
    headers: HeaderMap,
    body: Body,
) -> Result {
    let RestoreRequest { backup, conditions } = from_json(&read_body(body).await?)?;
    let back = Back::Backup(Box::new(backup));
    put_back(&handle, peer, &stopping, &headers, back, &conditions).await
}

async fn put_back(
    handle: &Handle,
    peer: Peer,
    stopping: &Stopping,
    headers: &HeaderMap,
    back: Back,
    conditions: &Conditions,
) -> Result {
    let options = options(headers, conditions)?;
    handle.count_flows().await;
    let who = peer.to_string();
    let done = handle.ask(|reply| Command::PutBack { who, back, options, reply }).await?;
    served_whole(handle, done, conditions.wait, stopping).await
}

fn number_of(text: &str) -> Result<u64> {
    text.parse().map_err(|_| {
        ApiError::new(ErrorCode::BadRequest, format!("{text:?} is no revision"))
            .hint("revisions are numbers, see /v1/revisions")
    })
}
