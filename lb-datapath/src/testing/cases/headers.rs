//! IPv4 options and IPv6 extension headers: what stands before the transport header stays where it is.

use lb_common::{Forward, Reason};

use super::{
    Case, Frame, World,
    modes::{FIRST, MODES, mode_name, request, sent_on},
    world::{BACKEND_PORT, Family},
};
use crate::header::tcp::SYN;

/// Kinds of extension headers.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for forward in MODES {
        for (name, frame) in options().into_iter().chain(extensions()) {
            cases.push(goes_on(&format!("{}_{name}", mode_name(forward)), forward, &frame));
        }
    }
    cases.extend(hidden());
    cases
}

/// Whole packets with something before the transport header.
fn options() -> Vec<(&'static str, Frame)> {
    // Router alert (RFC 2113), and as many no-operations as there is room for.
    let with = |options: Vec<u8>, protocol| request(Family::V4, protocol, SYN).with(|f| f.options = options);
    vec![
        ("router_alert", with(vec![0x94, 4, 0, 0], 6)),
        ("forty_bytes_of_options", with(vec![1; 40], 6)),
        ("options_before_udp", with(vec![1, 1, 1, 0], 17)),
    ]
}

fn extensions() -> Vec<(&'static str, Frame)> {
    let with = |extensions: Vec<(u8, Vec<u8>)>, protocol| {
        request(Family::V6, protocol, SYN).with(|frame| frame.extensions = extensions)
    };
    let padding = [0, 0, 1, 4, 0, 0, 0, 0];
    // Type 2 (RFC 6275), no segments left.
    let routing = [vec![0, 2, 2, 0, 0, 0, 0, 0], vec![9; 16]].concat();
    // Two words more than two: an integrity check of 96 bits.
    let authentication = [vec![0, 4, 0, 0], vec![3; 20]].concat();
    let atomic = vec![0, 0, 0, 0, 1, 2, 3, 4];
    vec![
        ("hop_by_hop", with(vec![(HOP_BY_HOP, padding.to_vec())], 6)),
        ("hop_by_hop_before_udp", with(vec![(HOP_BY_HOP, padding.to_vec())], 17)),
        ("long_hop_by_hop", with(vec![(HOP_BY_HOP, [vec![0, 4], vec![0; 38]].concat())], 6)),
        ("routing_done", with(vec![(ROUTING, routing.clone())], 6)),
        ("destination_options", with(vec![(DESTINATION, padding.to_vec())], 6)),
        ("authentication", with(vec![(AUTHENTICATION, authentication.clone())], 6)),
        ("atomic_fragment", with(vec![(FRAGMENT, atomic.clone())], 6)),
        (
            "four_extension_headers",
            with(
                vec![
                    (HOP_BY_HOP, padding.to_vec()),
                    (ROUTING, routing),
                    (FRAGMENT, atomic),
                    (AUTHENTICATION, authentication),
                ],
                6,
            ),
        ),
    ]
}

fn goes_on(name: &str, forward: Forward, frame: &Frame) -> Case {
    let family = if frame.source.is_ipv4() { Family::V4 } else { Family::V6 };
    let protocol = if matches!(frame.payload, super::Payload::Tcp(_)) { 6 } else { 17 };
    let on = frame.clone();
    let at = 14 + if family == Family::V4 { 20 } else { 40 } + extra(frame);
    Case::new(name, World::simple(forward, family, protocol), frame)
        .sends(move |_, out| {
            // Where the source port lies with what stands before it; an outer header's label lies in front.
            let mut seen = out.to_vec();
            if forward == Forward::FullNat && seen.len() > at + 2 {
                let plain = if family == Family::V4 { 34 } else { 54 };
                let port = [seen[at], seen[at + 1]];
                seen[plain..plain + 2].copy_from_slice(&port);
            }
            sent_on(&on, forward, family.backend(0), BACKEND_PORT, &seen)
        })
        .forwards(1, FIRST, frame.packet_len())
        .begins(1, FIRST, family.flow_table())
}

/// Bytes between the fixed header and the transport header.
fn extra(frame: &Frame) -> usize {
    frame.options.len() + frame.extensions.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
}

/// What hides the transport header, or goes on elsewhere.
fn hidden() -> Vec<Case> {
    let syn = |extensions: Vec<(u8, Vec<u8>)>| {
        request(Family::V6, 6, SYN).with(|frame| frame.extensions = extensions)
    };
    let padding = vec![0, 0, 1, 4, 0, 0, 0, 0];
    let world = || World::simple(Forward::Dsr, Family::V6, 6);
    let five = syn(vec![(DESTINATION, padding.clone()); 5]);
    let segments_left = syn(vec![(ROUTING, vec![0, 0, 0, 1, 0, 0, 0, 0])]);
    let cut = |len: usize| syn(vec![(HOP_BY_HOP, padding.clone())]).bytes()[..len].to_vec();
    let beyond = syn(vec![(HOP_BY_HOP, vec![0, 200, 1, 4, 0, 0, 0, 0])]);
    vec![
        Case::new("five_extension_headers", world(), &five).drops(1, Reason::ExtensionHeader),
        Case::new("routing_with_segments_left", world(), &segments_left).drops(1, Reason::ExtensionHeader),
        Case::new("no_next_header", world(), &syn(vec![(DESTINATION, padding.clone())]).with(none)),
        Case::new("extension_header_cut_off", world(), cut(14 + 40 + 3)).drops(1, Reason::Truncated),
        Case::new("cut_off_behind_an_extension_header", world(), cut(14 + 40 + 8 + 10))
            .drops(1, Reason::Truncated),
        Case::new("extension_header_longer_than_the_packet", world(), &beyond).drops(1, Reason::Truncated),
    ]
}

/// Nothing follows (RFC 8200 §4.7).
fn none(frame: &mut Frame) {
    frame.payload = super::Payload::Other(59, Vec::new());
}
