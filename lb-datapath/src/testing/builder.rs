//! Frames for tests, with right checksums, and the judgement of a frame's checksums from the start.

use lb_common::Address;

/// Builds a TCP or UDP frame.
#[derive(Clone, Debug)]
pub struct PacketBuilder {
    source: Address,
    destination: Address,
    source_port: u16,
    destination_port: u16,
    protocol: u8,
    flags: u8,
    payload: usize,
}

impl PacketBuilder {
    /// A frame between these ends; protocol 6 or 17.
    pub fn new(
        source: Address,
        destination: Address,
        source_port: u16,
        destination_port: u16,
        protocol: u8,
    ) -> Self {
        Self { source, destination, source_port, destination_port, protocol, flags: 0, payload: 11 }
    }

    /// TCP flags.
    #[must_use]
    pub fn flags(mut self, flags: u8) -> Self {
        self.flags = flags;
        self
    }

    /// Bytes of payload.
    #[must_use]
    pub fn payload(mut self, len: usize) -> Self {
        self.payload = len;
        self
    }

    /// The frame.
    pub fn build(&self) -> Vec<u8> {
        let segment = self.segment();
        let len = u16::try_from(segment.len()).expect("a payload that fits");
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        if self.source.is_v4() {
            frame.extend([8, 0, 0x45, 0]);
            frame.extend((len + 20).to_be_bytes());
            frame.extend([0x12, 0x34, 0x40, 0, 64, self.protocol, 0, 0]);
            frame.extend(&self.source.octets()[12..]);
            frame.extend(&self.destination.octets()[12..]);
            let checksum = !fold(sum(&frame[14..34]));
            frame[24..26].copy_from_slice(&checksum.to_be_bytes());
        } else {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(len.to_be_bytes());
            frame.extend([self.protocol, 64]);
            frame.extend(self.source.octets());
            frame.extend(self.destination.octets());
        }
        frame.extend(segment);
        frame
    }

    fn segment(&self) -> Vec<u8> {
        let mut segment = Vec::new();
        segment.extend(self.source_port.to_be_bytes());
        segment.extend(self.destination_port.to_be_bytes());
        if self.protocol == 6 {
            segment.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, self.flags, 0x10, 0, 0, 0, 0, 0]);
        } else {
            segment.extend(u16::try_from(8 + self.payload).expect("a payload that fits").to_be_bytes());
            segment.extend([0, 0]);
        }
        segment.extend((0..self.payload).map(|i| (i % 251) as u8));
        let at = if self.protocol == 6 { 16 } else { 6 };
        let pseudo = pseudo(&self.source.octets(), &self.destination.octets(), self.protocol, segment.len());
        let checksum = !fold(pseudo + sum(&segment));
        segment[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        segment
    }
}

fn sum(bytes: &[u8]) -> u64 {
    bytes
        .chunks(2)
        .map(|pair| u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
        .sum()
}

#[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits")]
fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The pseudo header's sum. Of IPv4-mapped addresses only the last four bytes count.
fn pseudo(source: &[u8; 16], destination: &[u8; 16], protocol: u8, len: usize) -> u64 {
    let significant = |octets: &[u8; 16]| {
        if octets[..12] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff] {
            sum(&octets[12..])
        } else {
            sum(octets)
        }
    };
    significant(source) + significant(destination) + u64::from(protocol) + len as u64
}

/// Source, destination and ports of a frame without options.
pub fn ends(frame: &[u8], v6: bool) -> (Address, Address, u16, u16) {
    let address = |at: usize| -> Address {
        if v6 {
            Address::from_octets(frame[at..at + 16].try_into().expect("a whole frame"))
        } else {
            Address::v4(u32::from_ne_bytes(frame[at..at + 4].try_into().expect("a whole frame")))
        }
    };
    let (source, destination, transport) = if v6 { (22, 38, 54) } else { (26, 30, 34) };
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    (address(source), address(destination), port(transport), port(transport + 2))
}

/// Whether every checksum of a frame is right, computed from the start, through tunnels down to TCP, UDP or ICMP.
pub fn checksums_are_right(frame: &[u8]) -> bool {
    frame.len() > 14 && packet_is_right(&frame[14..])
}

fn packet_is_right(packet: &[u8]) -> bool {
    let (header_len, len, protocol, pseudo_of) = if packet[0] >> 4 == 4 {
        if fold(sum(&packet[..20])) != 0xffff {
            return false;
        }
        let ends = sum(&packet[12..20]);
        (20, usize::from(u16::from_be_bytes([packet[2], packet[3]])), packet[9], ends)
    } else {
        let ends = sum(&packet[8..40]);
        (40, usize::from(u16::from_be_bytes([packet[4], packet[5]])) + 40, packet[6], ends)
    };
    if len > packet.len() {
        return false;
    }
    let payload = &packet[header_len..len];
    let covered = pseudo_of + u64::from(protocol) + payload.len() as u64 + sum(payload);
    match protocol {
        4 | 41 => packet_is_right(payload),
        1 => fold(sum(payload)) == 0xffff,
        _ => fold(covered) == 0xffff,
    }
}
