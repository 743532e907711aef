//! The judge with planted faults: each has to be found, and what a change explains may not be complained of.

use super::super::change::{Change, Hand, How, Then};
use super::super::chronicle::{Ejected, Look};
use super::super::model::Model;
use super::*;
use crate::soak::Via;

const MS: fn(u64) -> Duration = Duration::from_millis;

/// What lbd says of b3. Who is healthy and in no service is ejected for a second.
fn said(at: Duration, eligible: bool, healthy: bool) -> Look {
    let ejected = Some(if healthy && !eligible { Ejected::Until(at + MS(1_000)) } else { Ejected::No });
    Look { at, backend: 2, eligible: Some(eligible), healthy: Some(healthy), ejected }
}

/// Five backends of the file, all in service from the begin on.
fn chronicle() -> Chronicle {
    checked(Via::Direct)
}

/// The same, checked by this way.
fn checked(via: Via) -> Chronicle {
    let mut chronicle = Chronicle::new(Model::new(5, &(0..5).map(|index| (index, 1)).collect(), via));
    for backend in 0..5 {
        chronicle.look(Look { backend, ..said(MS(0), true, true) });
    }
    chronicle
}

/// b3 is killed at 10 s, known as dead at 10.6 s, revived at 20 s, in service at 22 s.
fn killed() -> Chronicle {
    let mut chronicle = chronicle();
    chronicle.made(1, &Change::Kill(2), (MS(10_000), MS(10_010)));
    chronicle.look(said(MS(10_600), false, false));
    chronicle.made(2, &Change::Revive(2), (MS(20_000), MS(20_100)));
    chronicle.look(said(MS(22_000), true, true));
    chronicle
}

fn stream(backend: &str, opened: u64, ended: u64, outcome: Result<(), Fault>) -> Ended {
    let (opened, ended) = (MS(opened), MS(ended));
    Ended { number: 1, backend: Some(backend.to_owned()), opened, ended, heard: 9, outcome }
}

fn lost(from: u64, to: u64, failure: Failure) -> Evidence {
    let lost = Lost { stretch: (MS(from), MS(to)), failure, backend: None };
    Evidence { lost: vec![lost], ..Evidence::default() }
}

fn streams(ended: Ended) -> Evidence {
    Evidence { streams: vec![ended], ..Evidence::default() }
}

fn slow(backend: &str, from: u64, to: u64) -> Evidence {
    let slow = Slow { number: 1, backend: backend.to_owned(), stretch: (MS(from), MS(to)) };
    Evidence { slow: vec![slow], ..Evidence::default() }
}

fn hole(backend: &str, from: u64, to: u64, lost: u64) -> Evidence {
    let hole = Hole { flow: 4, backend: backend.to_owned(), stretch: (MS(from), MS(to)), lost };
    Evidence { holes: vec![hole], ..Evidence::default() }
}

fn moved(from: &str, left: u64, arrived: u64) -> Evidence {
    let stretch = (MS(left), MS(arrived));
    let moved = Move { flow: 4, from: from.to_owned(), to: "b1".to_owned(), stretch };
    Evidence { moves: vec![moved], ..Evidence::default() }
}

#[track_caller]
fn holds(chronicle: &Chronicle, evidence: &Evidence) {
    assert_eq!(judge(chronicle, evidence).complaints, Vec::<String>::new());
}

#[track_caller]
fn breaks(chronicle: &Chronicle, evidence: &Evidence, about: &str) {
    let complaints = judge(chronicle, evidence).complaints;
    assert!(complaints.len() == 1 && complaints[0].contains(about), "{complaints:?}");
}

#[test]
fn a_run_without_losses_holds() {
    holds(&chronicle(), &Evidence::default());
    holds(&killed(), &Evidence::default());
}

#[test]
fn a_stream_that_breaks_on_a_surviving_backend_is_found_whatever_breaks_it() {
    for fault in [Fault::Reset, Fault::Closed, Fault::Silent, Fault::Gap, Fault::WrongBytes] {
        breaks(&killed(), &streams(stream("b1", 5_000, 10_100, Err(fault))), &fault.to_string());
    }
    holds(&killed(), &streams(stream("b1", 5_000, 10_100, Ok(()))));
}

#[test]
fn a_stream_to_a_killed_backend_may_break_but_not_lose_bytes() {
    for (opened, ended) in [(5_000, 10_005), (10_300, 10_301), (5_000, 25_000)] {
        holds(&killed(), &streams(stream("b3", opened, ended, Err(Fault::Reset))));
        breaks(&killed(), &streams(stream("b3", opened, ended, Err(Fault::Gap))), "gap");
    }
    for (opened, ended) in [(1_000, 9_000), (22_000, 25_000)] {
        breaks(&killed(), &streams(stream("b3", opened, ended, Err(Fault::Reset))), "reset");
    }
}

#[test]
fn a_new_connection_may_fail_within_the_detection_window_alone() {
    holds(&killed(), &lost(10_300, 10_301, Failure::Refused));
    holds(&killed(), &lost(9_999, 10_002, Failure::Reset));
    for (from, to) in [(9_000, 9_002), (11_500, 11_501), (20_500, 20_501), (9_000, 14_000)] {
        breaks(&killed(), &lost(from, to, Failure::Refused), "refused");
    }
    // Who answered says whose fault it is.
    let mut evidence = lost(10_300, 10_301, Failure::Reset);
    evidence.lost[0].backend = Some("b1".to_owned());
    breaks(&killed(), &evidence, "answered by b1");
    evidence.lost[0].backend = Some("b3".to_owned());
    holds(&killed(), &evidence);
}

#[test]
fn a_backend_that_is_found_out_late_is_told() {
    let mut chronicle = chronicle();
    chronicle.made(1, &Change::Kill(2), (MS(10_000), MS(10_010)));
    chronicle.look(said(MS(10_000) + KILL_KNOWN + MS(100), false, false));
    breaks(&chronicle, &Evidence::default(), "b3 was killed and in service");
    // Without lbd nobody finds out.
    chronicle.down.push((MS(10_100), MS(10_500)));
    holds(&chronicle, &Evidence::default());
}

#[test]
fn a_stall_of_more_than_a_second_is_found_and_a_busy_machine_is_none() {
    breaks(&killed(), &slow("b1", 10_000, 11_001), "stalled for 1001 ms");
    holds(&killed(), &slow("b1", 10_000, 10_999));
    holds(&killed(), &slow("b3", 10_000, 14_000));
    let mut evidence = slow("b1", 10_000, 12_000);
    evidence.late = vec![(MS(9_000), MS(10_900)), (MS(10_800), MS(11_100))];
    holds(&killed(), &evidence);
    assert_eq!(judge(&killed(), &evidence).longest_stall, MS(900));
    evidence.late.truncate(1);
    breaks(&killed(), &evidence, "stalled for 1100 ms");
}

#[test]
fn what_only_the_server_saw_is_found() {
    let mut evidence = streams(stream("b1", 5_000, 9_000, Ok(())));
    evidence.servers = vec![("b1".to_owned(), 1, Fault::Gap)];
    breaks(&killed(), &evidence, "not for b1");
    evidence.streams.clear();
    evidence.abandoned.insert(1);
    holds(&killed(), &evidence);
    evidence.abandoned.clear();
    breaks(&killed(), &evidence, "not for b1");
}

#[test]
fn a_lost_datagram_needs_a_reason_and_a_flow_that_moves_too() {
    breaks(&killed(), &hole("b1", 10_100, 10_600, 1), "1 lost");
    holds(&killed(), &hole("b3", 10_100, 11_500, 3));
    breaks(&killed(), &hole("b3", 10_100, 13_500, 6), "6 lost");
    // A load that did not run sees late that all is well.
    let mut evidence = hole("b3", 10_100, 13_500, 6);
    evidence.late = vec![(MS(11_000), MS(13_000))];
    holds(&killed(), &evidence);
    holds(&killed(), &hole("b1", 10_100, 10_400, 0));
    breaks(&killed(), &hole("b1", 10_100, 11_200, 0), "0 lost");
    holds(&killed(), &moved("b3", 9_900, 11_000));
    breaks(&killed(), &moved("b3", 3_000, 3_500), "moved from b3");
    breaks(&killed(), &moved("b1", 9_900, 11_000), "moved from b1");
    let crossed = Evidence { crossed: 2, ..Evidence::default() };
    breaks(&killed(), &crossed, "2 answers");
}

#[test]
fn a_flow_that_had_to_leave_may_go_to_one_that_is_dead_and_not_known_to_be() {
    let mut chronicle = killed();
    chronicle.made(3, &Change::Reload((1..5).map(|index| (index, 1)).collect()), (MS(30_000), MS(30_050)));
    // Long after it left, and nobody else is harmed.
    breaks(&chronicle, &hole("b1", 31_000, 31_500, 1), "1 lost");
    chronicle.made(4, &Change::Kill(2), (MS(30_900), MS(30_910)));
    chronicle.look(said(MS(31_300), false, false));
    holds(&chronicle, &hole("b1", 31_000, 31_500, 1));
    // It has to be well elsewhere soon after that was found out, and who need not leave is not excused.
    breaks(&chronicle, &hole("b1", 31_000, 34_500, 7), "7 lost");
    breaks(&chronicle, &hole("b4", 31_000, 31_500, 1), "1 lost");
}

#[test]
fn a_cut_excuses_tcp_until_it_is_known_and_udp_never() {
    let mut chronicle = chronicle();
    chronicle.made(1, &Change::Cut(2, How::Drop), (MS(10_000), MS(10_010)));
    chronicle.look(said(MS(10_900), false, true));
    holds(&chronicle, &lost(10_500, 15_500, Failure::TimedOut));
    breaks(&chronicle, &lost(11_500, 16_500, Failure::TimedOut), "timed out");
    breaks(&chronicle, &hole("b3", 10_500, 11_000, 1), "1 lost");
    breaks(&chronicle, &moved("b3", 10_500, 11_000), "moved from b3");
    // It is let in again while it is still cut: another window.
    chronicle.look(said(MS(12_000), true, true));
    chronicle.look(said(MS(12_800), false, true));
    holds(&chronicle, &lost(12_500, 17_500, Failure::TimedOut));
    breaks(&chronicle, &lost(13_500, 18_500, Failure::TimedOut), "timed out");
}

/// b3 is cut at 10 s, ejected at 10.9 s, and heals at 20 s.
fn cut(via: Via) -> Chronicle {
    let mut chronicle = checked(via);
    chronicle.made(1, &Change::Cut(2, How::Drop), (MS(10_000), MS(10_010)));
    chronicle.look(said(MS(10_900), false, true));
    chronicle.made(2, &Change::Heal(2), (MS(20_000), MS(20_010)));
    chronicle
}

#[test]
fn who_was_found_out_stays_out_until_its_time_is_over() {
    // Let in at the second time, and out again.
    let let_in = |chronicle: &Chronicle, at: u64| {
        let mut chronicle = chronicle.clone();
        chronicle.look(said(MS(at), true, true));
        chronicle.look(said(MS(at + 800), false, true));
        chronicle
    };
    holds(&let_in(&cut(Via::Direct), 11_900), &Evidence::default());
    breaks(&let_in(&cut(Via::Direct), 11_300), &Evidence::default(), "let in again at 11.300 s, for 800 ms");
    // What was in force late is over in time.
    let mut late = cut(Via::Direct);
    late.look(Look { ejected: Some(Ejected::Until(MS(11_400))), ..said(MS(10_950), false, true) });
    holds(&let_in(&late, 11_400), &Evidence::default());
    breaks(&let_in(&late, 11_300), &Evidence::default(), "let in again");
    breaks(&let_in(&cut(Via::Service), 11_900), &Evidence::default(), "let in again");
    // Healed, it may be in at once.
    holds(&let_in(&cut(Via::Service), 20_300), &Evidence::default());
    // Taken away and put back it is another.
    let mut chronicle = cut(Via::Direct);
    chronicle.made(3, &Change::Hand(2, Hand::Disable), (MS(11_000), MS(11_010)));
    holds(&let_in(&chronicle, 11_300), &Evidence::default());
    // Nobody has found out.
    let mut chronicle = checked(Via::Service);
    chronicle.made(1, &Change::Cut(2, How::Drop), (MS(10_000), MS(10_010)));
    chronicle.look(Look { ejected: Some(Ejected::No), ..said(MS(10_300), false, true) });
    holds(&let_in(&chronicle, 11_000), &Evidence::default());
    // A killed one is seen by every check.
    let mut chronicle = killed();
    chronicle.look(said(MS(15_000), true, true));
    chronicle.look(said(MS(15_500), false, false));
    breaks(&chronicle, &Evidence::default(), "b3 was found out and let in again");
}

#[test]
fn a_cut_that_checks_find_out_moves_datagrams_then_and_loses_none() {
    let mut chronicle = cut(Via::Service);
    holds(&chronicle, &Evidence::default());
    breaks(&chronicle, &moved("b3", 11_500, 12_000), "moved from b3");
    chronicle.look(said(MS(14_000), false, false));
    breaks(&chronicle, &moved("b3", 11_500, 12_000), "moved from b3");
    holds(&chronicle, &moved("b3", 13_900, 14_400));
    breaks(&chronicle, &hole("b3", 13_900, 14_400, 1), "1 lost");
    // A check that was asked before it healed fails two seconds after at the latest.
    holds(&chronicle, &moved("b3", 21_900, 22_400));
    breaks(&chronicle, &moved("b3", 22_100, 22_600), "moved from b3");
}

#[test]
fn a_drain_keeps_its_streams_until_its_deadline() {
    let mut chronicle = chronicle();
    let drain = Hand::Drain { deadline: Some((MS(3_000), Then::Disable)) };
    chronicle.made(1, &Change::Hand(2, drain), (MS(10_000), MS(10_050)));
    chronicle.pass(MS(14_000));
    breaks(&chronicle, &streams(stream("b3", 5_000, 12_900, Err(Fault::Reset))), "reset");
    holds(&chronicle, &streams(stream("b3", 5_000, 13_010, Err(Fault::Reset))));
    breaks(&chronicle, &moved("b3", 12_000, 12_500), "moved from b3");
    holds(&chronicle, &moved("b3", 12_900, 13_400));
    breaks(&chronicle, &hole("b3", 12_900, 16_000, 5), "5 lost");
}

#[test]
fn a_drain_that_took_long_to_command_may_end_later() {
    let command = |took: u64| {
        let mut chronicle = chronicle();
        let drain = Hand::Drain { deadline: Some((MS(3_000), Then::Disable)) };
        chronicle.made(1, &Change::Hand(2, drain), (MS(10_000), MS(10_000 + took)));
        chronicle.pass(MS(16_000));
        chronicle
    };
    breaks(&command(50), &hole("b3", 14_400, 14_800, 1), "1 lost");
    holds(&command(1_500), &hole("b3", 14_400, 14_800, 1));
    // Who leaves late is not hurt by that.
    holds(&command(50), &moved("b3", 14_400, 14_800));
}

#[test]
fn a_mac_that_changes_costs_a_datagram_and_no_stall() {
    let mut chronicle = chronicle();
    chronicle.made(1, &Change::Mac(2), (MS(10_000), MS(10_020)));
    holds(&chronicle, &hole("b3", 10_010, 10_600, 1));
    breaks(&chronicle, &hole("b3", 11_000, 11_500, 1), "1 lost");
    breaks(&chronicle, &hole("b1", 10_010, 10_600, 1), "1 lost");
    // A machine on which nothing ran could not follow.
    let mut evidence = hole("b3", 10_600, 11_100, 1);
    breaks(&chronicle, &evidence, "1 lost");
    evidence.late = vec![(MS(10_100), MS(10_500))];
    holds(&chronicle, &evidence);
    breaks(&chronicle, &slow("b3", 10_010, 11_100), "stalled");
    breaks(&chronicle, &streams(stream("b3", 5_000, 10_100, Err(Fault::Reset))), "reset");
}
