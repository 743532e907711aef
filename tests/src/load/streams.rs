//! Connections that stay: keep-alive and long downloads.
//!
//! In: the load's plan. Out: an attempt for every request and every download, and every gap between pieces of a download.
//! Invariant: a connection that fails is opened again, but never more often than the pause says: a refused
//! connection must not become a flood.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, timeout};

use super::{Body, Connection, Failure, InFlight, KeepAlive, Kind, LoadPlan, Recorder};

/// Least time between two beginnings of one download.
const DOWNLOAD_PAUSE: Duration = Duration::from_millis(100);

/// One keep-alive connection, for ever.
pub(super) async fn keep_alive(
    plan: Arc<LoadPlan>,
    wish: KeepAlive,
    first: Duration,
    recorder: Arc<Recorder>,
) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + first, wish.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut standing = None;
    // A connection that took over another's flow says so by answering from elsewhere: that is no failure.
    loop {
        let due = ticks.tick().await.into_std();
        let mut attempt = recorder.begin(Kind::KeepAlive, due);
        let outcome = timeout(plan.timeout, one_request(&plan, &wish, &mut standing, &mut attempt));
        let outcome = outcome.await.unwrap_or(Err(Failure::TimedOut));
        if outcome.is_err() {
            standing = None;
        }
        attempt.finish(outcome);
    }
}

/// The open connection and who answered on it last.
type Standing = Option<(Connection, Option<String>)>;

async fn one_request(
    plan: &LoadPlan,
    wish: &KeepAlive,
    standing: &mut Standing,
    attempt: &mut InFlight,
) -> Result<(), Failure> {
    let (connection, backend) = match standing {
        Some(open) => open,
        None => standing.insert((Connection::open(plan.target, plan.timeout).await?, None)),
    };
    attempt.local_port(connection.local_port());
    attempt.backend(backend.as_deref());
    let head = connection.ask(&wish.path, false).await?;
    attempt.backend(head.backend.as_deref());
    connection.read_body(&head, wish.body, |_| ()).await?;
    *backend = head.backend;
    Ok(())
}

/// One download after the other, for ever.
pub(super) async fn download(plan: Arc<LoadPlan>, path: String, recorder: Arc<Recorder>) {
    loop {
        let begin = Instant::now();
        let mut attempt = recorder.begin(Kind::Download, begin);
        let outcome = one_download(&plan, &path, &mut attempt).await;
        attempt.finish(outcome);
        tokio::time::sleep_until((begin + DOWNLOAD_PAUSE).into()).await;
    }
}

/// The time without a byte is limited, not the time of the whole.
async fn one_download(plan: &LoadPlan, path: &str, attempt: &mut InFlight) -> Result<(), Failure> {
    let mut connection = Connection::open(plan.target, plan.timeout).await?;
    attempt.local_port(connection.local_port());
    let head = connection.ask(path, true).await?;
    attempt.backend(head.backend.as_deref());
    attempt.progress();
    connection.read_body(&head, Body::Content(head.body_len), |_| attempt.progress()).await?;
    connection.read_end().await
}
