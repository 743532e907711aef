//! Every hash that the kernel program and the daemon must agree on.
//!
//! In: fields of a packet or of the configuration, and the secret seed. Out: 64 bits, of which both halves are usable.
//! One keyed building block: two rounds of (xor secret, multiply by an odd constant, fold the high half into the low one). Each
//! round is a bijection of 64 bits, so two IPv4 flows of one service never share a hash. Without the seed nobody can
//! choose keys that collide; a 128-bit multiplication or a rotation chain (SipHash) costs several times as much on BPF.

use lb_common::{Address, ENDPOINT_FILTER_WORDS};

use crate::constants::Constants;

// Odd constants with well-spread bits (the finalizers of MurmurHash3 and SplitMix64, public domain).
const ROUND_1: u64 = 0xff51_afd7_ed55_8ccd;
const ROUND_2: u64 = 0xc4ce_b9fe_1a85_ec53;
const ROUND_3: u64 = 0xbf58_476d_1ce4_e5b9;
const ROUND_4: u64 = 0x94d0_49bb_1331_11eb;

// What a hash is for; keeps equal inputs of different purposes apart.
const DIRECTORY: u64 = 0x6469_7265_6374_6f72;
const ENDPOINT: u64 = 0x656e_6470_6f69_6e74;

#[inline(always)]
const fn round(value: u64, odd: u64) -> u64 {
    let product = value.wrapping_mul(odd);
    product ^ (product >> 32)
}

/// A keyed bijection of 64 bits.
#[inline(always)]
const fn mix(value: u64, key_a: u64, key_b: u64) -> u64 {
    round(round(value ^ key_a, ROUND_1) ^ key_b, ROUND_2)
}

#[inline(always)]
const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

/// One word of an address: itself for IPv4, a keyed hash for IPv6. Constant-folds to the first where the family is known. What several
/// hashes of a packet have in common: they take it ready made.
#[inline(always)]
pub fn address_word(constants: impl Constants, address: &Address) -> u64 {
    let [a, b, c, d] = address.words;
    if address.is_v4() {
        d as u64
    } else {
        let upper = round(pair(a, b) ^ constants.seed(3), ROUND_3);
        round(upper.wrapping_add(pair(c, d)) ^ constants.seed(1), ROUND_4)
    }
}

/// The hash of an IPv4 flow of a service with a fixed port: a bijection of (client address, client port) for each salt.
/// Both are what [`crate::flow_table::key4`] packs beside the service id.
#[inline(always)]
pub fn flow4(constants: impl Constants, client: u32, client_port_be: u16, salt: u64) -> u64 {
    mix(pair(client, client_port_be as u32) ^ salt, constants.seed(0), constants.seed(1))
}

/// The hash of a flow of an IPv6 or any-port service. `service_port_be` is 0 unless the listener takes every port.
#[inline(always)]
pub fn flow6(
    constants: impl Constants,
    client: &Address,
    client_port_be: u16,
    service_port_be: u16,
    salt: u64,
) -> u64 {
    let [a, b, c, d] = client.words;
    let upper = round(pair(a, b) ^ constants.seed(0), ROUND_3);
    let lower = round(upper.wrapping_add(pair(c, d)) ^ constants.seed(2), ROUND_4);
    let ports = pair(client_port_be as u32, service_port_be as u32);
    mix(lower.wrapping_add(ports) ^ salt, constants.seed(0), constants.seed(1))
}

/// The hash of a client alone (`affinity = "client"`).
#[inline(always)]
pub fn client(constants: impl Constants, client: &Address) -> u64 {
    mix(address_word(constants, client), constants.seed(2), constants.seed(0))
}

/// The salt of a service: the hash of its listener and the seed, and nothing else, so that every node of a cluster has the same. It is the hash
/// that the listener is looked for by: a packet's flow is hashed while the service is still on its way from memory.
#[inline(always)]
pub fn salt(constants: impl Constants, vip: &Address, port_be: u16, protocol: u8) -> u64 {
    salt_of(constants, address_word(constants, vip), port_be, protocol)
}

/// [`salt`] of a vip whose [`address_word`] is `vip`.
#[inline(always)]
pub fn salt_of(constants: impl Constants, vip: u64, port_be: u16, protocol: u8) -> u64 {
    let listener = (port_be as u64) << 32 | (protocol as u64) << 48;
    mix(vip ^ listener ^ DIRECTORY, constants.seed(1), constants.seed(2))
}

/// Where a (vip, port, protocol) lies in the service directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirectoryPosition {
    /// The home bucket.
    pub bucket: u32,
    /// The tag in the high half of the word.
    pub tag: u32,
}

/// The position of (vip, port, protocol). (vip, 0, 0) is the word "this address is a vip", (vip, 0, protocol) that of an
/// any-port listener.
#[inline(always)]
pub fn directory(constants: impl Constants, vip: &Address, port_be: u16, protocol: u8) -> DirectoryPosition {
    directory_of(constants, salt(constants, vip, port_be, protocol))
}

/// [`directory`] of a listener whose [`salt`] is `salt`.
#[inline(always)]
pub fn directory_of(constants: impl Constants, salt: u64) -> DirectoryPosition {
    DirectoryPosition { bucket: scale((salt >> 32) as u32, constants.directory_buckets()), tag: low(salt) }
}

/// Where an endpoint's bits lie in the endpoint filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FilterPosition {
    /// The word, below [`ENDPOINT_FILTER_WORDS`].
    pub word: u32,
    /// The bits of that word which the endpoint sets: up to three.
    pub bits: u64,
}

/// The position of a (backend address, port, protocol) in the endpoint filter. The port is the one a reply comes from: the
/// backend's, or the listener's where the backend has none, or 0 for such a backend of an any-port listener.
#[inline(always)]
pub fn endpoint(constants: impl Constants, backend: &Address, port_be: u16, protocol: u8) -> FilterPosition {
    endpoint_of(constants, address_word(constants, backend), port_be, protocol)
}

/// [`endpoint`] of a backend whose [`address_word`] is `backend`.
#[inline(always)]
pub fn endpoint_of(constants: impl Constants, backend: u64, port_be: u16, protocol: u8) -> FilterPosition {
    let port = (port_be as u64) << 32 | (protocol as u64) << 48;
    let key = backend ^ port ^ ENDPOINT;
    let hash = mix(key, constants.seed(3), constants.seed(0));
    FilterPosition {
        word: scale((hash >> 32) as u32, ENDPOINT_FILTER_WORDS),
        bits: 1 << (hash & 63) | 1 << ((hash >> 6) & 63) | 1 << ((hash >> 12) & 63),
    }
}

/// The hash of what a reply carries: from where (backend, port), to where (destination, port), protocol. The addresses as their
/// [`address_word`]s.
#[inline(always)]
pub fn reply(
    constants: impl Constants,
    (backend, destination): (u64, u64),
    backend_port_be: u16,
    destination_port_be: u16,
    protocol: u8,
) -> u64 {
    // Added, not or-ed: an IPv6 word fills all 64 bits.
    let from = backend.wrapping_add((backend_port_be as u64) << 48);
    let to = destination.wrapping_add(pair(0, destination_port_be as u32 | (protocol as u32) << 16));
    mix(round(from ^ constants.seed(3), ROUND_3).wrapping_add(to), constants.seed(2), constants.seed(1))
}

/// `word` scaled from the whole of 32 bits to `0..count`, without a division.
#[inline(always)]
pub const fn scale(word: u32, count: u32) -> u32 {
    ((word as u64 * count as u64) >> 32) as u32
}

/// The slot of a destination in the route cache: good enough for a cache, and half of what a flow's hash costs.
#[inline(always)]
pub fn route(constants: impl Constants, destination: &Address) -> u32 {
    let [a, b, c, d] = destination.words;
    let key = if destination.is_v4() { d as u64 } else { pair(a ^ c, b ^ d) };
    (round(key ^ constants.seed(2), ROUND_4) >> 32) as u32
}

/// Two candidate buckets of `count`: home by the high half of the hash, the other by the low half.
#[inline(always)]
pub const fn candidates(hash: u64, count: u32) -> (u32, u32) {
    (scale((hash >> 32) as u32, count), scale(low(hash), count))
}

/// The low half of a hash.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
pub const fn low(hash: u64) -> u32 {
    hash as u32
}

/// 24 bits of a hash that depend on all of it but not on its position in a table alone.
#[inline(always)]
pub const fn check24(hash: u64) -> u64 {
    hash.wrapping_mul(ROUND_4) >> 40
}

/// 32 bits of a hash for a tag, independent of the candidate buckets.
#[inline(always)]
pub const fn tag32(hash: u64) -> u32 {
    (hash.wrapping_mul(ROUND_3) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use lb_common::Settings;

    use super::*;

    fn settings() -> Settings {
        Settings {
            seed: [0x1234_5678, 0x9abc_def0_0000_0001, 3, 0xffff_0000_1111],
            directory_buckets: 64,
            ..Settings::default()
        }
    }

    /// Share of output bits that flip when input bit `bit` of the client address and port flips, over many inputs.
    fn avalanche(hash: impl Fn(u64) -> u64, bit: u32) -> f64 {
        let flipped: u32 = (0..4096_u64)
            .map(|i| {
                let input = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) & 0xffff_ffff_ffff;
                (hash(input) ^ hash(input ^ 1 << bit)).count_ones()
            })
            .sum();
        f64::from(flipped) / (4096.0 * 64.0)
    }

    #[test]
    fn every_input_bit_of_a_flow_flips_about_half_of_the_output() {
        let settings = settings();
        let salt = salt(&settings, &Address::v4(7), 80, 6);
        let v4 = |x: u64| flow4(&settings, low(x), (x >> 32) as u16, salt);
        let v6 =
            |x: u64| flow6(&settings, &Address::v6([1, low(x), 3, low(x) ^ 5]), (x >> 32) as u16, 0, salt);
        for bit in 0..48 {
            for share in [avalanche(v4, bit), avalanche(v6, bit)] {
                assert!((0.40..0.60).contains(&share), "bit {bit}: {share}");
            }
        }
    }

    #[test]
    fn flows_of_one_service_never_share_a_hash() {
        let settings = settings();
        let mut seen = std::collections::HashSet::new();
        for client in 0..2000_u32 {
            for port in 0..50_u16 {
                assert!(seen.insert(flow4(&settings, client.to_be(), port.to_be(), 99)));
            }
        }
    }

    #[test]
    fn buckets_checks_and_tags_are_spread() {
        let settings = settings();
        let mut home = [0_u32; 64];
        let mut other = [0_u32; 64];
        let mut check = [0_u32; 64];
        for i in 0..64_000_u32 {
            let hash = flow4(&settings, i.to_be(), 1000, 5);
            let (a, b) = candidates(hash, 64);
            home[a as usize] += 1;
            other[b as usize] += 1;
            check[(check24(hash) >> 18) as usize] += 1;
        }
        for count in home.iter().chain(&other).chain(&check) {
            assert!((800..1200).contains(count), "{count} of 1000 expected");
        }
    }

    #[test]
    fn directory_words_of_one_vip_are_told_apart() {
        let settings = settings();
        let vip = Address::v6([1, 2, 3, 4]);
        let mut tags = std::collections::HashSet::new();
        for port in 0..1000_u16 {
            for protocol in [0, 6, 17] {
                assert!(tags.insert(directory(&settings, &vip, port, protocol).tag));
            }
        }
    }

    #[test]
    fn a_reply_hash_depends_on_each_field() {
        let settings = settings();
        for (a, b) in
            [(Address::v4(1), Address::v4(2)), (Address::v6([1, 2, 3, 4]), Address::v6([1, 2, 3, 5]))]
        {
            let (a, b) = (address_word(&settings, &a), address_word(&settings, &b));
            let base = reply(&settings, (a, b), 80, 1000, 6);
            assert_ne!(base, reply(&settings, (b, a), 80, 1000, 6));
            assert_ne!(base, reply(&settings, (a, b), 81, 1000, 6));
            assert_ne!(base, reply(&settings, (a, b), 80, 1001, 6));
            assert_ne!(base, reply(&settings, (a, b), 80, 1000, 17));
        }
    }
}
