//! Random histories: sources own what they say, whatever happens.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// 10.0.0.1 to 10.0.0.6.
type Who = u8;

#[derive(Clone, Debug)]
enum Step {
    Hear(bool, BTreeSet<Who>, u16),
    Reload { members: BTreeSet<Who>, dns: bool },
    Add(Who),
    Remove(Who),
    Weight(Who, u16),
    Health(Who, bool),
    Way(Who, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 1..=6_u8;
    let some = || prop::collection::btree_set(1..=6_u8, 0..4);
    prop_oneof![
        4 => (any::<bool>(), some(), 1..3_u16).prop_map(|(dns, who, weight)| Step::Hear(dns, who, weight)),
        1 => (some(), any::<bool>()).prop_map(|(members, dns)| Step::Reload { members, dns }),
        1 => who().prop_map(Step::Add),
        1 => who().prop_map(Step::Remove),
        1 => (who(), 0..3_u16).prop_map(|(who, weight)| Step::Weight(who, weight)),
        5 => (who(), any::<bool>()).prop_map(|(who, well)| Step::Health(who, well)),
        3 => (who(), any::<bool>()).prop_map(|(who, known)| Step::Way(who, known)),
    ]
}

fn at(who: Who) -> String {
    format!("10.0.0.{who}")
}

fn file(members: &BTreeSet<Who>, dns: bool) -> String {
    let members: Vec<String> = members.iter().map(|who| format!("{:?}", at(*who))).collect();
    let text = FOUND.replace("\"10.0.0.1\"", &members.join(", "));
    if dns { text } else { text.replace("[[pool.discover]]\ntype = \"dns\"\nname = \"a.example\"\n", "") }
}

/// Who claims what, by their own word.
#[derive(Default)]
struct Claims {
    file: BTreeSet<Who>,
    cli: BTreeSet<Who>,
    said: BTreeMap<&'static str, BTreeMap<Who, u16>>,
    dns: bool,
}

fn take(world: &mut World, claims: &mut Claims, step: &Step) -> Result<Outcome, TestCaseError> {
    let outcome = match step {
        Step::Hear(dns, who, weight) => {
            let from = if *dns { DNS } else { FILE };
            let addresses: Vec<String> = who.iter().map(|who| at(*who)).collect();
            let entries: Vec<(&str, u16)> = addresses.iter().map(|text| (text.as_str(), *weight)).collect();
            if (from == FILE || claims.dns) && !who.is_empty() {
                claims.said.insert(from, who.iter().map(|who| (*who, *weight)).collect());
            }
            world.hear(from, &entries)
        }
        Step::Reload { members, dns } => match world.reload(&file(members, *dns)) {
            Ok(outcome) => {
                (claims.file, claims.dns) = (members.clone(), *dns);
                if !dns {
                    claims.said.remove(DNS);
                }
                outcome
            }
            Err(refusal) => {
                prop_assert_eq!(refusal.code, RefusalCode::LastBackend);
                Outcome::default()
            }
        },
        Step::Add(who) => {
            claims.cli.insert(*who);
            world.try_do(add("web", &at(*who))).map_err(|refusal| TestCaseError::fail(refusal.to_string()))?
        }
        Step::Remove(who) => match world.try_do(remove("web", &at(*who))) {
            Ok(outcome) => {
                prop_assert!(claims.cli.remove(who));
                outcome
            }
            Err(refusal) => {
                prop_assert!(
                    refusal.code == RefusalCode::LastBackend || !claims.cli.contains(who),
                    "{}",
                    refusal
                );
                Outcome::default()
            }
        },
        Step::Weight(who, to) => world.try_do(weight(&at(*who), *to)).unwrap_or_default(),
        Step::Health(who, true) => world.health("web", &at(*who), Health::Healthy),
        Step::Health(who, false) => world.health("web", &at(*who), Health::Unhealthy),
        Step::Way(who, true) => world.way(&at(*who), known("192.0.2.1")),
        Step::Way(who, false) => world.way(&at(*who), unresolved("neighbour not answering")),
    };
    Ok(outcome)
}

/// Everybody claims what they said; who lingers does so because nobody else could take their place.
fn compare(world: &World, claims: &Claims) -> Result<(), TestCaseError> {
    let view = world.membership.pool_view(&name("web")).unwrap();
    let usable: BTreeSet<BackendAddress> =
        view.backends.iter().filter(|backend| backend.eligible).map(|backend| backend.id.address).collect();
    let mut wanted: BTreeMap<BackendAddress, BTreeSet<String>> = BTreeMap::new();
    let mut claim = |who: BackendAddress, by: &str| wanted.entry(who).or_default().extend([by.to_owned()]);
    claims.file.iter().for_each(|who| claim(address(&at(*who)), "file"));
    claims.cli.iter().for_each(|who| claim(address(&at(*who)), "cli"));
    for source in world.membership.sources() {
        let Some(answer) = source.answer else { continue };
        let said = &claims.said[if source.id.source == DNS { DNS } else { FILE }];
        let said: Backends = said.iter().map(|(who, weight)| (address(&at(*who)), *weight)).collect();
        prop_assert_eq!(&answer.said, &said);
        for (who, weight) in &answer.taken {
            claim(*who, &source.id.source);
            prop_assert!(answer.lingering.contains(who) != (said.get(who) == Some(weight)));
        }
        prop_assert!(said.keys().all(|who| answer.taken.contains_key(who)));
        let only_lingers = |backend: &BackendView| {
            let others = |claim: &Claim| !matches!(&claim.origin, crate::spec::Origin::Discovery { source: by } if *by == source.id.source);
            answer.lingering.contains(&backend.id.address) && !backend.claims.iter().any(others)
        };
        let rest = view.backends.iter().filter(|backend| !only_lingers(backend));
        let rest = rest.filter(|backend| usable.contains(&backend.id.address)).count();
        prop_assert!(answer.lingering.is_empty() || (rest == 0 && !usable.is_empty()), "{:?}", answer);
    }
    let members: BTreeMap<BackendAddress, BTreeSet<String>> = view
        .backends
        .iter()
        .map(|backend| {
            let by = backend.claims.iter().map(|claim| match &claim.origin {
                crate::spec::Origin::Discovery { source } => source.clone(),
                other => other.kind().to_owned(),
            });
            (backend.id.address, by.collect())
        })
        .collect();
    prop_assert_eq!(&members, &wanted);
    let table: BTreeSet<BackendAddress> = world.table("web", Variant::V4).backends.keys().copied().collect();
    prop_assert_eq!(table, wanted.into_keys().collect());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn sources_own_what_they_say_whatever_happens(steps in prop::collection::vec(step(), 1..24)) {
        let members: BTreeSet<Who> = [1].into();
        let mut world = start(&file(&members, true));
        let mut claims = Claims { file: members, dns: true, ..Claims::default() };
        let mut checks: BTreeSet<CheckId> =
            world.membership.health_targets().into_iter().map(|target| target.id).collect();
        for step in &steps {
            let (revision, overrides) = (world.membership.revision(), world.membership.overrides().len());
            let had_usable = world.membership.pool_view(&name("web")).unwrap().backends.iter().any(|b| b.eligible);
            let outcome = take(&mut world, &mut claims, step)?;
            checks.retain(|id| !outcome.checks_removed.contains(id));
            checks.extend(outcome.checks_put.iter().map(|target| target.id.clone()));
            let targets: BTreeSet<CheckId> =
                world.membership.health_targets().into_iter().map(|target| target.id).collect();
            prop_assert_eq!(&checks, &targets);
            prop_assert_eq!(world.membership.revision(), revision + u64::from(outcome.revised));
            if matches!(step, Step::Hear(..)) {
                let ended = world.membership.overrides().len() < overrides;
                prop_assert_eq!(outcome.revised, ended, "an answer is no configuration");
                let has_usable =
                    world.membership.pool_view(&name("web")).unwrap().backends.iter().any(|b| b.eligible);
                prop_assert!(has_usable || !had_usable, "no answer empties a pool");
            }
            compare(&world, &claims)?;
        }
    }
}
