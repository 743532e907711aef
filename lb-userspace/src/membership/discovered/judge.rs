//! Which entries of an answer can be taken together with everything else that is defined.
//!
//! In: entries that contradict nothing by themselves. Out: as many of them as contradict nothing together, and why not the others.
//! Invariant: the rules are those of the file, asked as they are; only the blame is another.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::draft::Draft;
use super::super::{Candidate, Refusal};
use super::{Answer, Discovered};
use crate::spec::{BackendAddress, Backends, Place, Problem, SourceId};

/// Takes of `entries` as many as `refusal` has nothing against, together with those that are taken already; the others are
/// refused one by one.
pub(super) fn sift(
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
    pub(in crate::membership) fn judge_with_answers(&mut self) -> Result<(), Refusal> {
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
    pub(super) fn put_answer(&mut self, id: &SourceId, answer: Answer) {
        Arc::make_mut(&mut self.next.definitions.discovered).put(id, answer);
        self.sync_pool(&id.pool);
    }

    /// Remembers what was said where it changes no member.
    pub(super) fn note_answer(&mut self, id: &SourceId, answer: Answer) {
        Arc::make_mut(&mut self.next.definitions.discovered).put(id, answer);
    }

    /// As [`Draft::finish`]; an override that has ended with its backend is to be written down.
    pub(super) fn finish_answer(mut self, overridden: usize, force: bool) -> Result<Candidate, Refusal> {
        self.revised = self.next.overridden.len() != overridden;
        self.finish(force)
    }
}
