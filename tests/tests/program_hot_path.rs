//! What the way of a known flow costs at most, on the program as it is loaded: helpers called, by name, and verified instructions.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use lb_common::FEATURE_PERFMON;
use lbd_tests::capability::NEEDED;
use lbd_tests::program::kernel_helpers::{self, Helper};
use lbd_tests::program::{
    EVERYTHING, Family, Frame, Mode, Payload, Rig, Wish, XDP_TX, flags, may_run, stay_on_cpu,
};

/// Instructions that the verifier may go through: half of what it accepts (BPF_COMPLEXITY_LIMIT_INSNS, a million). Other kernels
/// prune differently, so the other half is theirs.
const INSTRUCTION_BUDGET: u32 = 500_000;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const ACK: Payload = Payload::Tcp(flags::ACK);

/// The helpers without which the frame fares otherwise.
fn needed(rig: &Rig, frame: &Frame) -> Result<Vec<&'static str>> {
    let as_loaded = rig.run(frame)?;
    ensure!(as_loaded.code == XDP_TX, "not forwarded: {as_loaded:?}");
    let left =
        kernel_helpers::of(&rig.program)?.context("the kernel hides its symbols (kernel.kptr_restrict)")?;
    let mut needed = Vec::new();
    for helper in left {
        let twin = kernel_helpers::twin_without(rig, helper)?;
        // Loading took a while: the flow and the cached route shall be fresh.
        ensure!(rig.run(frame)? == as_loaded, "the same packet fares differently");
        if twin.run(frame.bytes(), rig.interface)? != as_loaded {
            needed.push(helper.name);
        }
    }
    Ok(needed)
}

/// A request and (nat, full-nat) a reply of an established flow.
fn known_flow(rig: &Rig) -> Result<(Frame, Option<Frame>)> {
    let syn = rig.request(CLIENT, 4000, Payload::Tcp(flags::SYN))?;
    ensure!(rig.run(&syn)?.code == XDP_TX);
    let request = rig.request(CLIENT, 4000, ACK)?;
    let sent_on = rig.run(&request)?;
    let reply = matches!(rig.wish.mode, Mode::Nat | Mode::FullNat).then(|| rig.reply(&sent_on, ACK));
    Ok((request, reply.transpose()?))
}

fn hit_path(mode: Mode, expected: &[&str]) -> Result<()> {
    for family in [Family::V4, Family::V6] {
        let rig = Rig::new("hitpath", Wish::new(mode, family, 1 << 10))?;
        let verified = rig.program.verified_instructions()?;
        let all: Vec<&str> = kernel_helpers::of(&rig.program)?
            .unwrap_or_default()
            .iter()
            .map(|helper: &Helper| helper.name)
            .collect();
        println!("{mode:?} {family:?}: {verified} instructions verified, helpers anywhere: {all:?}");
        ensure!(verified <= INSTRUCTION_BUDGET, "{verified} verified instructions, over the budget");
        rig.namespace.run(|| -> Result<()> {
            // The route to the client is cached per CPU.
            stay_on_cpu(0)?;
            let (request, reply) = known_flow(&rig)?;
            let found = needed(&rig, &request)?;
            ensure!(found == expected, "{mode:?} {family:?}: a request needs {found:?}");
            if let Some(reply) = reply {
                let found = needed(&rig, &reply)?;
                ensure!(found.is_empty(), "{mode:?} {family:?}: a reply needs {found:?}");
            }
            Ok(())
        })??;
    }
    Ok(())
}

macro_rules! hit_paths {
    ($($name:ident: $mode:ident, $expected:expr;)+) => {
        $(#[test]
        fn $name() -> Result<()> {
            if !may_run(stringify!($name)) {
                return Ok(());
            }
            hit_path(Mode::$mode, $expected)
        })+
    };
}

hit_paths! {
    a_known_flow_of_dsr_calls_no_helper: Dsr, &[];
    a_known_flow_of_ipip_calls_only_for_room_in_front: Ipip, &["bpf_xdp_adjust_head"];
    a_known_flow_of_nat_calls_no_helper_either_way: Nat, &[];
    a_known_flow_of_full_nat_calls_no_helper_either_way: FullNat, &[];
}

/// The twins would find a helper that is needed: the first reply to a client looks the route up.
#[test]
fn the_first_reply_to_a_client_is_seen_to_look_up_the_route() -> Result<()> {
    if !may_run("the_first_reply_to_a_client_is_seen_to_look_up_the_route") {
        return Ok(());
    }
    let rig = Rig::new("firstreply", Wish::new(Mode::Nat, Family::V4, 1 << 10))?;
    rig.namespace.run(|| -> Result<()> {
        stay_on_cpu(0)?;
        let (_, reply) = known_flow(&rig)?;
        let reply = reply.context("nat has replies")?;
        let left = kernel_helpers::of(&rig.program)?.context("the kernel hides its symbols")?;
        let fib = left.into_iter().find(|helper| helper.name == "bpf_xdp_fib_lookup");
        let twin = kernel_helpers::twin_without(&rig, fib.context("nat does not look routes up at all")?)?;
        let without = twin.run(reply.bytes(), rig.interface)?;
        ensure!(without.code != XDP_TX, "sent without a route: {without:?}");
        ensure!(rig.run(&reply)?.code == XDP_TX);
        // From the cache.
        ensure!(twin.run(reply.bytes(), rig.interface)?.code == XDP_TX);
        Ok(())
    })?
}

/// What the programs cost the verifier; ensures that it is within the budget.
fn within_budget(rig: &Rig, label: &str) -> Result<()> {
    for name in ["lbd", "lbd_explain", "lbd_clock"] {
        let program = lbd_tests::program::Program::from_pin(
            &lbd_tests::run_dir::pins(rig.pin()).join("programs").join(name),
        )?;
        let verified = program.verified_instructions()?;
        println!("{label}, {name}: {verified} verified, {} as they run", program.translated()?.len());
        ensure!(verified <= INSTRUCTION_BUDGET, "{label}, {name}: {verified} verified, over the budget");
    }
    Ok(())
}

/// One program with every feature.
#[test]
fn the_program_with_every_feature_is_within_the_budget() -> Result<()> {
    if !may_run("the_program_with_every_feature_is_within_the_budget") {
        return Ok(());
    }
    let wish = Wish { features: EVERYTHING, ..Wish::new(Mode::FullNat, Family::V4, 1 << 10) };
    within_budget(&Rig::new("everything", wish.clone())?, "all capabilities")?;
    let rig = Rig::new("everything", Wish { capabilities: Some(NEEDED), ..wish })?;
    within_budget(&rig, "three capabilities")
}

/// Without CAP_PERFMON the verifier also walks what a CPU might speculate: every branch, those of other features too.
#[test]
fn every_mode_is_within_the_budget_with_three_capabilities() -> Result<()> {
    if !may_run("every_mode_is_within_the_budget_with_three_capabilities") {
        return Ok(());
    }
    for mode in [Mode::Dsr, Mode::Ipip, Mode::Nat, Mode::FullNat] {
        for family in [Family::V4, Family::V6] {
            let wish = Wish { capabilities: Some(NEEDED), ..Wish::new(mode, family, 1 << 10) };
            let rig = Rig::new("three", wish)?;
            ensure!(rig.datapath.settings().features & FEATURE_PERFMON == 0, "loaded with CAP_PERFMON");
            within_budget(&rig, &format!("{mode:?} {family:?}"))?;
            rig.namespace.run(|| -> Result<()> {
                let (request, reply) = known_flow(&rig)?;
                for frame in [Some(request), reply].iter().flatten() {
                    ensure!(rig.run(frame)?.code == XDP_TX, "{mode:?} {family:?}: a packet is not forwarded");
                }
                Ok(())
            })??;
        }
    }
    Ok(())
}
