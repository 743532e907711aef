//! Random targets, losses and rhythms.

use proptest::prelude::*;

use super::*;

proptest! {
    /// A healthy backend that stops answering at any moment is unhealthy interval × fall + timeout later at most,
    /// whether its failures show at once or at the timeout, also when that is longer than the interval.
    #[test]
    fn a_lost_backend_is_noticed_in_time(
        interval_ms in 10_u64..5000,
        timeout_ms in 1_u64..10_000,
        fall in 1_u32..6,
        lost_after_ms in 0_u64..20_000,
        silent in any::<bool>(),
        fast_ms in prop::option::of(10_u64..5000),
        jitter in 0_u8..=50,
    ) {
        let [interval, timeout, lost_after] = [interval_ms, timeout_ms, lost_after_ms].map(Duration::from_millis);
        let (mut questions, begin) = (Questions::new(), Instant::now());
        let lost = begin + lost_after;
        let fast_interval = fast_ms.map(|ms| Duration::from_millis(ms.min(interval_ms)));
        let jitter = Percent::new(jitter);
        let spec = HealthSpec { interval, fast_interval, jitter, timeout, fall, ..HealthSpec::default() };
        questions.put(vec![Target { initial: Health::Healthy, spec, ..target("a", 1) }], begin);
        // Failures in the order in which they are known: they all take the same time.
        let mut pending = std::collections::VecDeque::new();
        let noticed = loop {
            let due_at = questions.next_due().unwrap();
            if let Some((at, _, _)) = pending.front().copied().filter(|(at, _, _)| *at <= due_at) {
                let (_, question, probe) = pending.pop_front().unwrap();
                let latency = if silent { timeout } else { Duration::ZERO };
                let failed = ProbeReport { latency, ..report(ProbeResult::Timeout, "no answer") };
                questions.record(question, probe, failed, at);
                if questions.take_events().iter().any(|event| event.health == Health::Unhealthy) {
                    break at;
                }
                continue;
            }
            let due = questions.take_due(due_at).unwrap();
            match due_at < lost {
                true => questions.record(due.question, due.probe, well(), due_at),
                false => pending.push_back((due_at + if silent { timeout } else { Duration::ZERO }, due.question, due.probe)),
            }
        };
        prop_assert!(noticed >= lost);
        prop_assert!(noticed <= lost + interval * fall + timeout, "{:?} after the loss", noticed - lost);
        if let Some(fast) = fast_interval.filter(|_| !silent) {
            prop_assert!(noticed <= lost + interval + fast * (fall - 1), "{:?} after the loss", noticed - lost);
        }
    }

    /// Whatever comes and goes, the three indexes agree, and exactly the wanted ids are served.
    #[test]
    fn targets_come_and_go(steps in prop::collection::vec((0_usize..8, 0_u8..3, 0_u32..2, 0_u8..4), 1..60)) {
        const IDS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let (mut questions, mut now) = (Questions::new(), Instant::now());
        let mut wanted: HashMap<&str, (SocketAddr, u32)> = HashMap::new();
        for (id, last, fall, action) in steps {
            now += SECOND / 3;
            let (id, fall) = (IDS[id], 3 + fall);
            let make = |(id, (address, fall)): (&'static str, (SocketAddr, u32))| Target {
                id, address, through: None, spec: HealthSpec { fall, ..HealthSpec::default() }, initial: Health::Unknown,
            };
            match action {
                0 => { questions.remove(&[id]); wanted.remove(id); }
                1 => { wanted.insert(id, (address(last), fall)); questions.set(wanted.iter().map(|(id, what)| make((id, *what))).collect(), now); }
                2 => { wanted.insert(id, (address(last), fall)); questions.put(vec![make((id, (address(last), fall)))], now); }
                _ => { round(&mut questions, now, &well()); }
            }
            let different: HashSet<_> = wanted.values().collect();
            prop_assert_eq!(questions.len(), different.len());
            prop_assert_eq!(questions.by_id.len(), wanted.len());
            prop_assert_eq!(questions.by_address.values().map(Vec::len).sum::<usize>(), different.len());
            for (id, (address, fall)) in &wanted {
                let question = &questions.questions[&questions.by_id[id]];
                prop_assert!(question.ids.contains(id));
                prop_assert_eq!((question.address, question.spec.fall), (*address, *fall));
            }
        }
    }
}
