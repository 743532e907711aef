//! Long streams, from the client's side.
//!
//! In: how many, where to. Out: an [`Ended`] for each that ended, and what slow records they saw. Each sends numbered records and checks
//! those of the server, ends in order after a while (both sides then say how many they had), and begins again. Invariant: a stream
//! is abandoned only after its backend lost its flows, which [`Board`] knows; whatever else ends it is written down.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, timeout};

use super::change::{Index, name};
use super::clock::{self, Stretch, seconds};
use super::model::At;
use super::random::Random;
use super::server::{INTERVAL, PATIENCE};
use super::wire::{Fault, Receiver, Record};

/// How long a stream may take to open, and to end.
const OPENING: Duration = Duration::from_secs(5);
/// A stream whose backend lost its flows is given up after this long, so that there are always others.
const MOURNING: Duration = Duration::from_millis(1500);
/// Records slower than this are written down.
pub(super) const SLOW: Duration = Duration::from_millis(150);
/// Time between two attempts to open.
const PAUSE: Duration = Duration::from_millis(200);
/// The shortest and the longest life, milliseconds.
const LIFE: (u64, u64) = (10_000, 40_000);

/// A stream that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) number: u64,
    /// Who answered; nothing if it was not opened.
    pub(super) backend: Option<String>,
    pub(super) opened: At,
    pub(super) ended: At,
    /// Records that came.
    pub(super) heard: u64,
    pub(super) outcome: Result<(), Fault>,
}

/// A record that took long, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slow {
    pub(super) number: u64,
    pub(super) backend: String,
    pub(super) stretch: Stretch,
}

/// What streams write down.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) ended: Vec<Ended>,
    pub(super) slow: Vec<Slow>,
    /// Open streams: number, backend, when it was opened.
    pub(super) open: BTreeMap<u64, (String, At)>,
    pub(super) records: u64,
    /// Given up after their backend lost its flows.
    pub(super) abandoned: BTreeSet<u64>,
    /// Backends whose TCP flows are lost, and since when.
    lost: BTreeMap<String, At>,
    next: u64,
}

/// The book and who shares it.
#[derive(Clone, Debug, Default)]
pub(super) struct Board(Arc<Mutex<Book>>);

impl Board {
    pub(super) fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The TCP flows of this backend were lost then: streams that were open are given up.
    pub(super) fn set_lost(&self, backend: Index, since: At) {
        self.lock().lost.insert(name(backend), since);
    }

    fn may_be_abandoned(&self, backend: &str, opened: At, now: At) -> bool {
        let lost = self.lock().lost.get(backend).copied();
        lost.is_some_and(|since| {
            since + Duration::from_millis(50) >= opened && now > since.max(opened) + MOURNING
        })
    }
}

/// One stream after the other, until told to stop; then the last one is ended in order.
pub(super) async fn run(target: SocketAddr, board: Board, mut random: Random, stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        let number = {
            let mut book = board.lock();
            book.next += 1;
            book.next
        };
        let life = Duration::from_millis(LIFE.0 + random.below(LIFE.1 - LIFE.0));
        let mut stream = Stream {
            number,
            board: board.clone(),
            backend: None,
            opened: clock::now(),
            receiver: Receiver::default(),
        };
        let outcome = stream.live(target, life, stop.clone()).await;
        stream.close(outcome);
        tokio::time::sleep(PAUSE).await;
    }
}

/// How a stream ended that nobody complains of.
enum End {
    InOrder,
    Abandoned,
}

struct Stream {
    number: u64,
    board: Board,
    backend: Option<String>,
    opened: At,
    receiver: Receiver,
}

impl Stream {
    async fn live(
        &mut self,
        target: SocketAddr,
        life: Duration,
        stop: watch::Receiver<bool>,
    ) -> Result<End, Fault> {
        let opening = timeout(OPENING, self.open(target)).await;
        let stream = opening.map_err(|_| Fault::NotOpened)?.map_err(|_| Fault::NotOpened)?;
        self.records(stream, life, stop).await
    }

    async fn open(&mut self, target: SocketAddr) -> std::io::Result<TcpStream> {
        let mut stream = BufReader::new(TcpStream::connect(target).await?);
        stream.get_ref().set_nodelay(true)?;
        stream.get_mut().write_all(format!("STREAM {}\n", self.number).as_bytes()).await?;
        let mut backend = String::new();
        stream.read_line(&mut backend).await?;
        if !backend.ends_with('\n') {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let backend = backend.trim_end().to_owned();
        self.board.lock().open.insert(self.number, (backend.clone(), self.opened));
        self.backend = Some(backend);
        self.receiver.buffer().extend_from_slice(stream.buffer());
        Ok(stream.into_inner())
    }

    async fn records(
        &mut self,
        mut stream: TcpStream,
        life: Duration,
        stop: watch::Receiver<bool>,
    ) -> Result<End, Fault> {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (mut number, mut said_last, mut heard_at) = (0, false, clock::now());
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                read = stream.read_buf(self.receiver.buffer()) => {
                    if read? == 0 {
                        return Err(Fault::Closed);
                    }
                    heard_at = clock::now();
                    if let Some(last) = self.take(heard_at)? {
                        // Both have said their last: what the server heard is all we sent.
                        return if said_last && last.heard == number { Ok(End::InOrder) } else { Err(Fault::Gap) };
                    }
                    continue;
                }
            }
            let now = clock::now();
            let backend = self.backend.as_deref().unwrap_or_default();
            if self.board.may_be_abandoned(backend, self.opened, now) {
                return Ok(End::Abandoned);
            }
            if now > heard_at + PATIENCE {
                return Err(Fault::Silent);
            }
            if said_last {
                continue;
            }
            said_last = *stop.borrow() || now > self.opened + life;
            let heard = self.receiver.next;
            let record = Record { number, last: said_last, sent: now, heard, ..Record::default() };
            number += 1;
            let bytes = record.encode();
            let written = timeout(PATIENCE, stream.write_all(&bytes));
            written.await.map_err(|_| Fault::Silent)??;
        }
    }

    /// Reads what came; the server's last record, if it is among it.
    fn take(&mut self, now: At) -> Result<Option<Record>, Fault> {
        let mut last = None;
        while let Some(record) = self.receiver.take(now)? {
            self.note((record.sent, now));
            self.note(record.slowest);
            if record.last {
                last = Some(record);
            }
        }
        Ok(last)
    }

    fn note(&self, stretch: Stretch) {
        if stretch.1.saturating_sub(stretch.0) >= SLOW {
            let backend = self.backend.clone().unwrap_or_default();
            self.board.lock().slow.push(Slow { number: self.number, backend, stretch });
        }
    }

    fn close(self, outcome: Result<End, Fault>) {
        let mut book = self.board.lock();
        book.open.remove(&self.number);
        book.records += self.receiver.next;
        if matches!(outcome, Ok(End::Abandoned)) {
            book.abandoned.insert(self.number);
            return;
        }
        book.ended.push(Ended {
            number: self.number,
            backend: self.backend,
            opened: self.opened,
            ended: clock::now(),
            heard: self.receiver.next,
            outcome: outcome.map(|_| ()),
        });
    }
}
impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = self.backend.as_deref().unwrap_or("nobody");
        let how = self.outcome.err().map_or_else(|| "well".to_owned(), |fault| fault.to_string());
        let (opened, ended) = (seconds(self.opened), seconds(self.ended));
        write!(
            f,
            "{} to {who}: {how} at {ended}, opened at {opened}, {} records came",
            self.number, self.heard
        )
    }
}
