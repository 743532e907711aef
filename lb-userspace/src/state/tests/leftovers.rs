//! What writes leave behind that fail or are cut off: nothing that grows, nothing that is taken for something else.

use super::*;
use crate::spec::SourceId;

/// The names in a directory, in order.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_revision_that_cannot_be_written_leaves_no_configuration_behind() {
    let directory = tempfile::tempdir().unwrap();
    let (mut state, _) = open(directory.path());
    state.write(&record(1, ONE)).unwrap();
    let before = names(&directory.path().join("configurations"));
    // A directory of its name is in the way of the revision, not of its configuration.
    fs::create_dir(directory.path().join("revisions/2")).unwrap();
    assert!(state.write(&record(2, TWO)).is_err());
    assert_eq!(names(&directory.path().join("configurations")), before);
    // One that another revision names stays.
    assert!(state.write(&record(2, ONE)).is_err());
    assert_eq!(names(&directory.path().join("configurations")), before);
    fs::remove_dir(directory.path().join("revisions/2")).unwrap();
    state.write(&record(2, TWO)).unwrap();
    assert_eq!(names(&directory.path().join("configurations")).len(), 2);
}

#[test]
fn a_start_clears_what_writes_that_were_cut_off_left() {
    let directory = tempfile::tempdir().unwrap();
    let (mut state, _) = open(directory.path());
    state.write(&record(1, ONE)).unwrap();
    drop(state);
    let configurations = names(&directory.path().join("configurations"));
    fs::create_dir_all(directory.path().join("discovered")).unwrap();
    let orphan = "0".repeat(64);
    let strange = [format!("configurations/{orphan}"), "configurations/notes".to_owned()];
    let cut = ["revisions/2.new", "configurations/x.new", "discovered/web@dns-1.new"];
    for name in strange.iter().map(String::as_str).chain(cut) {
        fs::write(directory.path().join(name), "half").unwrap();
    }
    let (state, left) = open(directory.path());
    assert_eq!(left.last, Some(record(1, ONE)));
    for name in cut {
        assert!(!directory.path().join(name).exists(), "{name}");
    }
    let kept: Vec<String> = names(&directory.path().join("configurations"));
    assert_eq!(kept, [configurations, vec!["notes".to_owned()]].concat(), "somebody's notes stay");
    drop(state);
    // Where a revision cannot be read, nobody knows what it names.
    fs::write(directory.path().join(&strange[0]), "half").unwrap();
    fs::write(directory.path().join("revisions/2"), "damaged").unwrap();
    assert_eq!(open(directory.path()).1.damaged.len(), 1);
    assert!(directory.path().join(&strange[0]).exists());
}

#[test]
fn a_torn_answer_is_no_answer() {
    let directory = tempfile::tempdir().unwrap();
    let (state, _) = open(directory.path());
    let id = SourceId { pool: "web".parse().unwrap(), source: "dns:web.example".to_owned() };
    let said = |backend: &str| {
        let backends = [(backend.parse().unwrap(), 1)].into();
        Said { time: Millis(1_000), backends, ..Said::default() }
    };
    state.answer_files().write(&id, &said("10.0.0.1")).unwrap();
    let [name] = &names(&directory.path().join("discovered"))[..] else { panic!("one file") };
    let path = directory.path().join("discovered").join(name);
    // Whole, and never put in place: the write before its last step.
    let newer = fs::read_to_string(&path).unwrap();
    state.answer_files().write(&id, &said("10.0.0.2")).unwrap();
    fs::write(path.with_file_name(format!("{name}.new")), newer).unwrap();
    assert_eq!(state.answer_files().read()[&id].backends, said("10.0.0.2").backends);
}
