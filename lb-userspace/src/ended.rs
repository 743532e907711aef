//! Tasks that ought not to end.
//!
//! In: how a task ended. Out: the reason in words. Invariant: a panic says what it said.

use tokio::task::{JoinError, JoinHandle};

/// Why a task is over.
pub(crate) fn why(result: Result<(), JoinError>) -> String {
    let error = match result {
        Ok(()) => return "its task has ended".to_owned(),
        Err(error) => error,
    };
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
}
