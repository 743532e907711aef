//! One function for each path.
//!
//! In: a request whose user has been checked. Out: an [`Answer`](super::types::Answer) with the revision as its ETag, or an [`ApiError`].
//! Invariant: everything a client may send is judged here or by the membership, and answered in JSON.

mod changes;
mod reply;
mod revisions;
mod wait;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::Uri;
use axum::routing::{get, post};
use axum::{Extension, Router};

use super::rows::Picture;
use super::server::Stopping;
use super::types::{
    BackendDetail, BackendList, EventQuery, ExplainRequest, FlowFilter, NameQuery, OverrideList, PoolDetail,
    PoolList, ServiceDetail, ServiceList,
};
use super::{ApiError, Command, ErrorCode, Handle};
use crate::membership::{PoolView, ServiceView};
use crate::spec::{BackendAddress, Name, nearest};
use reply::{Reply, Result, name, query};

/// The longest a request for events may wait, and the longest wait of a change.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Flows in a list whose request names no limit, and in any list.
const FLOWS: usize = 100;
const MOST_FLOWS: usize = 100_000;

/// Every path.
pub(super) fn router(handle: Handle) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/services", get(services))
        .route("/v1/services/{name}", get(service))
        .route("/v1/pools", get(pools))
        .route("/v1/pools/{name}", get(pool))
        .route("/v1/pools/{name}/backends", get(pool_backends))
        .route("/v1/pools/{name}/backends/{address}", get(backend))
        .route("/v1/backends", get(backends))
        .route("/v1/changes", post(changes::change))
        .route("/v1/apply", post(changes::apply))
        .route("/v1/revisions", get(revisions::list))
        .route("/v1/revisions/{number}", get(revisions::show))
        .route("/v1/revisions/{number}/rollback", post(revisions::rollback))
        .route("/v1/backup", get(revisions::backup))
        .route("/v1/restore", post(revisions::restore))
        .route("/v1/plan", get(changes::plan).post(changes::plan_candidate))
        .route("/v1/explain", get(explain))
        .route("/v1/flows", get(flows))
        .route("/v1/flows/count", get(count_flows))
        .route("/v1/flows/flush", post(changes::flush_flows))
        .route("/v1/stats", get(stats))
        .route("/v1/drops", get(drops))
        .route("/v1/overrides", get(overrides))
        .route("/v1/events", get(events))
        .fallback(no_path)
        .method_not_allowed_fallback(no_method)
        .with_state(handle)
}

/// The answer to everything while there is nobody to ask.
pub(super) fn starting() -> Router {
    Router::new().fallback(async || {
        ApiError::new(ErrorCode::Unavailable, "lbd is starting; packets are forwarded as before meanwhile")
            .hint("repeat it in a moment; the log says what it is at (journalctl -u lbd)")
    })
}

async fn no_path(uri: Uri) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("there is no path {}", uri.path()))
        .hint("all paths begin with /v1, such as /v1/status")
}

async fn no_method(uri: Uri) -> ApiError {
    ApiError::new(ErrorCode::MethodNotAllowed, format!("{} is not used with this method", uri.path()))
        .hint("GET reads; /v1/changes, /v1/apply, /v1/plan, /v1/restore, /v1/revisions/N/rollback and /v1/flows/flush take POST")
}

async fn status(State(handle): State<Handle>) -> Result {
    let snapshot = handle.snapshot.load_full();
    Reply::new(snapshot.revision, Picture::counted(&snapshot, &handle).await.status())
}

async fn services(State(handle): State<Handle>) -> Result {
    let snapshot = handle.snapshot.load_full();
    let picture = Picture::new(&snapshot, &handle);
    Reply::new(snapshot.revision, ServiceList { services: picture.services(), pools: picture.pools() })
}

async fn service(State(handle): State<Handle>, Path(text): Path<String>) -> Result {
    let snapshot = handle.snapshot.load_full();
    let view = find_service(&snapshot.services, &name(&text)?)?;
    let picture = Picture::counted(&snapshot, &handle).await;
    let pool = snapshot.pools.iter().find(|pool| pool.name == view.spec.pool);
    let detail = ServiceDetail {
        service: picture.service(view),
        pools: pool.map(|pool| picture.tables(pool)).unwrap_or_default(),
        backends: pool
            .into_iter()
            .flat_map(|pool| pool.members())
            .map(|view| picture.backend(view))
            .collect(),
        discovery: picture.sources(Some(&view.spec.pool)),
    };
    Reply::new(snapshot.revision, detail)
}

fn find_service<'a>(services: &'a [ServiceView], name: &Name) -> Result<&'a ServiceView> {
    services.iter().find(|view| view.spec.name == *name).ok_or_else(|| {
        let known = services.iter().map(|view| view.spec.name.as_str());
        not_found("service", name, nearest(name.as_str(), known))
    })
}

/// The pool of this name, or that of the service of this name.
fn find_pool<'a>(snapshot: &'a super::Snapshot, name: &Name) -> Result<&'a PoolView> {
    let by_name = |name: &Name| snapshot.pools.iter().find(|pool| pool.name == *name).map(Arc::as_ref);
    let service = || snapshot.services.iter().find(|view| view.spec.name == *name);
    by_name(name).or_else(|| by_name(&service()?.spec.pool)).ok_or_else(|| {
        let pools = snapshot.pools.iter().map(|pool| pool.name.as_str());
        let known = pools.chain(snapshot.services.iter().map(|view| view.spec.name.as_str()));
        not_found("pool", name, nearest(name.as_str(), known))
    })
}

/// Errors if the flows of a service or pool are asked for that there is not.
fn refuse_unknown(handle: &Handle, filter: &FlowFilter) -> Result<()> {
    filter.name.as_ref().map_or(Ok(()), |name| find_pool(&handle.snapshot.load(), name).map(drop))
}

fn not_found(what: &str, name: &Name, near: Option<&str>) -> ApiError {
    let hint = match near {
        Some(near) => format!("did you mean {near:?}?"),
        None => "see what there is with lbctl service list".to_owned(),
    };
    ApiError::new(ErrorCode::NotFound, format!("there is no {what} {:?}", name.as_str())).hint(hint)
}

async fn pools(State(handle): State<Handle>) -> Result {
    let snapshot = handle.snapshot.load_full();
    Reply::new(snapshot.revision, PoolList { pools: Picture::new(&snapshot, &handle).every_pool() })
}

async fn pool(State(handle): State<Handle>, Path(text): Path<String>) -> Result {
    let snapshot = handle.snapshot.load_full();
    let view = find_pool(&snapshot, &name(&text)?)?;
    let picture = Picture::counted(&snapshot, &handle).await;
    let backends = view.members().map(|view| picture.backend(view)).collect();
    let discovery = picture.sources(Some(&view.name));
    Reply::new(snapshot.revision, PoolDetail { pools: picture.tables_or_pool(view), backends, discovery })
}

async fn pool_backends(State(handle): State<Handle>, Path(text): Path<String>) -> Result {
    let snapshot = handle.snapshot.load_full();
    let view = find_pool(&snapshot, &name(&text)?)?;
    let picture = Picture::counted(&snapshot, &handle).await;
    let backends = view.members().map(|view| picture.backend(view)).collect();
    Reply::new(snapshot.revision, BackendList { backends, counted: picture.flows_counted() })
}

async fn backends(State(handle): State<Handle>) -> Result {
    let snapshot = handle.snapshot.load_full();
    let picture = Picture::counted(&snapshot, &handle).await;
    let list = BackendList { backends: picture.backends(), counted: picture.flows_counted() };
    Reply::new(snapshot.revision, list)
}

async fn backend(State(handle): State<Handle>, Path((pool, address)): Path<(String, String)>) -> Result {
    let snapshot = handle.snapshot.load_full();
    let view = find_pool(&snapshot, &name(&pool)?)?;
    let wanted: BackendAddress = address.parse().map_err(|error: crate::spec::SyntaxError| {
        ApiError::new(ErrorCode::BadRequest, error.message).hint(error.hint)
    })?;
    let Some(found) = view.members().find(|backend| backend.id.address == wanted) else {
        let message = format!("pool {:?} has no backend {wanted}", view.name.as_str());
        return Err(ApiError::new(ErrorCode::NotFound, message)
            .hint(format!("see its backends with lbctl backend list {}", view.name)));
    };
    let picture = Picture::counted(&snapshot, &handle).await;
    Reply::new(snapshot.revision, BackendDetail { backend: picture.backend(found) })
}

async fn explain(State(handle): State<Handle>, uri: Uri) -> Result {
    let request: ExplainRequest = query(&uri)?;
    if request.source.is_ipv4() != request.destination.is_ipv4() {
        return Err(ApiError::new(
            ErrorCode::BadRequest,
            format!("{} and {} are of two families; no packet has both", request.source, request.destination),
        ));
    }
    let explanation = handle.ask(|reply| Command::Explain { request, reply }).await?;
    Reply::new(handle.snapshot.load().revision, explanation)
}

async fn flows(State(handle): State<Handle>, uri: Uri) -> Result {
    let mut filter: FlowFilter = query(&uri)?;
    refuse_unknown(&handle, &filter)?;
    filter.limit = Some(filter.limit.unwrap_or(FLOWS).min(MOST_FLOWS));
    let flows = handle.ask(|reply| Command::Flows { filter, reply }).await?;
    Reply::new(handle.snapshot.load().revision, flows)
}

async fn count_flows(State(handle): State<Handle>, uri: Uri) -> Result {
    let filter: FlowFilter = query(&uri)?;
    refuse_unknown(&handle, &filter)?;
    let counts = handle.ask(|reply| Command::CountFlows { filter, reply }).await?;
    Reply::new(handle.snapshot.load().revision, counts)
}

async fn stats(State(handle): State<Handle>, uri: Uri) -> Result {
    let wanted: NameQuery = query(&uri)?;
    let snapshot = handle.snapshot.load_full();
    let only = wanted.name.map(|name| find_service(&snapshot.services, &name)).transpose()?;
    Reply::new(snapshot.revision, Picture::counted(&snapshot, &handle).await.stats(only))
}

async fn drops(State(handle): State<Handle>, uri: Uri) -> Result {
    let wanted: NameQuery = query(&uri)?;
    let snapshot = handle.snapshot.load_full();
    if let Some(name) = &wanted.name {
        find_service(&snapshot.services, name)?;
    }
    Reply::new(snapshot.revision, Picture::new(&snapshot, &handle).drops(wanted.name.as_ref()))
}

async fn overrides(State(handle): State<Handle>) -> Result {
    let snapshot = handle.snapshot.load_full();
    Reply::new(snapshot.revision, OverrideList { overrides: snapshot.overrides.clone() })
}

/// Who waits for events does not hold up the end: the next lbd goes on with the checks.
async fn events(State(handle): State<Handle>, Extension(stopping): Extension<Stopping>, uri: Uri) -> Result {
    let wanted: EventQuery = query(&uri)?;
    let mut added = handle.events.follow();
    let mut list = handle.events.after(wanted.since);
    if let Some(limit) = wanted.wait.and_then(wait_time).filter(|_| list.events.is_empty()) {
        // Neither the end of the wait nor that of the daemon is a fault: there are no events, then.
        let is_more = tokio::select! {
            more = tokio::time::timeout(limit, added.wait_for(|last| *last > list.next)) => matches!(more, Ok(Ok(_))),
            () = stopping.came() => false,
        };
        if is_more {
            list = handle.events.after(wanted.since);
        }
    }
    Reply::new(handle.snapshot.load().revision, list)
}

/// Seconds as a length, at most the longest wait; `None` for none and for what is no length.
fn wait_time(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|wait| !wait.is_zero())
        .map(|wait| wait.min(LONGEST_WAIT))
}
