//! `lbd decap`: the backend's side of ipip, on hosts without tunnel devices.
//!
//! In: interfaces, and the prefixes whose tunnels end here. Out: a [`Decapsulator`]: the program is on the interfaces as long as
//! it lives. Invariants: nothing is pinned, so nothing outlives the process; packets from elsewhere are left alone.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader};
use ipnet::IpNet;
use lb_common::{ABI_VERSION, Settings};
use zerocopy::IntoBytes;

use super::attach::{self, Mode};
use super::sizes::INTERFACE_SLOTS;
use super::{DatapathError, load, netlink, object};
use crate::spec::AttachMode;

/// The decapsulating program.
const PROGRAM: &str = "lbd_decap";
/// The map of allowed outer sources: key = an address of sixteen network bytes, IPv4 as `::ffff:a.b.c.d`.
const SOURCES: &str = "decap_sources";
/// Length of the prefix before the IPv4 address in a mapped one (RFC 4291 §2.5.5.2).
const MAPPED_PREFIX_LEN: u32 = 96;

/// A running decapsulator; dropping it takes the program off.
#[derive(Debug)]
pub struct Decapsulator {
    /// Each interface with the mode it got and, if that is not native, why.
    pub interfaces: Vec<(String, Mode, Option<String>)>,
    _links: Vec<OwnedFd>,
    _ebpf: Ebpf,
}

impl Decapsulator {
    /// Puts the program on the interfaces: native, or generic where that is not to be had.
    ///
    /// # Errors
    /// [`DatapathError`]; the program is on none of the interfaces then.
    pub fn attach(interfaces: &[String], from: &[IpNet]) -> Result<Self, DatapathError> {
        let object = object::bytes()?;
        let settings =
            Settings { abi_version: ABI_VERSION, interface_slots: INTERFACE_SLOTS, ..Settings::default() };
        let mut ebpf = EbpfLoader::new()
            .override_global("SETTINGS", settings.as_bytes(), true)
            .load(&object)
            .map_err(|error| load::not_loaded(&error))?;
        allow(&mut ebpf, from)?;
        let program: &mut Xdp = ebpf
            .program_mut(PROGRAM)
            .ok_or_else(|| load::lacking(PROGRAM))?
            .try_into()
            .map_err(|error| load::refused(PROGRAM, &error))?;
        program.load().map_err(|error| load::refused(PROGRAM, &error))?;
        let fd = program.fd().map_err(|error| load::refused(PROGRAM, &error))?;
        let (mut attached, mut links) = (Vec::new(), Vec::new());
        for name in interfaces {
            let index = netlink::index(name).ok_or_else(|| attach::missing(name))?;
            let made = attach::put_on(name, index, AttachMode::Auto, std::os::fd::AsFd::as_fd(fd), true)?;
            if let Some((link, mode, note)) = made {
                links.push(link);
                attached.push((name.clone(), mode, note));
            }
        }
        Ok(Self { interfaces: attached, _links: links, _ebpf: ebpf })
    }
}

fn allow(ebpf: &mut Ebpf, from: &[IpNet]) -> Result<(), DatapathError> {
    let failed =
        |reason: String| DatapathError::Map { map: SOURCES, action: "store the prefixes of --from", reason };
    let map = ebpf.map_mut(SOURCES).ok_or_else(|| failed("the object has no such map".into()))?;
    let mut sources: LpmTrie<_, [u8; 16], u32> =
        LpmTrie::try_from(map).map_err(|error| failed(error.to_string()))?;
    for prefix in from {
        sources.insert(&key(prefix), 1, 0).map_err(|error| failed(format!("{prefix}: {error}")))?;
    }
    Ok(())
}

fn key(prefix: &IpNet) -> Key<[u8; 16]> {
    let len = u32::from(prefix.prefix_len());
    match prefix.network() {
        IpAddr::V4(v4) => Key::new(MAPPED_PREFIX_LEN + len, v4.to_ipv6_mapped().octets()),
        IpAddr::V6(v6) => Key::new(len, v6.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_both_families_lie_in_one_trie() {
        let v4 = key(&"192.0.2.129/25".parse().unwrap());
        assert_eq!(
            (v4.prefix_len(), v4.data()),
            (121, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 128])
        );
        let v6 = key(&"2001:db8::1/32".parse().unwrap());
        assert_eq!((v6.prefix_len(), v6.data()[..4].to_vec()), (32, vec![0x20, 0x01, 0x0d, 0xb8]));
    }
}
