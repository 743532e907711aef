//! The one clock of a running daemon.
//!
//! In: the system's clocks. Out: [`Millis`]. Invariant: what is kept, shown and counted from (starts, deadlines, answers) is of this
//! clock, so that lengths between them are lengths, whatever happens to the system's.

use std::time::{Duration, Instant};

use crate::moment::Millis;
use crate::spec::format_duration;

/// A clock that is behind by less was put right, not set back.
const CLOCK_STEP: Duration = Duration::from_secs(60);

/// Wall time at the start plus monotonic time since: it never goes back.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Millis,
    since: Instant,
    /// By how much the system's clock was behind what an earlier run had written down.
    behind: Duration,
}

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self::start_after(Millis::default())
    }

    /// A clock that begins now, or, where the system's clock has been set back, with the last moment that an earlier run has written
    /// down: deadlines of that run are not put off by a day because the clock was.
    pub fn start_after(last: Millis) -> Self {
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let wall = Millis::default().after(unix);
        Self { started: wall.max(last), since: Instant::now(), behind: last.since(wall) }
    }

    /// A sentence where the system's clock has been set back.
    pub(crate) fn behind(&self) -> Option<String> {
        (self.behind > CLOCK_STEP).then(|| {
            let behind = format_duration(Duration::from_secs(self.behind.as_secs()));
            format!(
                "the system's clock is {behind} behind the newest revision: it was set back, or ahead then; times are counted from that \
                 revision on until lbd is started again"
            )
        })
    }

    /// When it began.
    pub const fn started(&self) -> Millis {
        self.started
    }

    /// Now.
    pub fn now(&self) -> Millis {
        self.started.after(self.since.elapsed())
    }

    /// How long until `moment`.
    pub(crate) fn until(&self, moment: Millis) -> Duration {
        moment.since(self.now())
    }
}
