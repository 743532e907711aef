//! Somebody who looks at lbd all the time.
//!
//! In: the daemon's socket. Out: what it says of its backends, ten times a second and whenever it has news, by its own API (a lbctl each time
//! would be a process each time). Invariant: without an answer nothing is believed to have changed.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use lb_userspace::api::client::Client;
use lb_userspace::api::types::Backend;
use lb_userspace::membership::EventKind;
use lb_userspace::moment::Millis;
use lb_userspace::spec::Name;
use tokio::sync::oneshot;

use super::clock;
use super::model::At;

const WAIT: Duration = Duration::from_secs(5);
const INTERVAL: Duration = Duration::from_millis(100);

/// What lbd said.
#[derive(Clone, Debug)]
pub(super) enum Heard {
    /// Its backends, and when it had been asked.
    List { asked: At, backends: Vec<Backend> },
    /// A backend takes new flows from then on, or no longer.
    Event { at: At, address: IpAddr, eligible: bool },
}

/// What was heard and not taken yet.
type Ears = Arc<Mutex<Vec<Heard>>>;

/// A thread that asks.
#[derive(Debug)]
pub(super) struct Watcher {
    stop: Option<oneshot::Sender<()>>,
    ears: Ears,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    pub(super) fn start(socket: PathBuf, pool: &str) -> Result<Watcher> {
        let pool: Name = pool.parse().context("the pool's name")?;
        let (stop, stopped) = oneshot::channel();
        let ears = Ears::default();
        let (lists, events) = (Arc::clone(&ears), Arc::clone(&ears));
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
        let thread = std::thread::Builder::new().name("watcher".to_owned()).spawn(move || {
            let client = Client::new(socket);
            runtime.block_on(async {
                tokio::select! {
                    () = ask(&client, &pool, &lists) => {}
                    () = listen(&client, &events) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Watcher { stop: Some(stop), ears, thread: Some(thread) })
    }

    /// What was heard since this was asked last.
    pub(super) fn take(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.ears.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

fn hear(ears: &Ears, heard: Heard) {
    ears.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(heard);
}

/// Asks for the list, for ever.
async fn ask(client: &Client, pool: &Name, ears: &Ears) {
    loop {
        let asked = clock::now();
        // An error: there is no daemon just now.
        if let Ok(list) = client.backends(Some(pool)).await {
            hear(ears, Heard::List { asked, backends: list.backends });
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Listens to events, for ever: who is let in for less than an interval shows in no list.
async fn listen(client: &Client, ears: &Ears) {
    let mut since = 0;
    loop {
        let Ok(list) = client.events(since, Some(WAIT)).await else {
            // The next daemon counts from 1; what is heard twice is no news.
            since = 0;
            tokio::time::sleep(INTERVAL).await;
            continue;
        };
        since = list.next;
        for event in list.events {
            let eligible = match event.event.kind {
                EventKind::BackendEligible => true,
                EventKind::BackendIneligible => false,
                _ => continue,
            };
            if let Some(address) = event.event.backend {
                hear(ears, Heard::Event { at: here(event.time), address: address.ip, eligible });
            }
        }
    }
}

/// A moment of the daemon's wall clock on ours.
pub(super) fn here(moment: Millis) -> At {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (moment, now) = (Duration::from_millis(moment.0), clock::now());
    // The end of an ejection is to come.
    match moment.checked_sub(wall) {
        Some(left) => now + left,
        None => now.saturating_sub(wall.saturating_sub(moment)),
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic in it was printed; the run sees it as a daemon that says nothing.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_come_is_not_now() {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let hour = Duration::from_secs(3600);
        let now = clock::now();
        let later = here(Millis(u64::try_from((wall + hour).as_millis()).unwrap()));
        assert!(later.abs_diff(now + hour) < hour / 2, "{later:?} {now:?}");
    }
}
