//! Interfaces with another program, without a driver, with a wrong name, and those that go and come back.

use anyhow::{Context, Result, ensure};
use lb_userspace::datapath::{Adoption, Datapath, DatapathError, Mode, Tuning, detach};
use lb_userspace::spec::{AttachMode, DatapathSpec};
use lbd_tests::program::may_run;

use super::place::{INTERFACE, Place, cable, link_id};

#[test]
fn an_interface_with_another_program_is_refused_naming_it() -> Result<()> {
    if !may_run("an_interface_with_another_program_is_refused_naming_it") {
        return Ok(());
    }
    let place = Place::new("occupied")?;
    let first = place.start()?;
    let id = place.state(&first)?.program_id;
    let pin = place.namespace.run_dir().new_pin_dir()?;
    let other = DatapathSpec { pin: pin.clone(), mode: AttachMode::Auto, ..place.spec.clone() };
    let demand = place.demand();
    let errors = place.namespace.run(|| Datapath::open(&other, Tuning::default(), &demand)?.attach())??;
    let text = errors.first().context("replaced another program")?.to_string();
    let remedy = format!("`lbd detach --pin {}` takes it off", place.spec.pin.display());
    for part in [INTERFACE, &id.to_string(), "(lbd)", "another XDP program", &remedy, "take lb0 out of"] {
        ensure!(text.contains(part), "{part}: {text}");
    }
    ensure!(link_id(&place)? == id.to_string(), "the other program is gone");
    drop(first);
    place.namespace.run(|| detach(&place.spec.pin))??;
    let errors = place.namespace.run(|| Datapath::open(&other, Tuning::default(), &demand)?.attach())??;
    ensure!(errors.is_empty(), "the remedy that was named is none: {errors:?}");
    detach(&pin)?;
    Ok(())
}

#[test]
fn a_program_without_a_link_is_refused_with_what_takes_it_off() -> Result<()> {
    if !may_run("a_program_without_a_link_is_refused_with_what_takes_it_off") {
        return Ok(());
    }
    let mut place = Place::new("nolink")?;
    place.spec.interfaces = vec!["peer0".into()];
    let mut datapath = place.open()?;
    let errors = place.namespace.run(|| datapath.attach())??;
    let text = errors.first().context("replaced another program")?.to_string();
    ensure!(text.contains("`ip link set dev peer0 xdp off` takes it off"), "{text}");
    place.namespace.ip("link set dev peer0 xdp off")?;
    place.attach(&mut datapath)
}

#[test]
fn a_vanished_interface_is_named_and_mended_when_it_is_back() -> Result<()> {
    if !may_run("a_vanished_interface_is_named_and_mended_when_it_is_back") {
        return Ok(());
    }
    let place = Place::new("vanish")?;
    let mut datapath = place.start()?;
    place.namespace.ip(&format!("link delete {INTERFACE}"))?;
    let state = place.state(&datapath)?;
    ensure!(state.mode.is_none() && state.warning.is_some_and(|w| w.contains("gone")));
    let errors = place.namespace.run(|| datapath.attach())??;
    ensure!(matches!(&errors[..], [DatapathError::NoInterface { name }] if name == INTERFACE), "{errors:?}");
    // The name comes back with another index while no daemon runs; the pinned link is of nothing.
    drop(datapath);
    cable(&place.namespace)?;
    let mut datapath = place.open()?;
    ensure!(*datapath.adoption() == Adoption::Adopted, "{:?}", datapath.adoption());
    place.attach(&mut datapath)?;
    let state = place.state(&datapath)?;
    ensure!(state.mode == Some(Mode::Native) && state.warning.is_none(), "{state:?}");
    // And while it runs.
    place.namespace.ip(&format!("link delete {INTERFACE}"))?;
    cable(&place.namespace)?;
    place.attach(&mut datapath)?;
    ensure!(link_id(&place)? == place.state(&datapath)?.program_id.to_string());
    Ok(())
}

#[test]
fn auto_falls_back_to_generic_with_the_reason_and_native_does_not() -> Result<()> {
    if !may_run("auto_falls_back_to_generic_with_the_reason_and_native_does_not") {
        return Ok(());
    }
    let mut place = Place::new("generic")?;
    place.spec.interfaces = vec!["lo".into()];
    let mut datapath = place.open()?;
    let errors = place.namespace.run(|| datapath.attach())??;
    let text = errors.first().context("lo took native XDP")?.to_string();
    ensure!(text.contains("cannot attach to lo in native mode") && text.contains("generic"), "{text}");
    drop(datapath);

    place.spec.mode = AttachMode::Auto;
    let datapath = place.start()?;
    let state = place.state(&datapath)?;
    ensure!(state.mode == Some(Mode::Generic), "{state:?}");
    ensure!(state.warning.is_some_and(|w| w.contains("slower") && w.contains("no driver that supports XDP")));
    ensure!(datapath.settings().features & lb_common::FEATURE_GENERIC != 0, "the program does not know");
    drop(datapath);
    // An interface that is no longer listed loses the program; another mode takes the place of the old one.
    place.spec.interfaces = vec![INTERFACE.into()];
    let datapath = place.start()?;
    ensure!(place.state(&datapath)?.mode == Some(Mode::Native));
    let shown = place.namespace.ip("link show dev lo")?;
    ensure!(!shown.contains("xdp"), "{shown}");
    drop(datapath);
    place.spec.mode = AttachMode::Generic;
    let datapath = place.start()?;
    ensure!(place.state(&datapath)?.mode == Some(Mode::Generic));
    Ok(())
}

#[test]
fn interface_names_that_do_not_exist_are_refused() -> Result<()> {
    if !may_run("interface_names_that_do_not_exist_are_refused") {
        return Ok(());
    }
    let mut place = Place::new("noif")?;
    place.spec.interfaces = vec!["eht0".into(), INTERFACE.into()];
    let mut datapath = place.open()?;
    let errors = place.namespace.run(|| datapath.attach())??;
    let text = errors.first().context("attached to nothing")?.to_string();
    ensure!(errors.len() == 1 && text.contains("there is no interface eht0"), "{text}");
    ensure!(link_id(&place)? != "none", "the other interface has the program all the same");
    Ok(())
}
