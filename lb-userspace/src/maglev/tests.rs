use std::collections::BTreeMap;

use lb_common::Address;
use proptest::prelude::*;

use super::{MaglevTable, Member, build, unpack};

const SEED: [u64; 4] = [0x0123_4567_89ab_cdef, 2, 0xffff_0000_ffff_0000, 4];

fn member(number: u32, weight: u16) -> Member {
    Member { address: Address::v4((0x0a00_0000 + number).to_be()), port: 0, weight }
}

fn members(weights: &[u16]) -> Vec<Member> {
    weights.iter().zip(1..).map(|(weight, number)| member(number, *weight)).collect()
}

/// Addresses by slot.
fn takers(table: &MaglevTable, members: &[Member]) -> Vec<Address> {
    table.slots().iter().map(|index| members[usize::from(*index)].address).collect()
}

fn counts(table: &MaglevTable, members: &[Member]) -> Vec<u32> {
    let mut counts = vec![0; members.len()];
    table.slots().iter().for_each(|index| counts[usize::from(*index)] += 1);
    counts
}

/// The largest deviation of a share from `weight / total`, in slots.
fn deviation(len: u32, members: &[Member]) -> f64 {
    let table = build(&SEED, len, members);
    assert_eq!(table.len(), len);
    let total: f64 = members.iter().map(|member| f64::from(member.weight)).sum();
    let due = members.iter().map(|member| f64::from(member.weight) / total * f64::from(len));
    due.zip(counts(&table, members)).map(|(due, count)| (due - f64::from(count)).abs()).fold(0.0, f64::max)
}

/// Slots that moved between two tables of equal length; then those of them that neither were nor are of `changed`.
fn moved(before: &[Address], after: &[Address], changed: Address) -> (usize, usize) {
    let moves = before.iter().zip(after).filter(|(a, b)| a != b);
    let (mut all, mut collateral) = (0, 0);
    for (a, b) in moves {
        all += 1;
        collateral += usize::from(*a != changed && *b != changed);
    }
    (all, collateral)
}

#[test]
fn the_table_is_the_one_every_other_node_and_version_builds() {
    // Numbers of this implementation, kept so that an upgrade never moves a client by accident.
    let v6 = Address::from_octets([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20]);
    let members = [member(1, 1), member(2, 2), Member { address: v6, port: 8443, weight: 5 }];
    let table = build(&SEED, 1021, &members);
    assert_eq!(table.slots()[..12], [2, 2, 1, 2, 2, 2, 0, 1, 2, 2, 2, 0]);
    assert_eq!(table.hash(), 8_328_455_392_914_284_438);
}

#[test]
fn shares_follow_the_weights_to_a_slot() {
    for len in crate::spec::MAGLEV_SIZES {
        assert!(deviation(len, &members(&[1, 2, 5])) <= 1.0);
        assert!(deviation(len, &members(&[1; 100])) <= 1.0);
        assert!(deviation(len, &members(&[7, 7, 7, 300, 20, 1])) <= 2.0);
        assert!(deviation(len, &members(&[65_535, 1, 65_535, 1])) <= 2.0);
    }
    let mixed: Vec<u16> =
        (0_u16..1000).map(|i| 1 + u16::try_from(u32::from(i) * 7919 % 997).unwrap()).collect();
    let worst = deviation(65_537, &members(&mixed));
    println!("1,000 backends of weights 1 to 997, 65,537 slots: at most {worst:.2} slots off");
    assert!(worst <= 2.0);
    // A dominant weight takes up what the others' roundings leave.
    let dominated: Vec<u16> = (0..1000).map(|i| if i == 0 { 65_535 } else { 1 }).collect();
    let worst = deviation(65_537, &members(&dominated));
    println!("one of 65,535 among 999 of 1: at most {worst:.2} slots off");
    assert!(worst <= 20.0);
}

#[test]
fn one_two_five_is_within_three_percent() {
    let members = members(&[1, 2, 5]);
    for len in crate::spec::MAGLEV_SIZES {
        let counts = counts(&build(&SEED, len, &members), &members);
        for (count, weight) in counts.iter().zip([1.0, 2.0, 5.0]) {
            let due = f64::from(len) * weight / 8.0;
            assert!((f64::from(*count) / due - 1.0).abs() < 0.03, "{len}: {counts:?}");
        }
    }
}

#[test]
fn weight_0_is_not_in_the_table_and_does_not_shape_it() {
    let with = [member(1, 3), member(2, 0), member(3, 1)];
    let without = [member(1, 3), member(3, 1)];
    let (a, b) = (build(&SEED, 1021, &with), build(&SEED, 1021, &without));
    assert_eq!(takers(&a, &with), takers(&b, &without));
    assert_eq!(a.hash(), b.hash());
    assert!(build(&SEED, 1021, &[member(2, 0)]).is_empty());
    assert!(build(&SEED, 1021, &[]).is_empty());
}

#[test]
fn a_factor_common_to_all_weights_changes_nothing() {
    let (a, b) = (members(&[1, 2, 5]), members(&[11, 22, 55]));
    assert_eq!(build(&SEED, 4093, &a).slots(), build(&SEED, 4093, &b).slots());
}

#[test]
fn a_member_twice_counts_once() {
    let twice = [member(1, 1), member(2, 1), member(1, 1)];
    let once = [member(1, 1), member(2, 1)];
    assert_eq!(takers(&build(&SEED, 1021, &twice), &twice), takers(&build(&SEED, 1021, &once), &once));
}

#[test]
fn another_seed_is_another_table() {
    let members = members(&[1; 10]);
    for word in 0..4 {
        let mut seed = SEED;
        seed[word] ^= 1;
        let (a, b) = (build(&SEED, 1021, &members), build(&seed, 1021, &members));
        let same = a.slots().iter().zip(b.slots()).filter(|(a, b)| a == b).count();
        assert!(same < 250, "{same} of 1021 slots alike, 102 by chance");
    }
}

#[test]
fn one_of_a_hundred_goes_and_nearly_nobody_else_moves() {
    let all = members(&[1; 100]);
    let mut worst = 0;
    let mut sum = 0;
    let before = takers(&build(&SEED, 65_537, &all), &all);
    for gone in 0..100 {
        let rest: Vec<Member> = all.iter().enumerate().filter(|(i, _)| *i != gone).map(|(_, m)| *m).collect();
        let after = takers(&build(&SEED, 65_537, &rest), &rest);
        let (_, collateral) = moved(&before, &after, all[gone].address);
        worst = worst.max(collateral);
        sum += collateral;
    }
    println!(
        "1 of 100 removed, 65,537 slots: collateral {:.3} % on average, {:.3} % at most",
        f64::from(u32::try_from(sum).unwrap()) / 65_537.0,
        f64::from(u32::try_from(worst).unwrap()) * 100.0 / 65_537.0
    );
    assert!(worst < 655, "{worst} slots, 1 % is 655");
}

#[test]
fn a_changed_weight_moves_little_beyond_its_own_slots() {
    for (weights, changed, to) in [
        (vec![10_u16; 100], 3, 11),
        (vec![10; 100], 3, 5),
        (vec![10; 100], 3, 100),
        (vec![10, 20, 50], 2, 45),
        ((1..=100).collect(), 99, 90),
    ] {
        let before = members(&weights);
        let mut after = before.clone();
        after[changed].weight = to;
        let tables = [&before, &after].map(|members| takers(&build(&SEED, 65_537, members), members));
        let (all, collateral) = moved(&tables[0], &tables[1], before[changed].address);
        let total = f64::from(weights.iter().copied().map(u32::from).sum::<u32>());
        let own = (f64::from(weights[changed]) / total
            - f64::from(to) / (total + f64::from(to) - f64::from(weights[changed])))
        .abs();
        let percent = |slots: usize| f64::from(u32::try_from(slots).unwrap()) * 100.0 / 65_537.0;
        println!(
            "weight {} to {to} among {}: share changes by {:.3} %, {:.3} % moved, collateral {:.3} %",
            weights[changed],
            weights.len(),
            own * 100.0,
            percent(all),
            percent(collateral)
        );
        assert!(percent(collateral) < 1.0 + own * 100.0);
    }
}

#[test]
fn pack_and_unpack_are_inverse() {
    let members = members(&[1, 2, 5]);
    let table = build(&SEED, 1021, &members);
    let words = table.pack(&[7, 65_535, 1]);
    assert_eq!(words.len(), 256);
    let expected: Vec<u16> = table.slots().iter().map(|i| [7, 65_535, 1][usize::from(*i)]).collect();
    assert_eq!(unpack(&words, 1021).collect::<Vec<_>>(), expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_and_ids_do_not_matter(
        weights in prop::collection::vec(0_u16..=65_535, 1..40),
        order in any::<u64>(),
        seed in any::<[u64; 4]>(),
    ) {
        let sorted = members(&weights);
        let mut shuffled = sorted.clone();
        shuffled.sort_by_key(|member| super::mix(u64::from(member.address.words[3]) ^ order));
        let (a, b) = (build(&seed, 1021, &sorted), build(&seed, 1021, &shuffled));
        prop_assert_eq!(a.hash(), b.hash());
        prop_assert_eq!(takers(&a, &sorted), takers(&b, &shuffled));
    }

    #[test]
    fn every_slot_is_taken_and_shares_follow(weights in prop::collection::vec(0_u16..=100, 1..30), pick in 0_usize..4) {
        let len = crate::spec::MAGLEV_SIZES[pick];
        let members = members(&weights);
        let table = build(&SEED, len, &members);
        let total: u32 = weights.iter().copied().map(u32::from).sum();
        prop_assert_eq!(table.len(), if total == 0 { 0 } else { len });
        for (count, weight) in counts(&table, &members).into_iter().zip(&weights) {
            if total > 0 {
                let due = f64::from(*weight) * f64::from(len) / f64::from(total);
                prop_assert!((f64::from(count) - due).abs() <= 3.0, "{} of {}", count, due);
            }
        }
    }

    #[test]
    fn the_fast_end_of_filling_is_the_plain_algorithm(weights in prop::collection::vec(1_u16..=20, 1..12)) {
        let members = members(&weights);
        let table = build(&SEED, 1021, &members);
        prop_assert_eq!(table.slots(), &plain(1021, &members)[..]);
    }
}

/// The algorithm as the module describes it, without any shortcut.
fn plain(len: u32, members: &[Member]) -> Vec<u16> {
    let contenders = super::turns(&SEED, members);
    let mut permutations: BTreeMap<u16, _> = BTreeMap::new();
    for contender in &contenders {
        let (offset, step) = contender.permutation(len);
        let (offset, step, len) = (u64::from(offset), u64::from(step), u64::from(len));
        let slots = (0..len).map(move |i| (offset + i * step) % len);
        permutations.insert(contender.index, slots);
    }
    let mut turns: Vec<(u64, usize, u16)> = Vec::new();
    for (order, contender) in contenders.iter().enumerate() {
        let (first, interval) = contender.times();
        turns.extend((0..u64::from(len)).map(|turn| (first + turn * interval, order, contender.index)));
    }
    turns.sort_unstable();
    let mut slots: Vec<Option<u16>> = vec![None; len as usize];
    for (_, _, index) in turns {
        let free = permutations
            .get_mut(&index)
            .unwrap()
            .find(|slot| slots[usize::try_from(*slot).unwrap()].is_none());
        if let Some(slot) = free {
            slots[usize::try_from(slot).unwrap()] = Some(index);
        }
    }
    slots.into_iter().map(Option::unwrap).collect()
}
