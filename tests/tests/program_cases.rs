//! The named cases on the program as it is loaded, by BPF_PROG_TEST_RUN: the same that the host model passes.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use lb_common::FEATURE_GENERIC;
use lb_datapath::testing::cases::{Case, Step, all, judge};
use lbd_tests::capability::{Capability, NEEDED};
use lbd_tests::program::{EVERYTHING, Explained, Stand, may_run, stay_on_cpu};

/// Runs the cases, those with equal constants on one program; what differs, for people.
fn judged(
    cases: Vec<Case>,
    features: impl Fn(&Case) -> u32,
    run: impl Fn(&Case, &mut Stand) -> Result<(), String> + Sync,
) -> Result<()> {
    judged_with(cases, None, features, run)
}

fn judged_with(
    cases: Vec<Case>,
    capabilities: Option<&[Capability]>,
    features: impl Fn(&Case) -> u32,
    run: impl Fn(&Case, &mut Stand) -> Result<(), String> + Sync,
) -> Result<()> {
    let mut groups: BTreeMap<(u32, u32), Vec<Case>> = BTreeMap::new();
    let count = cases.len();
    for case in cases {
        groups.entry((features(&case), case.world.flows)).or_default().push(case);
    }
    let mut wrong = Vec::new();
    for ((features, flows), cases) in groups {
        let mut stand = Stand::loaded_with("cases", features, flows, capabilities)?;
        println!("features {features:#x}, {flows} flows: {} cases", cases.len());
        let namespace = stand.namespace.clone();
        namespace.run(|| -> Result<()> {
            stay_on_cpu(0)?;
            for case in &cases {
                stand.forget()?;
                if let Err(what) = run(case, &mut stand) {
                    wrong.push(format!("{}: {what}", case.name));
                }
            }
            Ok(())
        })??;
    }
    ensure!(wrong.is_empty(), "{} of {count} cases:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// With the constants that the daemon would load for each case's services alone: dead branches are gone.
#[test]
fn every_case_goes_as_written() -> Result<()> {
    if !may_run("every_case_goes_as_written") {
        return Ok(());
    }
    judged(all(), |case| case.world.features(), judge)
}

/// With every mode and family in use: what one does not mean for another.
#[test]
fn every_case_goes_as_written_with_every_feature() -> Result<()> {
    if !may_run("every_case_goes_as_written_with_every_feature") {
        return Ok(());
    }
    // Generic mode is no feature of a service: it changes what becomes of large packets.
    judged(all(), with_everything, judge)
}

/// Loaded without CAP_PERFMON the program looks at some things in other ways, and the kernel puts barriers and masks into it.
#[test]
fn every_case_goes_as_written_with_three_capabilities() -> Result<()> {
    if !may_run("every_case_goes_as_written_with_three_capabilities") {
        return Ok(());
    }
    judged_with(all(), Some(NEEDED), with_everything, judge)
}

fn with_everything(case: &Case) -> u32 {
    EVERYTHING | case.world.features() & FEATURE_GENERIC
}

/// `lbctl explain` asks the explaining program: what it says of a packet is what becomes of it, and asking changes nothing.
#[test]
fn what_is_explained_is_what_happens() -> Result<()> {
    if !may_run("what_is_explained_is_what_happens") {
        return Ok(());
    }
    let mut cases = all();
    // Thousands of packets that only make a crowd are not asked about one by one.
    cases.retain(|case| !case.before.iter().any(|step| matches!(step, Step::Many(_))));
    judged(cases, with_everything, |case, stand| judge(case, &mut Explained(stand)))
}
