//! The load of a soak: new connections, streams, UDP flows, all from the client's namespace.
//!
//! In: a network, how many of what. Out: an [`Evidence`] that grows, and is whole after [`Crowd::end`]. Invariant: the open loop is
//! [`crate::load`]'s, so a slow answer delays no later connection, and what is due late by the client's own fault is known.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::clock::{self, Late};
use super::datagrams::{self, Shared};
use super::judge::{Evidence, Lost};
use super::random::Random;
use super::streams::{self, Board};
use super::{Amounts, ECHO, HTTP};
use crate::client::raise_file_limit;
use crate::load::{Body, Load, LoadPlan, OpenLoop};
use crate::topology::Topology;

/// Streams open one after the other, not at once.
const SPREAD: Duration = Duration::from_millis(20);
/// How long the last connections and streams may take to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// New connections slower than this are looked at one by one.
const SLOW: Duration = Duration::from_millis(150);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The load at work.
#[derive(Debug)]
pub(super) struct Crowd {
    load: Load,
    pub(super) board: Board,
    pub(super) flows: Shared,
    late: Late,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Crowd {
    pub(super) fn start(topology: &Topology, amounts: Amounts, seed: u64) -> Result<Crowd> {
        raise_file_limit(u64::from(amounts.flows) + 4096)?;
        let (board, flows, late) = (Board::default(), Shared::default(), Late::default());
        let (stop, stopped) = watch::channel(false);
        let sockets = open(topology, amounts.flows)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
        let (http, echo) = (topology.vip_port(HTTP), topology.vip_port(ECHO));
        let shared = (board.clone(), flows.clone(), late.clone());
        let thread = topology.client.spawn("crowd", move || {
            let (board, flows, late) = shared;
            runtime.block_on(async {
                let mut tasks = JoinSet::new();
                tokio::spawn(late.watch(|_| ()));
                let mut random = Random::new(seed);
                for number in 0..amounts.streams {
                    let (board, stop, own) = (board.clone(), stopped.clone(), Random::new(random.next()));
                    tasks.spawn(async move {
                        tokio::time::sleep(SPREAD * number).await;
                        streams::run(http, board, own, stop).await;
                    });
                }
                for (socket, number) in sockets.into_iter().zip(0_u32..) {
                    let first = super::UDP_INTERVAL * number / amounts.flows;
                    let rhythm = (first, super::UDP_INTERVAL);
                    let (flows, stop) = (flows.clone(), stopped.clone());
                    tasks.spawn(datagrams::run(u64::from(number), socket, echo, rhythm, flows, stop));
                }
                while tasks.join_next().await.is_some() {}
            });
        })?;
        let load = Load::start(&topology.client, load_plan(http, amounts))?;
        Ok(Crowd { load, board, flows, late, stop, thread: Some(thread) })
    }

    /// Moves what ended since the last time into the evidence.
    pub(super) fn collect(&self, evidence: &mut Evidence) {
        let (attempts, delays) = self.load.recorder().take();
        for attempt in attempts {
            match attempt.outcome {
                Ok(()) => {
                    let time = attempt.end - attempt.start;
                    let due = clock::at(attempt.start);
                    evidence.times.add(time);
                    evidence.note_second(due, time);
                    if time >= SLOW {
                        evidence.slow_connections.push((due, due + time));
                    } else {
                        evidence.longest_quick = evidence.longest_quick.max(time);
                    }
                    if let Some(backend) = attempt.backend {
                        *evidence.answered.entry(backend.to_string()).or_default() += 1;
                    }
                }
                Err(failure) => evidence.lost.push(Lost {
                    stretch: (clock::at(attempt.start), clock::at(attempt.end)),
                    failure,
                    backend: attempt.backend.map(|backend| backend.to_string()),
                }),
            }
        }
        evidence.late.extend(delays.into_iter().map(|(due, by)| (clock::at(due), clock::at(due + by))));
        let mut book = self.board.lock();
        evidence.streams.append(&mut book.ended);
        evidence.slow.append(&mut book.slow);
        evidence.abandoned.append(&mut book.abandoned);
        evidence.records = book.records;
        let mut flows = self.flows.lock();
        evidence.holes.append(&mut flows.holes);
        evidence.moves.append(&mut flows.moves);
        (evidence.datagrams, evidence.echoes) = (flows.sent, flows.answered);
        evidence.crossed = flows.crossed;
    }

    /// Lets everything end in order, and collects the rest.
    pub(super) fn end(mut self, evidence: &mut Evidence) -> Result<()> {
        let mark = Instant::now();
        while self.load.recorder().unfinished(mark) > 0 {
            ensure!(mark.elapsed() < PATIENCE, "new connections have no end after {PATIENCE:?}");
            // The load announces its end in no way.
            std::thread::sleep(LOOK_INTERVAL);
        }
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join().map_err(|_| anyhow!("the load's thread panicked"))?;
            ended.context("cannot enter the client's namespace")?;
        }
        self.collect(evidence);
        evidence.late.extend(self.late.stretches());
        Ok(())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // Who drops it does not want its outcome.
            let _ = thread.join();
        }
    }
}

fn open(topology: &Topology, count: u32) -> Result<Vec<UdpSocket>> {
    let any: IpAddr =
        if topology.vip().is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let one = || -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let opened = topology.client.run(|| (0..count).map(|_| one()).collect::<io::Result<Vec<_>>>())?;
    opened.context("cannot open a UDP socket for every flow")
}

fn load_plan(target: SocketAddr, amounts: Amounts) -> LoadPlan {
    let mut plan = LoadPlan::new(target);
    plan.open_loop =
        Some(OpenLoop { per_second: amounts.per_second, path: "/".to_owned(), body: Body::Any, total: None });
    plan
}
