//! Answers of discovery sources and ejections written down beside the controller: a disk takes its time, and backends that die do not wait
//! for it.
//!
//! In: answers, and which sources there are; ejections. Out: what has become of each. Invariants: what was handed over last is what a file
//! says in the end, however much comes meanwhile; nobody waits for the disk but at the end ([`Writer::finish`]); a fault of lbd in the writing
//! of one thing is told as a disk's is, and the next is written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ended;
use crate::membership::Ejected;
use crate::spec::SourceId;
use crate::state::{AnswerFiles, EjectionFile, Said, StateError};

/// What became of an answer that was to be written; the error in words.
type Written = (SourceId, Result<(), String>);

/// Writes one file after the other.
pub(super) struct Writer {
    work: Arc<Work>,
}

type Perform = dyn Fn(&Job) -> Result<(), StateError> + Send + Sync;

struct Work {
    ejections: EjectionFile,
    /// Does it, in the thread that asks for it.
    perform: Box<Perform>,
    queue: Mutex<Queue>,
    /// Held from the choice of what is written next until it is: of two writers the later one writes what came later.
    turn: Mutex<()>,
}

#[derive(Default)]
struct Queue {
    /// Of each source the newest.
    answers: BTreeMap<SourceId, Said>,
    /// The files of all other sources are to be removed.
    kept: Option<BTreeSet<SourceId>>,
    written: Vec<Written>,
    /// All of them, the newest.
    ejections: Option<Vec<Ejected>>,
    /// What became of the last that were written: they are in the file, or why not.
    ejections_written: Option<Result<Vec<Ejected>, String>>,
    /// A thread is at it.
    is_running: bool,
}

enum Job {
    Ejections(Vec<Ejected>),
    Keep(BTreeSet<SourceId>),
    Answer(SourceId, Said),
}

impl Queue {
    /// What is done next; it is no longer in the queue.
    fn next(&mut self) -> Option<Job> {
        let ejections = self.ejections.take().map(Job::Ejections);
        let kept = || self.kept.take().map(Job::Keep);
        // What is kept is settled before anything is written: who is gone leaves no file.
        ejections.or_else(kept).or_else(|| self.answers.pop_first().map(|(id, said)| Job::Answer(id, said)))
    }
}

impl Writer {
    /// Writes into these files.
    pub(super) fn new(files: AnswerFiles, ejections: EjectionFile) -> Self {
        let file = ejections.clone();
        Self::with(ejections, move |job| match job {
            Job::Ejections(ejections) => file.write(ejections.clone()),
            Job::Keep(kept) => {
                files.forget(kept);
                Ok(())
            }
            Job::Answer(id, said) => files.write(id, said),
        })
    }

    fn with(
        ejections: EjectionFile,
        perform: impl Fn(&Job) -> Result<(), StateError> + Send + Sync + 'static,
    ) -> Self {
        let (queue, turn) = (Mutex::default(), Mutex::default());
        Self { work: Arc::new(Work { ejections, perform: Box::new(perform), queue, turn }) }
    }

    /// Has this written in the place of what the source said before. Called in a tokio runtime.
    pub(super) fn put(&self, id: SourceId, said: Said) {
        self.change(|queue| drop(queue.answers.insert(id, said)));
    }

    /// Has the files of all other sources removed. Called in a tokio runtime.
    pub(super) fn keep(&self, sources: BTreeSet<SourceId>) {
        self.change(|queue| {
            queue.answers.retain(|id, _| sources.contains(id));
            queue.kept = Some(sources);
        });
    }

    /// Has these written in the place of all ejections before. Called in a tokio runtime.
    pub(super) fn eject(&self, ejections: Vec<Ejected>) {
        self.change(|queue| queue.ejections = Some(ejections));
    }

    /// What became of the last ejections that have been written since the last call: these are in the file, or why not.
    pub(super) fn ejections_result(&self) -> Option<Result<Vec<Ejected>, String>> {
        self.work.queue().ejections_written.take()
    }

    /// What answers have been written since the last call, and what could not be.
    pub(super) fn results(&self) -> Vec<Written> {
        std::mem::take(&mut self.work.queue().written)
    }

    /// What is known of files that cannot be used, now that ejections are written.
    pub(super) fn ejections_replaced(&self, unusable: &mut BTreeMap<PathBuf, String>) {
        self.work.ejections.has_replaced(unusable);
    }

    /// Returns when everything is done.
    pub(super) fn finish(&self) {
        while self.work.next() {}
    }

    fn change(&self, change: impl FnOnce(&mut Queue)) {
        let mut queue = self.work.queue();
        change(&mut queue);
        if !std::mem::replace(&mut queue.is_running, true) {
            let work = Arc::clone(&self.work);
            tokio::task::spawn_blocking(move || work.run());
        }
    }
}

impl Work {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            while self.next() {}
            let mut queue = self.queue();
            if queue.answers.is_empty() && queue.kept.is_none() && queue.ejections.is_none() {
                queue.is_running = false;
                return;
            }
        }
    }

    /// Does what is next. False: there is nothing to do, and what others did is done.
    fn next(&self) -> bool {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(job) = self.queue().next() else { return false };
        let in_words = |error: StateError| error.to_string();
        let result = ended::caught(|| (self.perform)(&job)).and_then(|done| done.map_err(in_words));
        match (job, result) {
            (Job::Ejections(ejections), result) => {
                self.queue().ejections_written = Some(result.map(|()| ejections));
            }
            (Job::Keep(_), Ok(())) => {}
            (Job::Keep(_), Err(why)) => {
                tracing::error!("answers of sources that are gone stay written down: {why}")
            }
            (Job::Answer(id, _), result) => self.queue().written.push((id, result)),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::ejections::tests::ejected;
    use super::*;
    use crate::moment::Millis;
    use crate::spec::Backends;
    use crate::state::StateDir;

    fn id(source: &str) -> SourceId {
        SourceId { pool: "web".parse().unwrap(), source: source.to_owned() }
    }

    fn said(time: u64) -> Said {
        let backends = [("10.0.0.1".parse().unwrap(), 1)].into();
        Said { time: Millis(time), backends, lingering: Backends::new() }
    }

    #[tokio::test]
    async fn what_came_last_is_what_stands_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let (state, _) = StateDir::open(directory.path()).unwrap();
        let files = state.answer_files();
        let writer = Writer::new(files.clone(), state.ejection_file());
        for time in 0..50 {
            writer.put(id("a"), said(time));
            writer.put(id("b"), said(time));
        }
        writer.finish();
        assert_eq!(files.read(), [(id("a"), said(49)), (id("b"), said(49))].into());
        let results = writer.results();
        assert!(!results.is_empty() && results.iter().all(|(_, result)| result.is_ok()), "{results:?}");
        assert!(writer.results().is_empty());
        // Who is gone leaves no file, and what was on its way there is not written.
        writer.put(id("b"), said(50));
        writer.keep([id("a")].into());
        writer.finish();
        assert_eq!(files.read(), [(id("a"), said(49))].into());
    }

    /// The controller goes on while the disk stands still.
    #[tokio::test]
    async fn whoever_hands_an_answer_over_does_not_wait() {
        let directory = tempfile::tempdir().unwrap();
        let (state, _) = StateDir::open(directory.path()).unwrap();
        let writer = Writer::new(state.answer_files(), state.ejection_file());
        let disk = writer.work.turn.lock().unwrap();
        for time in 0..3 {
            writer.put(id("a"), said(time));
        }
        assert!(writer.results().is_empty());
        drop(disk);
        writer.finish();
        assert_eq!(state.answer_files().read(), [(id("a"), said(2))].into());
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let (state, _) = StateDir::open(directory.path()).unwrap();
        std::fs::write(directory.path().join("discovered"), "no directory").unwrap();
        let writer = Writer::new(state.answer_files(), state.ejection_file());
        writer.put(id("a"), said(1));
        writer.finish();
        let results = writer.results();
        assert!(matches!(&results[..], [(_, Err(_))]), "{results:?}");
    }

    /// A fault in one thing is that one's alone.
    #[tokio::test]
    async fn a_fault_of_lbd_is_told_and_the_rest_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let (state, _) = StateDir::open(directory.path()).unwrap();
        let files = state.answer_files();
        let wrote = files.clone();
        let writer = Writer::with(state.ejection_file(), move |job| match job {
            Job::Answer(id, said) if *id != self::id("a") => wrote.write(id, said),
            _ => panic!("a word"),
        });
        // Whichever thread it comes to: that of the runtime, or who waits for the end.
        for time in 0..3 {
            writer.eject(Vec::new());
            writer.put(id("a"), said(time));
            writer.keep([id("a"), id("b")].into());
            writer.put(id("b"), said(time));
            writer.finish();
            let why = "a fault of lbd: a word".to_owned();
            assert_eq!(writer.ejections_result(), Some(Err(why.clone())));
            let results = writer.results();
            assert!(
                results.contains(&(id("a"), Err(why))) && results.contains(&(id("b"), Ok(()))),
                "{results:?}"
            );
            assert_eq!(files.read(), [(id("b"), said(time))].into());
        }
        // The runtime's thread lives as well.
        writer.put(id("b"), said(3));
        let is_written = async {
            while files.read() != [(id("b"), said(3))].into() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), is_written).await.unwrap();
    }

    #[tokio::test]
    async fn ejections_that_came_last_are_what_stands_in_their_file() {
        let directory = tempfile::tempdir().unwrap();
        let (state, _) = StateDir::open(directory.path()).unwrap();
        let writer = Writer::new(state.answer_files(), state.ejection_file());
        for until in 0..50 {
            writer.eject(vec![ejected(until)]);
        }
        writer.finish();
        assert_eq!(writer.ejections_result(), Some(Ok(vec![ejected(49)])));
        assert_eq!(writer.ejections_result(), None, "told once");
        drop(state);
        assert_eq!(StateDir::open(directory.path()).unwrap().1.ejections, [ejected(49)]);
        // A directory in the place of the file that is written first: the same path as a full or read-only disk takes.
        std::fs::create_dir(directory.path().join("ejections.new")).unwrap();
        writer.eject(Vec::new());
        writer.finish();
        let result = writer.ejections_result();
        assert!(matches!(&result, Some(Err(why)) if why.contains("ejections")), "{result:?}");
        assert_eq!(StateDir::open(directory.path()).unwrap().1.ejections, [ejected(49)], "as before");
    }
}
