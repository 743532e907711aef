//! An answer put in the place of the source's last one.
//!
//! In: what was said. Out: a membership in which it is in force as far as it can be, and what that did. Invariant: services keep the last
//! backend they can use.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::draft::Draft;
use super::super::{Candidate, Event, MemberId, Membership, Millis, Outcome, Refusal, RefusalCode};
use super::Answer;
use super::judge::sift;
use crate::spec::{BackendAddress, Backends, Problem, SourceId};

/// What became of an answer.
enum Tried {
    /// It is in force.
    Taken(Outcome),
    /// Some of its entries contradict something, and nothing has changed.
    Contradicts,
}

impl Membership {
    /// Takes the answers of several sources: as one change, where none of them is in the way of another.
    pub fn take_answers(&mut self, now: Millis, answers: Vec<(SourceId, Backends)>) -> Outcome {
        let mut outcome = Outcome::default();
        let together = if answers.len() > 1 { self.with_answers(now, &answers) } else { None };
        match together {
            Some(candidate) => outcome = self.become_candidate(candidate.let_go(now)),
            None => {
                for (id, backends) in answers {
                    outcome.absorb(self.handle(now, Event::Discovered { id, backends }));
                }
            }
        }
        outcome
    }

    /// A membership in which all of these are in force as they are; `None`: one of them has to be looked at by itself.
    fn with_answers(&self, now: Millis, answers: &[(SourceId, Backends)]) -> Option<Candidate> {
        let mut draft = Draft::new(self, now, "discovery");
        let mut pools = BTreeSet::new();
        for (id, said) in answers {
            let Some(spec) = self.source(id) else { continue };
            let answer = self.fitting(id, said);
            if answer.taken.is_empty() && (spec.allow_empty || !said.is_empty()) {
                return None;
            }
            let before = self.answer(id);
            if before.is_some_and(|before| !before.lingering.is_empty()) {
                return None;
            }
            if answer.taken.is_empty() {
                continue;
            }
            if before.is_none_or(|before| before.taken != answer.taken) {
                pools.insert(id.pool.clone());
            }
            draft.note_answer(id, answer);
        }
        // Once all are there: who goes from one source to another stays as it is.
        pools.iter().for_each(|pool| draft.sync_pool(pool));
        draft.finish_answer(self.overridden.len(), false).ok()
    }

    /// Takes an answer as far as it can be taken.
    pub(in crate::membership) fn observe_answer(
        &mut self,
        now: Millis,
        id: &SourceId,
        said: Backends,
    ) -> Outcome {
        // A source that ended while its answer was on its way; one that has nothing to say.
        let Some(spec) = self.source(id) else { return Outcome::default() };
        let (allow_empty, before) = (spec.allow_empty, self.answer(id).cloned());
        if said.is_empty() && !allow_empty {
            return Outcome::default();
        }
        // What was refused for its contradictions would be refused again as long as nothing is defined otherwise.
        let is_judged = self.sifted.get(id) == Some(&self.defined);
        let is_known = |answer: &Arc<Answer>| {
            answer.said == said && (answer.refused.is_empty() || is_judged) && answer.lingering.is_empty()
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
                let outcome = match self.try_answer(now, id, &sifted, &before, allow_empty) {
                    Tried::Taken(outcome) => outcome,
                    Tried::Contradicts => Outcome::default(),
                };
                if self.answer(id).is_some_and(|answer| answer.taken == sifted.taken) {
                    self.sifted.insert(id.clone(), self.defined);
                }
                outcome
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
        let is_of_use = |address: &BackendAddress| {
            let member = MemberId { pool: id.pool.clone(), address: *address };
            self.member(&member).is_some_and(|member| member.verdict.takes_new)
        };
        let gone = before.taken.iter().filter(|(address, _)| !answer.taken.contains_key(address));
        let gone = gone.filter(|(address, _)| is_of_use(address));
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
    pub(in crate::membership) fn let_go(&mut self, now: Millis, outcome: &mut Outcome) {
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
        draft.note_answer(id, answer.clone());
        draft.sync_pool(&id.pool);
        draft.finish_answer(self.overridden.len(), force)
    }

    fn become_candidate(&mut self, candidate: Candidate) -> Outcome {
        *self = candidate.membership;
        candidate.outcome
    }
}

impl Candidate {
    /// What a change brings may take the place of backends that are no longer named.
    pub(in crate::membership) fn let_go(mut self, now: Millis) -> Self {
        let (revision, is_revised) = (self.membership.revision, self.outcome.revised);
        self.membership.let_go(now, &mut self.outcome);
        if is_revised {
            // One change is one revision, whatever ends with it.
            self.membership.revision = revision;
        }
        self
    }
}
