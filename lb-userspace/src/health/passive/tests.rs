use super::*;
use crate::desired::Variant;

const PATIENCE: Duration = Duration::from_millis(300);
const BEAT_MS: u64 = 100;

/// Backends, each with what it does with a connection, and clients that never stop.
struct Scene {
    watch: Watch,
    now: u64,
    tallies: Vec<Tally>,
    random: u64,
}

#[derive(Clone, Copy)]
struct Does {
    /// Real connections a second.
    rate: u64,
    /// Forged SYNs a second, of which nothing comes.
    forged: u64,
    /// Of a hundred real connections.
    succeed: u64,
    /// Milliseconds from a client's SYN to its next packet.
    delay_ms: u64,
}

const WELL: Does = Does { rate: 33, forged: 0, succeed: 100, delay_ms: 5 };
const DEAD: Does = Does { succeed: 0, ..WELL };

fn key(number: usize) -> BackendKey {
    format!("10.0.0.{}", number + 1).parse().unwrap()
}

fn table() -> PoolKey {
    PoolKey { name: "web".to_owned(), variant: Variant::V4 }
}

impl Scene {
    fn new(backends: usize, seed: u64) -> Self {
        let tally = Tally { slots: 300, ..Tally::default() };
        Self { watch: Watch::default(), now: 0, tallies: vec![tally; backends], random: seed | 1 }
    }

    /// xorshift64*, from 0 to 1.
    fn chance(&mut self) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        #[expect(clippy::cast_precision_loss, reason = "53 bits are enough")]
        let share = (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64;
        share
    }

    /// How many of a rate fall into one beat: at random, as independent clients come.
    fn arrivals(&mut self, rate: u64) -> u64 {
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let (mut left, limit) = (1.0, (-(rate as f64) / 10.0).exp());
        if rate > 5_000 {
            return rate / 10;
        }
        for count in 0.. {
            left *= self.chance();
            if left < limit {
                return count;
            }
        }
        0
    }

    /// Goes on for so long; suspects with the moment they were first suspect.
    fn run(&mut self, ms: u64, does: &[Does]) -> BTreeMap<BackendKey, u64> {
        let mut suspects = BTreeMap::new();
        let mut coming: Vec<(u64, usize, u64)> = Vec::new();
        let end = self.now + ms;
        while self.now < end {
            for (number, does) in does.iter().enumerate() {
                let real = self.arrivals(does.rate);
                let forged = self.arrivals(does.forged);
                let mut good = 0;
                for _ in 0..real {
                    #[expect(clippy::cast_precision_loss, reason = "a percentage")]
                    let is_good = self.chance() * 100.0 < does.succeed as f64;
                    good += u64::from(is_good);
                }
                self.tallies[number].begun += real + forged;
                coming.push((self.now + does.delay_ms, number, good));
            }
            self.now += BEAT_MS;
            let now = self.now;
            coming.retain(|(at, number, good)| {
                if *at <= now {
                    self.tallies[*number].continued += good;
                }
                *at > now
            });
            let tallies =
                self.tallies.iter().enumerate().map(|(number, tally)| (key(number), *tally)).collect();
            for suspect in self.watch.observe(Millis(self.now), &table(), tallies, PATIENCE) {
                suspects.entry(suspect.backend).or_insert(self.now);
            }
        }
        suspects
    }
}

#[test]
fn one_that_is_cut_is_found_within_1200_ms_at_33_connections_a_second() {
    let mut times = Vec::new();
    for seed in 1..=500 {
        let mut scene = Scene::new(3, seed * 7919);
        assert_eq!(scene.run(10_000, &[WELL; 3]), BTreeMap::new());
        let cut = scene.now;
        let suspects = scene.run(3_000, &[WELL, DEAD, WELL]);
        assert_eq!(suspects.keys().copied().collect::<Vec<_>>(), [key(1)]);
        times.push(suspects[&key(1)] - cut);
    }
    times.sort_unstable();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    eprintln!("found after {median} ms in half of {} histories, {worst} ms at worst", times.len());
    assert!(worst <= 1_200, "{worst} ms at worst");
}

#[test]
fn nine_of_ten_times_it_takes_less_than_a_second() {
    let mut times: Vec<u64> = (1..=101)
        .map(|seed| {
            let mut scene = Scene::new(3, seed * 104_729);
            scene.run(5_000, &[WELL; 3]);
            let cut = scene.now;
            scene.run(3_000, &[WELL, WELL, DEAD])[&key(2)] - cut
        })
        .collect();
    times.sort_unstable();
    assert!(times[90] < 1_000, "{} ms", times[90]);
}

#[test]
fn a_flood_ejects_nobody() {
    for (backends, forged) in [(2, 100_000), (3, 66_000), (10, 20_000)] {
        let flooded = Does { forged, ..WELL };
        let mut scene = Scene::new(backends, 11);
        assert_eq!(scene.run(60_000, &vec![flooded; backends]), BTreeMap::new());
        // Nor does it hide one that is dead.
        let mut does = vec![flooded; backends];
        does[1] = Does { succeed: 0, ..flooded };
        assert_eq!(scene.run(5_000, &does).keys().copied().collect::<Vec<_>>(), [key(1)]);
    }
}

#[test]
fn a_flood_and_nothing_else_ejects_nobody() {
    let forged = Does { rate: 0, forged: 66_000, ..WELL };
    assert_eq!(Scene::new(3, 5).run(60_000, &[forged; 3]), BTreeMap::new());
}

#[test]
fn a_flood_that_meets_one_alone_ejects_nobody() {
    // Somebody who knew the secret, or affinity by client.
    let mut scene = Scene::new(3, 5);
    assert_eq!(scene.run(20_000, &[WELL, Does { forged: 200_000, ..WELL }, WELL]), BTreeMap::new());
}

#[test]
fn slow_clients_and_a_service_that_fails_everywhere_eject_nobody() {
    for does in [
        Does { delay_ms: 290, ..WELL },
        Does { delay_ms: 2_000, ..WELL },
        Does { succeed: 3, ..WELL },
        Does { succeed: 50, rate: 400, ..WELL },
        Does { rate: 1, ..WELL },
        Does { rate: 4_000, ..WELL },
    ] {
        assert_eq!(Scene::new(4, 3).run(60_000, &[does; 4]), BTreeMap::new());
    }
}

#[test]
fn one_that_is_a_little_slower_or_loses_a_few_is_left_alone() {
    let slower = Does { delay_ms: 250, ..WELL };
    assert_eq!(Scene::new(3, 9).run(60_000, &[WELL, slower, WELL]), BTreeMap::new());
    let lossy = Does { succeed: 80, ..WELL };
    assert_eq!(Scene::new(3, 9).run(60_000, &[WELL, lossy, WELL]), BTreeMap::new());
}

/// Slots and connections of four backends, of which one is of little weight, while the last goes and comes.
fn coming_and_going(round: u64, weak: Does) -> ([u32; 4], [Does; 4]) {
    let is_there = round.is_multiple_of(2);
    let (slots, rate) = if is_there { (300, 33) } else { (0, 0) };
    ([100, 300, 300, slots], [Does { rate: 11, ..weak }, WELL, WELL, Does { rate, ..WELL }])
}

/// Twice a second the shares change.
fn run_coming_and_going(scene: &mut Scene, rounds: u64, weak: Does) -> BTreeMap<BackendKey, u64> {
    let mut suspects = BTreeMap::new();
    for round in 0..rounds {
        let (slots, does) = coming_and_going(round, weak);
        for (tally, slots) in scene.tallies.iter_mut().zip(slots) {
            tally.slots = slots;
        }
        for (backend, at) in scene.run(500, &does) {
            suspects.entry(backend).or_insert(at);
        }
    }
    suspects
}

#[test]
fn shares_that_change_all_the_time_hide_nobody_who_is_dead() {
    for seed in 1..=100 {
        let mut scene = Scene::new(4, seed * 7919);
        assert_eq!(run_coming_and_going(&mut scene, 20, WELL), BTreeMap::new());
        let cut = scene.now;
        let suspects = run_coming_and_going(&mut scene, 8, DEAD);
        assert_eq!(suspects.keys().copied().collect::<Vec<_>>(), [key(0)], "seed {seed}");
        assert!(suspects[&key(0)] - cut <= 4_000, "seed {seed}: {}", suspects[&key(0)] - cut);
    }
}

#[test]
fn shares_that_change_all_the_time_make_nobody_suspect() {
    for weak in [WELL, Does { delay_ms: 290, ..WELL }, Does { forged: 10_000, ..WELL }] {
        assert_eq!(run_coming_and_going(&mut Scene::new(4, 77), 240, weak), BTreeMap::new());
    }
}

#[test]
fn who_comes_back_is_judged_by_what_it_does_then() {
    let mut scene = Scene::new(3, 41);
    scene.run(5_000, &[WELL; 3]);
    assert!(scene.run(1_500, &[WELL, DEAD, WELL]).contains_key(&key(1)));
    scene.tallies[1].slots = 0;
    scene.run(300, &[WELL, Does { rate: 0, ..WELL }, WELL]);
    scene.tallies[1].slots = 300;
    assert_eq!(scene.run(5_000, &[WELL; 3]), BTreeMap::new());
    // As one does that goes from the table, and one whose counters begin anew with it.
    assert!(scene.run(1_500, &[WELL, WELL, DEAD]).contains_key(&key(2)));
    let gone = scene.tallies.pop();
    scene.run(300, &[WELL; 2]);
    scene.tallies.extend(gone);
    assert_eq!(scene.run(5_000, &[WELL; 3]), BTreeMap::new());
}

#[test]
fn little_of_the_table_promises_little() {
    let mut scene = Scene::new(3, 21);
    scene.run(5_000, &[WELL; 3]);
    // The third gets hardly anything now: its clients' successes follow its share, not what it had.
    scene.tallies[2].slots = 3;
    let rare = Does { rate: 0, ..WELL };
    assert_eq!(scene.run(20_000, &[WELL, WELL, rare]), BTreeMap::new());
    scene.tallies[2].slots = 0;
    assert_eq!(scene.run(20_000, &[WELL, WELL, rare]), BTreeMap::new());
}

/// A table that was idle is looked at from its last idle look on: all that comes within one look counts.
#[test]
fn a_burst_between_two_looks_is_judged() {
    let mut watch = Watch::default();
    let idle = Tally { slots: 300, begun: 7, continued: 7, ..Tally::default() };
    let all = |tallies: [Tally; 3]| (0..).map(key).zip(tallies).collect::<BTreeMap<_, _>>();
    let burst = |continued| Tally { begun: idle.begun + 20, continued: idle.continued + continued, ..idle };
    assert!(!watch.knows(&table()));
    assert_eq!(watch.observe(Millis(60_000), &table(), all([idle; 3]), PATIENCE), []);
    let after = all([burst(0), burst(20), burst(20)]);
    assert_eq!(watch.observe(Millis(60_100), &table(), after.clone(), PATIENCE), []);
    let suspects = watch.observe(Millis(60_400), &table(), after, PATIENCE);
    assert_eq!(suspects.iter().map(|suspect| suspect.backend).collect::<Vec<_>>(), [key(0)]);
    assert!(watch.knows(&table()));
}

#[test]
fn one_without_neighbours_is_no_suspect() {
    assert_eq!(Scene::new(1, 2).run(20_000, &[DEAD]), BTreeMap::new());
    assert_eq!(Scene::new(3, 2).run(20_000, &[DEAD; 3]), BTreeMap::new());
}

#[test]
fn refusals_confirm_sooner_and_are_said() {
    let tally = |begun, continued, refused| Tally { slots: 10, begun, continued, repeated: 0, refused };
    let mut watch = Watch::default();
    let mut suspects = Vec::new();
    // One step later it would be suspect without a refusal.
    for step in 0..7_u64 {
        let tallies = [(key(0), tally(3 * step, 3 * step, 0)), (key(1), tally(3 * step, 0, 3 * step))];
        suspects = watch.observe(Millis(step * BEAT_MS), &table(), tallies.into(), PATIENCE);
        if !suspects.is_empty() {
            break;
        }
    }
    let [Suspect { backend, why }] = &suspects[..] else { panic!("{suspects:?}") };
    assert_eq!(*backend, key(1));
    assert!(why.contains("new connections went on") && why.contains("refused"), "{why}");
}

#[test]
fn counters_that_begin_anew_are_not_compared_with_the_old_ones() {
    let mut scene = Scene::new(3, 31);
    scene.run(5_000, &[WELL; 3]);
    scene.tallies[0] = Tally { slots: 300, ..Tally::default() };
    assert_eq!(scene.run(5_000, &[WELL; 3]), BTreeMap::new());
}

#[test]
fn the_tail_is_that_of_the_binomial() {
    // scipy.stats.binom.cdf
    for (count, trials, chance, expected) in
        [(0, 11, 0.5, 4.8828e-4), (2, 20, 0.5, 2.0123e-4), (300, 1000, 0.4, 3.0e-11)]
    {
        let tail = binomial_tail(count, trials, chance);
        assert!((tail / expected - 1.0).abs() < 0.05, "{count} of {trials}: {tail}");
    }
    assert_eq!(binomial_tail(6, 10, 0.5).to_bits(), 1.0_f64.to_bits());
    assert_eq!(binomial_tail(0, 0, 0.5).to_bits(), 1.0_f64.to_bits());
}

#[test]
fn the_tail_is_that_of_poisson() {
    // scipy.stats.poisson.cdf
    for (count, mean, expected) in
        [(0, 6.9, 1.0077e-3), (2, 10.0, 2.7694e-3), (5, 20.0, 7.1909e-5), (700, 1000.0, 6.933e-24)]
    {
        let tail = poisson_tail(count, mean);
        assert!((tail / expected - 1.0).abs() < 0.05, "{count} of {mean}: {tail}");
    }
    assert_eq!(poisson_tail(7, 0.0).to_bits(), 1.0_f64.to_bits());
    assert_eq!(poisson_tail(10, 5.0).to_bits(), 1.0_f64.to_bits());
}

/// Where reading the counters takes long there are looks only every few seconds, and they do find who is dead.
#[test]
fn rare_looks_find_who_is_dead() {
    let mut watch = Watch::default();
    let tally = |begun, continued| Tally { slots: 10, begun, continued, ..Tally::default() };
    let mut seen = Vec::new();
    for step in 0..4_u64 {
        let tallies = [(key(0), tally(100 * step, 100 * step)), (key(1), tally(100 * step, 0))];
        seen = watch.observe(Millis(step * 4_000), &table(), tallies.into(), PATIENCE);
        if !seen.is_empty() {
            break;
        }
    }
    assert!(matches!(&seen[..], [Suspect { backend, .. }] if *backend == key(1)), "{seen:?}");
}
