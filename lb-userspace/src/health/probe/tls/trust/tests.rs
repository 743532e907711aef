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
    Known { config: Arc::clone(config), stamp: None }
}

/// One that looks at a file again so long after it has.
fn trust(reader: Box<Reader>, file_age: Duration) -> Arc<Trust> {
    Trust::new(reader, Box::new(spawn), file_age)
}

/// Certificates of which those at /hangs are not read before somebody lets them; how many looks at them were begun, and the key to the
/// door.
fn hanging(config: &Arc<ClientConfig>) -> (Arc<Trust>, Arc<AtomicUsize>, mpsc::Sender<Result<(), String>>) {
    let (door, waits) = mpsc::channel::<Result<(), String>>();
    let waits = Mutex::new(waits);
    let begun = Arc::new(AtomicUsize::new(0));
    let (count, config) = (Arc::clone(&begun), Arc::clone(config));
    let reader = Box::new(move |key: &Key, _| {
        if key.ca.as_deref() == Some(Path::new("/hangs")) {
            count.fetch_add(1, Ordering::SeqCst);
            waits.lock().unwrap().recv().unwrap_or(Ok(()))?;
        }
        Ok(known(&config))
    });
    (trust(reader, Duration::ZERO), begun, door)
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
    let reader = move |_: &Key, _| {
        assert!(times.fetch_add(1, Ordering::SeqCst) > 0, "meant to panic");
        Ok(known(&answer))
    };
    let trust = trust(Box::new(reader), FILE_AGE);
    let why = trust.config(key("/any"), within(PATIENCE)).await.unwrap_err();
    assert_eq!(why, "reading ca /any has ended without a result");
    assert!(trust.config(key("/any"), within(PATIENCE)).await.is_ok());
}

/// A thousand checks a second of one file are not a thousand threads.
#[tokio::test]
async fn checks_soon_after_a_look_go_by_what_it_came_to() {
    const LONG: Duration = Duration::from_secs(3600);
    let config = any();
    for (found, is_good) in [(Ok(known(&config)), true), (Err("not PEM".to_owned()), false)] {
        for (age, looks) in [(LONG, 1), (Duration::ZERO, 5)] {
            let begun = Arc::new(AtomicUsize::new(0));
            let (count, found) = (Arc::clone(&begun), found.clone());
            let reader = move |_: &Key, _| {
                count.fetch_add(1, Ordering::SeqCst);
                found.clone()
            };
            let trust = trust(Box::new(reader), age);
            for _ in 0..5 {
                let found = trust.config(key("/any"), within(PATIENCE)).await;
                assert_eq!(found.is_ok(), is_good);
            }
            assert_eq!(begun.load(Ordering::SeqCst), looks, "{age:?}");
        }
    }
}

/// As with as many tasks as the unit may have.
#[tokio::test]
async fn without_a_thread_to_be_had_what_was_read_once_is_gone_on_with() {
    let config = any();
    let answer = Arc::clone(&config);
    let threads = AtomicUsize::new(1);
    let few = move |name: &str, work: Box<dyn FnOnce() + Send>| {
        let one_less = |left: usize| left.checked_sub(1);
        match threads.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less) {
            Ok(_) => spawn(name, work),
            Err(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    };
    let reader = Box::new(move |_: &Key, _| Ok(known(&answer)));
    let trust = Trust::new(reader, Box::new(few), Duration::ZERO);
    for _ in 0..3 {
        let found = trust.config(key("/known"), within(PATIENCE)).await.unwrap();
        assert!(Arc::ptr_eq(&found, &config));
    }
    let why = trust.config(key("/new"), within(PATIENCE)).await.unwrap_err();
    assert!(why.starts_with("cannot read ca /new: no thread can be made ("), "{why}");
}
