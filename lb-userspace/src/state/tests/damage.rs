//! Files that are damaged, lost, of another version or not to be read.

use super::*;

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
fn every_cut_and_every_flipped_byte_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let (mut state, _) = open(directory.path());
    state.write(&record(1, TWO)).unwrap();
    drop(state);
    let path = directory.path().join("revisions/1");
    let good = fs::read(&path).unwrap();
    for bad in damages(&good) {
        fs::write(&path, &bad).unwrap();
        assert!(file::read::<Stored>(&path).is_err(), "{}", String::from_utf8_lossy(&bad));
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
fn a_file_cut_off_anywhere_or_with_any_byte_changed_is_never_a_wrong_state() {
    let directory = tempfile::tempdir().unwrap();
    let (mut state, _) = open(directory.path());
    state.write(&record(1, TWO)).unwrap();
    state.write(&record(2, ONE)).unwrap();
    let configuration = state.configuration_path(&state.kept[&2].configurations[0]);
    drop(state);
    for path in [directory.path().join("revisions/2"), configuration] {
        let whole = fs::read(&path).unwrap();
        for bad in damages(&whole) {
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
