//! What a controller does with commands, without a datapath: the real membership, the real state directory.
//!
//! In: commands. Out: answers, and what is published of the pool's state. Invariant: as the controller, a change that cannot be kept is not made.

use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use lb_userspace::api::types::{
    Back as BackTo, ChangeDone, FlowCounts, FlowsFlushed, Interface, PlanAnswer, PlanReport, PoolMoves,
    Revision, RevisionDetail, RevisionList,
};
use lb_userspace::api::{self, ApiError, Command, ErrorCode, EventLog, Snapshot};
use lb_userspace::backup::Backup;
use lb_userspace::config;
use lb_userspace::difference::differences;
use lb_userspace::membership::{
    Back, Candidate, Event, EventKind, Membership, Options, Outcome, Start, merged,
};
use lb_userspace::moment::Millis;
use lb_userspace::spec::Spec;
use lb_userspace::state::{Record, StateDir};
use tokio::sync::{mpsc, watch};

use super::CONFIG;
use super::given::{explanation, flows};

/// The share of flows that every change of the whole moves here.
const MOVED: f64 = 0.25;

/// What changes, and what is published of it.
pub(super) struct Core {
    pub(super) membership: Membership,
    /// What the configuration file says by now.
    pub(super) file: Spec,
    /// Every revision, as the daemon keeps it.
    state: StateDir,
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(super) published: watch::Sender<u64>,
    pub(super) events: Arc<EventLog>,
    pub(super) degraded: Vec<String>,
}
impl Core {
    pub(super) fn new(state: &std::path::Path) -> Self {
        let file = config::parse(CONFIG, "lbd.toml").unwrap().spec;
        let start = Start { file: Arc::new(file.clone()), ..Start::default() };
        let membership = Membership::start(Millis(0), start).unwrap().membership;
        let mut core = Self {
            membership,
            file,
            state: StateDir::open(state).unwrap().0,
            snapshot: Arc::default(),
            published: watch::Sender::new(0),
            events: Arc::default(),
            degraded: Vec::new(),
        };
        core.save("lbd", &["configuration file: taken over at the start".to_owned()]);
        core.publish();
        core
    }

    fn save(&mut self, who: &str, what: &[String]) {
        let membership = &self.membership;
        let record = Record {
            revision: membership.revision(),
            time: Millis(membership.revision() * 1000),
            who: who.to_owned(),
            what: what.to_vec(),
            file: Arc::clone(membership.file()),
            cli: Arc::clone(membership.cli_objects()),
            overrides: membership.overrides(),
            set_aside: membership.set_aside().cloned(),
        };
        self.state.write(&record).unwrap();
    }

    fn revisions(&self) -> RevisionList {
        let current = self.membership.revision();
        let revisions = self.state.history().map(|summary| Revision {
            revision: summary.revision,
            time: summary.time,
            who: summary.who.clone(),
            what: summary.what.clone(),
            current: summary.revision == current,
        });
        RevisionList { revisions: revisions.collect() }
    }

    fn revision(&self, number: u64, against: Option<u64>) -> Result<RevisionDetail, ApiError> {
        let record = self.state.record(number)?;
        let against = against.unwrap_or(number - 1);
        let other = self.state.record(against)?;
        Ok(RevisionDetail {
            summary: self.revisions().revisions.into_iter().find(|one| one.revision == number).unwrap(),
            against: Some(against),
            changes: differences(&merged(&other.file, &other.cli), &merged(&record.file, &record.cli)),
            configuration: (*record.file).clone(),
            cli: (*record.cli).clone(),
            overrides: record.overrides,
        })
    }

    fn put_back(&mut self, who: &str, back: BackTo, options: &Options) -> Result<ChangeDone, ApiError> {
        let back = match back {
            BackTo::Revision(number) => {
                let Record { time, file, cli, overrides, .. } = self.state.record(number)?;
                Back { name: format!("revision {number}"), time, file, cli, overrides }
            }
            BackTo::Backup(backup) => Back {
                name: backup.name(),
                time: backup.time,
                file: Arc::new(backup.configuration),
                cli: Arc::new(backup.cli),
                overrides: backup.overrides,
            },
        };
        let candidate = self.membership.put_back(Millis(1), who, back, options)?;
        self.put_whole(candidate, who, options)
    }

    fn backup(&self) -> Backup {
        Backup {
            version: "0".to_owned(),
            revision: self.membership.revision(),
            time: Millis(1),
            configuration: (**self.membership.file()).clone(),
            cli: (**self.membership.cli_objects()).clone(),
            overrides: self.membership.overrides(),
        }
    }

    pub(super) fn handle(&mut self, event: Event) {
        let outcome = self.membership.handle(Millis(1), event);
        self.done(outcome);
    }

    pub(super) fn done(&self, outcome: Outcome) {
        self.events.add(Millis(1), outcome.events);
        self.publish();
    }

    pub(super) fn publish(&self) {
        let interface = Interface {
            name: "eth0".to_owned(),
            mode: "native".to_owned(),
            attached: true,
            program_id: Some(42),
            ..Interface::default()
        };
        self.snapshot.store(Arc::new(Snapshot {
            revision: self.membership.revision(),
            interfaces: vec![interface],
            in_force: true,
            degraded: self.degraded.clone(),
            services: self.membership.service_views(),
            pools: self.membership.pool_views(&[]),
            overrides: self.membership.overrides(),
            config: "lbd.toml".to_owned(),
            ..Snapshot::default()
        }));
        self.published.send_modify(|count| *count += 1);
    }

    /// What a change of the whole means; the datapath's part of it is given.
    fn foresee(&self, candidate: &Candidate) -> PlanReport {
        let changes = differences(&self.membership.merged_spec(), &candidate.membership.merged_spec());
        if changes.is_empty() {
            return PlanReport::default();
        }
        let moves = PoolMoves {
            pool: "web".to_owned(),
            slots: 1021,
            slots_moved: 10,
            collateral: 0,
            flows_kept: 75,
            flows_moved: 25,
        };
        PlanReport {
            changes,
            slots_moved: 10,
            slots: 1021,
            flows_kept: 75,
            flows_moved: 25,
            map_writes: 7,
            pools: vec![moves],
            ..PlanReport::default()
        }
    }

    fn plan(&self, candidate: Option<api::types::PlanRequest>) -> Result<PlanAnswer, ApiError> {
        let (file, spec) = match candidate {
            Some(request) => (request.file, request.configuration),
            None => ("lbd.toml".to_owned(), self.file.clone()),
        };
        let candidate = self.membership.reload(Millis(1), Arc::new(spec), &Options::default())?;
        let (revision, report) = (self.membership.revision(), self.foresee(&candidate));
        let aside = candidate.membership.set_aside();
        let notes = aside.map(|_| candidate.outcome.notes.clone()).unwrap_or_default();
        Ok(PlanAnswer { revision, file, report, notes, ..PlanAnswer::default() })
    }

    fn apply(&mut self, options: &Options) -> Result<ChangeDone, ApiError> {
        let candidate = self.membership.reload(Millis(1), Arc::new(self.file.clone()), options)?;
        self.put_whole(candidate, "uid 0", options)
    }

    fn put_whole(
        &mut self,
        candidate: Candidate,
        who: &str,
        options: &Options,
    ) -> Result<ChangeDone, ApiError> {
        let plan = self.foresee(&candidate);
        if options.max_moved.is_some_and(|most| most < MOVED && !plan.changes.is_empty()) {
            return Err(ApiError::new(ErrorCode::MaxMoved, "it would move 25% of pool web's tracked flows"));
        }
        let Candidate { membership, outcome } = candidate;
        let mut done = ChangeDone {
            revision: self.membership.revision(),
            changed: outcome.revised,
            dry_run: options.dry_run,
            notes: outcome.notes.clone(),
            warnings: outcome.warnings.clone(),
            plan: Some(plan),
            admitted: outcome.members(EventKind::BackendAdded),
        };
        if !options.dry_run {
            self.membership = membership;
            done.revision = self.membership.revision();
            if outcome.revised {
                self.save(who, &outcome.notes);
            }
            self.done(outcome);
        }
        Ok(done)
    }

    fn change(
        &mut self,
        who: &str,
        change: &lb_userspace::membership::Change,
    ) -> Result<ChangeDone, api::ApiError> {
        let candidate = self.membership.prepare(Millis(1), who, change)?;
        let outcome = candidate.outcome;
        let mut done = ChangeDone {
            revision: self.membership.revision(),
            changed: outcome.revised,
            dry_run: change.options.dry_run,
            notes: outcome.notes.clone(),
            warnings: outcome.warnings.clone(),
            plan: Some(PlanReport::default()),
            admitted: Vec::new(),
        };
        if !change.options.dry_run {
            self.membership = candidate.membership;
            done.revision = self.membership.revision();
            if outcome.revised {
                self.save(who, &outcome.notes);
            }
            self.done(outcome);
        }
        Ok(done)
    }
}

/// What a controller does with commands, without a datapath.
pub(super) async fn answer(core: Arc<Mutex<Core>>, mut inbox: mpsc::Receiver<Command>) {
    while let Some(command) = inbox.recv().await {
        // Whoever asked may be gone.
        match command {
            Command::Change { who, change, reply } => {
                drop(reply.send(core.lock().unwrap().change(&who, &change)))
            }
            Command::Plan { candidate, reply } => {
                drop(reply.send(core.lock().unwrap().plan(candidate.map(|candidate| *candidate))));
            }
            Command::Revisions { reply } => drop(reply.send(Ok(core.lock().unwrap().revisions()))),
            Command::Revision { number, against, reply } => {
                drop(reply.send(core.lock().unwrap().revision(number, against)));
            }
            Command::PutBack { who, back, options, reply } => {
                drop(reply.send(core.lock().unwrap().put_back(&who, back, &options)));
            }
            Command::Backup { reply } => drop(reply.send(Ok(Box::new(core.lock().unwrap().backup())))),
            Command::Apply { options, reply, .. } => {
                drop(reply.send(core.lock().unwrap().apply(&options)));
            }
            Command::Explain { reply, .. } => drop(reply.send(Ok(explanation()))),
            Command::Flows { filter, reply } => drop(reply.send(Ok(flows(&filter)))),
            Command::CountFlows { reply, .. } => {
                let services = [("web".to_owned(), 3)].into();
                drop(reply.send(Ok(FlowCounts { count: 3, services, ..FlowCounts::default() })));
            }
            Command::FlushFlows { reply, .. } => drop(reply.send(Ok(FlowsFlushed { flushed: 3 }))),
        }
    }
}
