//! The one task that owns membership and maps.
//!
//! In: commands of the API, reloads, what checks and neighbours say, the clock. Out: writes to the maps, targets for checks and
//! next hops, a published [`Snapshot`], events. Invariants: everybody else sends it messages; a change
//! is judged, planned, written down and only then carried out; a fault of the kernel leaves the old state in force and is
//! said in `degraded` until it is gone.

mod commands;
mod counters;
mod discovery;
mod effort;
mod ejections;
mod ended;
mod enforce;
mod flows;
pub(crate) mod memory;
mod moves;
mod names;
mod network;
mod passive;
mod pinned;
mod probes;
mod publish;
mod reload;
mod return_path;
mod revisions;
mod settle;
mod start;
mod walk;
mod ways_back;
mod whole;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};

use crate::api::{self, EventLog, Snapshot};
use crate::clock::Clock;
use crate::datapath::{Datapath, InterfaceState};
use crate::discovery::SourceEvent;
use crate::health::{Health, HealthEngine, HealthEvent};
use crate::image::LiveImage;
use crate::membership::{CheckId, Event, Membership};
use crate::netlink::{NetworkEvent, NextHopResolver};
use crate::reach::{HostNetwork, PoolReach};
use crate::spec::{Name, OnExit};
use crate::state::{Record, StateDir, StateError};
pub use counters::{Counters, Shared};
pub(crate) use ended::Work;
pub use names::Names;
pub(crate) use reload::in_one_line;
use return_path::ReturnPaths;
pub(crate) use start::left_behind;
pub use start::{Given, Senders};

/// How often return paths are looked at and what nobody reports is noticed (an interface that came back).
const BEAT: Duration = Duration::from_millis(500);
/// How often the flow tables are walked: to count, to free what is past its time, to give resting ids back.
const WALK: Duration = Duration::from_secs(3);

/// What the daemon's signal task asks for.
#[derive(Debug)]
pub enum Order {
    /// Read the configuration file again (SIGHUP); the answer is a sentence, or why everything stays as it is.
    Reload(oneshot::Sender<Result<String, String>>),
    /// End.
    Stop,
}

/// Where messages come from.
#[derive(Debug)]
pub struct Inbox {
    /// The API.
    pub commands: mpsc::Receiver<api::Command>,
    /// Signals.
    pub orders: mpsc::Receiver<Order>,
    health: mpsc::UnboundedReceiver<HealthEvent<CheckId>>,
    network: mpsc::UnboundedReceiver<NetworkEvent>,
    sources: mpsc::UnboundedReceiver<SourceEvent>,
    settled: mpsc::UnboundedReceiver<settle::Settled>,
    ended: mpsc::UnboundedReceiver<(ended::Work, String)>,
    walked: mpsc::UnboundedReceiver<walk::Walked>,
}

/// What readers look at, and how they hear of news.
pub struct Published {
    /// See [`Snapshot`].
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Counted up after each snapshot.
    pub counter: watch::Sender<u64>,
    /// What happened.
    pub events: Arc<EventLog>,
    /// The numbers in the maps.
    pub names: Arc<ArcSwap<Names>>,
    /// As last counted.
    pub flows: Arc<counters::FlowCount>,
}

/// See the module.
pub struct Controller {
    clock: Clock,
    config: PathBuf,
    membership: Membership,
    image: LiveImage,
    datapath: Shared,
    state: StateDir,
    /// Files of the state directory that could not be used, and what that means.
    damaged: BTreeMap<PathBuf, String>,
    /// Those of them that the next revision which is written ends: it misses nothing.
    missing: BTreeSet<PathBuf>,
    /// What could not be written down.
    unsaved: Option<enforce::Unsaved>,
    health: HealthEngine<CheckId>,
    resolver: NextHopResolver,
    host: HostNetwork,
    reach: Arc<BTreeMap<Name, PoolReach>>,
    return_paths: ReturnPaths,
    /// Not before then, so that many backends do not keep this task busy.
    look_for_replies: Instant,
    discovery: discovery::Discovery,
    /// What is written down beside revisions.
    writer: written::Writer,
    ejections: ejections::Kept,
    looks: passive::Looks,
    missing_ways: ways_back::Missing,
    probes: probes::Probes,
    settling: settle::Settling,
    /// Where a walk that is over is told of.
    walked: mpsc::UnboundedSender<walk::Walked>,
    /// Much memory was needed since the last walk: the next one gives back what of it is free.
    gives_back: bool,
    published: Published,
    /// Sentences for `degraded`, by what they are about.
    faults: BTreeMap<Fault, Vec<String>>,
    /// Sentences worth knowing that are no fault, by what they are about.
    notices: BTreeMap<Notice, Vec<String>>,
    /// The interfaces as last looked at.
    interfaces: Vec<InterfaceState>,
    /// Why the program is not on an interface.
    not_attached: BTreeMap<String, String>,
    /// The host's network is to be looked at again.
    host_changed: bool,
    inbox: Inbox,
}

/// What a check has found, for the membership.
fn found(event: HealthEvent<CheckId>) -> Event {
    let HealthEvent { id, health, detail, is_confirmation, .. } = event;
    match is_confirmation && health == Health::Healthy {
        true => Event::Confirmed { id, detail },
        false => Event::Health { id, health, detail },
    }
}

/// What a sentence in `degraded` is about; a new finding replaces the old one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fault {
    /// The configuration file is invalid.
    Config,
    /// The state directory cannot be written.
    State,
    /// Files of the state directory were damaged.
    Damage,
    /// An interface.
    Interfaces,
    /// What is sent by an interface and lost.
    Losses,
    /// What should outlive the daemon is gone.
    Pins,
    /// The maps could not be written.
    Datapath,
    /// Discovery sources fail.
    Discovery,
    /// The way of checks through services.
    Probes,
    /// Ejections are not written down.
    Ejections,
    /// Tasks have ended.
    Tasks,
}

/// What a sentence in `notices` is about; a new finding replaces the old one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Notice {
    /// Another version's pins.
    Pins,
    /// What the configuration file says.
    File,
    /// What the host makes of it.
    Host,
    /// What is left out of what discovery sources say.
    Discovery,
    /// The system's clock.
    Clock,
    /// How new connections are looked at.
    Passive,
}

impl Controller {
    /// Works until it is told to stop, or a channel it lives by has closed.
    pub async fn run(mut self) -> Self {
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut walk = tokio::time::interval(WALK);
        walk.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let timer = self.membership.next_timer().map(|moment| self.clock.until(moment));
            tokio::select! {
                biased;
                order = self.inbox.orders.recv() => match order {
                    Some(Order::Reload(answer)) => {
                        let result = self.reload().await;
                        // A caller that has gone away has read the log.
                        let _ = answer.send(result);
                    }
                    Some(Order::Stop) | None => {
                        self.save_answers();
                        self.save_last_ejections();
                        // The disk is to have what was handed over.
                        self.writer.finish();
                        self.hear_of_ejections();
                        return self;
                    }
                },
                Some(command) = self.inbox.commands.recv() => self.command(command).await,
                Some(event) = self.inbox.health.recv() => self.observe(found(event)),
                Some(event) = self.inbox.network.recv() => if let Some(event) = self.way(event) {
                    self.observe(event);
                },
                Some(event) = self.inbox.sources.recv() => self.hear(event),
                Some(settled) = self.inbox.settled.recv() => self.settled(settled),
                Some((work, why)) = self.inbox.ended.recv() => self.ended(work, &why),
                Some(walked) = self.inbox.walked.recv() => self.walked(walked),
                () = tokio::time::sleep(timer.unwrap_or(Duration::MAX)), if timer.is_some() => self.observe(Event::Tick),
                () = tokio::time::sleep_until(self.looks.next.into()) => self.look_at_flows(),
                _ = beat.tick() => self.beat(),
                _ = walk.tick() => self.walk(),
            }
            if self.host_changed {
                self.look_at_host().await;
            }
        }
    }

    /// Takes what has been observed, and all that waits behind it, as one change of the maps.
    fn observe(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = self.waiting() {
            events.push(event);
        }
        let outcome = self.membership.handle_all(self.clock.now(), events);
        self.follow(outcome);
    }

    /// An observation that waits to be taken.
    fn waiting(&mut self) -> Option<Event> {
        if let Ok(event) = self.inbox.health.try_recv() {
            return Some(found(event));
        }
        while let Ok(event) = self.inbox.network.try_recv() {
            if let Some(event) = self.way(event) {
                return Some(event);
            }
        }
        None
    }

    fn beat(&mut self) {
        self.save_answers();
        self.mend_interfaces();
        self.look_for_ways_back();
        let is_news = [
            self.save_again(),
            self.look_at_interfaces(),
            self.keep_pins(),
            self.keep_ejections(),
            self.look_at_damage(),
            self.observe_return_paths(),
        ]
        .contains(&true);
        if is_news {
            self.publish();
        }
    }

    fn read_datapath(&self) -> RwLockReadGuard<'_, Datapath> {
        self.datapath.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_datapath(&self) -> RwLockWriteGuard<'_, Datapath> {
        self.datapath.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shared datapath, for the counters of the API.
    pub fn shared(&self) -> Shared {
        Arc::clone(&self.datapath)
    }

    /// What is left behind at the end, as the configuration in force has it.
    pub fn on_exit(&self) -> OnExit {
        self.membership.file().daemon.on_exit
    }

    /// The clock that everything here is of.
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// What readers look at.
    pub fn published(&self) -> &Published {
        &self.published
    }

    /// The engine's counters, for metrics.
    pub fn health_engine(&self) -> HealthEngine<CheckId> {
        self.health.clone()
    }

    /// Lets go of the kernel: the program goes on (`keep`) or is removed.
    ///
    /// # Errors
    /// In a sentence: something pinned could not be removed; or pins cannot be made again, and whether the program goes on or ends with
    /// this process.
    pub fn close(self, on_exit: OnExit) -> anyhow::Result<()> {
        let mut datapath = self.write_datapath();
        let closed = datapath.close(on_exit);
        if closed.is_err() && on_exit == OnExit::Keep {
            let outcome = match datapath.has_lost_links() {
                true => "stopped; nothing is balanced any more, the program ends with this process",
                // The links hold the program, and it its maps.
                false => {
                    "stopped; the kernel goes on forwarding WITHOUT HEALTH CHECKS (lbd detach removes it), but pins are gone: the next \
                     start makes anew what they held"
                }
            };
            return closed.context(outcome);
        }
        Ok(closed?)
    }

    /// Writes a membership down as a revision.
    fn save(&mut self, membership: &Membership, who: &str, what: &[String]) -> Result<(), StateError> {
        self.state.write(&Record {
            revision: membership.revision(),
            time: self.clock.now(),
            who: who.to_owned(),
            what: what.to_vec(),
            file: Arc::clone(membership.file()),
            cli: Arc::clone(membership.cli_objects()),
            overrides: membership.overrides(),
            set_aside: membership.set_aside().cloned(),
        })?;
        for path in std::mem::take(&mut self.missing) {
            self.damaged.remove(&path);
        }
        Ok(())
    }

    /// The sentences worth knowing of a matter; those that are new are logged.
    fn set_notices(&mut self, notice: Notice, problems: &[impl ToString]) {
        let sentences: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let before = self.notices.insert(notice, sentences).unwrap_or_default();
        let mut new = self.notices.get(&notice).cloned().unwrap_or_default();
        new.dedup();
        for sentence in new.iter().filter(|sentence| !before.contains(sentence)) {
            tracing::warn!("{sentence}");
        }
    }

    /// The sentences of a matter; none: it is well.
    fn set_fault(&mut self, fault: Fault, sentences: Vec<String>) -> bool {
        let before = self.faults.get(&fault).cloned().unwrap_or_default();
        if before == sentences {
            return false;
        }
        for sentence in sentences.iter().filter(|sentence| !before.contains(sentence)) {
            tracing::warn!("degraded: {sentence}");
        }
        if sentences.is_empty() {
            tracing::info!("no longer degraded: {}", before.join("; "));
            self.faults.remove(&fault);
        } else {
            self.faults.insert(fault, sentences);
        }
        true
    }
}
