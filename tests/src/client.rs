//! Clients that do one thing and say exactly what came of it.
//!
//! In: the client's namespace and a target. Out: who answered, how many bytes, their SHA-256. For crowds see [`crate::load`].

mod udp;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use sha2::{Digest, Sha256};

pub(crate) use udp::raise_file_limit;
pub use udp::{Round, UdpFlows};

use crate::content::{self, hex};
use crate::netns::Namespace;

/// Longest wait for a server, each time.
const PATIENCE: Duration = Duration::from_secs(10);
const BUFFER_LEN: usize = 256 * 1024;

/// A body that arrived, at whichever end.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Transfer {
    /// The backend that answered.
    pub backend: String,
    /// Bytes of body.
    pub len: u64,
    /// Their SHA-256 in hexadecimal.
    pub sha256: String,
}

impl Transfer {
    /// Fails unless these are the first `len` bytes of [`crate::content`].
    pub fn expect_content(&self, len: u64) -> Result<()> {
        ensure!(self.len == len, "{} bytes came through {} instead of {len}", self.len, self.backend);
        ensure!(
            self.sha256 == content::sha256(len),
            "the {len} bytes through {} are not the right ones",
            self.backend
        );
        Ok(())
    }
}

/// GETs `path` (see [`crate::server::nginx`]) over a connection of its own.
pub fn download(namespace: &Namespace, target: SocketAddr, path: &str) -> Result<Transfer> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: vip\r\nConnection: close\r\n\r\n");
    namespace.run(|| {
        let mut stream = connect(target)?;
        stream.write_all(request.as_bytes())?;
        let mut stream = BufReader::with_capacity(BUFFER_LEN, stream);
        let head = read_head(&mut stream)?;
        let mut hasher = Sha256::new();
        let mut body = stream.take(head.len);
        let mut buffer = vec![0; BUFFER_LEN];
        let mut len = 0;
        loop {
            let count = body.read(&mut buffer).context("reading the body")?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            len += count as u64;
        }
        ensure!(len == head.len, "the body ended after {len} of {} bytes", head.len);
        Ok(Transfer { backend: head.backend, len, sha256: hex(&hasher.finalize()) })
    })?
}

/// POSTs the first `len` bytes of [`crate::content`] to a [`crate::server::sink`]; what the sink says it got.
pub fn upload(namespace: &Namespace, target: SocketAddr, len: u64) -> Result<Transfer> {
    namespace.run(|| {
        let mut stream = connect(target)?;
        write!(stream, "POST / HTTP/1.1\r\nHost: vip\r\nContent-Length: {len}\r\n\r\n")?;
        let mut buffer = vec![0; BUFFER_LEN];
        let mut offset = 0;
        while offset < len {
            let piece_len = usize::try_from(len - offset).unwrap_or(BUFFER_LEN).min(BUFFER_LEN);
            content::fill(offset, &mut buffer[..piece_len]);
            stream
                .write_all(&buffer[..piece_len])
                .with_context(|| format!("sending the body from byte {offset}"))?;
            offset += piece_len as u64;
        }
        let mut stream = BufReader::new(stream);
        let head = read_head(&mut stream)?;
        serde_json::from_reader(stream.take(head.len)).context("the sink's answer")
    })?
}

struct Head {
    len: u64,
    backend: String,
}

fn connect(target: SocketAddr) -> Result<TcpStream> {
    let stream =
        TcpStream::connect_timeout(&target, PATIENCE).with_context(|| format!("connecting to {target}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn read_head(stream: &mut BufReader<TcpStream>) -> Result<Head> {
    let mut line = String::new();
    stream.read_line(&mut line).context("reading the answer")?;
    ensure!(line.starts_with("HTTP/1.1 200 "), "the answer begins with {line:?}");
    let mut head = Head { len: 0, backend: String::new() };
    loop {
        line.clear();
        stream.read_line(&mut line).context("reading the answer's head")?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { return Ok(head) };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => head.len = value.parse().context("Content-Length")?,
            "x-backend" => value.clone_into(&mut head.backend),
            _ => {}
        }
    }
}
