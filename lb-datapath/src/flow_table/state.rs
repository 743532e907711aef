//! The state of a flow, and what a packet makes of it.
//!
//! In: a state, and a segment of the client or of the backend. Out: the state after it. Invariants: a reply establishes nothing; a flow that has been
//! established ends with a reset or with both sides' FIN, where both are seen. (Races of two CPUs: of two FINs at the same moment one may
//! be lost, and the flow is half-closed until its time is over.)

use crate::{constants::Constants, parse::Segment};

/// State of an entry; says the protocol too, so that its idle time needs no look at the service.
#[repr(u8)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum State {
    /// Free.
    #[default]
    Free = 0,
    /// TCP, one packet seen.
    TcpProbation = 1,
    /// TCP, the client answered.
    TcpEstablished = 2,
    /// TCP that is over: a RST after its beginning, FIN of both sides, or of the client where replies do not come through here; or one that
    /// has begun with FIN or RST.
    TcpEnding = 3,
    /// UDP, one packet seen.
    UdpProbation = 4,
    /// UDP, more than one packet seen.
    UdpEstablished = 5,
    /// TCP of nat or full-nat, half-closed (RFC 9293 §3.6): the client has sent FIN, the backend may still send.
    TcpClientDone = 6,
    /// TCP of nat or full-nat, half-closed: the backend has sent FIN, the client may still send.
    TcpBackendDone = 7,
}

impl State {
    /// The state with this number, of which the low three bits count.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        match number & 7 {
            1 => Self::TcpProbation,
            2 => Self::TcpEstablished,
            3 => Self::TcpEnding,
            4 => Self::UdpProbation,
            5 => Self::UdpEstablished,
            6 => Self::TcpClientDone,
            7 => Self::TcpBackendDone,
            _ => Self::Free,
        }
    }

    /// Whether it is a state of TCP.
    #[inline(always)]
    pub const fn is_tcp(self) -> bool {
        !matches!(self, Self::Free | Self::UdpProbation | Self::UdpEstablished)
    }

    /// Whether one side of a TCP connection at least is done, so that a SYN of the client begins another.
    #[inline(always)]
    pub const fn is_closing(self) -> bool {
        // VERIFIER: one branch, not three, each of which doubles the paths from there on. Bits 3, 6 and 7.
        (0b1100_1000_u32 >> self as u32) & 1 != 0
    }

    /// How long an entry in this state lives without a packet, ticks.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "one of four 16-bit times")]
    pub fn idle_ticks(self, constants: impl Constants) -> u16 {
        if matches!(self, Self::Free) { 0 } else { Self::idle_ticks_of(constants, self as u64) as u16 }
    }

    /// Whether an entry in this state may give way to a newcomer that finds no better.
    #[inline(always)]
    pub const fn is_probation(self) -> bool {
        matches!(self, Self::TcpProbation | Self::UdpProbation)
    }

    /// How long an entry in the state with this number lives without a packet, ticks. A table in one word instead of branches: every
    /// branch here would double the paths the verifier walks for each entry of a bucket.
    #[inline(always)]
    pub(super) fn idle_ticks_of(constants: impl Constants, number: u64) -> u64 {
        // By state: 1 → 0, 2 → 1, 3, 6 and 7 → 2, 4 and 5 → 3.
        let index = (0x2233_2100_u64 >> (4 * number)) & 3;
        (constants.idle_ticks() >> (16 * index)) & 0xffff
    }

    /// The state of a flow that begins with this packet of the client.
    #[inline(always)]
    pub fn first(segment: &Segment) -> Self {
        if !segment.is_tcp() {
            Self::UdpProbation
        } else if segment.is_end() {
            Self::TcpEnding
        } else {
            Self::TcpProbation
        }
    }

    /// The state after another packet of the client. Only such a packet establishes: a reply must not, or a flood with a forged source
    /// would promote itself. By tables of four bits a state instead of branches, which would come one after another on every packet. Where
    /// replies come through here (`translated_bit`, 0 or 1), a client's FIN closes its half alone; elsewhere nobody would see the other half's.
    #[inline(always)]
    pub fn after_client(self, segment: &Segment, translated_bit: u32) -> Self {
        // After RST, FIN, SYN, anything else; from state 7 down to 0. A flow of UDP has no such flags. A reset does not end what is on probation: a
        // client that has sent a SYN answers so to what is not for it (RFC 9293 §3.10.7.3), as to what comes late to a flow of full-nat that had
        // its port before, and goes on.
        let next: u32 = if segment.is_end() {
            if segment.is_reset() {
                0x3355_3310
            } else {
                // Translated: 0x3655_3660.
                0x3355_3330 + translated_bit * 0x0300_0330
            }
        } else if segment.is_syn() {
            0x7655_3210
        } else {
            0x7655_3220
        };
        self.of_table(next)
    }

    /// The state after a reply. It never establishes. A FIN closes the backend's half; while the flow is on probation it says nothing: it is of the
    /// connection that had the port before, whose last acknowledgement was lost (a backend sends no FIN before its client has gone on). By
    /// a table, as for the client.
    #[inline(always)]
    pub fn after_reply(self, segment: &Segment) -> Self {
        if !segment.is_tcp() || !segment.is_end() {
            return self;
        }
        // After FIN 0x7355_3710, after RST 0x3355_3330. VERIFIER: no branch between the two.
        self.of_table(0x7355_3710 - segment.reset_bit() * 0x4000_03e0)
    }

    #[inline(always)]
    const fn of_table(self, next: u32) -> Self {
        Self::from_number((next >> (4 * self as u32)) as u8)
    }
}

#[cfg(test)]
mod tests {
    use lb_common::Settings;

    use super::{State::*, *};
    use crate::header::tcp::{ACK, FIN, RST, SYN};

    const TCP: [State; 5] = [TcpProbation, TcpEstablished, TcpEnding, TcpClientDone, TcpBackendDone];

    fn segment(protocol: u8, flags: u8) -> Segment {
        Segment { extra_len: 0, ports: 0, protocol, flags, hops: 64, packet_len: 40 }
    }

    /// What becomes of the states of [`TCP`], one after another.
    fn client(flags: u8, translated_bit: u32) -> [State; 5] {
        TCP.map(|state| state.after_client(&segment(6, flags), translated_bit))
    }

    fn reply(flags: u8) -> [State; 5] {
        TCP.map(|state| state.after_reply(&segment(6, flags)))
    }

    #[test]
    fn a_client_establishes_and_closes_its_half() {
        for translated_bit in [0, 1] {
            let goes_on = [TcpEstablished, TcpEstablished, TcpEnding, TcpClientDone, TcpBackendDone];
            assert_eq!(client(ACK, translated_bit), goes_on);
            assert_eq!(client(SYN | ACK, translated_bit), goes_on);
            assert_eq!(client(SYN, translated_bit), TCP);
            for flags in [RST, RST | ACK, RST | FIN] {
                let over = [TcpProbation, TcpEnding, TcpEnding, TcpEnding, TcpEnding];
                assert_eq!(client(flags, translated_bit), over);
            }
        }
        assert_eq!(
            client(FIN | ACK, 1),
            [TcpClientDone, TcpClientDone, TcpEnding, TcpClientDone, TcpEnding],
            "the backend may still send"
        );
        assert_eq!(client(FIN | ACK, 0), [TcpEnding; 5], "nobody here would see what the backend sends");
    }

    #[test]
    fn a_reply_closes_the_backends_half_and_never_establishes() {
        for flags in [ACK, SYN | ACK, SYN] {
            assert_eq!(reply(flags), TCP);
        }
        let half = [TcpProbation, TcpBackendDone, TcpEnding, TcpEnding, TcpBackendDone];
        assert_eq!(reply(FIN | ACK), half);
        for flags in [RST, RST | ACK, RST | FIN] {
            assert_eq!(reply(flags), [TcpEnding; 5]);
        }
    }

    #[test]
    fn datagrams_know_no_flags() {
        for state in [UdpProbation, UdpEstablished] {
            assert_eq!(state.after_client(&segment(17, 0), 1), UdpEstablished);
            assert_eq!(state.after_reply(&segment(17, 0)), state);
            assert_eq!(State::first(&segment(17, 0)), UdpProbation);
        }
    }

    #[test]
    fn flows_begin_on_probation_or_ending() {
        let first = |flags| State::first(&segment(6, flags));
        assert_eq!([SYN, ACK, SYN | ACK].map(first), [TcpProbation; 3]);
        assert_eq!([FIN, RST, SYN | FIN, SYN | RST].map(first), [TcpEnding; 4]);
    }

    #[test]
    fn half_closed_flows_live_as_long_as_ending_ones() {
        let settings = Settings {
            tcp_syn_ticks: 1,
            tcp_ticks: 2,
            tcp_closing_ticks: 3,
            udp_ticks: 4,
            ..Settings::default()
        };
        assert_eq!(TCP.map(|state| state.idle_ticks(&settings)), [1, 2, 3, 3, 3]);
        assert_eq!([Free, UdpProbation, UdpEstablished].map(|state| state.idle_ticks(&settings)), [0, 4, 4]);
    }

    #[test]
    fn numbers_are_what_the_tables_say() {
        for number in 0..8 {
            assert_eq!(State::from_number(number) as u8, number);
        }
        let closing =
            [Free, UdpProbation, UdpEstablished].into_iter().chain(TCP).filter(|state| state.is_closing());
        assert_eq!(closing.collect::<Vec<_>>(), [TcpEnding, TcpClientDone, TcpBackendDone]);
        assert!(TCP.into_iter().all(State::is_tcp));
        assert!(![Free, UdpProbation, UdpEstablished].into_iter().any(State::is_tcp));
    }
}
