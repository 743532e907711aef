//! The model: the table of states in the contract with users, cell by cell.

use super::super::change::How;
use super::*;

const S: fn(u64) -> Duration = Duration::from_secs;

fn model() -> Model {
    Model::new(4, &[(0, 1), (1, 2)].into(), Via::Direct)
}

fn did(model: &mut Model, backend: Index, hand: Hand, at: u64) -> bool {
    model.apply(&Change::Hand(backend, hand), S(at))
}

#[test]
fn who_keeps_and_takes_flows_is_as_the_table_says() {
    let picture = |model: &Model| (model.keeps(1, true), model.serves(1, S(100)));
    for (hand, expected) in [
        (Hand::Weight { weight: 0 }, (true, false)),
        (Hand::Weight { weight: 5 }, (true, true)),
        (Hand::Drain { deadline: None }, (true, false)),
        (Hand::Drain { deadline: Some((S(5), Then::Keep)) }, (true, false)),
        (Hand::Disable, (false, false)),
    ] {
        let mut model = model();
        assert!(did(&mut model, 1, hand, 1));
        assert_eq!(picture(&model), expected, "{hand:?}");
        assert!(did(&mut model, 1, Hand::Clear, 2));
        assert_eq!(picture(&model), (true, true), "cleared after {hand:?}");
    }
}

#[test]
fn a_deadline_does_what_it_was_told() {
    for (then, after) in [(Then::Keep, State::Expired), (Then::Disable, State::Disabled)] {
        let mut model = model();
        assert!(did(&mut model, 1, Hand::Drain { deadline: Some((S(5), then)) }, 1));
        model.advance(S(6) - Duration::from_millis(1));
        assert!(model.keeps(1, true), "before the deadline");
        model.advance(S(6));
        assert_eq!((model.members[1].state, model.keeps(1, true)), (after, false));
    }
    let mut model = model();
    assert!(
        !did(&mut model, 1, Hand::Drain { deadline: Some((S(5), Then::Remove)) }, 1),
        "the file's backend"
    );
    assert!(did(&mut model, 2, Hand::Add { weight: 1 }, 1));
    assert!(did(&mut model, 2, Hand::Remove { drain: Some(S(3)) }, 2));
    assert!(model.keeps(2, true));
    model.advance(S(5));
    assert_eq!(model.members[2], Member::default());
}

#[test]
fn a_backend_with_two_origins_goes_with_the_last_and_its_override_with_it() {
    let mut model = model();
    assert!(did(&mut model, 1, Hand::Add { weight: 9 }, 1));
    assert_eq!(model.members[1].weight(), 2, "the file's weight counts");
    assert!(did(&mut model, 1, Hand::Drain { deadline: None }, 2));
    assert!(model.apply(&Change::Reload([(0, 1)].into()), S(3)));
    assert!(model.members[1].is_there() && model.members[1].weight() == 9);
    assert!(did(&mut model, 1, Hand::Remove { drain: None }, 4));
    assert_eq!(model.members[1], Member::default());
    assert!(!did(&mut model, 1, Hand::Enable, 5), "what is not there is not enabled");
}

#[test]
fn a_rollback_brings_all_of_it_back_and_the_file_stays_as_it_is() {
    let mut model = model();
    assert!(!model.apply(&Change::Rollback, S(1)), "nothing was changed yet");
    let before = model.members.clone();
    let file = [(0, 1), (3, 1)].into();
    assert!(model.apply(&Change::Reload(file), S(2)));
    assert!(model.apply(&Change::Rollback, S(3)));
    assert_eq!(model.members, before);
    assert_eq!(model.disk.keys().copied().collect::<Vec<_>>(), [0, 3]);
    assert!(!model.apply(&Change::Rollback, S(4)), "only once");
}

#[test]
fn a_batch_is_all_or_nothing() {
    let mut model = model();
    let before = model.clone();
    assert!(!model.apply(&Change::Batch(vec![(0, Hand::Disable), (3, Hand::Disable)]), S(1)));
    assert_eq!(model, before);
    assert!(model.apply(&Change::Batch(vec![(0, Hand::Disable), (3, Hand::Add { weight: 1 })]), S(1)));
    assert!(!model.keeps(0, true) && model.keeps(3, true));
}

#[test]
fn a_cut_leaves_udp_alone_and_each_harm_takes_longer_to_forget() {
    let mut model = model();
    assert!(model.apply(&Change::Cut(0, How::Drop), S(1)));
    assert!(!model.keeps(0, true) && model.keeps(0, false) && !model.serves(0, S(100)));
    assert!(!model.apply(&Change::Kill(0), S(2)), "once is enough");
    assert!(model.apply(&Change::Heal(0), S(5)));
    assert!(model.keeps(0, true) && !model.serves(0, S(6)) && model.serves(0, S(11)));
    assert!(model.apply(&Change::Kill(0), S(12)));
    assert!(!model.keeps(0, false));
    assert!(model.apply(&Change::Revive(0), S(16)));
    assert!(!model.serves(0, S(22)) && model.serves(0, S(24)));
}

#[test]
fn a_cut_that_checks_see_takes_udp_away_as_well() {
    let mut model = Model { via: Via::Service, ..model() };
    assert!(model.apply(&Change::Cut(0, How::Drop), S(1)));
    assert!(!model.keeps(0, true) && !model.keeps(0, false) && model.keeps(1, false));
    assert!(model.apply(&Change::Heal(0), S(5)));
    assert!(model.keeps(0, true) && model.keeps(0, false));
}
