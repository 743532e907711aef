//! An HTTP server that takes uploads and answers with what it got.
//!
//! In: a namespace, a name, a port. Out: every request is answered `{"backend":…,"len":…,"sha256":…}` of the body its
//! Content-Length announced (none: of nothing). Both families, keep-alive. Invariant: the digest is of the bytes that arrived, in order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{InProcess, listen};
use crate::content::hex;
use crate::netns::Namespace;

const BUFFER_LEN: usize = 256 * 1024;
const MAX_LINE_LEN: u64 = 8192;

/// A running sink.
#[derive(Debug)]
pub struct Sink {
    _server: InProcess,
}

impl Sink {
    /// Serves `port` on all addresses; it listens when this returns.
    pub fn start(namespace: &Namespace, backend: &str, port: u16) -> Result<Sink> {
        let addresses = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let mut listeners = Vec::new();
        for address in addresses.map(|address| SocketAddr::new(address, port)) {
            let bound = namespace.run(|| listen(address))?;
            listeners
                .push(bound.with_context(|| format!("cannot listen on {address} in {}", namespace.name()))?);
        }
        let backend = backend.to_owned();
        let server = InProcess::start(namespace, "http-sink", async move {
            let mut tasks = JoinSet::new();
            for listener in listeners {
                tasks.spawn(accept(listener, backend.clone()));
            }
            while tasks.join_next().await.is_some() {}
        })?;
        Ok(Sink { _server: server })
    }
}

async fn accept(listener: std::net::TcpListener, backend: String) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let mut connections = JoinSet::new();
    loop {
        // An error is of one connection that ended before it was accepted.
        if let Ok((stream, _)) = listener.accept().await {
            let backend = backend.clone();
            // A connection's error is its client's to see.
            connections.spawn(async move { serve(stream, &backend).await.ok() });
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Serves one connection until the client closes it.
async fn serve(stream: TcpStream, backend: &str) -> std::io::Result<()> {
    let mut stream = BufReader::with_capacity(BUFFER_LEN, stream);
    let mut body = vec![0; BUFFER_LEN];
    while let Some(len) = read_head(&mut stream).await? {
        let mut hasher = Sha256::new();
        let mut left = len;
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(BUFFER_LEN).min(BUFFER_LEN);
            let count = stream.read(&mut body[..room]).await?;
            if count == 0 {
                return Ok(());
            }
            hasher.update(&body[..count]);
            left -= count as u64;
        }
        let digest = hex(&hasher.finalize());
        let answer = format!("{{\"backend\":\"{backend}\",\"len\":{len},\"sha256\":\"{digest}\"}}\n");
        let head =
            format!("HTTP/1.1 200 OK\r\nX-Backend: {backend}\r\nContent-Length: {}\r\n\r\n", answer.len());
        stream.get_mut().write_all((head + &answer).as_bytes()).await?;
    }
    Ok(())
}

/// Reads a request's head; its Content-Length (0 without), nothing when the client is done.
async fn read_head(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<u64>> {
    let mut len = 0;
    let mut line = String::new();
    loop {
        line.clear();
        if (&mut *stream).take(MAX_LINE_LEN).read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        if line.trim_end().is_empty() {
            return Ok(Some(len));
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            len = value.trim().parse().unwrap_or(0);
        }
    }
}
