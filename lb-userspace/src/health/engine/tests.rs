//! The engine against real sockets on loopback.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::super::state::Health;
use super::*;
use crate::spec::{HealthKind, HealthSpec, HttpCheck};

mod cost;

impl TargetId for u32 {
    fn pool(&self) -> &str {
        "pool"
    }
}

/// Long enough for anything on loopback on a busy machine.
const GENEROUS: Duration = Duration::from_secs(20);

/// A rhythm that makes tests short.
fn quick() -> HealthSpec {
    HealthSpec {
        interval: Duration::from_millis(50),
        timeout: Duration::from_millis(500),
        ..HealthSpec::default()
    }
}

fn target(id: u32, address: SocketAddr, spec: HealthSpec) -> Target<u32> {
    Target { id, address, through: None, spec, initial: Health::Unknown }
}

fn start(limit: usize) -> (HealthEngine<u32>, UnboundedReceiver<HealthEvent<u32>>) {
    let (events, inbox) = mpsc::unbounded_channel();
    (HealthEngine::start(limit, events, Prober::default()).0, inbox)
}

/// Waits until this id has this health.
async fn until(inbox: &mut UnboundedReceiver<HealthEvent<u32>>, id: u32, health: Health) -> HealthEvent<u32> {
    let found = async {
        loop {
            let event = inbox.recv().await.expect("the engine runs");
            if event.id == id && event.health == health && event.changed {
                return event;
            }
        }
    };
    timeout(GENEROUS, found).await.unwrap_or_else(|_| panic!("{id} did not become {health}"))
}

/// Listens without accepting: the kernel opens the connections.
async fn listener(address: SocketAddr) -> TcpListener {
    TcpListener::bind(address).await.unwrap()
}

fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// Accepts and says nothing.
async fn mute() -> SocketAddr {
    let listener = listener(any_port()).await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    address
}

/// Accepts whatever comes until dropped.
async fn accepting() -> (SocketAddr, tokio::task::AbortHandle) {
    let listener = listener(any_port()).await;
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    (address, task.abort_handle())
}

#[tokio::test]
async fn a_backend_comes_goes_and_comes_back() {
    let (engine, mut inbox) = start(16);
    let (address, server) = accepting().await;
    engine.set(vec![target(1, address, quick())]);
    assert_eq!(&*until(&mut inbox, 1, Health::Healthy).await.detail, "connected");
    server.abort();
    assert_eq!(&*until(&mut inbox, 1, Health::Unhealthy).await.detail, "connection refused");
    let _again = listener(address).await;
    until(&mut inbox, 1, Health::Healthy).await;
    engine.remove(vec![1]);
    let metrics = engine.metrics();
    let count = |wanted| metrics.checks[0].results.iter().find(|(name, _)| *name == wanted).unwrap().1;
    assert!(count("success") >= 3 && count("refused") >= 3, "{metrics:?}");
    let probes: u64 = metrics.checks[0].results.iter().map(|(_, count)| count).sum();
    assert_eq!(metrics.checks[0].duration.count, probes);
}

#[tokio::test]
async fn mute_servers_hold_nobody_up() {
    let (engine, mut inbox) = start(64);
    let (well, _server) = accepting().await;
    let http = HealthSpec { kind: HealthKind::Http(HttpCheck::default()), ..quick() };
    let mut targets = vec![target(0, well, quick())];
    for id in 1..20 {
        targets.push(target(id, mute().await, http.clone()));
    }
    engine.set(targets);
    until(&mut inbox, 0, Health::Healthy).await;
    until(&mut inbox, 19, Health::Unhealthy).await;
    assert_eq!(engine.metrics().questions, 20);
}

#[tokio::test]
async fn never_more_probes_than_the_limit_and_the_late_ones_are_counted() {
    let (engine, mut inbox) = start(2);
    let spec = HealthSpec {
        kind: HealthKind::Http(HttpCheck::default()),
        interval: Duration::from_millis(50),
        timeout: Duration::from_millis(200),
        fall: 1,
        ..HealthSpec::default()
    };
    let mut targets = Vec::new();
    for id in 0..6 {
        targets.push(target(id, mute().await, spec.clone()));
    }
    engine.set(targets);
    let mut down = std::collections::HashSet::new();
    let all = async {
        while down.len() < 6 {
            let event = inbox.recv().await.unwrap();
            assert!(engine.metrics().probes_in_flight <= 2);
            if event.health == Health::Unhealthy {
                down.insert(event.id);
            }
        }
    };
    timeout(GENEROUS, all).await.expect("every target gets its turn");
    assert!(engine.metrics().late_probes > 0);
}

#[tokio::test]
async fn the_engine_ends_with_its_last_handle() {
    let (events, mut inbox) = mpsc::unbounded_channel::<HealthEvent<u32>>();
    let (engine, task) = HealthEngine::start(4, events, Prober::default());
    engine.set(vec![target(1, mute().await, quick())]);
    until(&mut inbox, 1, Health::Healthy).await;
    drop(engine);
    timeout(GENEROUS, task).await.expect("ends").expect("without a panic");
}
