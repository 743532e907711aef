use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use super::*;

/// So long something may take that is awaited; nothing waits for it unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);
const BRIEF: Duration = Duration::from_millis(200);

fn key(path: &str) -> Key {
    Key { ca: Some(path.into()), insecure: false, alpn: Alpn::Http1 }
}

fn within(timeout: Duration) -> Deadline {
    Deadline { at: Instant::now() + timeout, timeout }
}

fn any() -> Arc<ClientConfig> {
    Arc::new(make(&Key { ca: None, insecure: true, alpn: Alpn::Http1 }).unwrap())
}

fn known(config: &Arc<ClientConfig>) -> Known {
    Known { config: Arc::clone(config), stamp: None, read: Instant::now() }
}

/// Certificates of which those at /hangs are not read before somebody lets them; how many looks at them were begun, and the key to the
/// door.
fn hanging(config: &Arc<ClientConfig>) -> (Arc<Trust>, Arc<AtomicUsize>, mpsc::Sender<Result<(), String>>) {
    let (door, waits) = mpsc::channel::<Result<(), String>>();
    let waits = Mutex::new(waits);
    let begun = Arc::new(AtomicUsize::new(0));
    let (count, config) = (Arc::clone(&begun), Arc::clone(config));
    let trust = Trust::new(Box::new(move |key, _| {
        if key.ca.as_deref() == Some(Path::new("/hangs")) {
            count.fetch_add(1, Ordering::SeqCst);
            waits.lock().unwrap().recv().unwrap_or(Ok(()))?;
        }
        Ok(known(&config))
    }));
    (trust, begun, door)
}

#[tokio::test]
async fn a_file_system_that_hangs_costs_one_thread_and_no_check_its_time() {
    let config = any();
    let (trust, begun, door) = hanging(&config);
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let trust = Arc::clone(&trust);
            tokio::spawn(async move { trust.config(key("/hangs"), within(BRIEF)).await })
        })
        .collect();
    // Meanwhile others are read: this test runs on one thread, which is not the one that hangs.
    let other = trust.config(key("/works"), within(PATIENCE)).await.unwrap();
    assert!(Arc::ptr_eq(&other, &config));
    for asking in asking {
        let why = asking.await.unwrap().unwrap_err();
        assert_eq!(why, "cannot read ca /hangs within 200ms: its file system does not answer");
    }
    assert_eq!(begun.load(Ordering::SeqCst), 1);
    // It answers again, and whoever waits hears of it.
    door.send(Ok(())).unwrap();
    assert!(Arc::ptr_eq(&trust.config(key("/hangs"), within(PATIENCE)).await.unwrap(), &config));
}

#[tokio::test]
async fn what_was_read_once_is_gone_on_with_while_its_file_system_hangs() {
    let config = any();
    let (trust, begun, door) = hanging(&config);
    door.send(Ok(())).unwrap();
    trust.config(key("/hangs"), within(PATIENCE)).await.unwrap();
    // It is looked at again, as it may have changed, and waited for in vain, but not until the end of the check's time.
    let deadline = within(PATIENCE);
    let begin = Instant::now();
    assert!(Arc::ptr_eq(&trust.config(key("/hangs"), within(BRIEF)).await.unwrap(), &config));
    assert!(Instant::now() < deadline.at && begin.elapsed() >= BRIEF / SHARE_OF_TIME);
    for _ in 0..5 {
        assert!(trust.config(key("/hangs"), within(BRIEF)).await.is_ok());
    }
    assert_eq!(begun.load(Ordering::SeqCst), 2, "one look at a time");
    // The look that hung finds that it is no certificate any more.
    door.send(Err("not PEM".to_owned())).unwrap();
    door.send(Err("not PEM".to_owned())).unwrap();
    assert_eq!(trust.config(key("/hangs"), within(PATIENCE)).await.unwrap_err(), "not PEM");
}

#[tokio::test]
async fn a_look_that_panics_is_begun_anew() {
    let config = any();
    let times = AtomicUsize::new(0);
    let answer = Arc::clone(&config);
    let trust = Trust::new(Box::new(move |_, _| {
        assert!(times.fetch_add(1, Ordering::SeqCst) > 0, "meant to panic");
        Ok(known(&answer))
    }));
    let why = trust.config(key("/any"), within(PATIENCE)).await.unwrap_err();
    assert_eq!(why, "reading ca /any has ended without a result");
    assert!(trust.config(key("/any"), within(PATIENCE)).await.is_ok());
}
