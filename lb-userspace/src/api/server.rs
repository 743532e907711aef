//! Connections: who may, how many, how long.
//!
//! In: connections to the Unix socket. Out: requests to [`super::routes`] with the user behind them. Invariants: the peer's
//! credentials, as the kernel gives them, decide for each request; there are never more than [`CONNECTIONS`] connections;
//! one that says nothing for [`HEADER_TIME`] is closed.

use std::fmt;
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

use super::socket::Socket;
use super::{ApiError, ErrorCode, Handle, routes};

/// Connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 128;

/// How long a request's header may take, and how long a connection may idle.
const HEADER_TIME: Duration = Duration::from_secs(30);

/// How long to wait before the next attempt when a connection cannot be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often it is looked whether the socket still has its name: who removes it tells nobody.
const LOOK: Duration = Duration::from_secs(1);

/// How long connections that are under way get at shutdown.
const LAST_TIME: Duration = Duration::from_secs(2);

/// Who may do what: root and lbd's own user everything.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    own_uid: u32,
}

impl Access {
    /// Root and this user.
    pub const fn of(own_uid: u32) -> Self {
        Self { own_uid }
    }

    /// Root and the user this process runs as.
    pub fn of_this_process() -> Self {
        Self::of(nix::unistd::Uid::effective().as_raw())
    }

    /// This user may do everything.
    pub const fn admits(self, uid: u32) -> bool {
        uid == 0 || uid == self.own_uid
    }
}

/// The user at the other end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    uid: u32,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}", self.uid)
    }
}

/// Serves until `stop` says true (or its sender is gone), then lets requests under way end, for two seconds at most.
pub async fn serve(mut socket: Socket, handle: Handle, access: Access, stop: watch::Receiver<bool>) {
    serve_router(&mut socket, routes::router(handle), access, stop).await;
}

/// Says to everybody that lbd is starting, until `stop` says true (or its sender is gone); then the socket is free again.
pub async fn serve_starting(mut socket: Socket, access: Access, stop: watch::Receiver<bool>) -> Socket {
    serve_router(&mut socket, routes::starting(), access, stop).await;
    socket
}

async fn serve_router(
    socket: &mut Socket,
    router: axum::Router,
    access: Access,
    stop: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut stopping = stop.clone();
    let mut look = tokio::time::interval(LOOK);
    let accepted = async {
        loop {
            // The semaphore is never closed.
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = socket.listener.accept() => accepted,
                _ = look.tick() => {
                    socket.keep();
                    continue;
                }
            };
            match accepted {
                Ok((stream, _)) => {
                    let (router, stop) = (router.clone(), stop.clone());
                    tokio::spawn(async move {
                        connection(stream, router, access, stop).await;
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

async fn connection(
    stream: UnixStream,
    router: axum::Router,
    access: Access,
    mut stop: watch::Receiver<bool>,
) {
    let peer = match stream.peer_cred() {
        Ok(credentials) => Peer { uid: credentials.uid() },
        Err(error) => {
            tracing::warn!("a connection is closed, its user is unknown: {error}");
            return;
        }
    };
    let answer = service_fn(move |request: hyper::Request<Incoming>| {
        let router = router.clone();
        async move { Ok::<_, std::convert::Infallible>(dispatch(router, access, peer, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
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

async fn dispatch(
    router: axum::Router,
    access: Access,
    peer: Peer,
    request: hyper::Request<Incoming>,
) -> Response {
    if !access.admits(peer.uid) {
        let verb = if request.method() == Method::GET { "look" } else { "change anything" };
        return ApiError::new(ErrorCode::Forbidden, format!("{peer} may not {verb} here"))
            .hint("run lbctl as root or as the user that lbd runs as")
            .into_response();
    }
    let mut request: Request = request.map(Body::new);
    request.extensions_mut().insert(peer);
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
