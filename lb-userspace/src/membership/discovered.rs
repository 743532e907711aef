//! Members that discovery sources name.
//!
//! In: a source's answers, whole. Out: the members it claims, what of its answer cannot be taken and why. Invariants: a source
//! adds, changes and removes only its own; an answer is taken without the entries that contradict the rest, each of which is
//! named, and refuses nothing else; an answer that says nothing, or nothing that can be taken, changes nothing unless the
//! source may say nothing; a backend that is no longer named goes only when its pool's services do not lose the last one they
//! can use by it. Answers are no configuration: they make no revision, unless an override ends with its backend.

mod hear;
mod judge;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Membership;
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

impl Answer {
    /// Those that linger, with their weights.
    pub fn who_lingers(&self) -> Backends {
        let lingers = |(address, _): &(&BackendAddress, &u16)| self.lingering.contains(address);
        self.taken.iter().filter(lingers).map(|(address, weight)| (*address, *weight)).collect()
    }
}

/// What a source said in an earlier run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recalled {
    /// As it was said.
    pub said: Backends,
    /// Those that were no longer named and stayed for want of others.
    pub lingering: Backends,
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
    pub(super) fn of(recalled: BTreeMap<SourceId, Recalled>) -> Self {
        let mut discovered = Self::default();
        for (id, Recalled { said, mut lingering }) in recalled {
            lingering.retain(|address, _| !said.contains_key(address));
            let mut answer = Answer { taken: said.clone(), said, ..Answer::default() };
            answer.lingering = lingering.keys().copied().collect();
            answer.taken.extend(lingering);
            discovered.put(&id, answer);
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
            .filter(|service| self.definitions.sends_to(&service.pool, &id.pool))
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
}

impl SourceId {
    fn place(&self) -> Place {
        Place::Discovery { source: self.source.clone() }
    }
}
