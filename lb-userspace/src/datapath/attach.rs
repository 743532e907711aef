//! Putting the program on interfaces and taking it off.
//!
//! In: interface names, the mode asked for, the loaded program. Out: pinned links and, for people, [`InterfaceState`].
//! Invariants: another owner's program is never replaced; a link lives in a pin, so packets are balanced while no
//! daemon runs; a program is replaced on its link in one step.
//!
//! Every kernel lbd supports has XDP links (5.9), so there is no netlink-attached case.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::netlink::{self, Attached};
use super::pins::{self, Layout, link_interface};
use super::syscall::{self, LinkInfo, ObjectKind};
use super::{DatapathError, bpffs, driver, privilege};
use crate::spec::AttachMode;

/// How the program sits on an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// In the driver.
    Native,
    /// After the kernel has made an skb.
    Generic,
}

impl Mode {
    /// The word of the configuration and of status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    const fn flags(self) -> u32 {
        match self {
            Self::Native => syscall::XDP_NATIVE,
            Self::Generic => syscall::XDP_GENERIC,
        }
    }
}

/// An interface and the program on it, as status shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InterfaceState {
    /// Its name.
    pub name: String,
    /// Its index; 0 = there is no such interface now.
    pub index: u32,
    /// `None`: not attached.
    pub mode: Option<Mode>,
    /// The kernel's number of the program on it; 0 = none of ours.
    pub program_id: u32,
    /// What an operator should know, in a sentence.
    pub warning: Option<String>,
}

/// What came of an attempt to attach.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// The program is on the interface.
    Attached,
    /// It can only be in generic mode, for which the program must be loaded with FEATURE_GENERIC first.
    NeedsGeneric,
}

/// A link that is ours.
#[derive(Debug)]
struct Held {
    link: OwnedFd,
    index: u32,
    mode: Mode,
    warning: Option<String>,
}

/// The links under a pin path.
#[derive(Debug)]
pub(super) struct Links {
    layout: Layout,
    held: BTreeMap<String, Held>,
}

impl Links {
    /// Opens the pinned links; those whose interface is gone are removed.
    pub(super) fn open(layout: &Layout) -> Result<Self, DatapathError> {
        let (links, gone) = Self::look_through(layout)?;
        for name in gone {
            tracing::warn!(interface = name, "the interface is gone, and with it the program that was on it");
            let path = layout.link(&name);
            fs::remove_file(&path).map_err(|error| pins::broken(&path, &error))?;
        }
        Ok(links)
    }

    /// Opens the pinned links and changes nothing.
    pub(super) fn read(layout: &Layout) -> Result<Self, DatapathError> {
        Self::look_through(layout).map(|(links, _)| links)
    }

    /// The links, and the names of those whose interface is gone.
    fn look_through(layout: &Layout) -> Result<(Self, Vec<String>), DatapathError> {
        let directory = layout.links();
        let files = bpffs::names(&directory).map_err(|error| pins::broken(&directory, &error))?;
        let mut links = Self { layout: layout.clone(), held: BTreeMap::new() };
        let mut gone = Vec::new();
        for file in files {
            let path = directory.join(&file);
            let Some(link) = pins::open(&path, ObjectKind::Link)? else { continue };
            let info = syscall::link_info(link.as_fd()).map_err(|error| pins::broken(&path, &error))?;
            let name = link_interface(&file);
            match look(&info) {
                Found::Ours(mode) => {
                    let warning = (mode == Mode::Generic).then(|| {
                        format!(
                            "{name} is in generic mode since an earlier start, which is slower than native"
                        )
                    });
                    links.held.insert(name, Held { link, index: info.interface, mode, warning });
                }
                Found::Gone => gone.push(name),
                Found::Elsewhere => {
                    return Err(DatapathError::Pin {
                        path,
                        reason: "is no XDP link of an interface in this network namespace".into(),
                        remedy:
                            "start lbd in the namespace it ran in, or remove the file to take the program off"
                                .into(),
                    });
                }
            }
        }
        Ok((links, gone))
    }

    /// Whether there is any link.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether a link is in generic mode.
    pub(super) fn any_generic(&self) -> bool {
        self.held.values().any(|held| held.mode == Mode::Generic)
    }

    /// Puts another program on every link; each packet meets the old or the new one.
    pub(super) fn replace(&mut self, program: BorrowedFd<'_>) -> Result<(), DatapathError> {
        for (name, held) in &self.held {
            match syscall::link_update(held.link.as_fd(), program) {
                // ENOLINK: the interface vanished since; nothing is on it to be replaced.
                Err(error) if error.raw_os_error() != Some(libc::ENOLINK) => {
                    return Err(DatapathError::Attach {
                        interface: name.clone(),
                        mode: held.mode.as_str(),
                        reason: format!("the program on it cannot be replaced: {error}"),
                        remedy: privilege::remedy(Some(&error)),
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Puts the program on an interface, or finds it there.
    pub(super) fn attach(
        &mut self,
        name: &str,
        wanted: AttachMode,
        program: BorrowedFd<'_>,
        is_program_generic: bool,
    ) -> Result<Outcome, DatapathError> {
        let index = netlink::index(name).ok_or_else(|| missing(name))?;
        if let Some(held) = self.held.get(name) {
            let is_there = syscall::link_info(held.link.as_fd()).is_ok_and(|info| info.interface == index);
            if is_there && suits(wanted, held.mode) {
                return Ok(Outcome::Attached);
            }
            self.detach(name)?;
        }
        match put_on(name, index, wanted, program, is_program_generic)? {
            Some((link, mode, warning)) => self.hold(name, Held { link, index, mode, warning }),
            None => Ok(Outcome::NeedsGeneric),
        }
    }

    fn hold(&mut self, name: &str, held: Held) -> Result<Outcome, DatapathError> {
        let path = self.layout.link(name);
        syscall::pin(held.link.as_fd(), &path).map_err(|error| pins::broken(&path, &error))?;
        let mode = held.mode.as_str();
        match &held.warning {
            Some(warning) => tracing::warn!(interface = name, mode, "{warning}"),
            None => tracing::info!(interface = name, mode, "the program is on the interface"),
        }
        self.held.insert(name.to_owned(), held);
        Ok(Outcome::Attached)
    }

    /// Takes the program off an interface; nothing happens if it is not on it.
    pub(super) fn detach(&mut self, name: &str) -> Result<(), DatapathError> {
        let Some(held) = self.held.remove(name) else { return Ok(()) };
        let path = self.layout.link(name);
        // Detaching first: another holder of the link would keep the program on the interface after the file is gone.
        let detached = match syscall::link_detach(held.link.as_fd()) {
            Err(error) if error.raw_os_error() != Some(libc::ENOLINK) => Err(error),
            _ => Ok(()),
        };
        detached.and_then(|()| fs::remove_file(&path)).map_err(|error| pins::broken(&path, &error))?;
        tracing::info!(interface = name, "the program is off the interface");
        Ok(())
    }

    /// The names of the interfaces that have a link.
    pub(super) fn names(&self) -> Vec<String> {
        self.held.keys().cloned().collect()
    }

    /// An interface as it is now.
    pub(super) fn state(&self, name: &str) -> InterfaceState {
        let index = netlink::index(name).unwrap_or(0);
        let nothing =
            InterfaceState { name: name.to_owned(), index, mode: None, program_id: 0, warning: None };
        let Some(held) = self.held.get(name) else {
            let warning = if index == 0 {
                format!("there is no interface {name}; the program goes on it when lbd is started with it")
            } else {
                format!("the program is not on {name}")
            };
            return InterfaceState { warning: Some(warning), ..nothing };
        };
        match syscall::link_info(held.link.as_fd()) {
            Ok(info) if info.interface != 0 && info.interface == index => InterfaceState {
                mode: Some(held.mode),
                program_id: info.program_id,
                warning: held.warning.clone().or_else(|| silent_loss(name, held)),
                ..nothing
            },
            _ => InterfaceState {
                warning: Some(format!("the interface {name} that carried the program is gone")),
                ..nothing
            },
        }
    }
}

/// A link made, its mode, and why it is not native if it is not though that was tried.
pub(super) type Made = (OwnedFd, Mode, Option<String>);

/// Makes a link to an interface that carries no program; `None`: only generic mode is left, and the program is not made
/// for it.
pub(super) fn put_on(
    name: &str,
    index: u32,
    wanted: AttachMode,
    program: BorrowedFd<'_>,
    is_program_generic: bool,
) -> Result<Option<Made>, DatapathError> {
    let present = netlink::link(index).map_err(|error| refusal(name, Mode::Native, &error))?;
    if present.attached != Attached::None {
        return Err(occupied(name, present.program_id));
    }
    let mut warning = None;
    if wanted != AttachMode::Generic {
        match syscall::link_create(program, index, Mode::Native.flags()) {
            Ok(link) => return Ok(Some((link, Mode::Native, None))),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => return Err(occupied(name, 0)),
            Err(error) if wanted == AttachMode::Native || is_final(&error) => {
                return Err(refusal(name, Mode::Native, &error));
            }
            Err(error) => warning = Some(fall_back(name, &error)),
        }
    }
    if !is_program_generic {
        return Ok(None);
    }
    match syscall::link_create(program, index, Mode::Generic.flags()) {
        Ok(link) => Ok(Some((link, Mode::Generic, warning))),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Err(occupied(name, 0)),
        Err(error) => Err(refusal(name, Mode::Generic, &error)),
    }
}

/// What a pinned link is attached to.
enum Found {
    Ours(Mode),
    Gone,
    Elsewhere,
}

fn look(info: &LinkInfo) -> Found {
    if info.kind != syscall::LINK_TYPE_XDP {
        return Found::Elsewhere;
    }
    if info.interface == 0 {
        return Found::Gone;
    }
    match netlink::link(info.interface) {
        Ok(link) if link.program_id == info.program_id && link.attached == Attached::Native => {
            Found::Ours(Mode::Native)
        }
        Ok(link) if link.program_id == info.program_id && link.attached == Attached::Generic => {
            Found::Ours(Mode::Generic)
        }
        // An offloaded program beside ours, which the kernel lists without numbers.
        Ok(link) if link.attached == Attached::Several => Found::Ours(Mode::Native),
        _ => Found::Elsewhere,
    }
}

/// Whether a link's mode is one that was asked for. `auto` keeps what is there: trying native would take the program off.
const fn suits(wanted: AttachMode, present: Mode) -> bool {
    matches!(
        (wanted, present),
        (AttachMode::Auto, _) | (AttachMode::Native, Mode::Native) | (AttachMode::Generic, Mode::Generic)
    )
}

/// Errors that generic mode would meet as well.
fn is_final(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENODEV | libc::EBADF))
}

pub(super) fn missing(name: &str) -> DatapathError {
    DatapathError::NoInterface { name: name.to_owned() }
}

/// The sentence of a fall-back to generic mode.
fn fall_back(name: &str, error: &io::Error) -> String {
    format!("{name} is in generic mode, which is slower: {}", why_not_native(name, error))
}

fn why_not_native(name: &str, error: &io::Error) -> String {
    let driver =
        driver::name(name).map_or_else(|| format!("{name} has no driver that"), |d| format!("driver {d}"));
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) if driver.ends_with("that") => format!("{driver} supports XDP"),
        Some(libc::EOPNOTSUPP) => format!("{driver} has no XDP support"),
        Some(libc::ERANGE | libc::E2BIG | libc::EINVAL) => {
            format!("{driver} refuses XDP as the interface is set ({error}): look at its mtu, queues and LRO")
        }
        _ => format!("{driver} refuses XDP ({error})"),
    }
}

fn refusal(name: &str, mode: Mode, error: &io::Error) -> DatapathError {
    let is_refusal = matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES));
    let (reason, remedy) = match mode {
        _ if is_refusal => (error.to_string(), privilege::remedy(Some(error))),
        Mode::Native => (
            why_not_native(name, error),
            "set datapath.mode = \"generic\" (or \"auto\"), which works on every interface".to_owned(),
        ),
        Mode::Generic => (error.to_string(), privilege::remedy(Some(error))),
    };
    DatapathError::Attach { interface: name.to_owned(), mode: mode.as_str(), reason, remedy }
}

/// The refusal of an interface that carries another program; `program` 0 = which one is not known.
fn occupied(name: &str, program: u32) -> DatapathError {
    let program_name = match syscall::program_by_id(program).and_then(|fd| syscall::program_info(fd.as_fd()))
    {
        Ok(info) => format!(" ({})", info.name()),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            " (its name is shown to CAP_SYS_ADMIN only: bpftool prog show)".to_owned()
        }
        Err(_) => String::new(),
    };
    let number = if program == 0 { String::new() } else { format!(" {program}") };
    DatapathError::Occupied { interface: name.to_owned(), program: format!("{number}{program_name}") }
}

/// A veth sends what XDP transmits or redirects only if its peer has GRO or an XDP program; the kernel says so by the
/// feature bit of a redirect target.
fn silent_loss(name: &str, held: &Held) -> Option<String> {
    if held.mode != Mode::Native || driver::name(name)? != "veth" {
        return None;
    }
    let features = netlink::xdp_features(held.index)?;
    (features & netlink::FEATURE_REDIRECT_TARGET == 0).then(|| {
        format!("{name} loses what it should send: its peer has neither GRO nor an XDP program (ethtool -K PEER gro on)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_keeps_the_mode_it_finds_and_the_others_insist() {
        assert!(suits(AttachMode::Auto, Mode::Generic) && suits(AttachMode::Auto, Mode::Native));
        assert!(suits(AttachMode::Native, Mode::Native) && !suits(AttachMode::Native, Mode::Generic));
        assert!(suits(AttachMode::Generic, Mode::Generic) && !suits(AttachMode::Generic, Mode::Native));
    }

    #[test]
    fn a_refused_native_mode_names_the_reason_and_the_way_out() {
        let error = refusal("lo", Mode::Native, &io::Error::from_raw_os_error(libc::EOPNOTSUPP)).to_string();
        assert!(error.contains("lo has no driver that supports XDP"), "{error}");
        assert!(error.contains("mode = \"generic\""), "{error}");
    }

    #[test]
    fn an_occupied_interface_names_the_program_as_far_as_it_is_known() {
        let error = occupied("eth0", 0).to_string();
        assert!(error.contains("eth0") && error.contains("another XDP program"), "{error}");
        assert!(occupied("eth0", u32::MAX).to_string().contains(&u32::MAX.to_string()));
    }
}
