//! Putting the program on interfaces and taking it off.
//!
//! In: interface names, the mode asked for, the loaded program. Out: pinned links and, for people, [`InterfaceState`].
//! Invariants: another owner's program is never replaced; a link lives in a pin, so packets are balanced while no
//! daemon runs; a program is replaced on its link in one step.
//!
//! Every kernel lbd supports has XDP links (5.9), so there is no netlink-attached case.

mod loss;
mod occupant;
mod put_on;
mod sent;
mod sentences;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use loss::loss;
pub(super) use put_on::put_on;
use put_on::{Found, look, suits};
use sent::Sent;
pub(super) use sentences::missing;

use super::pins::{self, Layout, link_interface};
use super::syscall::{self, ObjectKind};
use super::{DatapathError, bpffs, netlink, privilege};
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
    /// What of the packets that go out by it is lost, and what to do, in a sentence.
    pub fault: Option<String>,
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
    mode: Mode,
    warning: Option<String>,
}

/// The links under a pin path.
#[derive(Debug)]
pub(super) struct Links {
    layout: Layout,
    held: BTreeMap<String, Held>,
    /// Behind a lock because looking is reading, for several at a time.
    sent: Mutex<Sent>,
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

    /// Takes in the links of another version's pins, of interfaces that have none here.
    pub(super) fn inherit(&mut self, layout: &Layout) -> Result<(), DatapathError> {
        let (others, _) = Self::look_through(layout)?;
        for (name, held) in others.held {
            self.held.entry(name).or_insert(held);
        }
        Ok(())
    }

    /// Pins the links that are not pinned here.
    pub(super) fn pin(&self) -> Result<(), DatapathError> {
        for (path, link) in self.pins() {
            if path.symlink_metadata().is_err() {
                syscall::pin(link, &path).map_err(|error| pins::broken(&path, &error))?;
            }
        }
        Ok(())
    }

    /// Opens the pinned links and changes nothing.
    pub(super) fn read(layout: &Layout) -> Result<Self, DatapathError> {
        Self::look_through(layout).map(|(links, _)| links)
    }

    /// The links, and the names of those whose interface is gone.
    fn look_through(layout: &Layout) -> Result<(Self, Vec<String>), DatapathError> {
        let directory = layout.links();
        let files = bpffs::names(&directory).map_err(|error| pins::broken(&directory, &error))?;
        let mut links = Self { layout: layout.clone(), held: BTreeMap::new(), sent: Mutex::default() };
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
                    links.held.insert(name, Held { link, mode, warning });
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
            Some((link, mode, warning)) => self.hold(name, Held { link, mode, warning }),
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
        let removed = |()| match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        detached.and_then(removed).map_err(|error| pins::broken(&path, &error))?;
        tracing::info!(interface = name, "the program is off the interface");
        Ok(())
    }

    /// Every link and where it is pinned.
    pub(super) fn pins(&self) -> impl Iterator<Item = (PathBuf, BorrowedFd<'_>)> {
        self.held.iter().map(|(name, held)| (self.layout.link(name), held.link.as_fd()))
    }

    /// The names of the interfaces that have a link.
    pub(super) fn names(&self) -> Vec<String> {
        self.held.keys().cloned().collect()
    }

    /// Interfaces as they are now. `transmitted` tells of an index how many packets have ever gone back out of that interface.
    pub(super) fn states<'a>(
        &self,
        names: impl IntoIterator<Item = &'a String>,
        transmitted: impl Fn(u32) -> u64,
    ) -> Vec<InterfaceState> {
        let mut states: Vec<_> = names.into_iter().map(|name| self.state(name)).collect();
        let is_alone = states.len() == 1;
        for state in &mut states {
            let Some(mode) = state.mode else { continue };
            let loss = loss(&state.name, state.index, mode);
            let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(loss) = loss else {
                sent.forget(state.index);
                continue;
            };
            // Counted under the lock: who came later has not counted less.
            let transmits = sent.is_recent(state.index, transmitted(state.index), Instant::now());
            let sentence = loss.sentence(&state.name, is_alone, transmits);
            let place = if loss.is_felt(is_alone, transmits) { &mut state.fault } else { &mut state.warning };
            *place = Some(sentence);
        }
        states
    }

    /// An interface as it is now.
    fn state(&self, name: &str) -> InterfaceState {
        let index = netlink::index(name).unwrap_or(0);
        let nothing = InterfaceState {
            name: name.to_owned(),
            index,
            mode: None,
            program_id: 0,
            warning: None,
            fault: None,
        };
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
                warning: held.warning.clone(),
                ..nothing
            },
            _ => InterfaceState {
                warning: Some(format!("the interface {name} that carried the program is gone")),
                ..nothing
            },
        }
    }
}
