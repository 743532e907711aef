//! The socket's place in the filesystem.
//!
//! In: a path, whom it is to let in. Out: a listening socket there, closed to all others. Invariants: a socket that somebody listens on is never taken away;
//! one that nobody listens on is replaced in one step; on the way out only the own one is removed.

use std::fs::{self, FileType, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, UnixAddr, getsockopt, sockopt::PeerCredentials,
};
use nix::unistd::geteuid;
use tokio::net::UnixListener;

use super::access::Rights;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon serves it.
    #[error(
        "{path} is served by another lbd ({}): stop that one, or give this one another daemon.socket",
        holder(*.pid)
    )]
    Held {
        /// The socket.
        path: String,
        /// Whose it is; 0: it does not answer, so nobody knows.
        pid: i32,
    },
    /// Something else has that name; it is left alone.
    #[error("{path} is {kind}, not a socket: {remedy}")]
    NoSocket {
        /// The path.
        path: String,
        /// What it is.
        kind: &'static str,
        /// What to do about it.
        remedy: String,
    },
    /// The socket's directory is none.
    #[error(
        "{directory} is {kind}, so there can be no socket {path}: set daemon.socket to a path in a directory"
    )]
    NoDirectory {
        /// What is in the place of a directory.
        directory: String,
        /// What it is.
        kind: &'static str,
        /// The socket.
        path: String,
    },
    /// The socket's directory is somebody else's now.
    #[error("its directory {directory} belongs to another user now (uid {uid}): remove it")]
    ForeignDirectory {
        /// The directory.
        directory: String,
        /// Whose it is.
        uid: u32,
    },
    /// The system refuses.
    #[error("cannot {what} {path} ({error}): check daemon.socket and the rights on its directory")]
    System {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: String,
        /// Why it failed.
        error: io::Error,
    },
}

/// The listening socket; its name goes when this is dropped.
#[derive(Debug)]
pub struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    rights: Rights,
    /// Device and inode.
    identity: (u64, u64),
    /// Why the name that is gone cannot be made again, as last said.
    complaint: Option<String>,
}

impl Socket {
    /// Looks whether the name is still there; one that somebody removed is made again. What keeps it from that is logged once.
    pub(super) fn keep(&mut self) {
        let path = self.path.display();
        if self.is_in_place() {
            return;
        }
        match own_directory(&self.path).and_then(|()| bind(&self.path, self.rights)) {
            Ok(again) => {
                tracing::warn!("{path} was removed by somebody; it is made again");
                *self = again;
            }
            Err(error) => {
                let complaint = format!(
                    "{path} was removed and cannot be made again, lbctl does not reach this lbd: {error}"
                );
                if self.complaint.as_ref() != Some(&complaint) {
                    tracing::warn!("{complaint}");
                    self.complaint = Some(complaint);
                }
            }
        }
    }

    fn is_in_place(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.identity)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Another daemon may have put its own there in the meantime.
        if self.is_in_place()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Listens at `path`; a directory that is missing is made. Needs a tokio runtime.
///
/// # Errors
/// Another daemon listens there, something else is there, or the system refuses, such as to give it to a group that this user is not of.
pub fn bind(path: &Path, rights: Rights) -> Result<Socket, SocketError> {
    let name = || path.display().to_string();
    let system =
        |what: &'static str| move |error: io::Error| SocketError::System { what, path: name(), error };
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::create_dir_all(directory).map_err(|error| match no_directory(directory) {
            Some((found, kind)) => {
                SocketError::NoDirectory { directory: found.display().to_string(), kind, path: name() }
            }
            None => system("make the directory of")(error),
        })?;
    }
    refuse_taken(path)?;
    // Under another name first: with the right mode from its first moment, and in place of a stale one in one step.
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    let cleared = fs::remove_file(&fresh);
    if let Err(error) =
        cleared.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
    {
        return Err(system("clear the way of")(error));
    }
    let listener = StdListener::bind(&fresh).map_err(system("listen on"))?;
    let discard = |what, error| {
        // The name is of no use any more; what counts is why.
        let _unused = fs::remove_file(&fresh);
        system(what)(error)
    };
    // Closed to others before it is another group's.
    fs::set_permissions(&fresh, Permissions::from_mode(Rights::OWN.mode))
        .and_then(|()| rights.gid.map_or(Ok(()), |gid| chown(&fresh, None, Some(gid))))
        .map_err(|error| discard("give to the group of daemon.admin or daemon.read", error))?;
    let placed = fs::set_permissions(&fresh, Permissions::from_mode(rights.mode))
        .and_then(|()| fs::rename(&fresh, path))
        .and_then(|()| fs::symlink_metadata(path));
    let identity = placed.map(|found| identity(&found)).map_err(|error| discard("put in place", error))?;
    let listener = listener
        .set_nonblocking(true)
        .and_then(|()| UnixListener::from_std(listener))
        .map_err(system("listen on"))?;
    Ok(Socket { listener, path: path.to_owned(), rights, identity, complaint: None })
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// Errors if the directory of a socket is neither root's nor this user's. Where it went with the socket, somebody else may have made
/// another in its place, and would be the one who decides what is behind the names in it.
fn own_directory(path: &Path) -> Result<(), SocketError> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    let owner = directory.and_then(|directory| fs::symlink_metadata(directory).ok()).map(|found| found.uid());
    match (directory, owner) {
        (Some(directory), Some(uid)) if uid != 0 && uid != geteuid().as_raw() => {
            Err(SocketError::ForeignDirectory { directory: directory.display().to_string(), uid })
        }
        _ => Ok(()),
    }
}

/// Who holds a socket, in words.
fn holder(pid: i32) -> String {
    match pid {
        0 => "its process does not answer; `ss -xlp` names it".to_owned(),
        pid => format!("process {pid}"),
    }
}

/// What stands where a directory of this path should be, and what it is.
fn no_directory(path: &Path) -> Option<(&Path, &'static str)> {
    let found = path.ancestors().find_map(|path| Some((path, fs::metadata(path).ok()?)));
    found.filter(|(_, found)| !found.is_dir()).map(|(path, found)| (path, kind(found.file_type())))
}

/// In words.
fn kind(found: FileType) -> &'static str {
    match found {
        _ if found.is_dir() => "a directory",
        _ if found.is_symlink() => "a symbolic link",
        _ if found.is_fifo() => "a named pipe",
        _ if found.is_file() => "a regular file",
        _ if found.is_socket() => "a socket",
        _ => "a device",
    }
}

/// Errors unless the name is free or a socket that nobody listens on.
fn refuse_taken(path: &Path) -> Result<(), SocketError> {
    let name = || path.display().to_string();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(SocketError::System { what: "look at", path: name(), error }),
        Ok(found) if !found.file_type().is_socket() => {
            let remedy = match found.is_dir() {
                true => {
                    format!("set daemon.socket to a path in it, such as {}", path.join("lbd.sock").display())
                }
                false => "move it away, or set daemon.socket to another path".to_owned(),
            };
            return Err(SocketError::NoSocket { path: name(), kind: kind(found.file_type()), remedy });
        }
        Ok(_) => {}
    }
    match knock(path) {
        Ok(pid) => Err(SocketError::Held { path: name(), pid }),
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(()),
        Err(error) => {
            let error = error.into();
            Err(SocketError::System { what: "tell whether somebody listens on", path: name(), error })
        }
    }
}

/// Who listens on a socket; 0 = nobody knows. Does not wait: one who listens and accepts nothing is there all the same.
fn knock(path: &Path) -> nix::Result<i32> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?) {
        Ok(()) => Ok(getsockopt(&socket, PeerCredentials).map_or(0, |peer| peer.pid())),
        Err(Errno::EAGAIN) => Ok(0),
        Err(error) => Err(error),
    }
}
