//! Tasks that ought not to end.
//!
//! In: how a task ended. Out: the reason in words. Invariant: a panic says what it said.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::{JoinError, JoinHandle};

/// Why a task is over.
pub(crate) fn why(result: Result<(), JoinError>) -> String {
    match result {
        Ok(()) => "its task has ended".to_owned(),
        Err(error) => in_words(error),
    }
}

/// What a task answers; a fault of lbd in it is an error as any other.
pub(crate) fn result<T>(answer: Result<io::Result<T>, JoinError>) -> io::Result<T> {
    answer.unwrap_or_else(|error| Err(io::Error::other(in_words(error))))
}

/// Sends what the task answers, so that whoever waits for it is told even of a fault of lbd in it.
pub(crate) fn answer<T: Send + 'static>(
    task: JoinHandle<io::Result<T>>,
    told: tokio::sync::mpsc::UnboundedSender<io::Result<T>>,
) {
    tokio::spawn(async move {
        let result = result(task.await);
        // A controller that has ended does not care.
        let _unused = told.send(result);
    });
}

/// What one piece of work comes to, whose faults are not to end all that comes after it. What it was at is not looked at again.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| said(&*payload))
}

fn in_words(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => said(&*payload),
        Err(error) => error.to_string(),
    }
}

/// What a panic said.
fn said(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("a fault of lbd: {}", text.unwrap_or("a panic without words"))
}

/// Sends this when the task is over, with the reason. The handle is of who tells it.
pub(crate) fn tell<T: Send + 'static>(
    task: JoinHandle<()>,
    told: tokio::sync::mpsc::UnboundedSender<(T, String)>,
    what: T,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let why = why(task.await);
        // A controller that has ended does not care.
        let _unused = told.send((what, why));
    })
}

/// `PLACE:NUMBER`: the task that comes to this place for that time panics. The test of what is said then sets it.
const PANIC_VARIABLE: &str = "LBD_TEST_PANIC_IN";

/// A place where a task panics that is told to.
pub(crate) fn panic_if_told(place: &str) {
    static TOLD: LazyLock<Option<(String, AtomicU64)>> = LazyLock::new(|| {
        let told = std::env::var(PANIC_VARIABLE).ok()?;
        let (place, number) = told.split_once(':')?;
        Some((place.to_owned(), AtomicU64::new(number.parse().ok()?)))
    });
    let told = TOLD.as_ref().filter(|(told, _)| told == place);
    let is_time = told.is_some_and(|(_, left)| left.fetch_sub(1, Ordering::Relaxed) == 1);
    assert!(!is_time, "{PANIC_VARIABLE} is set");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_end_is_told_with_its_reason() {
        let (told, mut inbox) = tokio::sync::mpsc::unbounded_channel();
        drop(tell(tokio::spawn(async {}), told.clone(), 1));
        assert_eq!(inbox.recv().await, Some((1, "its task has ended".to_owned())));
        drop(tell(tokio::spawn(async { panic!("a word") }), told.clone(), 2));
        assert_eq!(inbox.recv().await, Some((2, "a fault of lbd: a word".to_owned())));
        tell(tokio::spawn(async { panic!("word {}", 2) }), told, 3).await.unwrap();
        assert_eq!(inbox.recv().await, Some((3, "a fault of lbd: word 2".to_owned())));
    }

    #[test]
    fn a_fault_in_a_piece_of_work_is_its_answer() {
        assert_eq!(caught(|| 7), Ok(7));
        assert_eq!(caught(|| -> i32 { panic!("word {}", 2) }), Err("a fault of lbd: word 2".to_owned()));
    }

    #[tokio::test]
    async fn a_fault_is_an_answer() {
        let (told, mut inbox) = tokio::sync::mpsc::unbounded_channel();
        answer(tokio::task::spawn_blocking(|| Ok(7)), told.clone());
        assert_eq!(inbox.recv().await.unwrap().unwrap(), 7);
        answer(tokio::task::spawn_blocking(|| -> io::Result<i32> { panic!("a word") }), told);
        assert_eq!(inbox.recv().await.unwrap().unwrap_err().to_string(), "a fault of lbd: a word");
    }
}
