//! The decision for one packet, by the program in the kernel, without side effects.
//!
//! In: protocol, source, destination, interface. Out: [`Explained`]: verdict, [`Explanation`], the packet as it would leave.
//! The packet goes through `lbd_explain`, which counts nothing and stores nothing. A TCP packet is first an ACK, which
//! finds the flow if there is one, and otherwise a SYN, which is what would begin one.

mod addresses;
mod frame;

use std::net::SocketAddr;

pub use addresses::Addresses;
use frame::{TCP_ACK, TCP_SYN, frame};

use lb_common::{Explanation, selected_by};
use zerocopy::{Immutable, IntoBytes};

use super::load::{BALANCER, EXPLAIN};
use super::{Datapath, DatapathError};
use crate::spec::Protocol;

/// A packet to ask about. Both addresses are of one family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where it comes from.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
}

/// What the program did with the packet (`enum xdp_action`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Left to the kernel.
    Pass,
    /// Dropped.
    Drop,
    /// Sent out of the interface it came by.
    Transmit,
    /// Sent out of another interface.
    Redirect,
    /// Dropped by the kernel as a fault of the program.
    Aborted,
}

impl Verdict {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
            Self::Transmit => "transmit",
            Self::Redirect => "redirect",
            Self::Aborted => "aborted",
        }
    }

    const fn from_action(action: u32) -> Self {
        match action {
            1 => Self::Drop,
            2 => Self::Pass,
            3 => Self::Transmit,
            4 => Self::Redirect,
            _ => Self::Aborted,
        }
    }
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explained {
    /// What happens to the packet.
    pub verdict: Verdict,
    /// Service, pool, backend, reason, next hop, by number.
    pub explanation: Explanation,
    /// Whether the TCP packet was a SYN (no flow was found for an ACK).
    pub is_syn: bool,
    /// The frame as it would leave.
    pub frame: Vec<u8>,
}

/// `struct xdp_md` as TEST_RUN takes it.
#[repr(C)]
#[derive(IntoBytes, Immutable)]
struct Context {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_interface: u32,
    rx_queue: u32,
    egress_interface: u32,
}

impl Datapath {
    /// Asks the program about a packet that comes in by the interface with index `interface`. `&mut`: a run that was asked for is no packet (it
    /// may be interrupted before Linux 6.3), so [`crate::store::Store::grace`] need not wait for it, and nothing is written while it is under way.
    ///
    /// # Errors
    /// [`DatapathError::Run`]; also for addresses of two families.
    pub fn explain(&mut self, question: &Question, interface: u32) -> Result<Explained, DatapathError> {
        if question.source.is_ipv4() != question.destination.is_ipv4() {
            return Err(DatapathError::Run {
                program: EXPLAIN,
                reason: "source and destination are of two address families".into(),
                remedy: "give both as IPv4 or both as IPv6".into(),
            });
        }
        match question.protocol {
            Protocol::Udp => self.explain_once(question, 0, interface),
            Protocol::Tcp => {
                let explained = self.explain_once(question, TCP_ACK, interface)?;
                let is_known =
                    matches!(explained.explanation.selected_by, selected_by::FLOW | selected_by::RESELECTED)
                        || explained.explanation.is_reply != 0;
                if is_known { Ok(explained) } else { self.explain_once(question, TCP_SYN, interface) }
            }
        }
    }

    /// Runs the balancer itself on a frame that is said to come in by an interface: counters move, flows are made, nothing
    /// is sent. For tests and measurements: unlike packets it may be interrupted before Linux 6.3, so none of a plan's writes may go beside it.
    ///
    /// # Errors
    /// [`DatapathError::Run`].
    pub fn run_frame(&self, frame: &[u8], interface: u32) -> Result<(Verdict, Vec<u8>), DatapathError> {
        let (action, frame) = self.programs.run(BALANCER, frame, context(frame, interface).as_bytes())?;
        Ok((Verdict::from_action(action), frame))
    }

    fn explain_once(
        &mut self,
        question: &Question,
        flags: u8,
        interface: u32,
    ) -> Result<Explained, DatapathError> {
        let frame = frame(question, flags);
        self.forget_explanation();
        let (action, frame) = self.programs.run(EXPLAIN, &frame, context(&frame, interface).as_bytes())?;
        let explanation = self.maps.explanation.read(0).unwrap_or_default();
        Ok(Explained { verdict: Verdict::from_action(action), explanation, is_syn: flags == TCP_SYN, frame })
    }

    /// The program writes down what it finds and nothing else: what it found the last time must not be there any more.
    fn forget_explanation(&mut self) {
        let nothing = Explanation { slot: u32::MAX, ..Explanation::default() };
        let (words, _) = nothing.as_bytes().as_chunks();
        for (stored, word) in self.maps.explanation.words().iter().zip(words) {
            stored.store(u64::from_ne_bytes(*word));
        }
    }
}

/// Without a context the kernel says the frame came by the loopback interface of its own namespace.
fn context(frame: &[u8], interface: u32) -> Context {
    let data_end = u32::try_from(frame.len()).unwrap_or_default();
    Context {
        data: 0,
        data_end,
        data_meta: 0,
        ingress_interface: interface,
        rx_queue: 0,
        egress_interface: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_verdicts() {
        assert_eq!(Verdict::from_action(2).as_str(), "pass");
        assert_eq!(Verdict::from_action(3), Verdict::Transmit);
        assert_eq!(Verdict::from_action(0), Verdict::Aborted);
        assert_eq!(Verdict::from_action(99), Verdict::Aborted);
    }
}
