//! Who may do what through the socket.
//!
//! In: the credentials that the kernel keeps of the other end, the groups of the configuration. Out: a [`Role`]. Invariants: root and
//! lbd's own user may do everything; a group never gives what could run programs or read files as lbd, nor the whole of the configuration,
//! which names them; whoever may not is told which group may.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use nix::unistd::Uid;
use tokio::net::UnixStream;

use super::{ApiError, ErrorCode};
use crate::spec::DaemonSpec;

/// Of the socket where nobody but root and lbd's own user is let in.
const OWN: u32 = 0o600;
/// Where one group is.
const GROUP: u32 = 0o660;
/// Where two are: a file belongs to one group, so what keeps others out is [`Access`] alone.
const ALL: u32 = 0o666;

/// What somebody may do; each may do what the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Nothing.
    Stranger,
    /// Look.
    Reader,
    /// Change what runs.
    Admin,
    /// Everything: root, and the user that lbd runs as.
    Owner,
}

/// A Unix group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its number.
    pub gid: u32,
}

/// A group of the configuration that this host does not know.
#[derive(Debug, thiserror::Error)]
#[error(
    "daemon.{key} = {group:?} is no group of this host{why}: make it (groupadd {group}), or take the key out"
)]
pub struct NoGroup {
    key: &'static str,
    group: String,
    why: String,
}

/// Who may do what: root and lbd's own user everything, the groups what their names say.
#[derive(Clone, Debug)]
pub struct Access {
    /// Users who may do everything.
    owners: Vec<u32>,
    admin: Option<Group>,
    read: Option<Group>,
}

/// What the file system lets to the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// As of chmod(2).
    pub(super) mode: u32,
    /// The group it is given to.
    pub(super) gid: Option<u32>,
}

impl Rights {
    /// Root's and lbd's own user's alone.
    pub const OWN: Self = Self { mode: OWN, gid: None };
}

impl Access {
    /// Root and this user.
    pub fn of(own_uid: u32) -> Self {
        Self { owners: vec![0, own_uid], admin: None, read: None }
    }

    /// Root and the user this process runs as.
    pub fn of_this_process() -> Self {
        Self::of(Uid::effective().as_raw())
    }

    /// These groups and nobody else: what tests that run as root see of them.
    #[cfg(test)]
    pub(super) const fn of_groups_alone(admin: Option<Group>, read: Option<Group>) -> Self {
        Self { owners: Vec::new(), admin, read }
    }

    /// The same, with the groups of the configuration.
    ///
    /// # Errors
    /// This host has no such group.
    pub fn of_daemon(daemon: &DaemonSpec) -> Result<Self, NoGroup> {
        let group = |key: &'static str, name: &Option<String>| {
            let Some(name) = name else { return Ok(None) };
            let no_group = |why: String| NoGroup { key, group: name.clone(), why };
            match nix::unistd::Group::from_name(name) {
                Ok(Some(found)) => Ok(Some(Group { name: name.clone(), gid: found.gid.as_raw() })),
                Ok(None) => Err(no_group(String::new())),
                Err(error) => Err(no_group(format!(" ({error})"))),
            }
        };
        let (admin, read) = (group("admin", &daemon.admin)?, group("read", &daemon.read)?);
        Ok(Self::of_this_process().with(admin, read))
    }

    /// The same, with these groups.
    #[must_use]
    pub fn with(self, admin: Option<Group>, read: Option<Group>) -> Self {
        Self { admin, read, ..self }
    }

    /// What a user of these groups may do.
    pub fn role(&self, uid: u32, gids: &[u32]) -> Role {
        let is_in = |group: &Option<Group>| group.as_ref().is_some_and(|group| gids.contains(&group.gid));
        match () {
            () if self.owners.contains(&uid) => Role::Owner,
            () if is_in(&self.admin) => Role::Admin,
            () if is_in(&self.read) => Role::Reader,
            () => Role::Stranger,
        }
    }

    /// What the socket's file is to let in: one group by the file system already, two by [`Self::role`] alone.
    pub fn rights(&self) -> Rights {
        match (&self.admin, &self.read) {
            (None, None) => Rights::OWN,
            (Some(one), Some(other)) if one.gid != other.gid => Rights { mode: ALL, gid: None },
            (Some(group), _) | (None, Some(group)) => Rights { mode: GROUP, gid: Some(group.gid) },
        }
    }

    /// That this peer may not do what takes this role, and who may.
    pub(super) fn refusal(&self, peer: Peer, needed: Role) -> ApiError {
        let verb = match needed {
            Role::Stranger | Role::Reader => "look",
            Role::Admin => "change anything",
            Role::Owner => "do that",
        };
        let group = |key: &str, group: &Option<Group>| {
            group.as_ref().map(|group| format!("a member of group {:?} (daemon.{key})", group.name))
        };
        let groups = match needed {
            Role::Owner => vec![],
            Role::Admin => vec![group("admin", &self.admin)],
            Role::Stranger | Role::Reader => vec![group("read", &self.read), group("admin", &self.admin)],
        };
        let groups: Vec<String> = groups.into_iter().flatten().collect();
        let hint = match (needed, groups.is_empty()) {
            (Role::Owner, _) => "run lbctl as root or as the user that lbd runs as: the whole of a configuration names programs and files \
                                 that lbd uses with its own rights"
                .to_owned(),
            (_, true) => "run lbctl as root or as the user that lbd runs as".to_owned(),
            (_, false) => format!(
                "run lbctl as root, as the user that lbd runs as, or as {}; a new member logs in again first",
                groups.join(" or ")
            ),
        };
        ApiError::new(ErrorCode::Forbidden, format!("{peer} may not {verb} here")).hint(hint)
    }
}

/// The user at the other end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    uid: u32,
    /// What it may do.
    pub(super) role: Role,
}

impl Peer {
    /// Who has connected, by what the kernel noted then.
    ///
    /// # Errors
    /// The kernel does not say.
    pub(super) fn of(stream: &UnixStream, access: &Access) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let mut gids = peer_groups(stream)?;
        gids.push(credentials.gid());
        Ok(Self { uid: credentials.uid(), role: access.role(credentials.uid(), &gids) })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}", self.uid)
    }
}

/// Lets a handler be reached by [`Role::Owner`] alone, whatever its method.
pub(super) struct ForOwner;

/// Lets a handler be reached from [`Role::Admin`] on, whatever its method.
pub(super) struct ForAdmin;

impl<S: Sync> FromRequestParts<S> for ForOwner {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        allow(parts, Role::Owner).map(|()| Self)
    }
}

impl<S: Sync> FromRequestParts<S> for ForAdmin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        allow(parts, Role::Admin).map(|()| Self)
    }
}

/// Who asks, and by which rules.
#[derive(Clone)]
pub(super) struct Asking {
    pub(super) peer: Peer,
    pub(super) access: std::sync::Arc<Access>,
}

impl Asking {
    /// # Errors
    /// The peer may not do what takes this role.
    pub(super) fn allow(&self, needed: Role) -> Result<(), ApiError> {
        match self.peer.role >= needed {
            true => Ok(()),
            false => Err(self.access.refusal(self.peer, needed)),
        }
    }
}

fn allow(parts: &Parts, needed: Role) -> Result<(), ApiError> {
    match parts.extensions.get::<Asking>() {
        Some(asking) => asking.allow(needed),
        None => Err(ApiError::new(ErrorCode::Internal, "it is not known who asks; this is a fault of lbd")),
    }
}

/// SO_PEERGROUPS of asm-generic/socket.h, which x86-64 and arm64 use (since Linux 4.13).
const PEER_GROUPS: libc::c_int = 59;
/// NGROUPS_MAX of linux/limits.h.
const MOST_GROUPS: usize = 65_536;

/// The supplementary groups that the other end had when it connected.
fn peer_groups(stream: &UnixStream) -> io::Result<Vec<u32>> {
    // As many as most users have; the kernel says how many bytes it wants if there are more.
    let mut gids: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let room = gids.len() * size_of::<libc::gid_t>();
        let mut len = libc::socklen_t::try_from(room).unwrap_or(libc::socklen_t::MAX);
        // SAFETY: the buffer is writable for `len` bytes, which live through the call, and so does `len`.
        let result = unsafe {
            libc::getsockopt(
                stream.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                PEER_GROUPS,
                gids.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        let count = usize::try_from(len).unwrap_or(0) / size_of::<libc::gid_t>();
        match result {
            0 => {
                gids.truncate(count);
                return Ok(gids);
            }
            _ => {
                let error = io::Error::last_os_error();
                if error.raw_os_error() != Some(libc::ERANGE) || count <= gids.len() || count > MOST_GROUPS {
                    return Err(error);
                }
                gids.resize(count, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, gid: u32) -> Option<Group> {
        Some(Group { name: name.to_owned(), gid })
    }

    #[test]
    fn groups_give_what_their_names_say() {
        let access = Access::of(999).with(group("ops", 50), group("watch", 60));
        for (uid, gids, role) in [
            (0, &[][..], Role::Owner),
            (999, &[], Role::Owner),
            (1000, &[50], Role::Admin),
            (1000, &[7, 60, 50], Role::Admin),
            (1000, &[7, 60], Role::Reader),
            (1000, &[7], Role::Stranger),
            (1000, &[], Role::Stranger),
            (1000, &[0], Role::Stranger),
        ] {
            assert_eq!(access.role(uid, gids), role, "{uid} {gids:?}");
        }
        assert_eq!(Access::of(999).role(1000, &[50]), Role::Stranger, "no group is configured");
    }

    #[test]
    fn the_socket_is_as_closed_as_its_groups_allow() {
        let rights = |admin, read| {
            let rights = Access::of(999).with(admin, read).rights();
            (rights.mode, rights.gid)
        };
        assert_eq!(rights(None, None), (0o600, None));
        assert_eq!(rights(group("ops", 50), None), (0o660, Some(50)));
        assert_eq!(rights(None, group("ops", 50)), (0o660, Some(50)));
        assert_eq!(rights(group("ops", 50), group("ops", 50)), (0o660, Some(50)));
        assert_eq!(rights(group("ops", 50), group("watch", 60)), (0o666, None));
    }

    #[test]
    fn a_refusal_names_the_group_that_may() {
        let access = Access::of(999).with(group("ops", 50), group("watch", 60));
        let said = |needed| access.refusal(Peer { uid: 7, role: Role::Stranger }, needed).to_string();
        assert!(said(Role::Reader).contains("uid 7 may not look here"), "{}", said(Role::Reader));
        assert!(said(Role::Reader).contains("\"watch\" (daemon.read)"), "{}", said(Role::Reader));
        assert!(said(Role::Admin).contains("\"ops\" (daemon.admin)") && !said(Role::Admin).contains("watch"));
        assert!(!said(Role::Owner).contains("group") && said(Role::Owner).contains("as root"));
    }

    #[tokio::test]
    async fn the_kernel_says_which_groups_a_peer_has() {
        let (one, _other) = UnixStream::pair().unwrap();
        let mut found = peer_groups(&one).unwrap();
        let mut own: Vec<u32> =
            nix::unistd::getgroups().unwrap().into_iter().map(nix::unistd::Gid::as_raw).collect();
        found.sort_unstable();
        own.sort_unstable();
        assert_eq!(found, own);
    }

    #[test]
    fn an_unknown_group_is_named_with_its_key() {
        let daemon = DaemonSpec { read: Some("no-such-group".to_owned()), ..DaemonSpec::default() };
        let said = Access::of_daemon(&daemon).unwrap_err().to_string();
        assert!(said.contains("daemon.read = \"no-such-group\"") && said.contains("groupadd"), "{said}");
        let daemon = DaemonSpec { admin: Some("root".to_owned()), ..DaemonSpec::default() };
        assert_eq!(Access::of_daemon(&daemon).unwrap().role(1000, &[0]), Role::Admin);
    }
}
