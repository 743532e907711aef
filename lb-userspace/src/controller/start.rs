//! From a configuration and what earlier runs left behind to a working controller. Start, restart and recovery from a crash
//! are this one path.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Instant;

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use super::discovery::{Discovery, of_the_change, said_before};
use super::ejections::Kept;
use super::ended::Work;
use super::passive::Looks;
use super::probes::Probes;
use super::return_path::ReturnPaths;
use super::settle::Settling;
use super::ways_back::Missing;
use super::written::Writer;
use super::{Clock, Controller, Fault, Inbox, Names, Notice, Order, Published};
use crate::api::{self, EventLog, Snapshot};
use crate::datapath::{Adoption, Datapath, Demand, Tuning};
use crate::desired::Desired;
use crate::ended::tell;
use crate::health::{HealthEngine, Prober, default_probe_limit};
use crate::image::Image;
use crate::membership::{Membership, Pinned, SetAside, Start};
use crate::netlink::{NextHopResolver, ProbePath, WaysBack, read_host_network};
use crate::spec::{OnExit, Problem, SourceId, Spec};
use crate::state::{Left, Said, StateDir};

/// What a start is given.
pub struct Given {
    /// The configuration file, for reloads and messages.
    pub config: PathBuf,
    /// Its content, or the last good revision's.
    pub spec: Arc<Spec>,
    /// What works, perhaps not as meant.
    pub warnings: Vec<Problem>,
    /// The file itself is invalid, for this reason, and `spec` is the last good revision.
    pub invalid: Option<String>,
    /// The state directory.
    pub state: StateDir,
    /// What was left in it.
    pub left: Left,
    /// `spec` is not what the file says, because something was put back.
    pub set_aside: Option<Arc<SetAside>>,
}

/// Ways to the controller.
#[derive(Clone)]
pub struct Senders {
    /// For the API.
    pub commands: mpsc::Sender<api::Command>,
    /// For signals.
    pub orders: mpsc::Sender<Order>,
    /// For the end of tasks that serve others.
    pub(crate) ended: mpsc::UnboundedSender<(Work, String)>,
}

impl Controller {
    /// Opens the kernel's tables, brings them to the configured state, and puts the program on the interfaces.
    ///
    /// # Errors
    /// In a sentence: the configuration cannot work on this host, or the kernel refuses.
    pub async fn start(given: Given) -> anyhow::Result<(Self, Senders)> {
        let Given { config, spec, warnings, mut invalid, state, mut left, set_aside } = given;
        let (answers, ejections) = (state.answer_files(), state.ejection_file());
        let (kept, missing) = (answers.read(), std::mem::take(&mut left.missing));
        let kept_ejections = left.ejections.clone();
        let clock = Clock::start_after(left.last.as_ref().map(|last| last.time).unwrap_or_default());
        let host = read_host_network().await?;
        let begin = |left: &Left, pinned| {
            Membership::start(clock.now(), beginning(&spec, left, &kept, set_aside.clone(), pinned))
        };
        let mut alone = begin(&left, Pinned::default());
        if let (Err(refusal), Some(objects), Some(invalid)) = (&alone, &left.objects, &mut invalid) {
            // What is in force is the file of an older revision: its own objects go with it.
            let lost = format!("; lbctl's part of revision {} does not fit it: {refusal}", objects.revision);
            tracing::error!("{lost}");
            invalid.push_str(&lost);
            left.objects = None;
            alone = begin(&left, Pinned::default());
        }
        let alone = alone.map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
        let judgement = super::reload::judge(&alone.membership.merged_spec(), &host);
        refuse_errors(&of_the_change(&judgement.problems))?;
        let datapath = open_datapath(&spec, alone.membership.desired())?;
        let image = Image::read(&datapath).context("cannot read the tables of an earlier run")?;
        let pinned = Pinned::of(&image, &spec.datapath);
        // Where nothing ran before there is nothing to begin otherwise with.
        let candidate = match pinned == Pinned::default() {
            true => alone,
            false => begin(&left, pinned).map_err(|refusal| anyhow::anyhow!("{refusal}"))?,
        };
        let (health_events, health_inbox) = mpsc::unbounded_channel();
        let (network_events, network_inbox) = mpsc::unbounded_channel();
        let (source_events, source_inbox) = mpsc::unbounded_channel();
        let (settled, settled_inbox) = mpsc::unbounded_channel();
        let (walked, walked_inbox) = mpsc::unbounded_channel();
        let prober = Prober::default();
        let (health, checks) = HealthEngine::start(default_probe_limit(), health_events, prober.clone());
        let (path, keeper) = ProbePath::start(network_events.clone())?;
        let ways_back = WaysBack::default();
        let (resolver, ways) = NextHopResolver::start(network_events, ways_back.clone())?;
        let (ended, ended_inbox) = mpsc::unbounded_channel();
        for (task, work) in [(checks, Work::Checks), (ways, Work::Ways), (keeper, Work::Probes)] {
            // Nobody waits for who tells it.
            drop(tell(task, ended.clone(), work));
        }
        let (commands, command_inbox) = mpsc::channel(64);
        let (orders, order_inbox) = mpsc::channel(4);
        let mut controller = Self {
            clock,
            config,
            membership: candidate.membership,
            image: image.into(),
            datapath: Arc::new(RwLock::new(datapath)),
            state,
            damaged: left.damaged,
            missing: BTreeSet::new(),
            unsaved: None,
            health,
            resolver,
            host,
            reach: Arc::new(judgement.reach),
            return_paths: ReturnPaths::default(),
            look_for_replies: Instant::now(),
            discovery: Discovery::new(source_events, kept),
            writer: Writer::new(answers, ejections),
            ejections: Kept::new(kept_ejections),
            looks: Looks::default(),
            missing_ways: Missing::new(ways_back),
            probes: Probes::new(path, prober),
            settling: Settling::new(settled),
            walked,
            gives_back: false,
            published: Published {
                snapshot: Arc::new(ArcSwap::from_pointee(Snapshot::default())),
                counter: watch::Sender::new(0),
                events: Arc::new(EventLog::default()),
                names: Arc::new(ArcSwap::from_pointee(Names::default())),
                flows: Arc::default(),
            },
            faults: BTreeMap::new(),
            notices: BTreeMap::new(),
            interfaces: Vec::new(),
            not_attached: BTreeMap::new(),
            host_changed: false,
            inbox: Inbox {
                commands: command_inbox,
                orders: order_inbox,
                health: health_inbox,
                network: network_inbox,
                sources: source_inbox,
                settled: settled_inbox,
                ended: ended_inbox,
                walked: walked_inbox,
            },
        };
        let foreign = controller.read_datapath().foreign_pins();
        controller
            .set_notices(Notice::Pins, &foreign.iter().map(|pins| left_behind(pins)).collect::<Vec<_>>());
        controller.set_notices(Notice::File, &warnings);
        controller.set_notices(Notice::Clock, &clock.behind().into_iter().collect::<Vec<_>>());
        controller.set_notices(Notice::Host, &judgement.problems);
        controller.set_fault(Fault::Config, invalid.into_iter().collect());
        // All of it, once: a file that is already gone when the beat looks for it is in the log at least.
        let damaged = controller.damaged.values().cloned().collect();
        controller.set_fault(Fault::Damage, damaged);
        if let Err(error) = controller.take_up() {
            controller.give_up();
            return Err(error);
        }
        controller.begin_probes().await;
        controller.resolver.set(controller.membership.next_hop_targets());
        controller.health.set(controller.membership.health_targets());
        let mut outcome = candidate.outcome;
        (outcome.checks_put, outcome.checks_removed) = (Vec::new(), Vec::new());
        (outcome.members_changed, outcome.desired_changed) = (false, false);
        controller.follow(outcome);
        // Not by the revision of this start: somebody is to see it.
        controller.missing = missing;
        controller.follow_sources();
        controller.publish();
        controller.gives_back = true;
        Ok((controller, Senders { commands, orders, ended }))
    }

    /// Fills the tables and puts the program on the interfaces.
    fn take_up(&mut self) -> anyhow::Result<()> {
        self.enforce();
        if let Some(sentences) = self.faults.get(&Fault::Datapath) {
            bail!("{}", sentences.join("; "));
        }
        self.attach()
    }

    /// Takes back what this start has made; what an earlier run left goes on.
    fn give_up(&mut self) {
        let mut datapath = self.write_datapath();
        if *datapath.adoption() == Adoption::Fresh
            && let Err(error) = datapath.close(OnExit::Detach)
        {
            tracing::warn!("{error}");
        }
    }

    /// Puts the program on the interfaces. One that cannot be had ends the start, unless a running program would be lost: a
    /// balancer that was working before a restart goes on with what it has.
    fn attach(&mut self) -> anyhow::Result<()> {
        let is_running = self.read_datapath().interfaces().iter().any(|state| state.mode.is_some());
        let errors = self.write_datapath().attach()?;
        let states = self.read_datapath().interfaces();
        if !errors.is_empty() && !is_running {
            bail!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
        }
        self.note_attach_errors(&errors);
        self.look_at_interfaces();
        for state in states {
            if let Some(mode) = state.mode {
                let why = state.warning.map(|warning| format!(": {warning}")).unwrap_or_default();
                tracing::info!("attached to {} in {} mode{why}", state.name, mode.as_str());
            }
        }
        Ok(())
    }
}

/// The sentence on pins that only another version of lbd can use.
pub(crate) fn left_behind(pins: &Path) -> String {
    format!(
        "{} holds the pins of another version of lbd: its flows are not taken over, and its program, if it is still on an \
         interface, keeps this one off: remove the directory when that version is not to run again (rm -r, its program goes \
         with it)",
        pins.display()
    )
}

/// What a membership begins with.
fn beginning(
    spec: &Arc<Spec>,
    left: &Left,
    kept: &BTreeMap<SourceId, Said>,
    set_aside: Option<Arc<SetAside>>,
    pinned: Pinned,
) -> Start {
    let last = left.last.as_ref();
    // Where no revision is whole the file counts as another than it was, and no number is given twice.
    let file_then = match &left.objects {
        Some(_) => Arc::default(),
        None => last.map_or_else(Arc::default, |record| Arc::clone(&record.file)),
    };
    let (cli, overrides) = match (&left.objects, last) {
        (Some(objects), _) => (objects.cli.clone(), objects.overrides.clone()),
        (None, Some(last)) => ((*last.cli).clone(), last.overrides.clone()),
        (None, None) => Default::default(),
    };
    Start {
        file: Arc::clone(spec),
        cli,
        overrides,
        saved: (left.highest > 0).then_some((left.highest, file_then)),
        discovered: said_before(kept),
        set_aside,
        ejections: left.ejections.clone(),
        pinned,
    }
}

/// Every error in a line of its own.
fn refuse_errors(problems: &[Problem]) -> anyhow::Result<()> {
    let errors: Vec<String> = problems.iter().filter(|p| p.is_error()).map(ToString::to_string).collect();
    if errors.is_empty() { Ok(()) } else { bail!("{}", errors.join("\n")) }
}

fn open_datapath(spec: &Spec, desired: &Desired) -> anyhow::Result<Datapath> {
    let tuning = Tuning::of(desired, &spec.datapath.timeouts);
    let demand = Demand::of(desired, spec.datapath.flows);
    Ok(Datapath::open(&spec.datapath, tuning, &demand)?)
}
