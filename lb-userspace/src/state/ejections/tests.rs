use std::fs;

use super::*;
use crate::moment::Millis;
use crate::state::tests::damages;
use crate::state::{Left, StateDir};

fn ejected(address: &str, times: u32) -> Ejected {
    let listener = "203.0.113.10:80/tcp".parse().unwrap();
    Ejected {
        pool: "web".parse().unwrap(),
        address: address.parse().unwrap(),
        until: Millis(1_795_248_000_123),
        times,
        waiting: (times > 1).then(|| [listener].into()),
        why: "0 of 12 new connections went on".to_owned(),
    }
}

fn both() -> Vec<Ejected> {
    vec![ejected("10.0.0.1", 1), ejected("[2001:db8::2]:8080", 3)]
}

fn open(path: &Path) -> Left {
    StateDir::open(path).unwrap().1
}

fn written() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let (state, left) = StateDir::open(directory.path()).unwrap();
    assert!(left.ejections.is_empty() && left.damaged.is_empty());
    state.ejection_file().write(vec![ejected("10.0.0.9", 1)]).unwrap();
    state.ejection_file().write(both()).unwrap();
    let path = directory.path().join("ejections");
    (directory, path)
}

#[test]
fn ejections_outlive_the_daemon_in_a_file_that_people_can_read() {
    let (directory, path) = written();
    let left = open(directory.path());
    assert_eq!((left.ejections, left.damaged.len(), left.highest), (both(), 0, 0));
    let text = fs::read_to_string(path).unwrap();
    for part in ["\"10.0.0.1\"", "2026-11-21T08:00:00.123Z", "\"times\": 3", "203.0.113.10:80/tcp", "0 of 12"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_file_cut_off_anywhere_or_with_any_byte_changed_ejects_nobody_and_is_kept_and_said() {
    let (directory, path) = written();
    let whole = fs::read(&path).unwrap();
    let aside = directory.path().join("ejections.damaged");
    for bad in damages(&whole) {
        fs::write(&path, &bad).unwrap();
        let left = open(directory.path());
        assert!(left.ejections.is_empty(), "{:?}", left.ejections);
        assert_eq!(left.damaged.keys().collect::<Vec<_>>(), [&aside]);
        let sentence = &left.damaged[&aside];
        for part in ["ejections cannot be used", "kept as", "found out again", "remove that file"] {
            assert!(sentence.contains(part), "{part}: {sentence}");
        }
        assert_eq!(fs::read(&aside).unwrap(), bad);
        // Until somebody has seen it.
        let left = open(directory.path());
        assert!(left.damaged[&aside].contains("by an earlier start"), "{:?}", left.damaged);
        fs::remove_file(&aside).unwrap();
        assert!(open(directory.path()).damaged.is_empty());
    }
}

#[test]
fn what_another_version_wrote_or_cannot_be_read_ends_no_start() {
    let (directory, path) = written();
    let text = file::json(&serde_json::json!({ "ejections": "of another kind" }), &path).unwrap();
    file::write_over(&path, &text).unwrap();
    let left = open(directory.path());
    assert!(left.ejections.is_empty() && left.damaged.is_empty() && path.exists());
    // A directory: a read that fails for root too, as with a bad disk.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let left = open(directory.path());
    assert!(left.ejections.is_empty());
    assert!(left.damaged[&path].contains("cannot read"), "{:?}", left.damaged);
    assert!(path.exists());
}

#[test]
fn a_file_that_cannot_be_read_is_said_until_another_is_in_its_place() {
    let (directory, path) = written();
    // A read that the system refuses to root too; others can be written over it.
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/proc/self/mem", &path).unwrap();
    let (state, mut left) = StateDir::open(directory.path()).unwrap();
    assert!(left.damaged[&path].contains("cannot read"), "{:?}", left.damaged);
    let aside = directory.path().join("ejections.damaged");
    left.damaged.insert(aside.clone(), "somebody's to look at".to_owned());
    state.ejection_file().write(both()).unwrap();
    state.ejection_file().has_replaced(&mut left.damaged);
    assert_eq!(left.damaged.keys().collect::<Vec<_>>(), [&aside]);
    drop(state);
    let left = open(directory.path());
    assert_eq!((left.ejections, left.damaged.len()), (both(), 0));
}

#[test]
fn a_write_that_was_cut_off_leaves_the_file_before_it_and_nothing_else() {
    let (directory, path) = written();
    fs::write(path.with_extension("new"), "half of").unwrap();
    assert_eq!(open(directory.path()).ejections, both());
    assert!(!path.with_extension("new").exists());
}
