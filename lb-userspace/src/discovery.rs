//! Sources of backends: names in the DNS, files, HTTP endpoints, each asked in its own rhythm.
//!
//! In: the sources of all pools. Out: a [`SourceEvent`] for every answer and every failure. Invariants: one task for each source,
//! which ends with it, and begins anew after a fault of lbd, which is told as a failure; what a source says is bounded in size before it is looked at; an answer that cannot be read whole is a
//! failure, never half an answer; nobody here knows what is done with an answer.

mod backends;
mod board;
mod dns;
mod file;
mod http;
mod rhythm;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinError, JoinSet};

use crate::ended;
use crate::spec::{Backends, SourceId, SourceKind, SourceSpec};
pub use board::{Board, SourceState};
use rhythm::Rhythm;

/// The longest answer that is read: 65,535 backends as JSON fit.
const MOST_BYTES: usize = 4 << 20;
/// Questions that are under way at a time; a start with a thousand sources does not flood a DNS server.
const AT_A_TIME: usize = 32;

/// Between a fault of lbd in asking a source and the next question.
const AFTER_FAULT: Duration = Duration::from_secs(60);

/// What a source has to say, or why it says nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceEvent {
    /// Which.
    pub id: SourceId,
    /// Of which task: see [`Sources::is_current`].
    serial: u64,
    /// A failure is a sentence: who was asked, and what went wrong.
    pub answer: Result<Found, String>,
}

/// An answer that could be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The backends it names.
    pub backends: Backends,
    /// What it names that is no backend, a sentence each.
    pub left_out: Vec<String>,
}

/// What an answer comes to, and for how long it stands.
struct Answer {
    found: Found,
    /// Until it is asked again.
    stands: Duration,
}

/// The tasks that ask.
#[derive(Debug)]
pub struct Sources {
    running: BTreeMap<SourceId, Running>,
    events: mpsc::UnboundedSender<SourceEvent>,
    at_a_time: AtATime,
    started: u64,
}

/// Questions of a kind that are under way: endpoints that do not answer hold up no names, and the other way round.
#[derive(Clone, Debug)]
struct AtATime {
    dns: Arc<Semaphore>,
    http: Arc<Semaphore>,
}

impl AtATime {
    fn new() -> Self {
        let semaphore = || Arc::new(Semaphore::new(AT_A_TIME));
        Self { dns: semaphore(), http: semaphore() }
    }

    /// A file is nobody else's burden.
    fn of(&self, kind: &SourceKind) -> Option<&Semaphore> {
        match kind {
            SourceKind::Dns(_) => Some(&self.dns),
            SourceKind::Http(_) => Some(&self.http),
            SourceKind::File(_) => None,
        }
    }
}

#[derive(Debug)]
struct Running {
    spec: SourceSpec,
    serial: u64,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sources {
    /// Nobody is asked yet; what sources say will go to `events`.
    pub fn new(events: mpsc::UnboundedSender<SourceEvent>) -> Self {
        Self { running: BTreeMap::new(), events, at_a_time: AtATime::new(), started: 0 }
    }

    /// Asks these sources from now on, and no others. One that is asked already goes on in its rhythm, unless it is to be asked
    /// otherwise.
    pub fn set(&mut self, wanted: impl IntoIterator<Item = (SourceId, SourceSpec)>) {
        let mut before = std::mem::take(&mut self.running);
        for (id, spec) in wanted {
            let running = match before.remove(&id) {
                Some(running) if running.spec.is_same(&spec) => running,
                _ => self.start(id.clone(), spec),
            };
            self.running.insert(id, running);
        }
    }

    /// The event comes from a source as it is asked now, not from a task that has ended meanwhile.
    pub fn is_current(&self, event: &SourceEvent) -> bool {
        self.running.get(&event.id).is_some_and(|running| running.serial == event.serial)
    }

    fn start(&mut self, id: SourceId, spec: SourceSpec) -> Running {
        self.started += 1;
        let asker = Asker {
            id,
            spec: spec.clone(),
            serial: self.started,
            events: self.events.clone(),
            at_a_time: self.at_a_time.clone(),
        };
        let fault = asker.clone();
        let begin = move || asker.clone().run();
        let told = move |why| fault.tell(Err(format!("{} cannot be asked: {why}", fault.spec.name())));
        let task = tokio::spawn(keep_running(begin, told, AFTER_FAULT)).abort_handle();
        Running { spec, serial: self.started, task }
    }
}

/// Runs this until it ends by itself. A panic is told, unless nobody listens any more, and after this pause it begins anew.
async fn keep_running<Task: Future<Output = ()> + Send + 'static>(
    begin: impl Fn() -> Task,
    told: impl Fn(String) -> bool,
    pause: Duration,
) {
    loop {
        // Ends with what waits for it.
        let mut task = JoinSet::new();
        task.spawn(begin());
        let ended = task.join_next().await.and_then(Result::err).filter(JoinError::is_panic);
        let Some(panic) = ended else { return };
        if !told(ended::why(Err(panic))) {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

/// One source's task.
#[derive(Clone)]
struct Asker {
    id: SourceId,
    spec: SourceSpec,
    serial: u64,
    events: mpsc::UnboundedSender<SourceEvent>,
    at_a_time: AtATime,
}

impl Asker {
    /// Asks until nobody listens.
    async fn run(self) {
        let mut state = State::of(&self.spec);
        let mut rhythm = Rhythm::of(&self.spec.kind);
        loop {
            let answer = {
                let turn = self.at_a_time.of(&self.spec.kind).map(Semaphore::acquire);
                // Nobody ever closes it.
                let _permit = match turn {
                    Some(turn) => turn.await.ok(),
                    None => None,
                };
                state.ask().await
            };
            let answer = answer.and_then(|answer| judge(&self.spec, answer));
            let pause = match &answer {
                Ok(answer) => rhythm.after_answer(answer.stands),
                Err(_) => rhythm.after_failure(),
            };
            if !self.tell(answer.map(|answer| answer.found)) {
                return;
            }
            state.wait(pause).await;
        }
    }

    /// False: nobody listens.
    fn tell(&self, answer: Result<Found, String>) -> bool {
        let event = SourceEvent { id: self.id.clone(), serial: self.serial, answer };
        self.events.send(event).is_ok()
    }
}

/// What a task keeps from one question to the next.
enum State {
    Dns(dns::Dns),
    File(Box<file::Watched>),
    Http(http::Endpoint),
}

impl State {
    fn of(spec: &SourceSpec) -> Self {
        let most = spec.max_backends;
        match &spec.kind {
            SourceKind::Dns(dns) => Self::Dns(dns::Dns::new(dns, most)),
            SourceKind::File(file) => Self::File(Box::new(file::Watched::new(&file.path, most))),
            SourceKind::Http(http) => Self::Http(http::Endpoint::new(http, most)),
        }
    }

    async fn ask(&mut self) -> Result<Answer, String> {
        match self {
            Self::Dns(dns) => dns.ask().await,
            Self::File(file) => file.read().await,
            Self::Http(http) => http.ask().await,
        }
    }

    /// Until it is time to ask again, or there is news.
    async fn wait(&mut self, pause: Duration) {
        match self {
            Self::File(file) => drop(tokio::time::timeout(pause, file.changed()).await),
            Self::Dns(_) | Self::Http(_) => tokio::time::sleep(pause).await,
        }
    }
}

/// What holds for every kind of source.
fn judge(spec: &SourceSpec, answer: Answer) -> Result<Answer, String> {
    let count = answer.found.backends.len();
    let most = spec.max_backends;
    if u32::try_from(count).map_or(true, |count| count > most) {
        return Err(format!("{} names {count} backends, more than max_backends = {most}", spec.name()));
    }
    if count == 0 && !spec.allow_empty {
        let why = answer.found.left_out.first().map(|first| format!(" ({first})")).unwrap_or_default();
        return Err(format!(
            "{} names no backend{why}, which counts only with allow_empty = true",
            spec.name()
        ));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests;
