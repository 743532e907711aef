//! The backend's side of a tunnel: the decapsulating program on this host's interfaces.
//!
//! In: interfaces, and the prefixes whose packets are taken. Out: a [`Decapsulator`]; the program stays as long as it lives.
//! Invariant: only packets of the given prefixes lose their outer header; nothing is pinned, so nothing outlives the process.

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::programs::{ProgramError, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use ipnet::IpNet;
use lb_common::Address;

use super::attach::Mode;
use super::{DatapathError, driver, object, privilege};

use std::io;

/// The program in the object.
const DECAPSULATOR: &str = "lbd_decap";
/// Its map of prefixes.
const SOURCES: &str = "decap_sources";

/// A decapsulating program on some interfaces; dropping it takes it off.
#[derive(Debug)]
pub struct Decapsulator {
    _ebpf: Ebpf,
    /// Each interface, how the program sits on it, and what an operator should know of that.
    pub interfaces: Vec<(String, Mode, Option<String>)>,
}

impl Decapsulator {
    /// Puts the program on these interfaces: native where the driver can, else generic.
    ///
    /// # Errors
    /// [`DatapathError`]; then it is on none of them.
    pub fn attach(interfaces: &[String], from: &[IpNet]) -> Result<Self, DatapathError> {
        let object = object::bytes()?;
        let mut ebpf = EbpfLoader::new().load(&object).map_err(|error| refused("the program", &error))?;
        let map = ebpf.map_mut(SOURCES).ok_or_else(missing)?;
        let mut sources: LpmTrie<_, [u8; 16], u32> =
            LpmTrie::try_from(map).map_err(|error| refused("the map of sources", &error))?;
        for prefix in from {
            let longer = if prefix.addr().is_ipv4() { 96 } else { 0 };
            let key =
                Key::new(u32::from(prefix.prefix_len()) + longer, Address::from(prefix.network()).octets());
            sources.insert(&key, 1, 0).map_err(|error| refused("the map of sources", &error))?;
        }
        let program: &mut Xdp = ebpf
            .program_mut(DECAPSULATOR)
            .ok_or_else(missing)?
            .try_into()
            .map_err(|error: ProgramError| refused("the program", &error))?;
        program.load().map_err(|error| refused("the program", &error))?;
        let attached = interfaces.iter().map(|name| attach_one(program, name)).collect::<Result<_, _>>()?;
        Ok(Self { _ebpf: ebpf, interfaces: attached })
    }
}

fn attach_one(program: &mut Xdp, name: &str) -> Result<(String, Mode, Option<String>), DatapathError> {
    if nix::net::if_::if_nametoindex(name).is_err() {
        return Err(DatapathError::NoInterface { name: name.to_owned() });
    }
    let native = match program.attach(name, XdpMode::Driver) {
        Ok(_) => return Ok((name.to_owned(), Mode::Native, None)),
        Err(error) => error,
    };
    if kernel_error(&native).and_then(io::Error::raw_os_error) == Some(libc::EBUSY) {
        return Err(DatapathError::Occupied { interface: name.to_owned(), program: String::new() });
    }
    let driver = driver::name(name).unwrap_or_else(|| "without a name".into());
    let why = format!("driver {driver} cannot run XDP itself ({native})");
    match program.attach(name, XdpMode::Skb) {
        Ok(_) => Ok((name.to_owned(), Mode::Generic, Some(why))),
        Err(error) => Err(DatapathError::Attach {
            interface: name.to_owned(),
            mode: Mode::Generic.as_str(),
            reason: error.to_string(),
            remedy: privilege::remedy(kernel_error(&error)),
        }),
    }
}

fn refused(what: &str, error: &(dyn std::error::Error + 'static)) -> DatapathError {
    DatapathError::Load {
        what: what.to_owned(),
        reason: error.to_string(),
        remedy: privilege::remedy(kernel_error(error)),
    }
}

/// The kernel's own answer at the bottom of an error.
fn kernel_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn missing() -> DatapathError {
    DatapathError::Object {
        what: "the embedded BPF object".into(),
        reason: "it has no decapsulating program".into(),
    }
}
