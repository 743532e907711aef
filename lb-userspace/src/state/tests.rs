mod written;

use super::*;
use crate::config;
use crate::membership::{Override, Refusal, RefusalCode, StateOverride};

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
fn a_damaged_revision_is_passed_over_and_said() {
    for damage in [0_usize, 10, 200] {
        let directory = tempfile::tempdir().unwrap();
        let (mut state, _) = open(directory.path());
        state.write(&record(1, ONE)).unwrap();
        state.write(&record(2, ONE)).unwrap();
        drop(state);
        let newest = directory.path().join("revisions/2");
        let text = fs::read_to_string(&newest).unwrap();
        fs::write(&newest, &text[..damage]).unwrap();
        let (mut state, left) = open(directory.path());
        assert_eq!(left.last, Some(record(1, ONE)));
        assert_eq!(left.highest, 2);
        let aside = directory.path().join("revisions/2.damaged");
        assert_eq!(left.damaged.len(), 1, "{:?}", left.damaged);
        let sentence = &left.damaged[&aside];
        for part in
            ["revisions/2 cannot be used", "kept as", "revision 1 of 2026-", "changed after it is lost"]
        {
            assert!(sentence.contains(part), "{part}: {sentence}");
        }
        assert_eq!(fs::read_to_string(&aside).unwrap(), &text[..damage]);
        // Another start does not forget it, and does not give its number away.
        drop(state);
        let (again, left) = open(directory.path());
        assert_eq!((left.highest, left.last), (2, Some(record(1, ONE))));
        assert!(left.damaged[&aside].contains("by an earlier start"), "{:?}", left.damaged);
        state = again;
        state.write(&record(3, TWO)).unwrap();
        drop(state);
        assert_eq!(open(directory.path()).1.last, Some(record(3, TWO)));
        fs::remove_file(&aside).unwrap();
        assert!(open(directory.path()).1.damaged.is_empty());
    }
}

#[test]
fn a_damaged_revision_that_is_not_the_last_loses_nothing_and_without_any_all_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let (mut state, _) = open(directory.path());
    state.write(&record(1, ONE)).unwrap();
    state.write(&record(2, ONE)).unwrap();
    drop(state);
    fs::write(directory.path().join("revisions/1"), "").unwrap();
    let left = open(directory.path()).1;
    assert_eq!(left.last, Some(record(2, ONE)));
    assert!(left.damaged[&directory.path().join("revisions/1.damaged")].contains("nothing in force is lost"));
    fs::write(directory.path().join("revisions/2"), "").unwrap();
    let left = open(directory.path()).1;
    assert!(left.last.is_none() && left.damaged.len() == 2);
    assert!(left.damaged[&directory.path().join("revisions/2.damaged")].contains("no revision is whole"));
}

#[test]
fn every_flipped_byte_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let (mut state, _) = open(directory.path());
    state.write(&record(1, TWO)).unwrap();
    drop(state);
    let path = directory.path().join("revisions/1");
    let good = fs::read(&path).unwrap();
    for position in 0..good.len() {
        let mut bad = good.clone();
        bad[position] ^= 1;
        fs::write(&path, &bad).unwrap();
        assert!(file::read::<Stored>(&path).is_err(), "byte {position}");
    }
}

/// Writes two revisions, each of a configuration of its own; where the second's is.
fn write_two(path: &Path) -> PathBuf {
    let (mut state, _) = open(path);
    state.write(&record(1, ONE)).unwrap();
    state.write(&record(2, TWO)).unwrap();
    state.configuration_path(&state.kept[&2].configurations[0])
}

#[test]
fn a_damaged_configuration_is_passed_over_and_mended_by_the_next_write() {
    let directory = tempfile::tempdir().unwrap();
    let damaged = write_two(directory.path());
    fs::write(&damaged, "nothing").unwrap();
    let (mut state, left) = open(directory.path());
    assert_eq!(left.last, Some(record(1, ONE)));
    assert!(left.damaged.contains_key(&damaged.with_extension("damaged")), "{:?}", left.damaged);
    state.write(&record(3, TWO)).unwrap();
    drop(state);
    assert_eq!(open(directory.path()).1.last, Some(record(3, TWO)));
}

#[test]
fn a_configuration_that_is_lost_leaves_what_lbctl_had_done() {
    for is_missing in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let lost = write_two(directory.path());
        match is_missing {
            true => fs::remove_file(&lost).unwrap(),
            false => fs::write(&lost, "nothing").unwrap(),
        }
        // However often it is met: nothing was written meanwhile.
        for _ in 0..2 {
            let (_state, left) = open(directory.path());
            assert_eq!((left.last, left.highest), (Some(record(1, ONE)), 2));
            let Record { cli, overrides, .. } = record(2, TWO);
            assert_eq!(left.objects, Some(Objects { revision: 2, cli: (*cli).clone(), overrides }));
            assert_eq!(left.damaged.len(), 1, "{:?}", left.damaged);
            let (path, sentence) = left.damaged.iter().next().unwrap();
            assert!(path.exists(), "said by a file that is there");
            let said =
                sentence.contains("by revision 2 is in force") || sentence.contains("by an earlier start");
            assert!(said && !sentence.contains("changed after it is lost"), "{sentence}");
        }
        let (mut state, _) = open(directory.path());
        state.write(&record(3, TWO)).unwrap();
        drop(state);
        let left = open(directory.path()).1;
        assert_eq!((left.last, left.objects), (Some(record(3, TWO)), None));
    }
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
fn a_configuration_that_many_revisions_want_is_one_complaint() {
    for is_damaged in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let (mut state, _) = open(directory.path());
        for revision in 1..=3 {
            state.write(&record(revision, ONE)).unwrap();
        }
        let path = state.configuration_path(&state.kept[&3].configurations[0]);
        drop(state);
        if is_damaged {
            fs::write(&path, "nothing").unwrap();
            // The next start, which finds it put aside, adds nothing.
            assert_eq!(open(directory.path()).1.damaged.len(), 1);
        } else {
            fs::remove_file(&path).unwrap();
        }
        let left = open(directory.path()).1;
        assert!(left.last.is_none() && left.highest == 3);
        assert_eq!(left.damaged.len(), 1, "{:?}", left.damaged);
    }
}

/// Writes what another version of lbd could have written: whole, and not what this one reads.
fn write_foreign(path: &Path) {
    let text = file::json(&serde_json::json!({ "revision": "of another kind" }), path).unwrap();
    file::write(path, &text).unwrap();
}

#[test]
fn what_another_version_wrote_stays_for_that_version_and_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let (mut state, _) = open(directory.path());
    state.write(&record(1, ONE)).unwrap();
    drop(state);
    let newest = directory.path().join("revisions/2");
    write_foreign(&newest);
    // However often it is met.
    for _ in 0..2 {
        let left = open(directory.path()).1;
        assert_eq!((left.last, left.highest), (Some(record(1, ONE)), 2));
        assert_eq!(left.damaged.keys().collect::<Vec<_>>(), [&newest]);
        let sentence = &left.damaged[&newest];
        for part in [
            "revisions/2 cannot be used",
            "another version of lbd",
            "stays where it is",
            "after it is not in force",
        ] {
            assert!(sentence.contains(part), "{part}: {sentence}");
        }
        assert!(newest.exists() && !newest.with_extension("damaged").exists());
    }
    let (mut state, _) = open(directory.path());
    state.write(&record(3, TWO)).unwrap();
    drop(state);
    let left = open(directory.path()).1;
    assert_eq!(left.last, Some(record(3, TWO)));
    assert!(left.damaged[&newest].contains("nothing in force is lost"), "{:?}", left.damaged);
}

#[test]
fn what_the_system_does_not_let_us_read_is_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    let (mut state, _) = open(directory.path());
    state.write(&record(1, ONE)).unwrap();
    let configuration = state.configuration_path(&state.kept[&1].configurations[0]);
    drop(state);
    // A directory: a read that fails for root too, as with a bad disk.
    for path in [directory.path().join("revisions/2"), configuration] {
        let kept = path.with_extension("kept");
        let _absent = fs::rename(&path, &kept);
        fs::create_dir(&path).unwrap();
        let error = StateDir::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("cannot read") && error.contains(path.to_str().unwrap()), "{error}");
        assert!(path.exists(), "{} was moved", path.display());
        fs::remove_dir(&path).unwrap();
        let _absent = fs::rename(&kept, &path);
    }
    let left = open(directory.path()).1;
    assert_eq!((left.last, left.damaged.len()), (Some(record(1, ONE)), 0));
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

#[test]
fn a_file_cut_off_anywhere_or_with_any_byte_changed_is_never_a_wrong_state() {
    let directory = tempfile::tempdir().unwrap();
    let (mut state, _) = open(directory.path());
    state.write(&record(1, TWO)).unwrap();
    state.write(&record(2, ONE)).unwrap();
    let configuration = state.configuration_path(&state.kept[&2].configurations[0]);
    drop(state);
    for path in [directory.path().join("revisions/2"), configuration] {
        let whole = fs::read(&path).unwrap();
        let cut = (0..whole.len()).map(|length| whole[..length].to_vec());
        let flipped = (0..whole.len()).map(|position| {
            let mut bad = whole.clone();
            bad[position] ^= 0x20;
            bad
        });
        for bad in cut.chain(flipped) {
            fs::write(&path, &bad).unwrap();
            let left = open(directory.path()).1;
            assert_eq!(left.last, Some(record(1, TWO)), "at most the last change is lost");
            assert_eq!(left.damaged.len(), 1, "and that is said: {:?}", left.damaged);
            let Record { cli, .. } = record(2, ONE);
            assert!(left.objects.is_none_or(|objects| objects.cli == *cli));
            fs::remove_file(path.with_extension("damaged")).unwrap();
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(open(directory.path()).1.last, Some(record(2, ONE)));
    }
}
