//! Frames built by etherparse (an independent implementation) are right; one flipped bit anywhere a checksum covers is not.

use etherparse::PacketBuilder;

use super::{Fault, verify_checksums};

const MAC_A: [u8; 6] = [2, 0, 0, 0, 0, 1];
const MAC_B: [u8; 6] = [2, 0, 0, 0, 0, 2];
const V4_A: [u8; 4] = [192, 0, 2, 1];
const V4_B: [u8; 4] = [198, 51, 100, 7];
const ETHERNET_LEN: usize = 14;

fn v6(last: u8) -> [u8; 16] {
    let mut address = [0; 16];
    address[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    address[15] = last;
    address
}

fn written(len: usize, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = Vec::with_capacity(len);
    write(&mut frame);
    frame
}

fn tcp_v4(payload: &[u8]) -> Vec<u8> {
    let builder =
        PacketBuilder::ethernet2(MAC_A, MAC_B).ipv4(V4_A, V4_B, 64).tcp(40_000, 80, 77, 1024).ack(5);
    written(builder.size(payload.len()), |frame| builder.write(frame, payload).expect("a Vec takes all"))
}

fn udp_v4(payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(MAC_A, MAC_B).ipv4(V4_A, V4_B, 64).udp(40_000, 53);
    written(builder.size(payload.len()), |frame| builder.write(frame, payload).expect("a Vec takes all"))
}

fn tcp_v6(payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(MAC_A, MAC_B).ipv6(v6(1), v6(2), 64).tcp(40_000, 80, 77, 1024);
    written(builder.size(payload.len()), |frame| builder.write(frame, payload).expect("a Vec takes all"))
}

fn udp_v6(payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(MAC_A, MAC_B).ipv6(v6(1), v6(2), 64).udp(40_000, 53);
    written(builder.size(payload.len()), |frame| builder.write(frame, payload).expect("a Vec takes all"))
}

#[test]
fn right_frames_pass_at_every_payload_length() {
    for len in 0..70 {
        let payload: Vec<u8> = (1..=len).collect();
        for frame in [tcp_v4(&payload), udp_v4(&payload), tcp_v6(&payload), udp_v6(&payload)] {
            assert_eq!(verify_checksums(&frame), Ok(()), "payload of {len} bytes: {frame:02x?}");
        }
    }
}

#[test]
fn ethernet_padding_is_no_part_of_any_checksum() {
    let mut frame = udp_v4(b"x");
    frame.resize(60, 0xaa);
    assert_eq!(verify_checksums(&frame), Ok(()));
}

#[test]
fn a_flipped_bit_anywhere_in_an_ipv4_packet_is_seen() {
    for right in [tcp_v4(b"payload"), udp_v4(b"payload")] {
        for at in ETHERNET_LEN..right.len() {
            let mut frame = right.clone();
            frame[at] ^= 0x10;
            assert!(verify_checksums(&frame).is_err(), "flip in byte {at} goes unseen: {frame:02x?}");
        }
    }
}

#[test]
fn a_flipped_bit_in_addresses_or_payload_of_ipv6_is_seen() {
    for (right, wrong) in [(tcp_v6(b"payload"), "TCP"), (udp_v6(b"payload"), "UDP")] {
        for at in (ETHERNET_LEN + 8..ETHERNET_LEN + 40).chain(right.len() - 7..right.len()) {
            let mut frame = right.clone();
            frame[at] ^= 0x10;
            assert_eq!(verify_checksums(&frame), Err(Fault::Wrong(wrong)), "flip in byte {at}");
        }
    }
}

#[test]
fn udp_without_checksum_is_right_over_ipv4_only() {
    let mut frame = udp_v4(b"x");
    frame[ETHERNET_LEN + 26..ETHERNET_LEN + 28].fill(0);
    assert_eq!(verify_checksums(&frame), Ok(()));
    let mut frame = udp_v6(b"x");
    frame[ETHERNET_LEN + 46..ETHERNET_LEN + 48].fill(0);
    assert_eq!(verify_checksums(&frame), Err(Fault::Missing("UDP")));
}

#[test]
fn a_fault_in_a_packet_within_a_packet_is_found() {
    let inner = tcp_v4(b"inner");
    let builder = PacketBuilder::ethernet2(MAC_A, MAC_B).ipv4(V4_B, V4_A, 64);
    let mut frame = written(200, |frame| {
        builder.write(frame, etherparse::IpNumber::IPV4, &inner[ETHERNET_LEN..]).expect("a Vec takes all");
    });
    assert_eq!(verify_checksums(&frame), Ok(()));
    *frame.last_mut().expect("not empty") ^= 1;
    assert_eq!(verify_checksums(&frame), Err(Fault::Wrong("TCP")));
}

#[test]
fn icmp_is_checked_in_both_families() {
    let v4 = PacketBuilder::ethernet2(MAC_A, MAC_B).ipv4(V4_A, V4_B, 64).icmpv4_echo_request(1, 2);
    let v6 = PacketBuilder::ethernet2(MAC_A, MAC_B).ipv6(v6(1), v6(2), 64).icmpv6_echo_request(1, 2);
    let frames = [
        (written(80, |frame| v4.write(frame, b"ping!").expect("a Vec takes all")), "ICMP"),
        (written(80, |frame| v6.write(frame, b"ping!").expect("a Vec takes all")), "ICMPv6"),
    ];
    for (mut frame, name) in frames {
        assert_eq!(verify_checksums(&frame), Ok(()));
        *frame.last_mut().expect("not empty") ^= 1;
        assert_eq!(verify_checksums(&frame), Err(Fault::Wrong(name)));
    }
}

#[test]
fn every_truncation_is_a_fault_or_not_ip() {
    let frame = tcp_v4(b"payload");
    for len in 0..frame.len() {
        assert!(verify_checksums(&frame[..len]).is_err(), "cut to {len} bytes");
    }
    assert_eq!(verify_checksums(&[0; 60]), Ok(()), "ethertype 0 is none of ours");
}
