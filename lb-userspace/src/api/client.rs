//! lbctl's side of the API.
//!
//! In: the socket's path, a request. Out: the answer as a type, or an [`ApiError`] whose code gives lbctl's exit code.
//! Invariant: whatever goes wrong on the way is an error with a sentence: no daemon, no right, no JSON, no time.

use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::types::{
    Answer, BackendDetail, BackendList, ChangeDone, ChangeRequest, Conditions, Drops, ErrorAnswer, EventList,
    EventQuery, ExplainRequest, Explanation, FlowCounts, FlowFilter, FlowList, FlowsFlushed, NameQuery,
    OverrideList, PlanAnswer, PlanRequest, PoolDetail, PoolList, RestoreRequest, RevisionDetail,
    RevisionList, RevisionQuery, ServiceDetail, ServiceList, Stats, Status,
};
use super::{ApiError, ErrorCode};
use crate::backup::Backup;
use crate::spec::{BackendAddress, Name};

/// How long an answer may take beyond what the request itself asks to wait.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// The largest answer, bytes: a hundred thousand backends fit.
const ANSWER_LEN: usize = 256 << 20;

/// What a candidate would do, and a change of no configuration.
const PLAN: &str = "/v1/plan";
const FLUSH: &str = "/v1/flows/flush";

/// The way to one daemon.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// A result of the API.
pub type Result<T> = std::result::Result<T, ApiError>;

impl Client {
    /// The daemon behind this socket; nothing is connected yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The daemon at a glance.
    ///
    /// # Errors
    /// Those of [`Client::get`], as of all the others.
    pub async fn status(&self) -> Result<Status> {
        self.get("/v1/status").await
    }

    /// All services and their tables.
    pub async fn services(&self) -> Result<ServiceList> {
        self.get("/v1/services").await
    }

    /// One service.
    pub async fn service(&self, name: &Name) -> Result<ServiceDetail> {
        self.get(&format!("/v1/services/{name}")).await
    }

    /// All tables of all pools.
    pub async fn pools(&self) -> Result<PoolList> {
        self.get("/v1/pools").await
    }

    /// One pool (or a service's).
    pub async fn pool(&self, name: &Name) -> Result<PoolDetail> {
        self.get(&format!("/v1/pools/{name}")).await
    }

    /// The backends of one pool (or a service's), or all.
    pub async fn backends(&self, pool: Option<&Name>) -> Result<BackendList> {
        match pool {
            Some(pool) => self.get(&format!("/v1/pools/{pool}/backends")).await,
            None => self.get("/v1/backends").await,
        }
    }

    /// One backend.
    pub async fn backend(&self, pool: &Name, address: BackendAddress) -> Result<BackendDetail> {
        self.get(&format!("/v1/pools/{pool}/backends/{}", path_segment(&address.to_string()))).await
    }

    /// Does, or judges, a change.
    pub async fn change(&self, request: &ChangeRequest) -> Result<ChangeDone> {
        self.post("/v1/changes", request, ANSWER_TIME + long(request.wait)).await
    }

    /// What the daemon's own configuration file would do.
    pub async fn plan(&self) -> Result<PlanAnswer> {
        self.get(PLAN).await
    }

    /// What a candidate would do.
    pub async fn plan_candidate(&self, request: &PlanRequest) -> Result<PlanAnswer> {
        self.post(PLAN, request, ANSWER_TIME).await
    }

    /// Puts the daemon's own configuration file in force.
    pub async fn apply(&self, conditions: &Conditions) -> Result<ChangeDone> {
        self.post("/v1/apply", conditions, ANSWER_TIME + long(conditions.wait)).await
    }

    /// The revisions that are kept.
    pub async fn revisions(&self) -> Result<RevisionList> {
        self.get("/v1/revisions").await
    }

    /// One of them, and what it has otherwise than `against`, or than the one before it.
    pub async fn revision(&self, number: u64, against: Option<u64>) -> Result<RevisionDetail> {
        self.get(&with_query(&format!("/v1/revisions/{number}"), &RevisionQuery { against })?).await
    }

    /// Puts a revision back.
    pub async fn rollback(&self, number: u64, conditions: &Conditions) -> Result<ChangeDone> {
        let limit = ANSWER_TIME + long(conditions.wait);
        self.post(&format!("/v1/revisions/{number}/rollback"), conditions, limit).await
    }

    /// What is in force, whole.
    pub async fn backup(&self) -> Result<Backup> {
        self.get("/v1/backup").await
    }

    /// Puts a backup in force.
    pub async fn restore(&self, request: &RestoreRequest) -> Result<ChangeDone> {
        self.post("/v1/restore", request, ANSWER_TIME + long(request.conditions.wait)).await
    }

    /// What the program in the kernel would do with a packet.
    pub async fn explain(&self, request: &ExplainRequest) -> Result<Explanation> {
        self.get(&with_query("/v1/explain", request)?).await
    }

    /// Tracked flows.
    pub async fn flows(&self, filter: &FlowFilter) -> Result<FlowList> {
        self.get(&with_query("/v1/flows", filter)?).await
    }

    /// How many flows are tracked.
    pub async fn count_flows(&self, filter: &FlowFilter) -> Result<FlowCounts> {
        self.get(&with_query("/v1/flows/count", filter)?).await
    }

    /// Forgets flows.
    pub async fn flush_flows(&self, filter: &FlowFilter) -> Result<FlowsFlushed> {
        self.post(FLUSH, filter, ANSWER_TIME).await
    }

    /// Counters.
    pub async fn stats(&self, name: Option<Name>) -> Result<Stats> {
        self.get(&with_query("/v1/stats", &NameQuery { name })?).await
    }

    /// What rarely happens, by reason.
    pub async fn drops(&self, name: Option<Name>) -> Result<Drops> {
        self.get(&with_query("/v1/drops", &NameQuery { name })?).await
    }

    /// Overrides.
    pub async fn overrides(&self) -> Result<OverrideList> {
        self.get("/v1/overrides").await
    }

    /// What happened after `since`; waits up to `wait` for the first.
    pub async fn events(&self, since: u64, wait: Option<Duration>) -> Result<EventList> {
        let query = EventQuery { since, wait: wait.map(|wait| wait.as_secs_f64()) };
        let path = with_query("/v1/events", &query)?;
        self.send(Method::GET, &path, Bytes::new(), ANSWER_TIME + wait.unwrap_or_default()).await
    }

    /// GETs a path, query included.
    ///
    /// # Errors
    /// The daemon cannot be reached, or its own error.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.send(Method::GET, path, Bytes::new(), ANSWER_TIME).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        limit: Duration,
    ) -> Result<T> {
        let body = serde_json::to_vec(body).map_err(|error| {
            ApiError::new(ErrorCode::Internal, format!("the request is no JSON: {error}"))
        })?;
        self.send(Method::POST, path, body.into(), limit).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<T> {
        let after = afterwards(&method, path);
        let answered = tokio::time::timeout(limit, self.exchange(method, path, body)).await;
        let (status, body) = answered.map_err(|_| {
            ApiError::new(
                ErrorCode::Unreachable,
                format!("lbd at {} has not answered within {} s", self.socket.display(), limit.as_secs()),
            )
            .hint(after)
        })??;
        let foreign = |error: serde_json::Error| {
            ApiError::new(
                ErrorCode::Unreachable,
                format!("what {} answers is not understood ({error})", self.socket.display()),
            )
            .hint("lbctl and lbd should be of the same version")
        };
        if (200..300).contains(&status) {
            let answer: Answer<T> = serde_json::from_slice(&body).map_err(foreign)?;
            return Ok(answer.body);
        }
        let answer: Answer<ErrorAnswer> = serde_json::from_slice(&body).map_err(foreign)?;
        Err(ApiError(Box::new(answer.body.error)))
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<(u16, Bytes)> {
        let after = afterwards(&method, path);
        let broken = |error: hyper::Error| {
            ApiError::new(
                ErrorCode::Unreachable,
                format!("the connection to lbd at {} broke ({error})", self.socket.display()),
            )
            .hint(after)
        };
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "lbd")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| ApiError::new(ErrorCode::Internal, format!("{path} is no path: {error}")))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status().as_u16();
        let limited = http_body_util::Limited::new(response.into_body(), ANSWER_LEN);
        let body = limited.collect().await.map_err(|error| {
            ApiError::new(ErrorCode::Unreachable, format!("the answer of lbd broke off ({error})"))
                .hint(after)
        })?;
        driver.abort();
        Ok((status, body.to_bytes()))
    }

    /// Whether this user lacks the right to speak with the daemon, so that nothing can be said of it, not even that it
    /// is away.
    pub fn is_barred(&self) -> bool {
        access(&self.socket, AccessFlags::R_OK | AccessFlags::W_OK) == Err(Errno::EACCES)
    }

    fn unreachable(&self, error: &io::Error) -> ApiError {
        let socket = self.socket.display();
        let unreachable = |message: String| ApiError::new(ErrorCode::Unreachable, message);
        // connect(2) says "connection refused" of whatever is no socket.
        match std::fs::metadata(&self.socket) {
            Ok(found) if found.is_dir() => {
                return unreachable(format!("{socket} is a directory, not a socket")).hint(format!(
                    "name the socket in it with --socket or LBD_SOCKET, such as {}",
                    self.socket.join("lbd.sock").display()
                ));
            }
            Ok(found) if !found.file_type().is_socket() => {
                return unreachable(format!("{socket} is a file, not a socket"))
                    .hint("name the one of daemon.socket with --socket or LBD_SOCKET");
            }
            _ => {}
        }
        match error.kind() {
            ErrorKind::NotFound => unreachable(format!("there is no socket {socket}"))
                .hint("start lbd (systemctl start lbd), or name its socket with --socket or LBD_SOCKET"),
            ErrorKind::ConnectionRefused => unreachable(format!("nobody answers at {socket}"))
                .hint("lbd has stopped; start it (systemctl start lbd)"),
            ErrorKind::PermissionDenied => unreachable(format!("this user may not open {socket}"))
                .hint("run it as root (sudo lbctl …), or as the user that lbd runs as"),
            _ => unreachable(format!("cannot connect to {socket} ({error})"))
                .hint("name another with --socket"),
        }
    }
}

/// What to do when the daemon was asked and its answer is not there.
fn afterwards(method: &Method, path: &str) -> &'static str {
    match path {
        _ if *method == Method::GET => "see its log: journalctl -u lbd",
        PLAN => "nothing was to be changed; see its log: journalctl -u lbd",
        FLUSH => {
            "whether flows were forgotten is not known: the daemon's log (journalctl -u lbd) says how many"
        }
        _ => {
            "whether the change was made is not known: `lbctl history` shows it, and the daemon's log (journalctl -u lbd) what happened"
        }
    }
}

/// How long a wait may last.
fn long(wait: Option<f64>) -> Duration {
    wait.and_then(|wait| Duration::try_from_secs_f64(wait).ok()).unwrap_or_default()
}

fn with_query(path: &str, query: &impl Serialize) -> Result<String> {
    let query = serde_urlencoded::to_string(query)
        .map_err(|error| ApiError::new(ErrorCode::Internal, format!("the query is no query: {error}")))?;
    Ok(if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") })
}

/// An address as one segment of a path: brackets are not allowed there.
fn path_segment(text: &str) -> String {
    text.replace('[', "%5B").replace(']', "%5D")
}
