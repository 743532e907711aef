//! What Prometheus reads: `/metrics`, and `/healthz` and `/readyz` for those who only want yes or no.
//!
//! In: the published snapshot, the kernel's counters, the health engine's counters, read when asked. Out: the text format.
//! Invariant: no label whose values a client could choose.

mod collect;
pub mod text;

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::api::Handle;
use crate::ended::panic_if_told;
use crate::health::HealthEngine;
use crate::membership::CheckId;

/// Takes the address that metrics are served on.
///
/// # Errors
/// It is in use or not ours, in a sentence.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "daemon.metrics: cannot listen on {address}; choose another address or \"\" to switch metrics off"
        )
    })
}

#[derive(Clone)]
struct Sources {
    handle: Handle,
    health: HealthEngine<CheckId>,
}

/// Serves until the task is aborted.
pub async fn serve(listener: TcpListener, handle: Handle, health: HealthEngine<CheckId>) {
    panic_if_told("metrics");
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(Sources { handle, health });
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!("metrics are no longer served: {error}");
    }
}

async fn metrics(State(sources): State<Sources>) -> impl IntoResponse {
    // Reading counters takes a lock that the controller may hold for some milliseconds.
    let text =
        tokio::task::spawn_blocking(move || collect::text(&sources.handle, &sources.health.metrics())).await;
    match text {
        Ok(text) => {
            (StatusCode::OK, [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
        }
        Err(error) => {
            tracing::error!("metrics could not be collected: {error}");
            (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], String::new())
        }
    }
}

/// Ready: the program is on an interface and every pool in use has a usable backend.
async fn ready(State(sources): State<Sources>) -> impl IntoResponse {
    let snapshot = sources.handle.snapshot.load();
    let attached = snapshot.interfaces.iter().any(|interface| interface.attached);
    match (attached, snapshot.degraded.is_empty()) {
        (true, true) => (StatusCode::OK, "ready\n".to_owned()),
        (true, false) => (StatusCode::OK, format!("degraded\n{}\n", snapshot.degraded.join("\n"))),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "not attached to any interface\n".to_owned()),
    }
}
