//! The book is right: stretches of time, stalls that last, attempts cut off.

use super::*;

fn recorder_with(attempts: &[(Kind, u64, Result<(), Failure>)]) -> (Arc<Recorder>, Instant) {
    let recorder = Arc::new(Recorder::default());
    let origin = Instant::now() - Duration::from_secs(100);
    for (kind, start_ms, outcome) in attempts {
        let mut attempt = recorder.begin(*kind, origin + Duration::from_millis(*start_ms));
        attempt.backend(Some("b1"));
        attempt.finish(*outcome);
    }
    (recorder, origin)
}

#[test]
fn an_attempt_counts_in_the_time_it_was_due() {
    let (recorder, origin) = recorder_with(&[
        (Kind::New, 10, Ok(())),
        (Kind::New, 20, Err(Failure::Refused)),
        (Kind::KeepAlive, 30, Ok(())),
        (Kind::New, 1_000, Ok(())),
    ]);
    let summary = recorder.summary(origin, origin + Duration::from_secs(1));
    assert_eq!((summary.new_connections, summary.ok, summary.failures()), (2, 2, 1));
    assert_eq!(summary.failed, BTreeMap::from([(Failure::Refused, 1)]));
    assert_eq!(summary.answered, BTreeMap::from([(Arc::from("b1"), 1)]));
    assert!(summary.longest_stall >= Duration::from_secs(99), "{summary:?}");
}

#[test]
fn a_download_counts_when_it_ended() {
    let (recorder, origin) = recorder_with(&[(Kind::Download, 10, Err(Failure::Reset))]);
    assert_eq!(recorder.summary(origin, origin + Duration::from_secs(1)).failures(), 0);
    assert_eq!(recorder.summary(origin, Instant::now() + Duration::from_secs(1)).failures(), 1);
}

#[test]
fn a_stall_is_seen_while_it_lasts_and_belongs_to_when_it_began() {
    let recorder = Arc::new(Recorder::default());
    let origin = Instant::now() - Duration::from_secs(100);
    let mut download = recorder.begin(Kind::Download, origin);
    let before = origin + Duration::from_secs(1);
    assert!(recorder.summary(origin, before).longest_stall >= Duration::from_secs(100));
    download.progress();
    let later = recorder.summary(before, Instant::now() + Duration::from_secs(1));
    assert!(later.longest_stall < Duration::from_secs(50), "{later:?}");
    assert!(recorder.summary(origin, before).longest_stall >= Duration::from_secs(100));
}

#[test]
fn what_is_cut_off_is_neither_recorded_nor_in_flight() {
    let recorder = Arc::new(Recorder::default());
    let origin = Instant::now() - Duration::from_secs(1);
    let attempt = recorder.begin(Kind::New, origin);
    assert_eq!(recorder.unfinished(Instant::now()), 1);
    assert_eq!(recorder.unfinished(origin), 0);
    drop(attempt);
    assert_eq!(recorder.unfinished(Instant::now()), 0);
    assert_eq!(recorder.summary(origin, Instant::now()).new_connections, 0);
    assert_eq!(recorder.begun(), 1);
}
