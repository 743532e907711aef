//! Members that discovery sources name.
//!
//! In: a source's answers, whole. Out: the members it claims, what of its answer cannot be taken and why. Invariants: a source
//! adds, changes and removes only its own; an answer is taken without the entries that contradict the rest, each of which is
//! named, and refuses nothing else; an answer that says nothing, or nothing that can be taken, changes nothing unless the
//! source may say nothing; a backend that is no longer named goes only when its pool's services do not lose the last one they
//! can use by it. Answers are no configuration: they make no revision, unless an override ends with its backend.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::draft::Draft;
use super::{Candidate, Membership, Millis, Outcome, Refusal, RefusalCode};
use crate::spec::{BackendAddress, BackendSpec, Backends, Name, Origin, Place, PoolSpec, Problem};
use crate::spec::{ServiceSpec, SourceId, SourceSpec, unfit};

/// What one source said, and what became of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// As it was said.
    pub said: Backends,
    /// What it claims: what was said without what was refused, and those that linger.
    pub taken: Backends,
    /// No longer named, and kept because nobody else could take their place yet.
    pub lingering: BTreeSet<BackendAddress>,
    /// Why entries were not taken.
    pub refused: Vec<Problem>,
}

/// A source with what it said, for lists and metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceView {
    /// Which.
    pub id: SourceId,
    /// As configured.
    pub spec: SourceSpec,
    /// `None`: it has said nothing yet.
    pub answer: Option<Arc<Answer>>,
}

/// The answers of all sources.
#[derive(Clone, Debug, Default)]
pub(super) struct Discovered {
    answers: BTreeMap<Name, BTreeMap<String, Arc<Answer>>>,
}

impl Discovered {
    /// Answers as they were written down, to be judged.
    pub(super) fn of(said: BTreeMap<SourceId, Backends>) -> Self {
        let mut discovered = Self::default();
        for (id, said) in said {
            discovered.put(&id, Answer { taken: said.clone(), said, ..Answer::default() });
        }
        discovered
    }

    pub(super) fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// Forgets what sources said that are no longer defined.
    pub(super) fn keep_defined(&mut self, pools: &[PoolSpec]) {
        let defined: BTreeSet<(&Name, String)> = pools
            .iter()
            .flat_map(|pool| pool.discover.iter().map(move |source| (&pool.name, source.name())))
            .collect();
        for (pool, answers) in &mut self.answers {
            answers.retain(|source, _| defined.contains(&(pool, source.clone())));
        }
        self.answers.retain(|_, answers| !answers.is_empty());
    }

    fn get(&self, id: &SourceId) -> Option<&Arc<Answer>> {
        self.answers.get(&id.pool)?.get(&id.source)
    }

    fn put(&mut self, id: &SourceId, answer: Answer) {
        self.answers.entry(id.pool.clone()).or_default().insert(id.source.clone(), Arc::new(answer));
    }

    fn ids(&self) -> Vec<SourceId> {
        let of = |(pool, answers): (&Name, &BTreeMap<String, _>)| -> Vec<SourceId> {
            answers.keys().map(|source| SourceId { pool: pool.clone(), source: source.clone() }).collect()
        };
        self.answers.iter().flat_map(of).collect()
    }

    /// Sources of whose backends some linger.
    fn lingering(&self) -> Vec<SourceId> {
        let of = |(pool, answers): (&Name, &BTreeMap<String, Arc<Answer>>)| -> Vec<SourceId> {
            let lingering = answers.iter().filter(|(_, answer)| !answer.lingering.is_empty());
            lingering.map(|(source, _)| SourceId { pool: pool.clone(), source: source.clone() }).collect()
        };
        self.answers.iter().flat_map(of).collect()
    }

    /// The same is claimed of this pool.
    pub(super) fn is_same_for(&self, other: &Self, pool: &Name) -> bool {
        let taken = |all: &Self| -> Vec<(String, Backends)> {
            let answers = all.answers.get(pool).into_iter().flatten();
            answers.map(|(source, answer)| (source.clone(), answer.taken.clone())).collect()
        };
        taken(self) == taken(other)
    }

    /// What is claimed of this pool.
    pub(super) fn members(&self, pool: &Name) -> impl Iterator<Item = BackendSpec> {
        let answers = self.answers.get(pool).into_iter().flatten();
        answers.flat_map(|(source, answer)| {
            answer.taken.iter().map(move |(address, weight)| backend(source, *address, *weight))
        })
    }
}

fn backend(source: &str, address: BackendAddress, weight: u16) -> BackendSpec {
    BackendSpec { address, weight, origin: Origin::Discovery { source: source.to_owned() } }
}

/// What became of an answer.
enum Tried {
    /// It is in force.
    Taken(Outcome),
    /// Some of its entries contradict something, and nothing has changed.
    Contradicts,
}

/// Takes of `entries` as many as `refusal` has nothing against, together with those that are taken already; the others are
/// refused one by one.
fn sift(
    entries: &[(BackendAddress, u16)],
    answer: &mut Answer,
    place: &Place,
    refusal: &mut dyn FnMut(&Backends) -> Option<Refusal>,
) {
    let mut candidate = answer.taken.clone();
    candidate.extend(entries.iter().copied());
    let Some(refused) = refusal(&candidate) else {
        answer.taken = candidate;
        return;
    };
    match entries {
        [] => {}
        [(address, _)] => {
            let hint = refused.hint.unwrap_or_default();
            let message = match refused.message.contains(&address.to_string()) {
                true => refused.message,
                false => format!("backend {address} cannot be taken: {}", refused.message),
            };
            answer.refused.push(Problem::error(place.clone(), message, hint));
        }
        many => {
            let (first, second) = many.split_at(many.len() / 2);
            sift(first, answer, place, refusal);
            sift(second, answer, place, refusal);
        }
    }
}

impl Draft<'_> {
    /// Judges everything that is defined. Answers that contradict it lose the entries that do; they refuse nothing.
    pub(super) fn judge_with_answers(&mut self) -> Result<(), Refusal> {
        let answers = Arc::clone(&self.next.definitions.discovered);
        let mut kept = Discovered::clone(&answers);
        for id in answers.ids() {
            let Some(answer) = answers.get(&id) else { continue };
            let mut fitting = self.next.fitting(&id, &answer.said);
            let lingering = answer.taken.iter().filter(|(address, _)| answer.lingering.contains(address));
            fitting.taken.extend(lingering);
            fitting.lingering.clone_from(&answer.lingering);
            kept.put(&id, fitting);
        }
        self.next.definitions.discovered = Arc::new(kept.clone());
        let warnings = self.outcome.warnings.len();
        let refusal = self.judge(&self.next.definitions.merged());
        if refusal.is_ok() || kept.is_empty() {
            return refusal;
        }
        self.outcome.warnings.truncate(warnings);
        self.next.definitions.discovered = Arc::default();
        self.judge(&self.next.definitions.merged())?;
        for id in kept.ids() {
            let Some(answer) = kept.get(&id) else { continue };
            let entries: Vec<_> = answer.taken.iter().map(|(address, weight)| (*address, *weight)).collect();
            let mut fitting =
                Answer { taken: Backends::new(), lingering: BTreeSet::new(), ..Answer::clone(answer) };
            sift(&entries, &mut fitting, &id.place(), &mut |candidate| {
                let mut definitions = self.next.definitions.clone();
                let answer = Answer { taken: candidate.clone(), ..Answer::default() };
                Arc::make_mut(&mut definitions.discovered).put(&id, answer);
                Refusal::of_problems(crate::spec::validate(&definitions.merged()))
            });
            Arc::make_mut(&mut self.next.definitions.discovered).put(&id, fitting);
        }
        Ok(())
    }

    /// Takes an answer in the place of the source's last one.
    fn put_answer(&mut self, id: &SourceId, answer: Answer) {
        Arc::make_mut(&mut self.next.definitions.discovered).put(id, answer);
        self.sync_pool(&id.pool);
    }

    /// As [`Draft::finish`]; an override that has ended with its backend is to be written down.
    fn finish_answer(mut self, overridden: usize, force: bool) -> Result<Candidate, Refusal> {
        self.revised = self.next.overridden.len() != overridden;
        self.finish(force)
    }
}

impl Membership {
    /// Every source with what it said, by pool, in the order of the file.
    pub fn sources(&self) -> Vec<SourceView> {
        let mut views = Vec::new();
        for pool in &self.definitions.file.pools {
            views.extend(pool.discover.iter().map(|spec| {
                let id = SourceId { pool: pool.name.clone(), source: spec.name() };
                SourceView { answer: self.definitions.discovered.get(&id).cloned(), id, spec: spec.clone() }
            }));
        }
        views
    }

    /// What this source said and what became of it; `None`: it has said nothing yet, or there is no such source.
    pub fn answer(&self, id: &SourceId) -> Option<&Arc<Answer>> {
        self.definitions.discovered.get(id)
    }

    /// This source as it is configured.
    pub fn source(&self, id: &SourceId) -> Option<&SourceSpec> {
        let pool = self.definitions.pool_alone(&id.pool)?;
        pool.discover.iter().find(|source| source.name() == id.source)
    }

    /// The entries of an answer that contradict nothing by themselves.
    fn fitting(&self, id: &SourceId, said: &Backends) -> Answer {
        let services: Vec<&ServiceSpec> = self
            .definitions
            .service_names()
            .filter_map(|name| self.definitions.service(name))
            .filter(|service| service.pool == id.pool)
            .collect();
        let listed = &self.definitions.file.datapath.interfaces;
        let mut answer = Answer { said: said.clone(), ..Answer::default() };
        for (address, weight) in said {
            match unfit(&backend(&id.source, *address, *weight), &id.pool, &services, listed) {
                Some(problem) => answer.refused.push(problem),
                None => drop(answer.taken.insert(*address, *weight)),
            }
        }
        answer
    }

    /// Takes an answer as far as it can be taken.
    pub(super) fn observe_answer(&mut self, now: Millis, id: &SourceId, said: Backends) -> Outcome {
        // A source that ended while its answer was on its way; one that has nothing to say.
        let Some(spec) = self.source(id) else { return Outcome::default() };
        let (allow_empty, before) = (spec.allow_empty, self.answer(id).cloned());
        if said.is_empty() && !allow_empty {
            return Outcome::default();
        }
        let is_known = |answer: &Arc<Answer>| {
            answer.said == said && answer.refused.is_empty() && answer.lingering.is_empty()
        };
        if before.as_ref().is_some_and(is_known) {
            return Outcome::default();
        }
        let (fitting, before) = (self.fitting(id, &said), before.unwrap_or_default());
        match self.try_answer(now, id, &fitting, &before, allow_empty) {
            Tried::Taken(outcome) => outcome,
            Tried::Contradicts => {
                let mut sifted = fitting;
                self.sift_together(now, id, &mut sifted);
                match self.try_answer(now, id, &sifted, &before, allow_empty) {
                    Tried::Taken(outcome) => outcome,
                    Tried::Contradicts => Outcome::default(),
                }
            }
        }
    }

    /// Takes an answer whose entries contradict nothing by themselves.
    fn try_answer(
        &mut self,
        now: Millis,
        id: &SourceId,
        answer: &Answer,
        before: &Answer,
        allow_empty: bool,
    ) -> Tried {
        if answer.taken.is_empty() && !allow_empty {
            // Nothing can be taken: what was taken before stays, and why is known.
            let kept =
                Answer { said: answer.said.clone(), refused: answer.refused.clone(), ..before.clone() };
            return self.note_answer(id, kept);
        }
        if answer.taken == before.taken {
            return self.note_answer(id, answer.clone());
        }
        match self.with_answer(now, id, answer, answer.said.is_empty()) {
            Ok(candidate) => Tried::Taken(self.become_candidate(candidate)),
            Err(refusal) if refusal.code == RefusalCode::LastBackend => {
                Tried::Taken(self.linger(now, id, answer.clone(), before))
            }
            Err(_) => Tried::Contradicts,
        }
    }

    /// Remembers what was said where it changes no member.
    fn note_answer(&mut self, id: &SourceId, answer: Answer) -> Tried {
        Arc::make_mut(&mut self.definitions.discovered).put(id, answer);
        Tried::Taken(Outcome::default())
    }

    /// Takes an answer whose new backends cannot yet take the place of those that are gone: these stay until they can.
    fn linger(&mut self, now: Millis, id: &SourceId, mut answer: Answer, before: &Answer) -> Outcome {
        let gone = before.taken.iter().filter(|(address, _)| !answer.taken.contains_key(address));
        let gone: Backends = gone.map(|(address, weight)| (*address, *weight)).collect();
        answer.lingering = gone.keys().copied().collect();
        answer.taken.extend(gone);
        match self.with_answer(now, id, &answer, true) {
            Ok(candidate) => self.become_candidate(candidate),
            // What stays and what comes contradict one another: all stays as it was, and the next answer finds it so.
            Err(refusal) => {
                let refused =
                    vec![Problem::error(id.place(), refusal.message, refusal.hint.unwrap_or_default())];
                let kept = Answer { refused, said: answer.said, ..before.clone() };
                Arc::make_mut(&mut self.definitions.discovered).put(id, kept);
                Outcome::default()
            }
        }
    }

    /// Lets the backends go that are no longer named, where others can take their place by now.
    pub(super) fn let_go(&mut self, now: Millis, outcome: &mut Outcome) {
        for id in self.definitions.discovered.lingering() {
            let Some(answer) = self.answer(&id) else { continue };
            let mut without = Answer::clone(answer);
            without.taken.retain(|address, _| !answer.lingering.contains(address));
            without.lingering.clear();
            if let Ok(candidate) = self.with_answer(now, &id, &without, false) {
                outcome.absorb(self.become_candidate(candidate));
            }
        }
    }

    /// Refuses the entries that contradict something only together with what else there is.
    fn sift_together(&self, now: Millis, id: &SourceId, answer: &mut Answer) {
        let entries: Vec<_> = std::mem::take(&mut answer.taken).into_iter().collect();
        sift(&entries, answer, &id.place(), &mut |candidate| {
            let answer = Answer { taken: candidate.clone(), ..Answer::default() };
            self.with_answer(now, id, &answer, true).err()
        });
    }

    /// A membership in which this is the source's answer.
    fn with_answer(
        &self,
        now: Millis,
        id: &SourceId,
        answer: &Answer,
        force: bool,
    ) -> Result<Candidate, Refusal> {
        let mut draft = Draft::new(self, now, &id.source);
        draft.put_answer(id, answer.clone());
        draft.finish_answer(self.overridden.len(), force)
    }

    fn become_candidate(&mut self, candidate: Candidate) -> Outcome {
        *self = candidate.membership;
        candidate.outcome
    }
}

impl Candidate {
    /// What a change brings may take the place of backends that are no longer named.
    pub(super) fn let_go(mut self, now: Millis) -> Self {
        let (revision, is_revised) = (self.membership.revision, self.outcome.revised);
        self.membership.let_go(now, &mut self.outcome);
        if is_revised {
            // One change is one revision, whatever ends with it.
            self.membership.revision = revision;
        }
        self
    }
}

impl SourceId {
    fn place(&self) -> Place {
        Place::Discovery { source: self.source.clone() }
    }
}
