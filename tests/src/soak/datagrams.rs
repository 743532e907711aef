//! UDP flows, from the client's side: thousands at once, each a port that sends a numbered datagram at a steady rhythm.
//!
//! In: sockets, where to. Out: how many were answered, and each [`Hole`] (datagrams that were not), [`Move`] (another backend answers)
//! and answer that was somebody else's. Invariant: a flow does not wait for answers; each answer is compared, to the byte, with what was
//! asked.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::clock::{self, seconds};
use super::model::At;

/// Length of what a datagram says: the flow's number, the datagram's number, when it was sent.
const DATAGRAM_LEN: usize = 24;
/// An answer slower than this is written down as a hole in which nothing was lost.
pub(super) const SLOW: Duration = Duration::from_millis(150);
/// A datagram that this process would send later than this is left out: after a pause the flows would otherwise all speak at once, and
/// a queue of a veth holds 256 packets.
const TOO_LATE: Duration = Duration::from_millis(50);
/// An answer that has not come after this long does not come.
pub(super) const LOST_AFTER: Duration = Duration::from_secs(1);

/// A time without answers on a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) flow: u64,
    /// Who answered before.
    pub(super) backend: String,
    /// When the first of them was sent, when an answer came again.
    pub(super) stretch: (At, At),
    /// Datagrams lost; 0: they came late.
    pub(super) lost: u64,
}

/// A flow that went to another backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) flow: u64,
    pub(super) from: String,
    pub(super) to: String,
    /// When what the old one answered last was sent, when the new one's first answer came.
    pub(super) stretch: (At, At),
}

/// What flows write down.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) sent: u64,
    pub(super) answered: u64,
    pub(super) holes: Vec<Hole>,
    pub(super) moves: Vec<Move>,
    /// Answers that were to another flow, or to nobody.
    pub(super) crossed: u64,
    /// Flows by who answered last.
    pub(super) shares: BTreeMap<String, u64>,
}

/// The book and who shares it.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared(Arc<Mutex<Book>>);

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// One flow, until told to stop.
pub(super) async fn run(
    number: u64,
    socket: std::net::UdpSocket,
    target: SocketAddr,
    (first, interval): (Duration, Duration),
    shared: Shared,
    mut stop: watch::Receiver<bool>,
) {
    let Ok(socket) = UdpSocket::from_std(socket) else { return };
    let mut flow = Flow { number, shared, ..Flow::default() };
    let mut ticks = tokio::time::interval_at(Instant::now() + first, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut buffer = [0; 256];
    loop {
        tokio::select! {
            due = ticks.tick() => {
                if due.elapsed() < TOO_LATE {
                    let datagram = flow.datagram();
                    // What cannot be sent is not answered, and counted as that.
                    let _ = socket.send_to(&datagram, target).await;
                }
            }
            // An error (an ICMP answer) is no answer; the flow goes on.
            received = socket.recv(&mut buffer) => if let Ok(len) = received { flow.take(&buffer[..len], clock::now()) },
            _ = stop.changed() => break,
        }
    }
    // The last ones get their time.
    let end = Instant::now() + LOST_AFTER;
    while flow.answered < flow.sent {
        match tokio::time::timeout_at(end, socket.recv(&mut buffer)).await {
            Ok(Ok(len)) => flow.take(&buffer[..len], clock::now()),
            Ok(Err(_)) => {}
            Err(_) => break,
        }
    }
    flow.end(clock::now());
}

/// What a flow knows of itself.
#[derive(Debug, Default)]
struct Flow {
    number: u64,
    shared: Shared,
    /// Datagrams are numbered from 1; the last that was sent, and the last that was answered.
    sent: u64,
    answered: u64,
    /// When the last that was answered was sent: the answer may have lain here for a while.
    asked_at: At,
    backend: Option<String>,
    /// When datagrams were sent that have no answer yet.
    waiting: BTreeMap<u64, At>,
}

impl Flow {
    fn datagram(&mut self) -> [u8; DATAGRAM_LEN] {
        let now = clock::now();
        self.sent += 1;
        self.waiting.insert(self.sent, now);
        self.shared.lock().sent += 1;
        encode(self.number, self.sent, now)
    }

    fn take(&mut self, answer: &[u8], now: At) {
        let Some((name, said)) = answer.split_last_chunk::<DATAGRAM_LEN>() else {
            self.shared.lock().crossed += 1;
            return;
        };
        let found = self.waiting.iter().find(|(number, at)| encode(self.number, **number, **at) == *said);
        let Some((number, asked)) = found.map(|(number, at)| (*number, *at)) else {
            // Late beyond its successor (then it was counted as lost), or twice, or not ours.
            self.shared.lock().crossed += u64::from(!said.starts_with(&self.number.to_be_bytes()));
            return;
        };
        let name = String::from_utf8_lossy(name).trim_end().to_owned();
        let lost = self.waiting.range(..number).count() as u64;
        let since = self.waiting.iter().next().map_or(asked, |(_, at)| *at);
        self.waiting = self.waiting.split_off(&(number + 1));
        let shared = self.shared.clone();
        let mut book = shared.lock();
        book.answered += 1;
        let before = self.backend.replace(name.clone());
        if lost > 0 || now.saturating_sub(since) >= SLOW {
            let backend = before.clone().unwrap_or_else(|| name.clone());
            book.holes.push(Hole { flow: self.number, backend, stretch: (since, now), lost });
        }
        if before.as_ref() != Some(&name) {
            *book.shares.entry(name.clone()).or_default() += 1;
            if let Some(from) = before {
                if let Some(share) = book.shares.get_mut(&from) {
                    *share -= 1;
                }
                book.moves.push(Move { flow: self.number, from, to: name, stretch: (self.asked_at, now) });
            }
        }
        (self.answered, self.asked_at) = (number, asked);
    }

    /// What has no answer now has none.
    fn end(self, now: At) {
        if let Some((_, since)) = self.waiting.first_key_value() {
            let (backend, lost) = (self.backend.unwrap_or_default(), self.waiting.len() as u64);
            self.shared.lock().holes.push(Hole { flow: self.number, backend, stretch: (*since, now), lost });
        }
    }
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (seconds(self.stretch.0), seconds(self.stretch.1));
        write!(f, "UDP flow {} to {}: {} lost from {from} to {to}", self.flow, self.backend, self.lost)
    }
}

fn encode(flow: u64, number: u64, at: At) -> [u8; DATAGRAM_LEN] {
    let mut datagram = [0; DATAGRAM_LEN];
    let words = [flow, number, u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)];
    for (to, word) in datagram.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_be_bytes());
    }
    datagram
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn answer(name: &str, flow: u64, number: u64, at: At) -> Vec<u8> {
        [format!("{name} ").as_bytes(), &encode(flow, number, at)].concat()
    }

    fn flow() -> Flow {
        let waiting = (1..=4).map(|number| (number, MS(number * 500))).collect();
        Flow { number: 7, sent: 4, waiting, ..Flow::default() }
    }

    #[test]
    fn losses_moves_and_crossed_answers_are_found() {
        let mut flow = flow();
        flow.take(&answer("b1", 7, 1, MS(500)), MS(501));
        flow.take(&answer("b1", 8, 2, MS(1000)), MS(1001));
        flow.take(&answer("b2", 7, 3, MS(1500)), MS(1501));
        let shared = flow.shared.clone();
        flow.end(MS(5000));
        let book = shared.lock();
        let hole = |backend: &str, from, to, lost| Hole {
            flow: 7,
            backend: backend.to_owned(),
            stretch: (MS(from), MS(to)),
            lost,
        };
        assert_eq!(book.holes, [hole("b1", 1000, 1501, 1), hole("b2", 2000, 5000, 1)]);
        assert_eq!(book.moves.len(), 1);
        assert_eq!((book.moves[0].from.as_str(), book.moves[0].to.as_str()), ("b1", "b2"));
        assert_eq!(book.moves[0].stretch, (MS(500), MS(1501)));
        assert_eq!((book.answered, book.crossed), (2, 1));
        assert_eq!(book.shares, BTreeMap::from([("b1".to_owned(), 0), ("b2".to_owned(), 1)]));
    }

    #[test]
    fn a_slow_answer_is_a_hole_in_which_nothing_is_lost() {
        let mut flow = flow();
        flow.take(&answer("b1", 7, 1, MS(500)), MS(1700));
        assert_eq!(flow.shared.lock().holes[0].lost, 0);
        assert_eq!(flow.shared.lock().holes[0].stretch, (MS(500), MS(1700)));
    }
}
