//! What changes something: changes of the configuration, and flushing flows.

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use tokio::time::Instant;

use super::super::access::{Asking, ForAdmin, Peer, Role};
use super::super::server::Stopping;
use super::super::types::{ChangeDone, ChangeRequest, Conditions, FlowFilter};
use super::super::{ApiError, Command, ErrorCode, Handle};
use super::reply::{Reply, Result, body as read_body, from_json};
use super::wait::{Admitted, InVain, admitted, until_served};
use super::{refuse_unknown, wait_time};
use crate::membership::{Change, Operation, Options};
use crate::spec::format_duration;

/// `POST /v1/changes`
pub(super) async fn change(
    State(handle): State<Handle>,
    Extension(asking): Extension<Asking>,
    Extension(stopping): Extension<Stopping>,
    headers: HeaderMap,
    body: Body,
) -> Result {
    let request = parse(&read_body(body).await?)?;
    if request.operations.iter().any(Operation::names_file) {
        // lbd would read it with its own rights.
        asking.allow(Role::Owner)?;
    }
    let ChangeRequest { operations, if_revision, force, dry_run, max_moved, wait } = request;
    let options = options(&headers, &Conditions { if_revision, force, dry_run, max_moved, wait })?;
    let change = Change { operations, options };
    let admitted = admitted(&change);
    if dry_run || max_moved.is_some() {
        handle.count_flows().await;
    }
    let who = asking.peer.to_string();
    let done = handle.ask(|reply| Command::Change { who, change, reply }).await?;
    served(&handle, done, &admitted, wait, &stopping).await
}

/// `POST /v1/apply`
pub(super) async fn apply(
    State(handle): State<Handle>,
    Extension(peer): Extension<Peer>,
    Extension(stopping): Extension<Stopping>,
    headers: HeaderMap,
    body: Body,
) -> Result {
    let body = read_body(body).await?;
    let conditions: Conditions = if body.is_empty() { Conditions::default() } else { from_json(&body)? };
    let options = options(&headers, &conditions)?;
    handle.count_flows().await;
    let who = peer.to_string();
    let done = handle.ask(|reply| Command::Apply { who, options, reply }).await?;
    served_whole(&handle, done, conditions.wait, &stopping).await
}

/// `GET /v1/plan`
pub(super) async fn plan(_: ForAdmin, State(handle): State<Handle>) -> Result {
    handle.count_flows().await;
    let answer = handle.ask(|reply| Command::Plan { candidate: None, reply }).await?;
    Reply::new(answer.revision, answer)
}

/// `POST /v1/plan`
pub(super) async fn plan_candidate(State(handle): State<Handle>, body: Body) -> Result {
    let candidate = Some(Box::new(from_json(&read_body(body).await?)?));
    handle.count_flows().await;
    let answer = handle.ask(|reply| Command::Plan { candidate, reply }).await?;
    Reply::new(answer.revision, answer)
}

/// The conditions, with the revision of the header If-Match.
pub(super) fn options(headers: &HeaderMap, conditions: &Conditions) -> Result<Options> {
    let if_revision = match headers.get(header::IF_MATCH) {
        Some(value) => Some(revision_of(value.to_str().unwrap_or_default())?),
        None => conditions.if_revision,
    };
    let Conditions { force, dry_run, max_moved, .. } = *conditions;
    if max_moved.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
        return Err(ApiError::new(ErrorCode::BadRequest, "max_moved is a share, from 0 to 1"));
    }
    Ok(Options { if_revision, force, dry_run, max_moved })
}

/// Answers a change of the whole, after the wait for the backends it added.
pub(super) async fn served_whole(
    handle: &Handle,
    done: ChangeDone,
    wait: Option<f64>,
    stopping: &Stopping,
) -> Result {
    let admitted: Vec<Admitted> = done.admitted.iter().cloned().map(Admitted::Backend).collect();
    served(handle, done, &admitted, wait, stopping).await
}

/// Answers a change, after the wait for what it lets in.
async fn served(
    handle: &Handle,
    done: ChangeDone,
    admitted: &[Admitted],
    wait: Option<f64>,
    stopping: &Stopping,
) -> Result {
    if let Some(limit) = wait.and_then(wait_time).filter(|_| !done.dry_run) {
        let begin = Instant::now();
        let waited = until_served(handle, admitted, begin + limit, stopping).await;
        waited.map_err(|InVain { what, why, pool }| {
            let when = match begin.elapsed() < limit {
                true => "when lbd stopped".to_owned(),
                false => format!("after {}", format_duration(limit)),
            };
            ApiError::new(
                ErrorCode::WaitTimeout,
                format!("the change is done (revision {}), but {what} {when}: {why}", done.revision),
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
