//! Where the control plane is measured: a balancer and, behind one cable, a host that answers to every address of 10.0.0.0/8.
//!
//! In: pools and backends. Out: a running daemon. Backends lie behind one neighbour, as behind a router, so that a hundred thousand of
//! them need no more entries in the kernel's neighbour table than one.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};

use crate::netns::Namespace;
use crate::netns::link::{self, End, Mac, Receive};
use crate::topology::Lbd;

const BALANCER: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
/// Behind which all backends lie.
pub(super) const FAR: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 2);
/// Flows that the daemon's tables are made for: the default.
pub(super) const FLOWS: u32 = 1 << 20;
/// Where backends listen.
const PORT: u16 = 80;

/// How much is configured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amount {
    pub(super) pools: u16,
    /// In each pool.
    pub(super) backends: u16,
    /// They are asked by tcp every two seconds; else they are not checked at all.
    pub(super) are_checked: bool,
}

impl Amount {
    /// For tables: `1000 backends`, `1000 pools × 100`.
    pub(super) fn name(self) -> String {
        match self.pools {
            1 => format!("{} backends", self.backends),
            pools => format!("{pools} pools x {}", self.backends),
        }
    }
}

/// Backend `number` of pool `pool`, both from 0.
pub(super) fn backend(pool: u16, number: u16) -> Ipv4Addr {
    // A pool of more than 250 backends goes on in the networks behind its own.
    let [high, low] = (pool + number / 250).to_be_bytes();
    Ipv4Addr::new(10, high, low, u8::try_from(number % 250).unwrap_or_default() + 1)
}

/// Of pool `pool`.
fn vip(pool: u16) -> Ipv4Addr {
    let [high, low] = pool.to_be_bytes();
    Ipv4Addr::new(198, 18, high, low)
}

/// The two hosts.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) balancer: Namespace,
    pub(super) far: Namespace,
    _answers: Answers,
}

impl Site {
    pub(super) fn new() -> Result<Self> {
        let (balancer, far) = (Namespace::new("bench-lb")?, Namespace::new("bench-far")?);
        let end = |namespace, interface, member, receive| End {
            namespace,
            interface,
            mac: Mac::local(9, member),
            receive,
        };
        link::connect(
            end(&balancer, "front", 1, Receive::Plain),
            end(&far, "eth0", 2, Receive::XdpPass),
            1500,
        )?;
        link::address(&balancer, "front", IpAddr::V4(BALANCER), 24)?;
        link::address(&far, "eth0", IpAddr::V4(FAR), 24)?;
        balancer.ip(&format!("route add 10.0.0.0/8 via {FAR}"))?;
        balancer.ip(&format!("route add 198.18.0.0/15 via {FAR}"))?;
        far.ip("route add local 10.0.0.0/8 dev lo")?;
        let answers = Answers::start(&far)?;
        Ok(Self { balancer, far, _answers: answers })
    }

    pub(super) fn start(&self, amount: Amount) -> Result<Lbd> {
        Lbd::start_with(&self.balancer, |dir, pin| config(amount, 1, dir, pin))
    }
}

/// The whole file; `weight` is that of the very first backend.
pub(super) fn config(amount: Amount, weight: u16, dir: &Path, pin: &Path) -> String {
    let (dir, pin) = (dir.display(), pin.display());
    let mut text = format!(
        "[daemon]\nsocket = \"{dir}/lbd.sock\"\nstate = \"{dir}/state\"\nmetrics = \"\"\non_exit = \"detach\"\n\n\
         [datapath]\ninterfaces = [\"front\"]\nmode = \"native\"\nflows = {FLOWS}\npin = \"{pin}\"\nseed_file = \"{dir}/state/seed\"\n\n"
    );
    let health = match amount.are_checked {
        true => "{ type = \"tcp\", interval = \"2s\", timeout = \"1s\" }",
        false => "{ type = \"none\" }",
    };
    for pool in 0..amount.pools {
        let address = |number| match (pool, number) {
            (0, 0) => format!("{{ address = \"{}\", weight = {weight} }}", backend(0, 0)),
            _ => format!("\"{}\"", backend(pool, number)),
        };
        let backends: Vec<String> = (0..amount.backends).map(address).collect();
        text.push_str(&format!(
            "[[pool]]\nname = \"p{pool}\"\nhealth = {health}\nbackends = [{}]\n\
             [[service]]\nname = \"p{pool}\"\nlisten = [\"{}:{PORT}/tcp\"]\npool = \"p{pool}\"\n\n",
            backends.join(", "),
            vip(pool)
        ));
    }
    text
}

/// Takes every connection and ends it.
#[derive(Debug)]
struct Answers {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
    /// To wake it.
    namespace: String,
}

impl Answers {
    fn start(far: &Namespace) -> Result<Self> {
        let listener = far.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)))?;
        let listener = listener.context("cannot listen for checks")?;
        listener.set_nonblocking(true)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = far.spawn("answers", move || answer(&listener, &ends))?;
        Ok(Self { is_over, thread: Some(thread), namespace: far.name().to_owned() })
    }
}

fn answer(listener: &TcpListener, is_over: &AtomicBool) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd as _;
    while !is_over.load(Ordering::Relaxed) {
        // So often it looks whether it is to end.
        let timeout = PollTimeout::from(100_u16);
        if poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], timeout).is_err() {
            return;
        }
        while listener.accept().is_ok() {}
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the server in {} has failed", self.namespace);
        }
    }
}
