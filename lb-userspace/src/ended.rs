//! Tasks that ought not to end.
//!
//! In: how a task ended. Out: the reason in words. Invariant: a panic says what it said.

use std::io;

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

fn in_words(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => {
            let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
            format!("a fault of lbd: {}", text.unwrap_or_else(|| "a panic without words".to_owned()))
        }
        Err(error) => error.to_string(),
    }
}

/// Sends this when the task is over, with the reason.
pub(crate) fn tell<T: Send + 'static>(
    task: JoinHandle<()>,
    told: tokio::sync::mpsc::UnboundedSender<(T, String)>,
    what: T,
) {
    tokio::spawn(async move {
        let why = why(task.await);
        // A controller that has ended does not care.
        let _unused = told.send((what, why));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_end_is_told_with_its_reason() {
        let (told, mut inbox) = tokio::sync::mpsc::unbounded_channel();
        tell(tokio::spawn(async {}), told.clone(), 1);
        assert_eq!(inbox.recv().await, Some((1, "its task has ended".to_owned())));
        tell(tokio::spawn(async { panic!("a word") }), told.clone(), 2);
        assert_eq!(inbox.recv().await, Some((2, "a fault of lbd: a word".to_owned())));
        tell(tokio::spawn(async { panic!("word {}", 2) }), told, 3);
        assert_eq!(inbox.recv().await, Some((3, "a fault of lbd: word 2".to_owned())));
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
