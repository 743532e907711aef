//! The generator: the same for a seed, never without a backend, with everything in it.

use std::collections::BTreeSet;

use super::*;

fn wish(seed: u64) -> Wish {
    Wish { seed, changes: 200, pause: Duration::from_millis(1500), hosts: 6, via: Via::Direct }
}

/// Plays the script on the model alone; `look` sees it after every step.
fn replay(wish: Wish, mut look: impl FnMut(&Step, &Model, &Model)) {
    let mut model = Model::new(wish.hosts, &first_file(wish.hosts), wish.via);
    for step in write(wish) {
        model.advance(step.at);
        let before = model.clone();
        assert!(model.apply(&step.change, step.at), "{step:?} does nothing to {before:?}");
        look(&step, &before, &model);
    }
}

#[test]
fn a_seed_has_one_script_and_another_seed_another() {
    assert_eq!(write(wish(7)), write(wish(7)));
    assert_ne!(write(wish(7)), write(wish(8)));
    let longer = write(Wish { changes: 300, ..wish(7) });
    assert_eq!(longer[..200], write(wish(7)), "a longer script begins as the shorter one");
}

#[test]
fn no_step_of_any_script_takes_the_last_usable_backends() {
    for seed in 0..200 {
        replay(wish(seed), |step, before, after| {
            let serving = after.indices().filter(|backend| after.serves(*backend, step.at)).count();
            assert!(serving >= LEAST_SERVING, "seed {seed}: {step:?} leaves {serving} of {after:?}");
            let harmed = after.indices().filter(|backend| after.is_harmed(*backend)).count();
            assert!(harmed <= MOST_HARMED, "seed {seed}: {step:?}");
            if let Change::Cut(backend, _) = step.change {
                assert!(before.serves(backend, step.at), "seed {seed}: {step:?} has nothing to find out");
            }
        });
    }
}

#[test]
fn no_step_is_near_a_deadline() {
    for seed in 0..100 {
        replay(wish(seed), |step, before, _| {
            let next = before.next_deadline();
            assert!(next.is_none_or(|next| next >= step.at + NEAR), "seed {seed}: {step:?}, {next:?}");
        });
    }
}

#[test]
fn every_kind_of_change_comes_in_every_long_script() {
    let all: BTreeSet<&str> = [
        "add",
        "remove",
        "remove --drain",
        "weight",
        "drain",
        "drain --deadline",
        "disable",
        "enable",
        "override clear",
        "batch",
        "rollback",
        "reload",
        "kill",
        "revive",
        "cut",
        "heal",
        "mac",
        "sigkill lbd",
        "upgrade",
    ]
    .into();
    for seed in 0..50 {
        let mut rare = BTreeSet::new();
        for part in 0..3 {
            let steps = write(wish(seed * 3 + part));
            let kinds: BTreeSet<&str> = steps.iter().map(|step| step.change.kind()).collect();
            assert!(kinds.len() >= all.len() - 3, "seed {seed}: only {kinds:?}");
            rare.extend(kinds);
        }
        assert_eq!(rare, all, "in three scripts from seed {seed}");
    }
}
