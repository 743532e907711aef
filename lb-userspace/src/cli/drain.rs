//! `backend drain --wait`: how many flows are left, counted by the flow table, until there are none or the deadline is over.
//!
//! In: a drain, or a removal after one. Out: one line that changes on a terminal, lines elsewhere, a JSON object a line under `-j`.
//! Invariant: it ends with 0 only if two counts in a row, both begun after the change, have found no flow, or the daemon has done what
//! follows the deadline; neither a restart of the daemon nor a reader that goes away is taken for either.

use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::Outcome;
use super::args::{BackendCommand, BackendTarget, Wait};
use super::backend::drained;
use super::change::{Wanted, epilogue};
use super::print;
use super::session::Session;
use crate::api::types::{Backend, BackendList, Commanded, StateOverride};
use crate::api::{ApiError, ErrorCode};
use crate::moment::Millis;
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
    pub(super) async fn run(mut self, session: &Session, mut wanted: Wanted) -> Outcome {
        wanted.how.wait = None;
        // Which one is meant is settled before: afterwards it may be gone, and another have its address.
        self.address = self.meant(session).await?;
        let done = wanted.send(session).await?;
        // Who no longer reads does not know whether it is drained.
        print::when_unread(ErrorCode::Internal.exit_code());
        done.warnings.iter().for_each(|warning| session.say(&format!("warning: {warning}")));
        match session.is_json() {
            true => session.show_line(&done)?,
            false => session.say(&epilogue(&done)),
        }
        print::end_with_reader();
        let mut seen = Seen::default();
        let outcome = self.watch(session, &mut seen).await;
        seen.end_line(session)?;
        outcome
    }

    async fn watch(&self, session: &Session, seen: &mut Seen) -> Outcome {
        let end = Instant::now() + self.limit;
        loop {
            match self.find(session).await {
                // A restart cuts no connection and ends no drain.
                Err(error) if is_away(&error) && Instant::now() < end => seen.away(session, &error)?,
                Err(error) => return Err(error),
                Ok((found, counted)) => {
                    seen.is_away = false;
                    let ended = self.ended(found.as_ref(), counted, seen)?;
                    self.show(session, found.as_ref(), ended, seen)?;
                    if ended {
                        return Ok(0);
                    }
                }
            }
            if Instant::now() >= end {
                return Err(self.in_vain(seen));
            }
            sleep(LOOK.min(end - Instant::now())).await;
        }
    }

    /// The backend that is meant: a port may be left out where one backend has the address.
    async fn meant(&self, session: &Session) -> Result<BackendAddress, ApiError> {
        let (list, _) = self.list(session).await?;
        let is_meant =
            |backend: &&Backend| self.address.port.is_none() && backend.address.ip == self.address.ip;
        let exact = list.iter().find(|backend| backend.address == self.address);
        // Of several, or of none, the daemon says what is wrong.
        Ok(exact.or_else(|| list.iter().find(is_meant)).map_or(self.address, |backend| backend.address))
    }

    /// The backend as it is now (`None`: it is gone), and when flows were counted.
    async fn find(&self, session: &Session) -> Result<(Option<Backend>, Millis), ApiError> {
        let (list, counted) = self.list(session).await?;
        Ok((list.into_iter().find(|backend| backend.address == self.address), counted))
    }

    async fn list(&self, session: &Session) -> Result<(Vec<Backend>, Millis), ApiError> {
        match session.client.backends(Some(&self.pool)).await {
            Ok(BackendList { backends, counted }) => Ok((backends, counted)),
            // The pool has gone with its last backend.
            Err(error) if error.code() == ErrorCode::NotFound => Ok((Vec::new(), Millis::default())),
            Err(error) => Err(error),
        }
    }

    /// Whether nothing is waited for any more.
    fn ended(&self, found: Option<&Backend>, counted: Millis, seen: &mut Seen) -> Result<bool, ApiError> {
        let Some(backend) = found else { return Ok(true) };
        let over = backend.over.as_ref().and_then(|over| over.state);
        match (backend.state, over) {
            (Commanded::Disabled, _) | (_, Some(StateOverride::Draining { expired: true, .. })) => Ok(true),
            (Commanded::Draining, _) => {
                seen.count(backend.flows, counted);
                Ok(seen.empty >= EMPTY)
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
            Some(backend) => drained(backend),
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
            return Ok(());
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
        Left {
            pool: &self.pool,
            address: found.map_or(self.address, |backend| backend.address),
            state,
            flows: found.map_or(0, |backend| backend.flows),
            seconds_left: found.and_then(|backend| backend.seconds_left),
            done,
        }
    }

    fn in_vain(&self, seen: &Seen) -> ApiError {
        let (pool, address, limit) = (&self.pool, self.address, format_duration(self.limit));
        let why = match seen.flows {
            _ if seen.is_away => "lbd does not answer".to_owned(),
            Some(0) => {
                "its flows have not been counted often enough since to know that none is left".to_owned()
            }
            Some(1) => "it still has a flow".to_owned(),
            Some(flows) => format!("it still has {flows} flows"),
            None => "its flows have not been counted".to_owned(),
        };
        ApiError::new(
            ErrorCode::WaitTimeout,
            format!("backend {pool}/{address} is not drained after {limit}: {why}; it goes on draining"),
        )
        .hint("wait longer (--wait=10m), or end them at a moment: --deadline 60s")
    }
}

/// Nobody answers at this moment.
fn is_away(error: &ApiError) -> bool {
    matches!(error.code(), ErrorCode::Unreachable | ErrorCode::Unavailable)
}

/// Counts in a row that must have found no flow.
const EMPTY: u32 = 2;

/// What was seen and shown last.
#[derive(Default)]
struct Seen {
    shown: Option<String>,
    /// The last count of flows.
    counted: Option<Millis>,
    /// Counts in a row, begun after the change, that have found no flow.
    empty: u32,
    flows: Option<u64>,
    /// Nobody answered the last question.
    is_away: bool,
    /// The line on the terminal is not ended.
    on_line: bool,
}

impl Seen {
    /// Takes a count. The first may have been begun before the change; one that is shown again is no other.
    fn count(&mut self, flows: u64, counted: Millis) {
        if counted == Millis::default() {
            return;
        }
        self.flows = Some(flows);
        if self.counted.replace(counted).is_some_and(|last| last != counted) {
            self.empty = if flows == 0 { self.empty + 1 } else { 0 };
        }
    }

    fn is_new(&mut self, key: &str) -> bool {
        let is_new = self.shown.as_deref() != Some(key);
        self.shown = Some(key.to_owned());
        is_new
    }

    /// Says once that nobody answers.
    fn away(&mut self, session: &Session, error: &ApiError) -> Result<(), ApiError> {
        if !std::mem::replace(&mut self.is_away, true) {
            self.end_line(session)?;
            session.say(&format!("{}; the drain goes on, and so does the wait", error.0.message));
        }
        Ok(())
    }

    fn end_line(&mut self, session: &Session) -> Result<(), ApiError> {
        if std::mem::take(&mut self.on_line) { session.show_text("\n") } else { Ok(()) }
    }
}
