//! As much HTTP/1.1 as a load needs: GET, a head, a body of known length.
//!
//! In: a target. Out: heads and pieces of bodies, or the [`Failure`] a client would feel. Invariant: no byte of the connection is
//! lost between two answers. Connections are closed as a browser does it: nothing is reset.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Failure;
use crate::content::Verifier;

const BUFFER_LEN: usize = 32 * 1024;

/// What an answer's body has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Anything.
    Any,
    /// So many bytes of [`crate::content`] from its beginning.
    Content(u64),
}

/// An answer's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Length of the body, bytes.
    pub body_len: u64,
    /// Who says it answered (`X-Backend`).
    pub backend: Option<String>,
    /// HTTP status.
    pub status: u16,
}

/// A client's connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    local_port: u16,
    patience: Duration,
    /// Bytes read beyond what was asked for yet.
    pending: Vec<u8>,
}

impl Connection {
    /// Connects. This and every later wait for the server lasts at most `patience`.
    pub async fn open(target: SocketAddr, patience: Duration) -> Result<Connection, Failure> {
        let stream = timeout(patience, TcpStream::connect(target)).await.map_err(|_| Failure::TimedOut)??;
        let local_port = stream.local_addr()?.port();
        Ok(Connection { stream, local_port, patience, pending: Vec::new() })
    }

    /// The client's port: with it, `lbctl flows` and access logs tell which connection this is.
    pub fn local_port(&self) -> u16 {
        self.local_port
    }

    /// Sends a GET and reads the answer's head; a status other than 200 is a failure.
    pub async fn ask(&mut self, path: &str, close: bool) -> Result<Head, Failure> {
        let closing = if close { "Connection: close\r\n" } else { "" };
        let request = format!("GET {path} HTTP/1.1\r\nHost: vip\r\n{closing}\r\n");
        self.stream.write_all(request.as_bytes()).await?;
        loop {
            if let Some(end) = self.pending.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = parse_head(&self.pending[..end]).ok_or(Failure::WrongBytes)?;
                self.pending.drain(..end + 4);
                return if head.status == 200 { Ok(head) } else { Err(Failure::Status(head.status)) };
            }
            self.fill().await?;
        }
    }

    /// Reads the body that `head` announced, tells the length of every piece as it comes, and compares it.
    pub async fn read_body(
        &mut self,
        head: &Head,
        body: Body,
        mut on_piece: impl FnMut(usize),
    ) -> Result<(), Failure> {
        if matches!(body, Body::Content(len) if len != head.body_len) {
            return Err(Failure::WrongBytes);
        }
        let mut verifier = Verifier::new(0);
        let mut left = head.body_len;
        while left > 0 {
            if self.pending.is_empty() {
                self.fill().await?;
            }
            let len = usize::try_from(left).unwrap_or(usize::MAX).min(self.pending.len());
            let piece = &self.pending[..len];
            if body != Body::Any && verifier.push(piece).is_err() {
                return Err(Failure::WrongBytes);
            }
            self.pending.drain(..len);
            left -= len as u64;
            on_piece(len);
        }
        Ok(())
    }

    /// Waits until the server closes; anything more it says is wrong.
    pub async fn read_end(&mut self) -> Result<(), Failure> {
        if !self.pending.is_empty() {
            return Err(Failure::WrongBytes);
        }
        match self.fill().await {
            Err(Failure::Closed) => Ok(()),
            Err(failure) => Err(failure),
            Ok(()) => Err(Failure::WrongBytes),
        }
    }

    async fn fill(&mut self) -> Result<(), Failure> {
        self.pending.reserve(BUFFER_LEN);
        let read = timeout(self.patience, self.stream.read_buf(&mut self.pending));
        match read.await.map_err(|_| Failure::TimedOut)?? {
            0 => Err(Failure::Closed),
            _ => Ok(()),
        }
    }
}

fn parse_head(head: &[u8]) -> Option<Head> {
    let text = std::str::from_utf8(head).ok()?;
    let mut lines = text.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let mut parsed = Head { status, ..Head::default() };
    for line in lines {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") {
            parsed.body_len = value.trim().parse().ok()?;
        } else if name.eq_ignore_ascii_case("x-backend") {
            parsed.backend = Some(value.trim().to_owned());
        }
    }
    Some(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read() {
        let head = parse_head(b"HTTP/1.1 200 OK\r\nServer: nginx\r\ncontent-length: 3\r\nX-Backend: b2");
        assert_eq!(head, Some(Head { body_len: 3, backend: Some("b2".to_owned()), status: 200 }));
        assert_eq!(parse_head(b"HTTP/1.1 404 Not Found").map(|head| head.status), Some(404));
        assert_eq!(parse_head(b"SSH-2.0"), None);
    }
}
