//! What the two ends of a stream say to each other: numbered records.
//!
//! In: bytes as they come. Out: records in order, or the [`Fault`] that makes them none. Invariant: every byte of a record is a function of
//! its fields, so that a byte that was changed, lost or came twice is a fault.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock::Stretch;
use super::model::At;

/// Length of a record on the wire.
pub(super) const RECORD_LEN: usize = 256;
const WORDS: usize = 5;
const WORD_LEN: usize = 8;
/// Set in the last record of a stream.
const LAST: u64 = 1 << 63;

/// One record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Counted from 0.
    pub(super) number: u64,
    /// No more will come.
    pub(super) last: bool,
    /// When it was sent.
    pub(super) sent: At,
    /// How many records of the other side had come by then.
    pub(super) heard: u64,
    /// The slowest of these since the record before this one: when it was sent, when it came.
    pub(super) slowest: Stretch,
}

/// What is wrong with a stream, at whichever end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fault {
    /// It could not be opened: refused, reset or timed out.
    NotOpened,
    /// The other side reset it.
    Reset,
    /// The other side closed it before its last record.
    Closed,
    /// Nothing came for so long that it was given up.
    Silent,
    /// A record is missing, or came twice.
    Gap,
    /// Bytes that are no record.
    WrongBytes,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::NotOpened => "not opened",
            Fault::Reset => "reset",
            Fault::Closed => "closed early",
            Fault::Silent => "silent",
            Fault::Gap => "gap",
            Fault::WrongBytes => "wrong bytes",
        })
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Fault {
        match error.kind() {
            std::io::ErrorKind::TimedOut => Fault::Silent,
            // A kernel that was told that the host or its port is gone says so in several ways.
            _ => Fault::Reset,
        }
    }
}

impl Record {
    pub(super) fn encode(self) -> [u8; RECORD_LEN] {
        let nanos = |at: At| u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        let words = [
            self.number | if self.last { LAST } else { 0 },
            nanos(self.sent),
            self.heard,
            nanos(self.slowest.0),
            nanos(self.slowest.1),
        ];
        let mut bytes = [0; RECORD_LEN];
        for (to, word) in bytes.chunks_exact_mut(WORD_LEN).zip(words) {
            to.copy_from_slice(&word.to_be_bytes());
        }
        fill(&mut bytes);
        bytes
    }

    fn decode(bytes: &[u8; RECORD_LEN]) -> Result<Record, Fault> {
        let mut whole = *bytes;
        fill(&mut whole);
        if whole != *bytes {
            return Err(Fault::WrongBytes);
        }
        let mut words = bytes.chunks_exact(WORD_LEN).map(|word| {
            let mut own = [0; WORD_LEN];
            own.copy_from_slice(word);
            u64::from_be_bytes(own)
        });
        let mut word = || words.next().unwrap_or(0);
        let first = word();
        Ok(Record {
            number: first & !LAST,
            last: first & LAST != 0,
            sent: Duration::from_nanos(word()),
            heard: word(),
            slowest: (Duration::from_nanos(word()), Duration::from_nanos(word())),
        })
    }
}

/// Makes the rest of a record of its words.
fn fill(bytes: &mut [u8; RECORD_LEN]) {
    let (words, rest) = bytes.split_at_mut(WORDS * WORD_LEN);
    let sum = words
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    for (index, to) in rest.chunks_mut(WORD_LEN).enumerate() {
        let word = sum.rotate_left(u32::try_from(index % 64).unwrap_or(0)).to_be_bytes();
        to.copy_from_slice(&word[..to.len()]);
    }
}

/// The receiving half of a stream.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    pending: Vec<u8>,
    /// The number of the next record.
    pub(super) next: u64,
    slowest: Stretch,
}

impl Receiver {
    /// Where bytes that come are appended.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    /// The next whole record among what came, looked at at `now`.
    pub(super) fn take(&mut self, now: At) -> Result<Option<Record>, Fault> {
        let Some(bytes) = self.pending.first_chunk::<RECORD_LEN>() else { return Ok(None) };
        let record = Record::decode(bytes)?;
        self.pending.drain(..RECORD_LEN);
        if record.number != self.next {
            return Err(Fault::Gap);
        }
        self.next += 1;
        let (from, to) = self.slowest;
        if now.saturating_sub(record.sent) > to.saturating_sub(from) {
            self.slowest = (record.sent, now);
        }
        Ok(Some(record))
    }

    /// The slowest record since this was asked last.
    pub(super) fn take_slowest(&mut self) -> Stretch {
        std::mem::take(&mut self.slowest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64) -> Record {
        let at = Duration::from_millis;
        Record { number, last: number == 3, sent: at(70), heard: 9, slowest: (at(1), at(2)) }
    }

    fn receive(bytes: &[u8]) -> Result<Vec<Record>, Fault> {
        let mut receiver = Receiver::default();
        let mut records = Vec::new();
        // As TCP may deliver it: in pieces that are no records.
        for piece in bytes.chunks(100) {
            receiver.buffer().extend_from_slice(piece);
            while let Some(record) = receiver.take(Duration::from_millis(100))? {
                records.push(record);
            }
        }
        Ok(records)
    }

    #[test]
    fn records_come_as_they_were_sent() {
        let sent: Vec<Record> = (0..4).map(record).collect();
        let bytes: Vec<u8> = sent.iter().flat_map(|record| record.encode()).collect();
        assert_eq!(receive(&bytes), Ok(sent));
    }

    #[test]
    fn a_record_that_is_missing_or_came_twice_is_a_gap() {
        let bytes =
            |numbers: &[u64]| -> Vec<u8> { numbers.iter().flat_map(|n| record(*n).encode()).collect() };
        assert_eq!(receive(&bytes(&[0, 2])), Err(Fault::Gap));
        assert_eq!(receive(&bytes(&[0, 1, 1])), Err(Fault::Gap));
    }

    #[test]
    fn a_byte_changed_or_lost_anywhere_is_found() {
        let bytes: Vec<u8> = (0..2).flat_map(|number| record(number).encode()).collect();
        for place in 0..RECORD_LEN {
            let mut changed = bytes.clone();
            changed[place] ^= 0x10;
            assert!(receive(&changed).is_err(), "byte {place} changed");
            let mut shorter = bytes.clone();
            shorter.remove(place);
            assert!(receive(&shorter).is_err(), "byte {place} lost");
        }
    }
}
