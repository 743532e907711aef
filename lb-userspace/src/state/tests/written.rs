//! What a change costs the disk: the file's part is written once.

use super::*;

fn next(before: &Record, revision: u64) -> Record {
    Record { revision, ..before.clone() }
}

#[test]
fn a_change_by_lbctl_writes_one_file_and_nothing_of_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let (mut state, _) = open(directory.path());
    let first = record(1, ONE);
    state.write(&first).unwrap();
    let path = state.configuration_path(&state.kept[&1].configurations[0]);
    let read = |path: &Path| fs::metadata(path).unwrap().accessed().unwrap();
    let before = read(&path);
    // So many steps as a write of one file has.
    STEPS.set(Some(100));
    state.write(&next(&first, 2)).unwrap();
    let steps = 100 - STEPS.get().unwrap();
    STEPS.set(Some(100));
    file::write(&directory.path().join("other"), "{}").unwrap();
    let one = 100 - STEPS.get().unwrap();
    STEPS.set(None);
    assert_eq!(steps, one);
    assert_eq!(read(&path), before, "it was read again");
    drop(state);
    assert_eq!(open(directory.path()).1.last, Some(next(&first, 2)));
}

#[test]
fn a_configuration_that_somebody_touched_is_made_whole_by_the_next_change() {
    type Harm = fn(&Path);
    let harms: [Harm; 3] = [
        |path| fs::remove_file(path).unwrap(),
        |path| fs::write(path, "{}").unwrap(),
        |path| {
            // As long as before.
            let text = fs::read_to_string(path).unwrap();
            fs::write(path, text.replace("10.0.0.1", "10.0.0.7")).unwrap();
        },
    ];
    for harm in harms {
        let directory = tempfile::tempdir().unwrap();
        let (mut state, _) = open(directory.path());
        let first = record(1, ONE);
        state.write(&first).unwrap();
        harm(&state.configuration_path(&state.kept[&1].configurations[0]));
        state.write(&next(&first, 2)).unwrap();
        drop(state);
        let left = open(directory.path()).1;
        assert_eq!((left.last, left.damaged.len()), (Some(next(&first, 2)), 0));
    }
}
