//! One interface: may it be had, in which mode, and does a link found there belong to it?

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::Mode;
use super::occupant::occupied;
use super::sentences::{fall_back, refusal};
use crate::datapath::DatapathError;
use crate::datapath::netlink::{self, Attached};
use crate::datapath::syscall::{self, LinkInfo};
use crate::spec::AttachMode;

/// A link made, its mode, and why it is not native if it is not though that was tried.
pub(in crate::datapath) type Made = (OwnedFd, Mode, Option<String>);

/// Makes a link to an interface that carries no program; `None`: only generic mode is left, and the program is not made
/// for it.
pub(in crate::datapath) fn put_on(
    name: &str,
    index: u32,
    wanted: AttachMode,
    program: BorrowedFd<'_>,
    is_program_generic: bool,
) -> Result<Option<Made>, DatapathError> {
    let present = netlink::link(index).map_err(|error| refusal(name, Mode::Native, &error))?;
    if present.attached != Attached::None {
        return Err(occupied(name, &present));
    }
    let mut warning = None;
    if wanted != AttachMode::Generic {
        match syscall::link_create(program, index, Mode::Native.flags()) {
            Ok(link) => return Ok(Some((link, Mode::Native, None))),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                return Err(occupied(name, &netlink::link(index).unwrap_or(present)));
            }
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
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            Err(occupied(name, &netlink::link(index).unwrap_or(present)))
        }
        Err(error) => Err(refusal(name, Mode::Generic, &error)),
    }
}

/// What a pinned link is attached to.
pub(super) enum Found {
    Ours(Mode),
    Gone,
    Elsewhere,
}

pub(super) fn look(info: &LinkInfo) -> Found {
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
pub(super) const fn suits(wanted: AttachMode, present: Mode) -> bool {
    matches!(
        (wanted, present),
        (AttachMode::Auto, _) | (AttachMode::Native, Mode::Native) | (AttachMode::Generic, Mode::Generic)
    )
}

/// Errors that generic mode would meet as well.
fn is_final(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENODEV | libc::EBADF))
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
}
