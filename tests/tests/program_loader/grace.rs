//! The wait for packets under way, with a program that takes a millisecond for each: it returns only when that has ended.

use std::net::UdpSocket;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use lb_userspace::store::Store;
use lbd_tests::netns::Namespace;
use lbd_tests::netns::link::{self, End, Mac, Receive};
use lbd_tests::program::{Slow, may_run, stay_on_cpu};

use super::place::Place;

/// Packets that are waited for, in each mode on each CPU.
const TURNS: usize = 60;
/// After so long a packet is sent again, so many times.
const PATIENCE: Duration = Duration::from_millis(200);
const TRIES: usize = 100;
/// What the packets are sent to; nobody is there.
const THERE: &str = "10.28.0.2:9";

#[test]
fn no_packet_that_began_before_is_under_way_after_it() -> Result<()> {
    if !may_run("no_packet_that_began_before_is_under_way_after_it") {
        return Ok(());
    }
    let cpus = aya::util::online_cpus().map_err(|(what, error)| anyhow!("{what}: {error}"))?;
    let [first, .., last] = cpus.as_slice() else {
        println!(
            "SKIP: no_packet_that_began_before_is_under_way_after_it: one CPU sees no packet of its own under way"
        );
        return Ok(());
    };
    let (first, last) = (*first as usize, *last as usize);
    let mut datapath = Place::new("grace")?.start()?;
    let mut met = 0;
    for mode in ["xdpdrv", "xdpgeneric"] {
        let wire = Wire::new(mode)?;
        for (here, there) in [(first, last), (last, first)] {
            met += wire.meet(&mut datapath, here, there)?;
        }
    }
    ensure!(met > TURNS, "only {met} of {} packets were met under way", 4 * TURNS);
    Ok(())
}

/// A cable with the slow program at its far end.
struct Wire {
    slow: Slow,
    socket: UdpSocket,
    _ends: [Namespace; 2],
}

impl Wire {
    fn new(mode: &str) -> Result<Self> {
        let (near, far) = (Namespace::new("grace-near")?, Namespace::new("grace-far")?);
        let end = |namespace, member| End {
            namespace,
            interface: "eth0",
            mac: Mac::local(7, member),
            receive: Receive::Plain,
        };
        link::connect(end(&near, 1), end(&far, 2), 1500)?;
        let slow = Slow::new()?;
        let pin = far.run_dir().new_pin_dir()?;
        slow.pin(&pin)?;
        let attached = far.ip(&format!("link set dev eth0 {mode} pinned {}", pin.display()));
        std::fs::remove_file(&pin)?;
        attached?;
        link::address(&near, "eth0", "10.28.0.1".parse()?, 24)?;
        near.ip(&format!("neighbour add 10.28.0.2 lladdr {} nud permanent dev eth0", Mac::local(7, 2)))?;
        let socket = near.run(|| UdpSocket::bind("10.28.0.1:0"))??;
        socket.connect(THERE)?;
        Ok(Self { slow, socket, _ends: [near, far] })
    }

    /// How many packets were under way on CPU `there` when this thread, on CPU `here`, began to wait for them.
    fn meet(&self, datapath: &mut impl Store, here: usize, there: usize) -> Result<usize> {
        let (go, goes) = channel();
        thread::scope(|scope| {
            // Between two packets it sleeps: its CPU has time for others. The program runs while it sends.
            let sends = scope.spawn(move || -> Result<()> {
                stay_on_cpu(there)?;
                goes.into_iter().try_for_each(|()| Ok(self.socket.send(b"slow").map(drop)?))
            });
            stay_on_cpu(here)?;
            let met = self.wait(datapath, &go, || sends.is_finished());
            drop(go);
            sends.join().map_err(|_panic| anyhow!("the thread that sends panicked"))??;
            met
        })
    }

    fn wait(&self, datapath: &mut impl Store, go: &Sender<()>, is_over: impl Fn() -> bool) -> Result<usize> {
        let mut met = 0;
        for _ in 0..TURNS {
            // The kernel sends of itself, now and then.
            let (before, _) = self.slow.counts()?;
            let (begun, ended) = self.sent(before, go, &is_over)?;
            met += usize::from(begun > ended);
            let waited = Instant::now();
            datapath.grace()?;
            let (_, ended) = self.slow.counts()?;
            ensure!(ended >= begun, "{ended} of {begun} have ended after {:?}", waited.elapsed());
        }
        Ok(met)
    }

    /// The counts once a packet has begun. It is sent again if that takes long: in generic mode the kernel may drop it.
    fn sent(&self, before: u64, go: &Sender<()>, is_over: impl Fn() -> bool) -> Result<(u64, u64)> {
        for _ in 0..TRIES {
            go.send(())?;
            let sent = Instant::now();
            while sent.elapsed() < PATIENCE {
                let counts = self.slow.counts()?;
                ensure!(!is_over(), "nobody sends any more");
                if counts.0 > before {
                    return Ok(counts);
                }
            }
        }
        bail!("no packet has begun")
    }
}
