//! The rounds of the pipeline as functions of their own: global ones to the verifier, each judged once over any context and any notes,
//! not on every path that leads to it. (As static functions they made it walk more than a million instructions.)

use aya_ebpf::bindings::xdp_md;
use lb_datapath::{
    header::{ipv4::Ipv4, ipv6::Ipv6},
    pipeline::{Notes, Outcome, Round, round},
};

use crate::{kernel::Kernel, packet::XdpPacket};

macro_rules! rounds {
    ($($name:ident = $round:ident, $observe:literal, $family:ident;)+) => {
        $(#[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(context: *mut xdp_md, notes: *mut Notes) -> u32 {
            // SAFETY: the caller's notes, or null, which the verifier demands to be looked for.
            let Some(notes) = (unsafe { notes.as_mut() }) else { return Outcome::Stops as u32 };
            // VERIFIER: "Caller passes invalid args": an argument that a round does not use would not be passed.
            // SAFETY: the kernel gives a valid context.
            let _ = unsafe { (&raw const (*context).data_end).read_volatile() };
            let kernel = Kernel::<$observe>::new(context);
            round::<$family, _, _>(Round::$round, &mut XdpPacket::new(context), &kernel, notes) as u32
        })+

        /// Calls the function of a round.
        #[inline(always)]
        pub fn call(observe: bool, v4: bool, round: Round, context: *mut xdp_md, notes: &mut Notes) -> u32 {
            $(if observe == $observe && v4 == is_v4!($family) && round == Round::$round {
                return $name(context, notes);
            })+
            Outcome::Stops as u32
        }
    };
}

macro_rules! is_v4 {
    (Ipv4) => {
        true
    };
    (Ipv6) => {
        false
    };
}

rounds! {
    lbd_steps4 = Steps, false, Ipv4;
    lbd_choose4 = Choose, false, Ipv4;
    lbd_enter4 = Enter, false, Ipv4;
    lbd_make_room4 = MakeRoom, false, Ipv4;
    lbd_back4 = Back, false, Ipv4;
    lbd_stop4 = Stop, false, Ipv4;
    lbd_steps6 = Steps, false, Ipv6;
    lbd_choose6 = Choose, false, Ipv6;
    lbd_enter6 = Enter, false, Ipv6;
    lbd_make_room6 = MakeRoom, false, Ipv6;
    lbd_back6 = Back, false, Ipv6;
    lbd_stop6 = Stop, false, Ipv6;
    explain_steps4 = Steps, true, Ipv4;
    explain_choose4 = Choose, true, Ipv4;
    explain_enter4 = Enter, true, Ipv4;
    explain_make_room4 = MakeRoom, true, Ipv4;
    explain_back4 = Back, true, Ipv4;
    explain_stop4 = Stop, true, Ipv4;
    explain_steps6 = Steps, true, Ipv6;
    explain_choose6 = Choose, true, Ipv6;
    explain_enter6 = Enter, true, Ipv6;
    explain_make_room6 = MakeRoom, true, Ipv6;
    explain_back6 = Back, true, Ipv6;
    explain_stop6 = Stop, true, Ipv6;
}

/// The outcome with this number.
#[inline(always)]
pub fn outcome(number: u32) -> Outcome {
    const PASS: u32 = Outcome::Pass as u32;
    const TRANSMIT: u32 = Outcome::Transmit as u32;
    const REDIRECT: u32 = Outcome::Redirect as u32;
    const BEGINS: u32 = Outcome::Begins as u32;
    const REPLY: u32 = Outcome::Reply as u32;
    const DROP: u32 = Outcome::Drop as u32;
    match number {
        PASS => Outcome::Pass,
        TRANSMIT => Outcome::Transmit,
        REDIRECT => Outcome::Redirect,
        BEGINS => Outcome::Begins,
        REPLY => Outcome::Reply,
        DROP => Outcome::Drop,
        _ => Outcome::Stops,
    }
}
