//! `backend drain --wait`: how many flows are left, counted by the flow table, until there are none or the deadline is over.
//!
//! In: a drain, or a removal after one. Out: one line that changes on a terminal, lines elsewhere, a JSON object a line under `-j`.
//! Invariant: it ends with 0 only if two counts in a row have found no flow, or the daemon has done what follows the deadline.

use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::Outcome;
use super::args::{BackendCommand, BackendTarget, Wait};
use super::backend::drained;
use super::change::{Wanted, epilogue};
use super::print;
use super::session::{Session, now};
use crate::api::types::{Backend, Commanded, StateOverride};
use crate::api::{ApiError, ErrorCode};
use crate::spec::{BackendAddress, Name, format_duration};

/// Time between two counts.
const LOOK: Duration = Duration::from_millis(500);
/// What the daemon may need after a deadline until it has done what follows.
const AFTER_DEADLINE: Duration = Duration::from_secs(5);

/// A drain that is waited for.
#[derive(Debug)]
pub(super) struct Drain {
    pool: Name,
    address: BackendAddress,
    limit: Duration,
}

/// What is left of it.
#[derive(Serialize, PartialEq, Debug)]
struct Left<'a> {
    pool: &'a Name,
    address: BackendAddress,
    /// draining, drained, disabled or removed.
    state: &'static str,
    /// Flows that it still has.
    flows: u64,
    /// Seconds until the deadline.
    seconds_left: Option<f64>,
    /// Nothing is waited for any more.
    done: bool,
}

impl Drain {
    /// What a command waits for; `None`: it waits for no drain.
    pub(super) fn of(command: &BackendCommand) -> Option<Self> {
        let (target, deadline, change) = match command {
            BackendCommand::Drain { target, deadline, change, .. } => (target, *deadline, change),
            BackendCommand::Remove { target, drain: Some(drain), change } => (target, Some(*drain), change),
            _ => return None,
        };
        let limit = match (change.wait.filter(|_| !change.dry_run)?, deadline) {
            (Wait::AsUsual, Some(deadline)) => deadline + AFTER_DEADLINE,
            (wait, _) => wait.length(),
        };
        let BackendTarget { pool, address } = target.clone();
        Some(Self { pool, address, limit })
    }

    /// Makes the change, then shows what is left until nothing is.
    pub(super) async fn run(self, session: &Session, mut wanted: Wanted) -> Outcome {
        wanted.how.wait = None;
        let done = wanted.send(session).await?;
        done.warnings.iter().for_each(|warning| session.say(&format!("warning: {warning}")));
        match session.is_json() {
            true => session.show_line(&done)?,
            false => session.say(&epilogue(&done)),
        }
        print::end_with_reader();
        let end = Instant::now() + self.limit;
        let mut seen = Seen::default();
        loop {
            let found = self.find(session).await?;
            let ended = self.ended(found.as_ref(), &mut seen)?;
            self.show(session, found.as_ref(), ended, &mut seen)?;
            if ended {
                return Ok(0);
            }
            if Instant::now() >= end {
                seen.end_line(session)?;
                return Err(self.in_vain(seen.flows));
            }
            sleep(LOOK.min(end - Instant::now())).await;
        }
    }

    /// The backend as it is now; `None`: it is gone. A port may be left out where one backend has the address.
    async fn find(&self, session: &Session) -> Result<Option<Backend>, ApiError> {
        let list = match session.client.backends(Some(&self.pool)).await {
            Ok(list) => list.backends,
            // The pool has gone with its last backend.
            Err(error) if error.code() == ErrorCode::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let exact = list.iter().position(|backend| backend.address == self.address);
        let alone = || {
            let is_meant =
                |backend: &Backend| self.address.port.is_none() && backend.address.ip == self.address.ip;
            list.iter().position(is_meant)
        };
        Ok(exact.or_else(alone).and_then(|index| list.into_iter().nth(index)))
    }

    /// Whether nothing is waited for any more.
    fn ended(&self, found: Option<&Backend>, seen: &mut Seen) -> Result<bool, ApiError> {
        let Some(backend) = found else { return Ok(true) };
        let over = backend.over.as_ref().and_then(|over| over.state);
        match (backend.state, over) {
            (Commanded::Disabled, _) | (_, Some(StateOverride::Draining { expired: true, .. })) => Ok(true),
            (Commanded::Draining, _) => {
                let was_empty = std::mem::replace(&mut seen.is_empty, backend.flows == 0);
                seen.flows = backend.flows;
                Ok(was_empty && seen.is_empty)
            }
            (Commanded::Active, _) => Err(ApiError::new(
                ErrorCode::WaitTimeout,
                format!(
                    "backend {}/{} takes flows again: somebody has ended its drain",
                    self.pool, self.address
                ),
            )
            .hint(format!("see lbctl backend list {}", self.pool))),
        }
    }

    fn show(
        &self,
        session: &Session,
        found: Option<&Backend>,
        done: bool,
        seen: &mut Seen,
    ) -> Result<(), ApiError> {
        let text = match found {
            None => "removed".to_owned(),
            Some(backend) if backend.state == Commanded::Disabled => "disabled".to_owned(),
            Some(backend) => drained(backend, now()),
        };
        let line = format!("backend {}/{}: {text}", self.pool, self.address);
        if session.is_json() {
            let left = self.left(found, done);
            let key = format!("{} {} {done}", left.state, left.flows);
            return if seen.is_new(&key) { session.show_line(&left) } else { Ok(()) };
        }
        if session.is_terminal() {
            seen.on_line = true;
            session.show_text(&format!("\r\x1b[K{line}"))?;
            return if done { seen.end_line(session) } else { Ok(()) };
        }
        // Elsewhere a line for each count that is another.
        let flows = found.map(|backend| backend.flows);
        let key = format!("{flows:?} {done}");
        if seen.is_new(&key) { session.show_text(&format!("{line}\n")) } else { Ok(()) }
    }

    fn left(&self, found: Option<&Backend>, done: bool) -> Left<'_> {
        let over = found.and_then(|backend| backend.over.as_ref()).and_then(|over| over.state);
        let state = match (found.map(|backend| backend.state), over) {
            (None, _) => "removed",
            (Some(Commanded::Disabled), _) => "disabled",
            (_, Some(StateOverride::Draining { expired: true, .. })) => "drained",
            _ => "draining",
        };
        let pending = over.and_then(StateOverride::pending);
        Left {
            pool: &self.pool,
            address: found.map_or(self.address, |backend| backend.address),
            state,
            flows: found.map_or(0, |backend| backend.flows),
            seconds_left: pending.map(|deadline| deadline.since(now()).as_secs_f64()),
            done,
        }
    }

    fn in_vain(&self, flows: u64) -> ApiError {
        let limit = format_duration(Duration::from_secs(self.limit.as_secs().max(1)));
        ApiError::new(
            ErrorCode::WaitTimeout,
            format!(
                "backend {}/{} still has {flows} flows after {limit}; it goes on draining",
                self.pool, self.address
            ),
        )
        .hint("wait longer (--wait=10m), or end them at a moment: --deadline 60s")
    }
}

/// What was shown last.
#[derive(Default)]
struct Seen {
    shown: Option<String>,
    is_empty: bool,
    flows: u64,
    /// The line on the terminal is not ended.
    on_line: bool,
}

impl Seen {
    fn is_new(&mut self, key: &str) -> bool {
        let is_new = self.shown.as_deref() != Some(key);
        self.shown = Some(key.to_owned());
        is_new
    }

    fn end_line(&mut self, session: &Session) -> Result<(), ApiError> {
        if std::mem::take(&mut self.on_line) { session.show_text("\n") } else { Ok(()) }
    }
}
