//! Bytes that both ends can make up alone: the content of files, uploads and downloads.
//!
//! In: an offset. Out: the bytes of one endless fixed sequence from there. Invariant: no two positions within 2^64 bytes look
//! alike, so a byte lost, doubled or moved in a stream is seen at once, without keeping the stream.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::LazyLock;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

const CHUNK_LEN: usize = 64 * 1024;
/// The beginning of the sequence, made once: a load that compares thousands of small bodies shall not make them up anew each time.
static BEGINNING: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut beginning = vec![0; 4 * CHUNK_LEN];
    fill(0, &mut beginning);
    beginning
});

/// Fills `buffer` with the sequence from byte `offset` on.
pub fn fill(offset: u64, buffer: &mut [u8]) {
    let skip = usize::try_from(offset % 8).unwrap_or(0);
    let mut number = offset / 8;
    let (head, rest) = buffer.split_at_mut(buffer.len().min((8 - skip) % 8));
    if !head.is_empty() {
        head.copy_from_slice(&word_at(number)[skip..skip + head.len()]);
        number += 1;
    }
    let mut words = rest.chunks_exact_mut(8);
    for word in &mut words {
        word.copy_from_slice(&word_at(number));
        number += 1;
    }
    let tail = words.into_remainder();
    let tail_len = tail.len();
    tail.copy_from_slice(&word_at(number)[..tail_len]);
}

/// Writes the first `len` bytes of the sequence to a file.
pub fn write_file(path: &Path, len: u64) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut writer = BufWriter::new(file);
    for_each_chunk(len, |chunk| writer.write_all(chunk))
        .with_context(|| format!("cannot write {}", path.display()))?;
    writer.flush().with_context(|| format!("cannot write {}", path.display()))
}

/// The SHA-256 of the first `len` bytes of the sequence, in hexadecimal.
pub fn sha256(len: u64) -> String {
    let mut hasher = Sha256::new();
    let hashed: Result<(), std::convert::Infallible> = for_each_chunk(len, |chunk| {
        hasher.update(chunk);
        Ok(())
    });
    match hashed {
        Ok(()) => hex(&hasher.finalize()),
    }
}

/// Bytes as lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares a stream with the sequence, piece by piece.
#[derive(Clone, Debug)]
pub struct Verifier {
    offset: u64,
    expected: Vec<u8>,
}

impl Verifier {
    /// A verifier for a stream whose first byte is that at `offset` of the sequence.
    pub fn new(offset: u64) -> Verifier {
        Verifier { offset, expected: Vec::new() }
    }

    /// Takes the next piece; `Err` is the position in the sequence of the first byte that differs.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), u64> {
        let start = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let expected = match BEGINNING.get(start..start.saturating_add(piece.len())) {
            Some(kept) => kept,
            None => {
                self.expected.resize(piece.len(), 0);
                fill(self.offset, &mut self.expected);
                &self.expected
            }
        };
        if expected != piece {
            let differs = expected.iter().zip(piece).take_while(|(ours, theirs)| ours == theirs).count();
            return Err(self.offset + differs as u64);
        }
        self.offset += piece.len() as u64;
        Ok(())
    }
}

/// SplitMix64 of the word's number: a bijection, so every word of the sequence is another.
fn word_at(number: u64) -> [u8; 8] {
    let mut word = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (word ^ (word >> 31)).to_le_bytes()
}

fn for_each_chunk<E>(len: u64, mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let mut chunk = vec![0; CHUNK_LEN];
    let mut offset = 0;
    while offset < len {
        let chunk_len = usize::try_from(len - offset).unwrap_or(CHUNK_LEN).min(CHUNK_LEN);
        fill(offset, &mut chunk[..chunk_len]);
        take(&chunk[..chunk_len])?;
        offset += chunk_len as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_the_same_however_it_is_cut() {
        let mut whole = vec![0; 1000];
        fill(3, &mut whole);
        for piece_len in 1..30 {
            let mut verifier = Verifier::new(3);
            for piece in whole.chunks(piece_len) {
                assert_eq!(verifier.push(piece), Ok(()));
            }
        }
    }

    #[test]
    fn what_is_kept_of_the_beginning_and_what_is_made_up_are_one_sequence() {
        let kept_len = BEGINNING.len();
        let mut whole = vec![0; kept_len + 1000];
        fill(0, &mut whole);
        for cut in [kept_len - 1, kept_len, kept_len + 1] {
            let mut verifier = Verifier::new(0);
            assert_eq!(verifier.push(&whole[..cut]), Ok(()));
            assert_eq!(verifier.push(&whole[cut..]), Ok(()));
        }
        whole[kept_len] ^= 1;
        assert_eq!(Verifier::new(0).push(&whole), Err(kept_len as u64));
    }

    #[test]
    fn a_lost_a_doubled_and_a_changed_byte_are_found_where_they_are() {
        let mut whole = vec![0; 1000];
        fill(0, &mut whole);
        let mut lost = whole.clone();
        lost.remove(500);
        assert_eq!(Verifier::new(0).push(&lost), Err(500));
        let mut changed = whole.clone();
        changed[999] ^= 1;
        assert_eq!(Verifier::new(0).push(&changed), Err(999));
        let mut verifier = Verifier::new(0);
        assert_eq!(verifier.push(&whole[..500]), Ok(()));
        assert_eq!(verifier.push(&whole[499..]), Err(500));
    }

    #[test]
    fn file_and_digest_are_of_the_same_bytes() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        write_file(file.path(), 150_001).expect("written");
        let bytes = std::fs::read(file.path()).expect("read");
        assert_eq!(bytes.len(), 150_001);
        assert_eq!(hex(&Sha256::digest(&bytes)), sha256(150_001));
    }
}
