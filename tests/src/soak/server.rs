//! A backend's server, a process of its own that can be killed: `lbd-soak serve`.
//!
//! In: ports. Out: on the TCP port a short answer to `GET` that names the backend, or a stream of records both ways; on the checked port
//! 200 OK; on UDP addresses the echo of [`crate::server::echo`]. What is wrong with a stream at this end, and when this process was
//! late, is said in lines of JSON on standard output ([`Said`]). Invariant: only what is wrong or late is said.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, timeout};

use super::clock::{self, Late, Stretch};
use super::model::At;
use super::wire::{Fault, Receiver, Record};
use crate::server::echo;

/// Time between two records of a stream, in each direction.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);
/// A stream on which nothing comes for so long is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
const MOST_LINE: usize = 1024;

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Said in every answer.
    pub name: String,
    /// Where clients come to.
    pub tcp: u16,
    /// Where checks come to.
    pub check: u16,
    /// Where datagrams come to.
    pub udp: Vec<SocketAddr>,
}

/// A line on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Said {
    /// A stream ended in a way it should not.
    Stream { number: u64, at: At, fault: Fault },
    /// This process did not run.
    Late(Stretch),
}

fn say(said: Said) {
    if let Ok(line) = serde_json::to_string(&said) {
        println!("{line}");
    }
}

/// Serves until it is killed.
///
/// # Errors
/// A port that is taken.
pub fn serve(wish: &Wish) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        let name: Arc<str> = wish.name.as_str().into();
        for (port, is_check) in [(wish.tcp, false), (wish.check, true)] {
            for address in ["0.0.0.0", "::"] {
                let listener = TcpListener::from_std(crate::server::listen(
                    (address.parse::<std::net::IpAddr>()?, port).into(),
                )?)?;
                tokio::spawn(accept(listener, Arc::clone(&name), is_check));
            }
        }
        for address in &wish.udp {
            let socket = echo::bind(*address).with_context(|| format!("cannot bind udp {address}"))?;
            tokio::spawn(echo::serve(socket, wish.name.clone(), Arc::new(AtomicU64::new(0))));
        }
        Late::default().watch(|stretch| say(Said::Late(stretch))).await;
        Ok(())
    })
}

async fn accept(listener: TcpListener, name: Arc<str>, is_check: bool) {
    loop {
        // An error is of one connection that ended before it was accepted.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let name = Arc::clone(&name);
        tokio::spawn(async move {
            // What is wrong with a short connection is its client's to see.
            let _ = one(stream, &name, is_check).await;
        });
    }
}

/// One connection: its first line says what it is for.
async fn one(mut stream: TcpStream, name: &str, is_check: bool) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut begin = Vec::new();
    while !begin.contains(&b'\n') && begin.len() < MOST_LINE {
        if stream.read_buf(&mut begin).await? == 0 {
            return Ok(());
        }
    }
    // Nothing but a stream's first line can be here: its client waits for the answer.
    let line = String::from_utf8_lossy(&begin).into_owned();
    if let Some(number) = line.strip_prefix("STREAM ").and_then(|number| number.trim().parse().ok()) {
        stream.write_all(format!("{name}\n").as_bytes()).await?;
        if let Err(fault) = records(stream).await {
            say(Said::Stream { number, at: clock::now(), fault });
        }
        return Ok(());
    }
    // The rest of the head, so that closing resets nothing.
    let mut rest = begin;
    while !rest.ends_with(b"\r\n\r\n") && rest.len() < MOST_LINE {
        if stream.read_buf(&mut rest).await? == 0 {
            return Ok(());
        }
    }
    let body = if is_check { "ok" } else { name };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nX-Backend: {name}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes()).await?;
    stream.shutdown().await
}

/// The records of a stream, both ways, until the client's last.
async fn records(mut stream: TcpStream) -> Result<(), Fault> {
    let mut receiver = Receiver::default();
    let mut number = 0;
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut heard_at = clock::now();
    loop {
        let mut last = false;
        tokio::select! {
            _ = ticks.tick() => {}
            read = stream.read_buf(receiver.buffer()) => {
                if read? == 0 {
                    return Err(Fault::Closed);
                }
                heard_at = clock::now();
                while let Some(record) = receiver.take(heard_at)? {
                    last |= record.last;
                }
                if !last {
                    continue;
                }
            }
        }
        if clock::now() > heard_at + PATIENCE {
            return Err(Fault::Silent);
        }
        let (heard, slowest) = (receiver.next, receiver.take_slowest());
        let record = Record { number, last, sent: clock::now(), heard, slowest };
        number += 1;
        // A window that stays closed is a client that is gone.
        let bytes = record.encode();
        let written = timeout(PATIENCE, stream.write_all(&bytes));
        written.await.map_err(|_| Fault::Silent)??;
        if last {
            stream.shutdown().await?;
            // Whatever else the client has to say, it reads our end first.
            let mut rest = [0; 64];
            while timeout(PATIENCE, stream.read(&mut rest))
                .await
                .is_ok_and(|read| read.is_ok_and(|len| len > 0))
            {}
            return Ok(());
        }
    }
}
