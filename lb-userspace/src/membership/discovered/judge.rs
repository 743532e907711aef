//! Which entries of an answer can be taken together with everything else that is defined.
//!
//! In: entries that contradict nothing by themselves. Out: as many of them as contradict nothing together, and why not the others.
//! Invariant: the rules are those of the file, asked as they are; only the blame is another.

use std::sync::Arc;

use super::super::draft::Draft;
use super::super::{Candidate, Refusal};
use super::{Answer, Discovered};
use crate::spec::{BackendAddress, Backends, Place, Problem, SourceId};

/// So many entries of an answer are looked at one by one: each costs a judgement of the whole pool.
const MOST_REFUSED: usize = 64;

/// Takes of `entries` as many as `refusal` has nothing against, together with those that are taken already; the others are
/// refused one by one, the last of very many unasked.
pub(super) fn sift(
    entries: &[(BackendAddress, u16)],
    answer: &mut Answer,
    place: &Place,
    refusal: &mut dyn FnMut(&Backends) -> Option<Refusal>,
) {
    let most = answer.refused.len() + MOST_REFUSED;
    sift_until(most, entries, answer, place, refusal);
}

/// As [`sift`], until so many are refused.
fn sift_until(
    most: usize,
    entries: &[(BackendAddress, u16)],
    answer: &mut Answer,
    place: &Place,
    refusal: &mut dyn FnMut(&Backends) -> Option<Refusal>,
) {
    if answer.refused.len() >= most {
        answer.refused.extend(entries.iter().map(|(address, _)| {
            let message =
                format!("backend {address} is not looked at: too many others contradict the configuration");
            Problem::error(place.clone(), message, "mend those first")
        }));
        return;
    }
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
            sift_until(most, first, answer, place, refusal);
            sift_until(most, second, answer, place, refusal);
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
            let mut fitting = Answer { taken: Backends::new(), ..Answer::clone(answer) };
            sift(&entries, &mut fitting, &id.place(), &mut |candidate| {
                let mut definitions = self.next.definitions.clone();
                let answer = Answer { taken: candidate.clone(), ..Answer::default() };
                Arc::make_mut(&mut definitions.discovered).put(&id, answer);
                Refusal::of_problems(crate::spec::validate(&definitions.merged()))
            });
            let Answer { taken, lingering, .. } = &mut fitting;
            lingering.retain(|address| taken.contains_key(address));
            Arc::make_mut(&mut self.next.definitions.discovered).put(&id, fitting);
        }
        Ok(())
    }

    /// Puts an answer in the place of the source's last one; its pool does not follow yet.
    pub(super) fn note_answer(&mut self, id: &SourceId, answer: Answer) {
        Arc::make_mut(&mut self.next.definitions.discovered).put(id, answer);
    }

    /// As [`Draft::finish`]; an override that has ended with its backend is to be written down.
    pub(super) fn finish_answer(mut self, overridden: usize, force: bool) -> Result<Candidate, Refusal> {
        self.revised = self.next.overridden.len() != overridden;
        self.finish(force)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::RefusalCode;

    #[test]
    fn very_many_that_contradict_are_not_asked_one_by_one() {
        let entries: Vec<(BackendAddress, u16)> =
            (0..10_000).map(|n| (format!("10.0.{}.{}", n / 250, n % 250 + 1).parse().unwrap(), 1)).collect();
        let (mut answer, mut asked) = (Answer::default(), 0);
        let place = Place::Discovery { source: "dns:a".to_owned() };
        sift(&entries, &mut answer, &place, &mut |candidate| {
            asked += 1;
            (candidate.len() > 400)
                .then(|| Refusal::new(RefusalCode::Invalid, "too many".to_owned(), "fewer"))
        });
        assert_eq!((answer.taken.len(), answer.refused.len()), (400, 9_600));
        assert!(asked < 200, "{asked} questions");
    }
}
