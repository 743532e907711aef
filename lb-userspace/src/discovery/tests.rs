use std::fs;
use std::path::Path;

use super::*;
use crate::spec::{FileSource, Origin};

/// So long something may take that is awaited; nothing waits for it unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(10);

fn id(source: &str) -> SourceId {
    SourceId { pool: "web".parse().unwrap(), source: source.to_owned() }
}

fn file(path: &Path, allow_empty: bool, max_backends: u32) -> SourceSpec {
    let kind = SourceKind::File(FileSource { path: path.to_owned() });
    SourceSpec { kind, allow_empty, max_backends, origin: Origin::Cli }
}

struct World {
    sources: Sources,
    events: mpsc::UnboundedReceiver<SourceEvent>,
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        Self { sources: Sources::new(sender), events, directory: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        let fresh = self.directory.path().join("fresh");
        let path = self.directory.path().join(name);
        fs::write(&fresh, text).unwrap();
        fs::rename(fresh, &path).unwrap();
        path
    }

    /// The next event of a source as it is asked now.
    async fn next(&mut self) -> SourceEvent {
        loop {
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap();
            if self.sources.is_current(&event) {
                return event;
            }
        }
    }

    async fn backends(&mut self) -> Vec<String> {
        self.next().await.answer.unwrap().backends.keys().map(ToString::to_string).collect()
    }
}

#[tokio::test]
async fn sources_come_change_and_go() {
    let mut world = World::new();
    let path = world.write("a", "10.0.0.1\n");
    world.sources.set([(id("a"), file(&path, false, 5))]);
    assert_eq!(world.backends().await, ["10.0.0.1"]);
    // The same again, written elsewhere: it goes on.
    let moved = SourceSpec { origin: Origin::File { path: "x".into(), line: 7 }, ..file(&path, false, 5) };
    world.sources.set([(id("a"), moved)]);
    world.write("a", "10.0.0.2\n");
    assert_eq!(world.backends().await, ["10.0.0.2"]);
    assert_eq!(world.sources.started, 1);
    // Asked otherwise: it is another task, and the events of the old one are nobody's.
    world.sources.set([(id("a"), file(&path, true, 5))]);
    assert_eq!((world.backends().await, world.sources.started), (vec!["10.0.0.2".to_owned()], 2));
    let other = world.write("b", "10.0.0.9\n");
    world.sources.set([(id("b"), file(&other, true, 5))]);
    assert_eq!(world.backends().await, ["10.0.0.9"]);
    world.sources.set([]);
    world.write("b", "10.0.0.8\n");
    // Every task has ended: once the manager is gone too, nobody can send.
    drop(world.sources);
    let rest = tokio::time::timeout(PATIENCE, async { while world.events.recv().await.is_some() {} }).await;
    assert!(rest.is_ok(), "a task goes on");
}

#[tokio::test]
async fn nothing_and_too_much_are_failures() {
    let mut world = World::new();
    let path = world.write("a", "# nobody\n");
    world.sources.set([(id("a"), file(&path, false, 2))]);
    let error = world.next().await.answer.unwrap_err();
    assert!(error.ends_with("names no backend, which counts only with allow_empty = true"), "{error}");
    world.write("a", "10.0.0.1\n10.0.0.2\n10.0.0.3\n");
    let error = world.next().await.answer.unwrap_err();
    assert!(error.ends_with("line 3: here it names more than max_backends = 2"), "{error}");
    world.write("a", "10.0.0.1\n10.0.0.2\n");
    assert_eq!(world.backends().await.len(), 2);
    world.write("a", "");
    world.sources.set([(id("a"), file(&path, true, 2))]);
    assert_eq!(world.backends().await, [] as [&str; 0]);
}

/// Each is heard, and none holds another up.
#[tokio::test]
async fn a_thousand_sources_are_asked_and_ended() {
    let mut world = World::new();
    let name = |number: usize| format!("s{number}");
    let wanted: Vec<_> = (0..1_000)
        .map(|number| {
            let text = match number % 10 {
                // Garbage among them.
                7 => "\0 no address\n".to_owned(),
                _ => format!("10.0.{}.{}\n", number / 250, number % 250 + 1),
            };
            (id(&name(number)), file(&world.write(&name(number), &text), false, 5))
        })
        .collect();
    world.sources.set(wanted);
    let mut heard = std::collections::BTreeSet::new();
    let mut failures = 0;
    while heard.len() < 1_000 {
        let event = world.next().await;
        // One that fails is asked again meanwhile.
        if heard.insert(event.id) {
            failures += usize::from(event.answer.is_err());
        }
    }
    assert_eq!((failures, world.sources.started), (100, 1_000));
    world.sources.set([]);
    drop(world.sources);
    let rest = tokio::time::timeout(PATIENCE, async { while world.events.recv().await.is_some() {} }).await;
    assert!(rest.is_ok(), "a task goes on");
}

#[tokio::test]
async fn a_task_that_panics_is_told_and_begins_anew() {
    let (events, mut inbox) = mpsc::unbounded_channel();
    let begun = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let sender = events.clone();
    let begin = move || {
        let (number, events) = (begun.fetch_add(1, std::sync::atomic::Ordering::SeqCst), sender.clone());
        async move {
            assert!(number > 1, "meant to panic");
            let _unused = events.send("answered".to_owned());
            std::future::pending().await
        }
    };
    let told = move |why| events.send(why).is_ok();
    let running = tokio::spawn(keep_running(begin, told, Duration::ZERO));
    for wanted in ["a fault of lbd: meant to panic", "a fault of lbd: meant to panic", "answered"] {
        let said = tokio::time::timeout(PATIENCE, inbox.recv()).await.unwrap();
        assert_eq!(said.as_deref(), Some(wanted));
    }
    // And ends with whoever wanted it.
    running.abort();
    assert_eq!(tokio::time::timeout(PATIENCE, inbox.recv()).await.unwrap(), None);
}
