//! The rounds of the pipeline as functions of their own: global ones to the verifier, each judged once over any context and any notes,
//! not on every path that leads to it. (As static functions they made it walk more than a million instructions.)

use core::ptr::null_mut;

use aya_ebpf::bindings::xdp_md;
use lb_datapath::{
    header::{ipv4::Ipv4, ipv6::Ipv6},
    pipeline::Family,
    rounds::{Notes, Round, Turn, round},
};

use crate::{kernel::Kernel, packet::XdpPacket};

/// Rounds that need the notes of a flow that begins.
macro_rules! noted {
    ($($name:ident = $round:ident, $observe:literal, $family:ident;)+) => {
        $(#[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(context: *mut xdp_md, turn: u64, notes: *mut Notes) -> u64 {
            take::<$family, $observe>(Round::$round, context, turn, notes)
        })+

        /// Calls the function of such a round.
        #[inline(always)]
        fn call_noted(
            (observe, v4, round): (bool, bool, Round),
            context: *mut xdp_md,
            turn: u64,
            notes: *mut Notes,
        ) -> u64 {
            $(if observe == $observe && v4 == is_v4!($family) && round == Round::$round {
                return $name(context, turn, notes);
            })+
            0
        }
    };
}

/// Rounds that do not.
macro_rules! plain {
    ($($name:ident = $round:ident, $observe:literal, $family:ident;)+) => {
        $(#[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(context: *mut xdp_md, turn: u64) -> u64 {
            take::<$family, $observe>(Round::$round, context, turn, null_mut())
        })+

        /// Calls the function of such a round.
        #[inline(always)]
        fn call_plain((observe, v4, round): (bool, bool, Round), context: *mut xdp_md, turn: u64) -> u64 {
            $(if observe == $observe && v4 == is_v4!($family) && round == Round::$round {
                return $name(context, turn);
            })+
            0
        }
    };
}

#[inline(always)]
fn take<H: Family, const OBSERVE: bool>(
    which: Round,
    context: *mut xdp_md,
    turn: u64,
    notes: *mut Notes,
) -> u64 {
    // VERIFIER: "Caller passes invalid args": an argument that a round does not use would not be passed.
    // SAFETY: the kernel gives a valid context; the turn is a value of our own.
    let turn = unsafe {
        let _ = (&raw const (*context).data_end).read_volatile();
        (&raw const turn).read_volatile()
    };
    // SAFETY: the caller's notes, or null, which the verifier demands to be looked for.
    let notes = unsafe { notes.as_mut() };
    let kernel = Kernel::<OBSERVE>::new(context);
    round::<H, _, _>(which, &mut XdpPacket::new(context), &kernel, Turn(turn), notes).0
}

/// Takes the frame of the context through a round.
#[inline(always)]
pub fn call(which: (bool, bool, Round), context: *mut xdp_md, turn: Turn, notes: Option<&mut Notes>) -> Turn {
    Turn(match notes {
        Some(notes) => call_noted(which, context, turn.0, notes),
        None => call_plain(which, context, turn.0),
    })
}

macro_rules! is_v4 {
    (Ipv4) => {
        true
    };
    (Ipv6) => {
        false
    };
}

noted! {
    lbd_steps4 = Steps, false, Ipv4;
    lbd_choose4 = Choose, false, Ipv4;
    lbd_enter4 = Enter, false, Ipv4;
    lbd_make_room4 = MakeRoom, false, Ipv4;
    lbd_steps6 = Steps, false, Ipv6;
    lbd_choose6 = Choose, false, Ipv6;
    lbd_enter6 = Enter, false, Ipv6;
    lbd_make_room6 = MakeRoom, false, Ipv6;
    explain_steps4 = Steps, true, Ipv4;
    explain_choose4 = Choose, true, Ipv4;
    explain_enter4 = Enter, true, Ipv4;
    explain_make_room4 = MakeRoom, true, Ipv4;
    explain_steps6 = Steps, true, Ipv6;
    explain_choose6 = Choose, true, Ipv6;
    explain_enter6 = Enter, true, Ipv6;
    explain_make_room6 = MakeRoom, true, Ipv6;
}

plain! {
    lbd_quick4 = Quick, false, Ipv4;
    lbd_quick6 = Quick, false, Ipv6;
    lbd_back4 = Back, false, Ipv4;
    lbd_wrap4 = Wrap, false, Ipv4;
    lbd_stop4 = Stop, false, Ipv4;
    lbd_back6 = Back, false, Ipv6;
    lbd_wrap6 = Wrap, false, Ipv6;
    lbd_stop6 = Stop, false, Ipv6;
    explain_back4 = Back, true, Ipv4;
    explain_wrap4 = Wrap, true, Ipv4;
    explain_stop4 = Stop, true, Ipv4;
    explain_back6 = Back, true, Ipv6;
    explain_wrap6 = Wrap, true, Ipv6;
    explain_stop6 = Stop, true, Ipv6;
}
