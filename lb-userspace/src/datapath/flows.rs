//! The flow tables as the daemon reads them: listed, counted, swept, flushed.
//!
//! In: the mapped tables and the present tick of the program's clock. Out: decoded flows, counts, freed entries. Invariants: the
//! daemon changes an entry only by compare-exchange of its value word from what it read to 0, so a flow that the kernel
//! refreshed or replaced meanwhile is left alone; an entry is listed only if its check covers its key.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use lb_common::{Settings, WAYS, Word};
use lb_datapath::flow_table::{FlowKey, State, Value};
use lb_datapath::hash;

use super::grace::Grace;
use super::load::CLOCK;
use super::mapped::compare_exchange;
use super::maps::Maps;
use super::tuning::Tick;
use super::{Datapath, DatapathError};
use crate::store::FlowScan;

/// Ticks by which an entry may be ahead of the clock we read: it was refreshed while we walked.
const AHEAD_TICKS: u16 = 64;

/// The flow tables of a datapath.
#[derive(Clone, Copy, Debug)]
pub struct Flows<'a> {
    maps: &'a Maps,
    settings: &'a Settings,
    tick: Tick,
}

/// A tracked flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    /// The client's address.
    pub client: IpAddr,
    /// The client's port.
    pub client_port: u16,
    /// The service id.
    pub service: u16,
    /// The vip's port where the listener takes every port.
    pub service_port: Option<u16>,
    /// The backend's index local to the service's pool.
    pub backend: u16,
    /// How far the flow got; says the protocol too.
    pub state: State,
    /// Time since its last packet from the client, in steps of a tick (about a second).
    pub idle: Duration,
    /// full-nat: which of the flow's candidate source addresses and ports it has.
    pub attempt: u8,
}

/// Live flows of one backend of one service.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct FlowCount {
    /// One packet seen.
    pub probation: u64,
    /// Established.
    pub established: u64,
    /// A FIN or RST seen.
    pub ending: u64,
}

impl FlowCount {
    /// All of them.
    pub const fn total(&self) -> u64 {
        self.probation + self.established + self.ending
    }
}

/// What the flow tables hold.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct FlowCounts {
    /// Live flows in the IPv4 table.
    pub v4: u64,
    /// Live flows in the wide table (IPv6 and any-port).
    pub wide: u64,
    /// By service id and backend index local to the service's pool.
    pub by_backend: BTreeMap<(u16, u16), FlowCount>,
}

/// One entry as it was read.
struct Seen<'a> {
    key: FlowKey,
    hash_of: fn(&Settings, &FlowKey, u64) -> u64,
    word: &'a Word,
    value: u64,
    is_wide: bool,
}

impl Datapath {
    /// The flow tables.
    pub fn flows(&self) -> Flows<'_> {
        Flows { maps: &self.maps, settings: &self.settings, tick: self.tick }
    }

    /// The flow tables as they are to be walked without holding on to the datapath.
    ///
    /// # Errors
    /// [`DatapathError::Run`].
    pub fn flow_tables(&self) -> Result<WalkedTables, DatapathError> {
        Ok(WalkedTables {
            maps: Arc::clone(&self.maps),
            settings: self.settings,
            tick: self.tick,
            grace: Arc::clone(&self.grace),
            now: self.tick_now()?,
        })
    }

    /// The program's clock: the tick it would write into an entry now.
    ///
    /// # Errors
    /// [`DatapathError::Run`].
    pub fn tick_now(&self) -> Result<u16, DatapathError> {
        let (tick, _) = self.programs.run(CLOCK, &[0; 64], &[])?;
        // The program returns a 16-bit tick in 32 bits.
        Ok(u16::try_from(tick & 0xffff).unwrap_or_default())
    }
}

/// The flow tables for whoever walks them beside the datapath's owner, who goes on writing the other maps meanwhile. They stay the
/// same maps as long as the daemon runs.
#[derive(Clone, Debug)]
pub struct WalkedTables {
    maps: Arc<Maps>,
    settings: Settings,
    tick: Tick,
    grace: Arc<Grace>,
    /// The program's clock when this was made: by an older one than the present one no flow is over before its time.
    now: u16,
}

impl WalkedTables {
    fn flows(&self) -> Flows<'_> {
        Flows { maps: &self.maps, settings: &self.settings, tick: self.tick }
    }

    /// As [`Store::scan`](crate::store::Store::scan): waits for readers, frees entries past their idle time, says whom the others
    /// hold.
    ///
    /// # Errors
    /// The kernel does not let us wait; nothing was freed.
    pub fn scan(&self) -> io::Result<FlowScan> {
        self.grace.wait_unhurried()?;
        Ok(self.flows().sweep(self.now))
    }

    /// Counts every live flow.
    pub fn count(&self) -> FlowCounts {
        self.flows().count(self.now)
    }
}

impl Flows<'_> {
    /// Places for flows in each of the two tables.
    pub fn places(&self) -> u64 {
        self.maps.flows4.len() as u64 * WAYS as u64
    }

    /// Live flows that `wanted` takes, at most `limit` of them.
    pub fn list(&self, now: u16, limit: usize, mut wanted: impl FnMut(&Flow) -> bool) -> Vec<Flow> {
        let mut flows = Vec::new();
        if limit == 0 {
            return flows;
        }
        // Breaking off at the limit is the only way this walk ends early.
        let _ = self.walk(|seen| {
            if let Some(flow) = self.live_flow(&seen, now).filter(|flow| wanted(flow)) {
                flows.push(flow);
                if flows.len() == limit {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        });
        flows
    }

    /// Counts every live flow.
    pub fn count(&self, now: u16) -> FlowCounts {
        let mut counts = FlowCounts::default();
        let mut by_backend: HashMap<(u16, u16), FlowCount> = HashMap::new();
        let _ = self.walk(|seen| {
            if let Some(flow) = self.live_flow(&seen, now) {
                *(if seen.is_wide { &mut counts.wide } else { &mut counts.v4 }) += 1;
                let count = by_backend.entry((flow.service, flow.backend)).or_default();
                *(match flow.state {
                    State::TcpEstablished | State::UdpEstablished => &mut count.established,
                    State::TcpEnding | State::TcpClientDone | State::TcpBackendDone => &mut count.ending,
                    State::Free | State::TcpProbation | State::UdpProbation => &mut count.probation,
                }) += 1;
            }
            ControlFlow::Continue(())
        });
        counts.by_backend = by_backend.into_iter().collect();
        counts
    }

    /// Forgets live flows that `wanted` takes; how many.
    pub fn flush(&self, now: u16, mut wanted: impl FnMut(&Flow) -> bool) -> u64 {
        let mut flushed = 0;
        let _ = self.walk(|seen| {
            if self.live_flow(&seen, now).is_some_and(|flow| wanted(&flow))
                && compare_exchange(seen.word, seen.value, 0)
            {
                flushed += 1;
            }
            ControlFlow::Continue(())
        });
        flushed
    }

    /// Frees entries past their idle time, and says whom the others name. What only looks like a flow (two CPUs
    /// stored into one entry) counts until it is over: it is not known whose it is.
    pub(super) fn sweep(&self, now: u16) -> FlowScan {
        let mut held = HashSet::new();
        let _ = self.walk(|seen| {
            let value = Value(seen.value);
            let is_over = age(value, now) > value.state().idle_ticks(self.settings);
            if !(is_over && compare_exchange(seen.word, seen.value, 0)) {
                // Refreshed or replaced meanwhile: what is there now counts as well.
                let present = Value(seen.word.load());
                held.insert((seen.key.service, value.backend()));
                held.insert((seen.key.service, present.backend()));
            }
            ControlFlow::Continue(())
        });
        FlowScan { held: held.into_iter().collect() }
    }

    fn live_flow(&self, seen: &Seen<'_>, now: u16) -> Option<Flow> {
        let value = Value(seen.value);
        let age = age(value, now);
        let key = &seen.key;
        let salt = self.maps.services.get(usize::from(key.service))?.salt;
        let is_flow = value.is_of((seen.hash_of)(self.settings, key, salt));
        if !is_flow || age > value.state().idle_ticks(self.settings) {
            return None;
        }
        Some(Flow {
            client: key.client.into(),
            client_port: u16::from_be(key.client_port_be),
            service: key.service,
            service_port: (key.service_port_be != 0).then(|| u16::from_be(key.service_port_be)),
            backend: value.backend(),
            state: value.state(),
            idle: Duration::from_nanos(u64::from(age) * self.tick.length_ns),
            attempt: value.attempt(),
        })
    }

    /// Every entry that is in use, live or not.
    fn walk(&self, mut visit: impl FnMut(Seen<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        // Most entries of a table are free, so the walk is plain loops that leave those behind at once.
        for bucket in &*self.maps.flows4 {
            for entry in &bucket.entries {
                let value = entry.value.load();
                if is_in_use(value) {
                    let key = FlowKey::from_key4(entry.key.load());
                    visit(Seen { key, hash_of: hash4, word: &entry.value, value, is_wide: false })?;
                }
            }
        }
        for bucket in &*self.maps.flows6 {
            for entry in &bucket.entries {
                let value = entry.value.load();
                if is_in_use(value) {
                    let key = FlowKey::from_key6(entry.key.each_ref().map(Word::load));
                    visit(Seen { key, hash_of: hash6, word: &entry.value, value, is_wide: true })?;
                }
            }
        }
        ControlFlow::Continue(())
    }
}

fn is_in_use(value: u64) -> bool {
    value != 0 && Value(value).state() != State::Free
}

fn hash4(settings: &Settings, key: &FlowKey, salt: u64) -> u64 {
    hash::flow4(settings, key.client.words[3], key.client_port_be, salt)
}

fn hash6(settings: &Settings, key: &FlowKey, salt: u64) -> u64 {
    hash::flow6(settings, &key.client, key.client_port_be, key.service_port_be, salt)
}

/// Ticks since an entry's last packet.
fn age(value: Value, now: u16) -> u16 {
    let age = now.wrapping_sub(value.last_seen());
    if age > u16::MAX - AHEAD_TICKS { 0 } else { age }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_refreshed_while_we_walk_is_young() {
        let value = |last_seen| Value::new(1, 1, last_seen, State::TcpEstablished, 0);
        assert_eq!(age(value(100), 130), 30);
        assert_eq!(age(value(65_530), 4), 10, "the clock went round");
        assert_eq!(age(value(101), 100), 0, "ahead of the clock");
        assert_eq!(age(value(200), 100), u16::MAX - 99);
    }
}
