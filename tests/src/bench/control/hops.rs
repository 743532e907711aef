//! How soon the program sends to where the kernel says now.
//!
//! In: a running daemon whose backends lie behind one neighbour. Out: times until every backend's entry in the program's tables names the way
//! that is right now: from the start of the command that tells the kernel of another route, and from the look at the kernel's table that
//! showed another MAC (which may be some milliseconds late). Invariant: the tables are read, not asked of the daemon.

use std::mem::offset_of;
use std::net::Ipv4Addr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData};
use lb_common::{Backend, NextHop, Pool, backend_state};
use zerocopy::IntoBytes as _;

use super::site::{FAR, Site};
use crate::netns::link::Mac;
use crate::run_dir::pins;

const POOL_LEN: usize = size_of::<Pool>();
const BACKEND_LEN: usize = size_of::<Backend>();
const NEXT_HOP_LEN: usize = size_of::<NextHop>();
/// What is not followed by then is not followed.
const LIMIT: Duration = Duration::from_secs(10);
/// Between two changes: what follows the last one (looks at the host, walks) is over.
const PAUSE: Duration = Duration::from_millis(200);
/// A second gateway that nobody is.
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 9);
const OTHER_MAC: Mac = Mac([2, 0x1b, 0xd0, 0, 0xee, 9]);

/// What was timed, and the times.
pub(super) type Timed = (&'static str, Vec<Duration>);

/// All of it, so many turns, of so many backends.
pub(super) fn measure(site: &Site, pin: &Path, backends: usize, turns: usize) -> Result<Vec<Timed>> {
    let tables = Tables::open(pin, backends)?;
    let (balancer, far) = (&site.balancer, &site.far);
    // A host that has another MAC says so.
    far.sysctl("net/ipv4/conf/eth0/arp_notify", "1")?;
    balancer.ip(&format!("neighbour replace {OTHER} lladdr {OTHER_MAC} nud permanent dev front"))?;
    let lead = |gateway: Ipv4Addr, mac: Mac| -> Result<Duration> {
        let begun = Instant::now();
        balancer.ip(&format!("route replace 10.0.0.0/8 via {gateway}"))?;
        let took = tables.until(mac, begun)?;
        thread::sleep(PAUSE);
        Ok(took)
    };
    let (mut moved, mut rerouted, mut back, mut met) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for turn in 0..turns {
        let mac = Mac::local(8, u8::try_from(turn % 250).unwrap_or_default());
        far.ip(&format!("link set dev eth0 address {mac}"))?;
        moved.push(tables.until(mac, told(site, mac)?)?);
        thread::sleep(PAUSE);
        rerouted.push(lead(OTHER, OTHER_MAC)?);
        back.push(lead(FAR, mac)?);
        lead(OTHER, OTHER_MAC)?;
        balancer.ip(&format!("neighbour del {FAR} dev front"))?;
        let left = balancer.ip(&format!("neighbour show {FAR} dev front"))?;
        ensure!(!left.contains("lladdr"), "the kernel has not forgotten {FAR}: {left}");
        met.push(lead(FAR, mac)?);
    }
    Ok(vec![
        ("next hop: a gateway with another MAC", moved),
        ("next hop: a route by another gateway", rerouted),
        ("next hop: a route by the one before", back),
        ("next hop: a gateway that the kernel forgot", met),
    ])
}

/// Waits until the balancer's kernel has this MAC for its neighbour; when the look began that showed it.
fn told(site: &Site, mac: Mac) -> Result<Instant> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let begun = Instant::now();
        if site.balancer.ip("neighbour show dev front")?.contains(&mac.to_string()) {
            return Ok(begun);
        }
        ensure!(begun < deadline, "nobody has told the kernel that {FAR} has MAC {mac}");
    }
}

/// A word of an entry.
fn word(entry: &[u8], at: usize) -> u64 {
    entry.get(at..).and_then(|rest| rest.first_chunk()).copied().map(u64::from_ne_bytes).unwrap_or_default()
}

/// Those of the program that say where a backend's packets go.
struct Tables {
    /// Backends that there are.
    count: usize,
    pools: Array<MapData, [u8; POOL_LEN]>,
    backends: Array<MapData, [u8; BACKEND_LEN]>,
    next_hops: Array<MapData, [u8; NEXT_HOP_LEN]>,
}

impl Tables {
    fn open(pin: &Path, count: usize) -> Result<Self> {
        let open = |name: &str| -> Result<Map> {
            let path = pins(pin).join("maps").join(name);
            let data = MapData::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
            Ok(Map::Array(data))
        };
        Ok(Self {
            count,
            pools: open("pools")?.try_into()?,
            backends: open("backends")?.try_into()?,
            next_hops: open("next_hops")?.try_into()?,
        })
    }

    /// Waits until every backend takes new flows and has a next hop with this MAC: since `begun`.
    fn until(&self, mac: Mac, begun: Instant) -> Result<Duration> {
        loop {
            let there = self.there(mac)?;
            let took = begun.elapsed();
            if there == self.count {
                return Ok(took);
            }
            ensure!(took < LIMIT, "{there} of {} backends are sent to by {mac} after {took:?}", self.count);
        }
    }

    /// Backends that take new flows and have that MAC. A pool says where its entries lie; the pools are the first ones.
    fn there(&self, mac: Mac) -> Result<usize> {
        let mut there = 0;
        for pool in 1..self.pools.len() {
            let block = word(&self.pools.get(&pool, 0)?, offset_of!(Pool, backends));
            let (base, len) = (block & u64::from(u32::MAX), block >> 32);
            if len == 0 {
                break;
            }
            for index in base..base + len {
                let entry = self.backends.get(&u32::try_from(index)?, 0)?;
                let state = word(&entry, offset_of!(Backend, state));
                if state & backend_state::LIVE != 0 && state & backend_state::TAKES_NEW != 0 {
                    there += usize::from(self.destination(state)? == mac);
                }
            }
        }
        Ok(there)
    }

    fn destination(&self, state: u64) -> Result<Mac> {
        let index = u32::try_from(state & u64::from(u32::MAX))?;
        let entry = self.next_hops.get(&index, 0)?;
        let hop: NextHop =
            zerocopy::FromBytes::read_from_bytes(&entry).ok().context("a next hop's length")?;
        let bytes = hop.ethernet;
        Ok(Mac(bytes.as_bytes().first_chunk().copied().context("a frame's addresses")?))
    }
}
