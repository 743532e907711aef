//! Connections: who may, how many, how long.
//!
//! In: connections to the Unix socket. Out: requests to [`super::routes`] with the user behind them. Invariants: the peer's
//! credentials, as the kernel gives them, decide for each request; there are never more than [`CONNECTIONS`] connections of those who may do
//! anything, and of others never so many, or for so long, that they keep those out; one that says nothing for [`HEADER_TIME`] is closed.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;

use super::access::{Access, Asking, Peer, Role};
use super::socket::Socket;
use super::{Handle, routes};
use crate::ended::panic_if_told;

/// Connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 128;

/// How long a request's header may take, and how long a connection may idle.
const HEADER_TIME: Duration = Duration::from_secs(30);

/// Connections at a time of those who may do nothing: the answer says so, and ends the connection.
const STRANGERS: usize = 8;

/// How long such a connection may take.
const STRANGERS_TIME: Duration = Duration::from_secs(1);

/// How long to wait before the next attempt when a connection cannot be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often it is looked whether the socket still has its name: who removes it tells nobody.
const LOOK: Duration = Duration::from_secs(1);

/// How long connections that are under way get at shutdown.
const LAST_TIME: Duration = Duration::from_secs(2);

/// Says to requests that wait for something to happen that lbd ends.
#[derive(Clone)]
pub(super) struct Stopping(watch::Receiver<bool>);

impl Stopping {
    /// Returns when it does.
    pub(super) async fn came(mut self) {
        stopped(&mut self.0).await;
    }
}

/// Serves until `stop` says true (or its sender is gone), then lets requests under way end, for two seconds at most.
pub async fn serve(mut socket: Socket, handle: Handle, access: Access, stop: watch::Receiver<bool>) {
    let router = routes::router(handle).layer(axum::Extension(Stopping(stop.clone())));
    serve_router(&mut socket, router, access, stop, "api").await;
}

/// Says to everybody that lbd is starting, until `stop` says true (or its sender is gone); then the socket is free again.
pub async fn serve_starting(mut socket: Socket, access: Access, stop: watch::Receiver<bool>) -> Socket {
    serve_router(&mut socket, routes::starting(), access, stop, "greeting").await;
    socket
}

async fn serve_router(
    socket: &mut Socket,
    router: axum::Router,
    access: Access,
    stop: watch::Receiver<bool>,
    place: &'static str,
) {
    let access = Arc::new(access);
    let (slots, strangers) = (Arc::new(Semaphore::new(CONNECTIONS)), Arc::new(Semaphore::new(STRANGERS)));
    let mut stopping = stop.clone();
    let mut look = tokio::time::interval(LOOK);
    let accepted = async {
        loop {
            let accepted = tokio::select! {
                accepted = socket.listener.accept() => accepted,
                _ = look.tick() => {
                    socket.keep();
                    continue;
                }
            };
            match accepted {
                Ok((stream, _)) => {
                    panic_if_told(place);
                    let Some(peer) = peer_of(&stream, &access) else { continue };
                    let asking = Asking { peer, access: Arc::clone(&access) };
                    let (router, stop) = (router.clone(), stop.clone());
                    let slot = match peer.role {
                        Role::Stranger => Arc::clone(&strangers).try_acquire_owned().ok(),
                        // The semaphore is never closed.
                        _ => Arc::clone(&slots).acquire_owned().await.ok(),
                    };
                    let Some(slot) = slot else { continue };
                    tokio::spawn(async move {
                        match peer.role {
                            // Whatever it is about; time is up or it is answered.
                            Role::Stranger => {
                                let served = connection(stream, router, asking, stop);
                                drop(tokio::time::timeout(STRANGERS_TIME, served).await);
                            }
                            _ => connection(stream, router, asking, stop).await,
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    // Out of file descriptors. Whoever gives one back does not say so: ask again, not in a circle.
                    tracing::warn!("cannot accept on {}: {error}", socket.path().display());
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepted => {}
        () = stopped(&mut stopping) => {}
    }
    let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
    if tokio::time::timeout(LAST_TIME, slots.acquire_many(all)).await.is_err() {
        tracing::info!("requests that were still under way are cut off");
    }
}

/// Returns when it says true or nobody is left to say it.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error is the second case; the guard inside the value must not live on.
    let _said_or_gone = stop.wait_for(|stop| *stop).await.is_ok();
}

fn peer_of(stream: &UnixStream, access: &Access) -> Option<Peer> {
    let peer = Peer::of(stream, access);
    peer.inspect_err(|error| tracing::warn!("a connection is closed, its user is unknown: {error}")).ok()
}

async fn connection(
    stream: UnixStream,
    router: axum::Router,
    asking: Asking,
    mut stop: watch::Receiver<bool>,
) {
    let peer = asking.peer;
    let answer = service_fn(move |request: hyper::Request<Incoming>| {
        let (router, asking) = (router.clone(), asking.clone());
        async move { Ok::<_, std::convert::Infallible>(dispatch(router, asking, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .keep_alive(peer.role > Role::Stranger)
        .serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, "connection ended early: {error}");
    }
}

/// What a method needs at least; handlers that need more say so themselves.
fn needed(method: &Method) -> Role {
    if [Method::GET, Method::HEAD].contains(method) { Role::Reader } else { Role::Admin }
}

async fn dispatch(router: axum::Router, asking: Asking, request: hyper::Request<Incoming>) -> Response {
    if let Err(refusal) = asking.allow(needed(request.method())) {
        return refusal.into_response();
    }
    let mut request: Request = request.map(Body::new);
    request.extensions_mut().insert(asking.peer);
    request.extensions_mut().insert(asking);
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
