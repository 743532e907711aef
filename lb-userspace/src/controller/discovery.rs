//! What discovery sources say, on its way into the membership.
//!
//! In: answers and failures of [`Sources`]. Out: each answer, as far as this host can take it, for the membership; the board
//! of how sources are doing; sentences for `degraded` and `notices`; each answer written down for the next start. Invariants: a
//! failure changes no member; a backend that is taken stays judged as the file's are (said, not removed) when the host changes;
//! a new one that this host cannot serve is left out and named.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Controller, Fault, Notice};
use crate::discovery::{Board, SourceEvent, SourceState, Sources};
use crate::membership::{DomainEvent, EventKind, Level, Membership, Recalled};
use crate::reach::{HostNetwork, judge_backend};
use crate::spec::{BackendSpec, Backends, Name, Origin, Place, Problem, SourceId};
use crate::state::Said;

/// Entries of one answer that a sentence names.
const NAMED: usize = 5;

/// Everything about sources that is no membership.
pub(super) struct Discovery {
    sources: Sources,
    board: Arc<Board>,
    /// What each said last.
    heard: BTreeMap<SourceId, Heard>,
    /// Answers that are perhaps to be written down.
    to_save: BTreeSet<SourceId>,
    /// Why answers could not be written down.
    unsaved: BTreeMap<SourceId, String>,
    /// The sources whose files are kept; `None`: nobody has looked yet.
    kept: Option<BTreeSet<SourceId>>,
}

/// A source's last answer.
#[derive(Clone, Debug, Default)]
struct Heard {
    said: Backends,
    /// What it names that is no backend.
    left_out: Vec<String>,
    /// Why this host cannot take some of it.
    barred: Vec<Problem>,
    /// What is written down, or on its way there.
    saved: Option<Said>,
}

impl Discovery {
    /// Nobody is asked yet. `kept`: what sources said in earlier runs.
    pub(super) fn new(events: mpsc::UnboundedSender<SourceEvent>, kept: BTreeMap<SourceId, Said>) -> Self {
        let heard = |said: Said| Heard { said: said.backends.clone(), saved: Some(said), ..Heard::default() };
        Self {
            sources: Sources::new(events),
            board: Arc::default(),
            heard: kept.into_iter().map(|(id, said)| (id, heard(said))).collect(),
            to_save: BTreeSet::new(),
            unsaved: BTreeMap::new(),
            kept: None,
        }
    }
}

impl Controller {
    /// How every source is doing.
    pub fn sources(&self) -> Arc<Board> {
        Arc::clone(&self.discovery.board)
    }

    /// Asks the sources that are configured now, forgets the others, and looks again at what contradicted the configuration before.
    pub(super) fn follow_sources(&mut self) {
        let wanted: BTreeMap<SourceId, _> =
            self.membership.sources().into_iter().map(|view| (view.id, view.spec)).collect();
        if wanted.is_empty() && self.discovery.heard.is_empty() {
            return;
        }
        self.discovery.heard.retain(|id, _| wanted.contains_key(id));
        self.discovery.unsaved.retain(|id, _| wanted.contains_key(id));
        self.discovery.to_save.retain(|id| wanted.contains_key(id));
        self.discovery.board.keep(|id| wanted.contains_key(id));
        let kept: BTreeSet<SourceId> = wanted.keys().cloned().collect();
        if self.discovery.kept.as_ref() != Some(&kept) {
            self.writer.keep(kept.clone());
            self.discovery.kept = Some(kept);
        }
        for (id, spec) in &wanted {
            let saved =
                self.discovery.heard.get(id).and_then(|heard| heard.saved.as_ref()).map(|said| said.time);
            self.discovery.board.note(id, |state| {
                state.kind = spec.kind.as_str();
                state.answered = state.answered.or(saved);
            });
        }
        self.discovery.sources.set(wanted);
        self.offer_again();
        for id in self.discovery.board.read().into_keys() {
            self.note_members(&id);
        }
        self.tell_of_sources();
    }

    /// What was left out of answers may fit by now.
    pub(super) fn offer_again(&mut self) {
        let refused =
            |id: &SourceId| self.membership.answer(id).is_some_and(|answer| !answer.refused.is_empty());
        let heard = self.discovery.heard.iter().filter(|(id, heard)| !heard.barred.is_empty() || refused(id));
        let ids: BTreeSet<SourceId> = heard.map(|(id, _)| id.clone()).collect();
        self.offer(&ids);
    }

    /// Takes what sources have to say, and all that waits behind it, as one change of the maps.
    pub(super) fn hear(&mut self, event: SourceEvent) {
        let mut events = vec![event];
        while let Ok(event) = self.inbox.sources.try_recv() {
            events.push(event);
        }
        events.retain(|event| self.discovery.sources.is_current(event));
        let mut answered = BTreeSet::new();
        for event in &events {
            if let Ok(found) = &event.answer {
                let heard = self.discovery.heard.entry(event.id.clone()).or_default();
                (heard.said, heard.left_out) = (found.backends.clone(), found.left_out.clone());
                answered.insert(event.id.clone());
            }
        }
        let taken = self.offer(&answered);
        let mut is_news = false;
        for SourceEvent { id, answer, .. } in events {
            let result = match answer {
                Ok(found) if found.backends.is_empty() || taken.contains(&id) => Ok(()),
                Ok(found) => Err(self.nothing_taken(&id, found.backends.len())),
                Err(why) => Err(why),
            };
            is_news |= self.note_result(&id, result);
        }
        self.save_answers();
        if self.tell_of_sources() || is_news {
            self.publish();
        }
    }

    /// Remembers what became of a question. True: the source fails and did not before, or the other way round.
    fn note_result(&self, id: &SourceId, result: Result<(), String>) -> bool {
        let now = self.clock.now();
        let mut was_failing = false;
        self.discovery.board.note(id, |state| {
            was_failing = state.failing.is_some();
            match &result {
                Ok(()) => {
                    state.answers += 1;
                    (state.answered, state.is_fresh, state.failing) = (Some(now), true, None);
                }
                Err(why) => {
                    state.failures += 1;
                    state.failing = Some(why.clone());
                }
            }
        });
        match (&result, was_failing) {
            (Err(why), false) => self.tell(vec![failed(id, why)]),
            (Ok(()), true) => self.tell(vec![answers_again(id)]),
            _ => return false,
        }
        true
    }

    /// Why an answer comes to nothing.
    fn nothing_taken(&self, id: &SourceId, said: usize) -> String {
        let barred = self.discovery.heard.get(id).into_iter().flat_map(|heard| &heard.barred);
        let refused = self.membership.answer(id).into_iter().flat_map(|answer| &answer.refused);
        let first = barred.chain(refused).next().map(sentence).unwrap_or_default();
        format!("of the {} that it names none can be taken: {first}", backends(said))
    }

    /// Gives the membership what sources said last, as far as this host can take it. Returns those of which something is in force.
    fn offer(&mut self, ids: &BTreeSet<SourceId>) -> BTreeSet<SourceId> {
        let (mut answers, mut warnings) = (Vec::new(), Vec::new());
        for id in ids {
            let Some(heard) = self.discovery.heard.get_mut(id) else { continue };
            let known = self.membership.answer(id).map(|answer| answer.taken.clone()).unwrap_or_default();
            let offer = fit(&self.membership, &self.host, id, &heard.said, &known);
            heard.barred = offer.barred;
            warnings.extend(offer.warnings);
            // An answer of which nothing is left is not one of nothing.
            if !offer.fitting.is_empty() || heard.said.is_empty() {
                answers.push((id.clone(), offer.fitting));
            }
        }
        let offered: Vec<SourceId> = answers.iter().map(|(id, _)| id.clone()).collect();
        let outcome = self.membership.take_answers(self.clock.now(), answers);
        if outcome.members_changed {
            offered
                .iter()
                .map(|id| &id.pool)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .for_each(|pool| self.locate(pool));
            self.warn(&warnings);
        }
        if outcome.revised || outcome.desired_changed || outcome.members_changed || !outcome.events.is_empty()
        {
            self.follow(outcome);
        }
        ids.iter().for_each(|id| self.note_members(id));
        let in_force = |id: &SourceId| {
            let answer = self.membership.answer(id);
            answer.is_some_and(|answer| answer.said.keys().any(|address| answer.taken.contains_key(address)))
        };
        let taken: BTreeSet<SourceId> = offered.into_iter().filter(in_force).collect();
        self.discovery.to_save.extend(ids.iter().cloned());
        taken
    }

    /// Where the backends of this pool are.
    fn locate(&mut self, name: &Name) {
        let listed = &self.membership.file().datapath.interfaces;
        let Some(view) = self.membership.pool_view(name) else { return };
        let addresses = view.backends.iter().map(|backend| backend.id.address);
        let places = addresses.map(|address| (address, self.host.locate(address.ip, listed))).collect();
        Arc::make_mut(&mut self.reach).insert(name.clone(), places);
    }

    /// What the host makes of new backends stands beside what it makes of the file's.
    fn warn(&mut self, warnings: &[Problem]) {
        let new: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        let mut sentences = self.notices.get(&Notice::Host).cloned().unwrap_or_default();
        sentences.extend(new);
        sentences.dedup();
        self.set_notices(Notice::Host, &sentences);
    }

    /// Has what sources said last written down, and hears what has become of what was handed over before.
    pub(super) fn save_answers(&mut self) {
        for (id, result) in self.writer.results() {
            match result {
                Ok(()) => drop(self.discovery.unsaved.remove(&id)),
                Err(error) => {
                    // Tried again with its next answer.
                    if let Some(heard) = self.discovery.heard.get_mut(&id) {
                        heard.saved = None;
                        self.discovery.unsaved.insert(id, error);
                    }
                }
            }
        }
        while let Some(id) = self.discovery.to_save.pop_first() {
            let Some(answer) = self.membership.answer(&id) else { continue };
            let Some(heard) = self.discovery.heard.get_mut(&id) else { continue };
            let saved = heard.saved.as_ref().filter(|saved| saved.backends == answer.said);
            let lingering = answer.who_lingers();
            if saved.is_some_and(|saved| saved.lingering == lingering) {
                continue;
            }
            let time = saved.map_or_else(|| self.clock.now(), |saved| saved.time);
            let said = Said { time, backends: answer.said.clone(), lingering };
            heard.saved = Some(said.clone());
            self.writer.put(id, said);
        }
    }

    /// Members have come or gone: perhaps some of those that lingered, which a restart is to know.
    pub(super) fn note_lingering(&mut self) {
        let lingers = |saved: &Said| !saved.lingering.is_empty();
        let heard = self.discovery.heard.iter();
        let ids =
            heard.filter(|(_, heard)| heard.saved.as_ref().is_some_and(lingers)).map(|(id, _)| id.clone());
        self.discovery.to_save.extend(ids);
    }

    /// What is in the pool by this source's word, and what is not.
    fn note_members(&self, id: &SourceId) {
        let answer = self.membership.answer(id);
        let heard = self.discovery.heard.get(id);
        let refused = answer.into_iter().flat_map(|answer| &answer.refused);
        let problems = heard.into_iter().flat_map(|heard| &heard.barred).chain(refused);
        let mut left_out: Vec<String> = heard.map(|heard| heard.left_out.clone()).unwrap_or_default();
        left_out.extend(problems.map(sentence));
        self.discovery.board.note(id, |state| {
            state.backends = answer.map_or(0, |answer| answer.taken.len());
            state.lingering = answer.map_or(0, |answer| answer.lingering.len());
            state.left_out = left_out;
        });
    }

    /// The sentences of all sources; true: they are others than before.
    pub(super) fn tell_of_sources(&mut self) -> bool {
        let states = self.discovery.board.read();
        let mut failing: Vec<String> =
            states.iter().filter_map(|(id, state)| is_failing(id, state)).collect();
        failing.extend(self.discovery.unsaved.iter().map(|(id, why)| {
            format!(
                "what {id} says is not written down, a restart would go on with what it said before: {why}"
            )
        }));
        let notices: Vec<String> = states.iter().filter_map(|(id, state)| leaves_out(id, state)).collect();
        let are_new = self.notices.get(&Notice::Discovery).is_some_and(|before| *before != notices)
            || !notices.is_empty() && !self.notices.contains_key(&Notice::Discovery);
        self.set_notices(Notice::Discovery, &notices);
        self.set_fault(Fault::Discovery, failing) || are_new
    }
}

/// What of an answer this host can take.
struct Offer {
    fitting: Backends,
    /// Why not the rest.
    barred: Vec<Problem>,
    /// What hardly will work.
    warnings: Vec<Problem>,
}

/// Judges the entries that are new against the host, as the file's backends are.
fn fit(
    membership: &Membership,
    host: &HostNetwork,
    id: &SourceId,
    said: &Backends,
    known: &Backends,
) -> Offer {
    let services = membership.services_of(&id.pool);
    let listed = &membership.file().datapath.interfaces;
    let origin = Origin::Discovery { source: id.source.clone() };
    let mut offer = Offer { fitting: Backends::new(), barred: Vec::new(), warnings: Vec::new() };
    for (address, weight) in said {
        let backend = BackendSpec { address: *address, weight: *weight, origin: origin.clone() };
        let is_new = !known.contains_key(address);
        let problem = || services.iter().find_map(|service| judge_backend(service, &backend, listed, host));
        match is_new.then(problem).flatten() {
            Some(problem) if problem.is_error() => offer.barred.push(problem),
            warning => {
                offer.warnings.extend(warning);
                offer.fitting.insert(*address, *weight);
            }
        }
    }
    offer
}

/// That a source fails, and what that means.
fn is_failing(id: &SourceId, state: &SourceState) -> Option<String> {
    let why = state.failing.as_ref()?;
    let kept = match state.answered {
        Some(time) => format!("its last answer, of {time}, stays ({})", backends(state.backends)),
        None => "it has never answered".to_owned(),
    };
    Some(format!("discovery by {id} fails: {why}; {kept}"))
}

/// What of a source's answer is not taken.
fn leaves_out(id: &SourceId, state: &SourceState) -> Option<String> {
    let count = state.left_out.len();
    let named: Vec<&str> = state.left_out.iter().take(NAMED).map(String::as_str).collect();
    let more = if count > NAMED { format!("; and {} more", count - NAMED) } else { String::new() };
    (count > 0)
        .then(|| format!("discovery by {id} leaves out {}: {}{more}", backends(count), named.join("; ")))
}

fn backends(count: usize) -> String {
    format!("{count} backend{}", if count == 1 { "" } else { "s" })
}

/// A problem without its place, which is the source that the sentence begins with.
fn sentence(problem: &Problem) -> String {
    match (&problem.place, &problem.hint) {
        (Place::Discovery { .. }, Some(hint)) => format!("{}: {hint}", problem.message),
        _ => problem.to_string(),
    }
}

fn failed(id: &SourceId, why: &str) -> DomainEvent {
    event(EventKind::DiscoveryFailed, Level::Warning, id, format!("discovery by {id} fails: {why}"))
}

fn answers_again(id: &SourceId) -> DomainEvent {
    event(EventKind::DiscoveryRecovered, Level::Info, id, format!("discovery by {id} answers again"))
}

fn event(kind: EventKind, level: Level, id: &SourceId, message: String) -> DomainEvent {
    DomainEvent { kind, level, service: None, pool: Some(id.pool.clone()), backend: None, message }
}

/// What a membership begins with of what sources said before.
pub(super) fn said_before(kept: &BTreeMap<SourceId, Said>) -> BTreeMap<SourceId, Recalled> {
    let recalled = |said: &Said| Recalled { said: said.backends.clone(), lingering: said.lingering.clone() };
    kept.iter().map(|(id, said)| (id.clone(), recalled(said))).collect()
}

/// The problems that refuse somebody's change: not those of backends that a source has named.
pub(super) fn of_the_change(problems: &[Problem]) -> Vec<Problem> {
    let discovered = |problem: &&Problem| matches!(problem.place, Place::Discovery { .. });
    problems.iter().filter(|problem| !discovered(problem)).cloned().collect()
}
