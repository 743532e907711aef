//! An IPv4 or IPv6 address as both sides store it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Sixteen network bytes as four natively loaded words; IPv4 is IPv4-mapped (`::ffff:a.b.c.d`, RFC 4291 §2.5.5.2).
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
pub struct Address {
    /// Words in packet order, each holding four network bytes as loaded natively.
    pub words: [u32; 4],
}

impl Address {
    /// The third word of every IPv4-mapped address: bytes 0, 0, 0xff, 0xff.
    pub const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

    /// An IPv4 address given as its four network bytes loaded natively.
    #[inline(always)]
    pub const fn v4(word: u32) -> Self {
        Self { words: [0, 0, Self::MAPPED, word] }
    }

    /// An IPv6 address given as its four natively loaded words.
    #[inline(always)]
    pub const fn v6(words: [u32; 4]) -> Self {
        Self { words }
    }

    /// Whether this is an IPv4-mapped address.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.words[0] == 0 && self.words[1] == 0 && self.words[2] == Self::MAPPED
    }

    /// The sixteen network bytes.
    pub const fn octets(&self) -> [u8; 16] {
        let [a, b, c, d] = self.words;
        let (a, b, c, d) = (a.to_ne_bytes(), b.to_ne_bytes(), c.to_ne_bytes(), d.to_ne_bytes());
        [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
    }

    /// From sixteen network bytes.
    pub const fn from_octets(o: [u8; 16]) -> Self {
        Self {
            words: [
                u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
                u32::from_ne_bytes([o[4], o[5], o[6], o[7]]),
                u32::from_ne_bytes([o[8], o[9], o[10], o[11]]),
                u32::from_ne_bytes([o[12], o[13], o[14], o[15]]),
            ],
        }
    }
}

impl From<core::net::IpAddr> for Address {
    fn from(address: core::net::IpAddr) -> Self {
        match address {
            core::net::IpAddr::V4(v4) => Self::v4(u32::from_ne_bytes(v4.octets())),
            core::net::IpAddr::V6(v6) => Self::from_octets(v6.octets()),
        }
    }
}

impl From<Address> for core::net::IpAddr {
    fn from(address: Address) -> Self {
        if address.is_v4() {
            Self::V4(address.words[3].to_ne_bytes().into())
        } else {
            Self::V6(address.octets().into())
        }
    }
}
