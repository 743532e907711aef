//! What changes something: changes of the configuration, and flushing flows.

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use tokio::time::{Instant, timeout_at};

use super::super::server::Peer;
use super::super::types::{ChangeRequest, FlowFilter};
use super::super::{ApiError, Command, ErrorCode, Handle, Snapshot};
use super::reply::{Reply, Result, body as read_body, from_json};
use super::{find_pool, wait_time};
use crate::health::Health;
use crate::membership::{Change, MemberId, Operation, Options};
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
        checked(&handle, &admitted, end).await.map_err(|waiting| {
            ApiError::new(
                ErrorCode::WaitTimeout,
                format!(
                    "the change is done (revision {}), but backend {waiting} has not been checked within {}",
                    done.revision,
                    format_duration(limit)
                ),
            )
            .hint(format!("see lbctl backend list {}", waiting.pool))
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

/// The backends that a change lets in, by the names it uses.
fn admitted(change: &Change) -> Vec<MemberId> {
    let mut all = Vec::new();
    for operation in &change.operations {
        match operation {
            Operation::BackendAdd { pool, address, .. } | Operation::BackendEnable { pool, address } => {
                all.push(MemberId { pool: pool.clone(), address: *address });
            }
            Operation::ServiceAdd(add) => all.extend(
                add.backends
                    .iter()
                    .map(|backend| MemberId { pool: add.name.clone(), address: backend.address }),
            ),
            _ => {}
        }
    }
    all
}

/// Waits until each of these has been checked once; else the one that has not.
async fn checked(handle: &Handle, wanted: &[MemberId], end: Instant) -> std::result::Result<(), MemberId> {
    let mut published = handle.published.clone();
    loop {
        published.borrow_and_update();
        let snapshot = handle.snapshot.load_full();
        let Some(waiting) = wanted.iter().find(|id| is_waiting(&snapshot, id)) else { return Ok(()) };
        match timeout_at(end, published.changed()).await {
            Ok(Ok(())) => {}
            // The time is over, or the daemon is.
            Ok(Err(_)) | Err(_) => return Err(waiting.clone()),
        }
    }
}

fn is_waiting(snapshot: &Snapshot, id: &MemberId) -> bool {
    let Ok(pool) = find_pool(snapshot, &id.pool) else { return false };
    let backend = pool.backends.iter().find(|backend| backend.id.address == id.address);
    backend.is_some_and(|backend| backend.checked && backend.health == Health::Unknown)
}

/// `POST /v1/flows/flush`
pub(super) async fn flush_flows(
    State(handle): State<Handle>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Result {
    let filter: FlowFilter = from_json(&read_body(body).await?)?;
    let who = peer.to_string();
    let flushed = handle.ask(|reply| Command::FlushFlows { who, filter, reply }).await?;
    Reply::new(handle.snapshot.load().revision, flushed)
}
