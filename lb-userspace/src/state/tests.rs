mod written;

use super::*;
use crate::config;
use crate::membership::{Override, Refusal, RefusalCode, StateOverride};

mod damage;
mod leftovers;

fn record(revision: u64, text: &str) -> Record {
    let file = config::parse(text, "lbd.toml").unwrap().spec;
    let over = Override {
        weight: Some(0),
        state: Some(StateOverride::DRAIN),
        since: Millis(1_795_248_000_123),
        by: "uid 0".to_owned(),
    };
    let mut cli = CliObjects::default();
    cli.backends.entry("web".parse().unwrap()).or_default().insert("[2001:db8::2]:8080".parse().unwrap(), 3);
    Record {
        revision,
        time: Millis(1_795_248_000_000 + revision),
        who: "uid 0".to_owned(),
        what: vec!["backend web/10.0.0.1: draining; weight 0".to_owned()],
        file: Arc::new(file),
        cli: Arc::new(cli),
        overrides: vec![OverrideEntry {
            pool: "web".parse().unwrap(),
            address: "10.0.0.1".parse().unwrap(),
            value: over,
        }],
        set_aside: None,
    }
}

std::thread_local! {
    /// Steps that writes of this thread may still make; `None`: as many as they want.
    static STEPS: std::cell::Cell<Option<u32>> = const { std::cell::Cell::new(None) };
}

/// Ends the write, as `kill -9` would: nothing is tidied up after it.
pub(super) fn step() {
    let left = STEPS.get();
    STEPS.set(left.map(|left| left.saturating_sub(1)));
    assert!(left != Some(0), "killed");
}

const ONE: &str = r#"
[daemon]
metrics = ""
[datapath]
interfaces = ["eth0"]
[datapath.timeouts]
tcp = "1h30s"
[[service]]
name = "web"
listen = ["203.0.113.10:80/tcp", "[2001:db8::10]:80/tcp"]
backends = ["10.0.0.1", { address = "2001:db8::1", weight = 5 }]
health = { type = "http", path = "/healthz", interval = "1500ms", expect = [200, 204] }
"#;

const TWO: &str = r#"
[datapath]
interfaces = ["eth0"]
[[service]]
name = "dns"
listen = ["203.0.113.10:53/udp"]
backends = ["10.0.0.1"]
"#;

/// A file's bytes cut off anywhere, and with each byte changed.
pub(super) fn damages(whole: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let cut = (0..whole.len()).map(|length| whole[..length].to_vec());
    let flipped = (0..whole.len()).map(|position| {
        let mut bad = whole.to_vec();
        bad[position] ^= 0x20;
        bad
    });
    cut.chain(flipped)
}

fn open(path: &Path) -> (StateDir, Left) {
    StateDir::open(path).unwrap()
}

#[test]
fn what_is_written_is_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let (mut state, left) = open(&path);
    assert!(left.last.is_none() && left.highest == 0 && left.damaged.is_empty());
    state.write(&record(1, TWO)).unwrap();
    state.write(&record(2, ONE)).unwrap();
    drop(state);
    let (_state, left) = open(&path);
    assert_eq!(left.last, Some(record(2, ONE)));
    assert_eq!((left.highest, left.damaged.len()), (2, 0));
}

#[test]
fn what_is_set_aside_is_kept_and_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let aside = |text: &str| {
        let file = Arc::new(config::parse(text, "lbd.toml").unwrap().spec);
        Some(Arc::new(SetAside { file, instead: "revision 1".to_owned() }))
    };
    let back = |revision| Record { set_aside: aside(TWO), ..record(revision, ONE) };
    let (mut state, _) = open(directory.path());
    state.write(&record(1, ONE)).unwrap();
    state.write(&back(2)).unwrap();
    // Its configuration is in use as long as a kept revision names it, by whichever name.
    for revision in 3..=60 {
        state.write(&back(revision)).unwrap();
    }
    drop(state);
    let (state, left) = open(directory.path());
    assert_eq!(left.last, Some(back(60)));
    let moved = config::parse(&format!("# moved\n{TWO}"), "other.toml").unwrap().spec;
    assert!(left.instead_of(&moved).is_some(), "it means what it meant");
    assert!(left.instead_of(&record(1, ONE).file).is_none(), "a changed file wins");
    // Without it nothing can be told from a changed file.
    fs::remove_file(state.configuration_path(&state.kept[&60].configurations[1])).unwrap();
    drop(state);
    let left = open(directory.path()).1;
    assert_eq!(left.last, Some(record(60, ONE)));
    let sentence = left.damaged.values().next().unwrap();
    assert!(sentence.contains("the file as it is now is in force"), "{sentence}");
}

#[test]
fn history_is_what_was_written_the_newest_first() {
    let directory = tempfile::tempdir().unwrap();
    let (mut state, _) = open(directory.path());
    for revision in 1..=3 {
        state.write(&record(revision, if revision == 2 { TWO } else { ONE })).unwrap();
    }
    fs::write(directory.path().join("revisions/1"), "damaged").unwrap();
    drop(state);
    let (state, _) = open(directory.path());
    let numbers: Vec<u64> = state.history().map(|summary| summary.revision).collect();
    assert_eq!(numbers, [3, 2]);
    assert_eq!(state.history().next().unwrap().who, "uid 0");
    assert_eq!(state.record(2).unwrap(), record(2, TWO));
    assert!(matches!(state.record(1), Err(Unkept::Unusable { number: 1, .. })), "{:?}", state.record(1));
    assert!(matches!(state.record(9), Err(Unkept::Missing { number: 9, first: 1 })));
}

#[test]
fn only_the_last_fifty_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (mut state, _) = open(directory.path());
    state.write(&record(1, ONE)).unwrap();
    for revision in 2..=60 {
        state.write(&record(revision, TWO)).unwrap();
    }
    assert_eq!(state.numbers().unwrap(), (11..=60).collect::<Vec<_>>());
    let configurations = fs::read_dir(directory.path().join(CONFIGURATIONS)).unwrap().count();
    assert_eq!(configurations, 1);
}

#[test]
fn a_directory_serves_one_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let (state, _) = open(directory.path());
    let error = StateDir::open(directory.path()).unwrap_err();
    assert!(error.to_string().contains("is used by another lbd"), "{error}");
    assert!(is_held(directory.path()));
    drop(state);
    assert!(!is_held(directory.path()));
    open(directory.path());
}

#[test]
fn a_write_that_fails_leaves_the_revision_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let (mut state, _) = open(directory.path());
    state.write(&record(1, ONE)).unwrap();
    // A directory in the place of the file that is written first: the same path as a full or read-only disk takes.
    fs::create_dir(directory.path().join("revisions/2.new")).unwrap();
    let error = state.write(&record(2, TWO)).unwrap_err();
    assert!(error.to_string().contains("revisions/2"), "{error}");
    assert_eq!(Refusal::from(error).code, RefusalCode::NotSaved);
    drop(state);
    let (_state, left) = open(directory.path());
    assert_eq!(left.last, Some(record(1, ONE)));
    assert!(left.damaged.is_empty(), "{:?}", left.damaged);
}

/// Writes a revision and is killed after so many steps; true: it was not.
fn write_killed(state: &mut StateDir, record: &Record, steps: u32) -> bool {
    // Silent for writes that are meant to end: other tests of this process say why they fail.
    static QUIET: std::sync::Once = std::sync::Once::new();
    QUIET.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if STEPS.get() != Some(0) {
                hook(info);
            }
        }));
    });
    STEPS.set(Some(steps));
    let written = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| state.write(record)));
    STEPS.set(None);
    written.is_ok()
}

#[test]
fn whoever_is_killed_at_any_step_of_a_write_leaves_the_old_or_the_new() {
    // The new one's configuration is another, and then one that something was put in the place of as well.
    let aside = SetAside { file: Arc::clone(&record(1, ONE).file), instead: "revision 0".to_owned() };
    for set_aside in [None, Some(Arc::new(aside))] {
        let new = Record { set_aside, ..record(2, TWO) };
        let mut steps = 0;
        loop {
            let directory = tempfile::tempdir().unwrap();
            let (mut state, _) = open(directory.path());
            state.write(&record(1, ONE)).unwrap();
            let is_whole = write_killed(&mut state, &new, steps);
            drop(state);
            let (mut state, left) = open(directory.path());
            assert!(left.damaged.is_empty() && left.objects.is_none(), "step {steps}: {:?}", left.damaged);
            let last = left.last.unwrap();
            assert!(last == record(1, ONE) || last == new, "step {steps}: {last:?}");
            assert!(!is_whole || last == new, "what was acknowledged is there");
            // And goes on.
            state.write(&record(3, ONE)).unwrap();
            drop(state);
            assert_eq!(open(directory.path()).1.last, Some(record(3, ONE)));
            if is_whole {
                break;
            }
            steps += 1;
        }
        assert!(steps >= 10, "only {steps} steps");
    }
}
