//! `lbd exec-check`: one run of a program that checks a backend, enclosed so that nothing of it outlives the run.
//!
//! In: a user, a command, the environment it gets; standard input, which the caller holds open for as long as the program may
//! run. Out: one line on standard output ([`Report`]). Invariant: when this process has ended, so has every process the program
//! made, whatever it did to get away (setsid, double fork, a fork bomb): they live in a PID namespace of their own, and the
//! kernel kills a namespace whole.
//!
//! Three processes: this one stays outside and holds the lifeline; the first one inside (PID 1 of the namespace) adopts and reaps;
//! its child gives everything up ([`restrict`]) and becomes the program. It is not a part of the daemon's own process because
//! that would have to fork, with its threads, its maps and its locks, for each check.

mod restrict;

use std::ffi::CString;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, User, execve, fork};

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The program ended with this status.
    Exited(i32),
    /// The program was ended by this signal.
    Killed(i32),
    /// This host could not run it, and why.
    Failed(String),
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exited {status}"),
            Self::Killed(signal) => write!(f, "killed {signal}"),
            Self::Failed(why) => write!(f, "failed {why}"),
        }
    }
}

impl Report {
    /// Reads what [`run`] wrote; `None`: it wrote nothing of the kind.
    pub fn read(line: &str) -> Option<Self> {
        let (word, rest) = line.trim_end().split_once(' ')?;
        match word {
            "exited" => rest.parse().ok().map(Self::Exited),
            "killed" => rest.parse().ok().map(Self::Killed),
            "failed" => Some(Self::Failed(rest.to_owned())),
            _ => None,
        }
    }
}

/// Runs the command as the user and reports. The environment of this process is that of the program.
pub fn run(user: &str, command: &[String]) -> ExitCode {
    let report = match enclosed(user, command) {
        // The process inside has reported.
        Ok(()) => return ExitCode::SUCCESS,
        Err(why) => Report::Failed(why),
    };
    match tell(&report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_nobody_listens) => ExitCode::FAILURE,
    }
}

fn tell(report: &Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{report}")?;
    out.flush()
}

fn enclosed(user: &str, command: &[String]) -> Result<(), String> {
    restrict::close_inherited();
    let found = User::from_name(user).map_err(|error| format!("cannot look up the user {user}: {error}"))?;
    let user = found.ok_or_else(|| format!("there is no user {user} on this host"))?;
    if user.uid.is_root() {
        return Err(format!("the user {} is root: a check runs without privileges", user.name));
    }
    let program = Program::new(command)?;
    // With CAP_SYS_ADMIN a PID namespace alone; else what any user may have, one inside a user namespace of its own.
    let outer = unshare(CloneFlags::CLONE_NEWPID);
    if outer.is_err() {
        restrict::become_user(&user)?;
        restrict::own_namespaces(&user)?;
    }
    // SAFETY: this process has one thread, so the child may do whatever its parent may.
    match unsafe { fork() }.map_err(|error| format!("cannot fork: {error}"))? {
        ForkResult::Parent { child } => watch(child),
        ForkResult::Child => {
            let report = match inside(&user, &program, outer.is_ok()) {
                Ok(report) => report,
                Err(why) => Report::Failed(why),
            };
            let told = tell(&report).is_ok();
            std::process::exit(i32::from(!told));
        }
    }
}

/// Outside: waits for the namespace to end, and ends it when standard input does.
fn watch(child: Pid) -> Result<(), String> {
    let ended = ended(child).map_err(|error| format!("cannot watch the check: {error}"))?;
    let lifeline = io::stdin();
    loop {
        let mut watched =
            [PollFd::new(ended.as_fd(), PollFlags::POLLIN), PollFd::new(lifeline.as_fd(), PollFlags::POLLIN)];
        match poll(&mut watched, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(format!("cannot watch the check: {error}")),
        }
        let happened = watched.each_ref().map(|fd| fd.any().unwrap_or(false));
        if happened[1] && !happened[0] {
            // It may have ended by itself just now.
            let _gone_already = kill(child, Signal::SIGKILL);
        }
        if happened[0] || happened[1] {
            // The kernel lets the first process of a namespace go when all others are gone.
            waitpid(child, None).map_err(|error| format!("cannot wait for the check: {error}"))?;
            return Ok(());
        }
    }
}

/// A file descriptor that becomes readable when the process ends.
fn ended(child: Pid) -> io::Result<OwnedFd> {
    // SAFETY: takes a number and flags, returns a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.as_raw(), 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the call above made it, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// PID 1 of the namespace: starts the program and reaps until that has ended.
fn inside(user: &User, program: &Program, privileged: bool) -> Result<Report, String> {
    // Should the process outside be killed, so shall we.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| format!("cannot tie the check to lbd: {error}"))?;
    let (mut fault, told_fault) = io::pipe().map_err(|error| format!("cannot make a pipe: {error}"))?;
    // SAFETY: this process has one thread.
    let child = match unsafe { fork() }.map_err(|error| format!("cannot fork: {error}"))? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let why = become_program(user, program, privileged, told_fault.as_fd());
            let _nobody_left_to_tell = (&told_fault).write_all(why.as_bytes());
            std::process::exit(1);
        }
    };
    drop(told_fault);
    let why = io::read_to_string(&mut fault).map_err(|error| format!("cannot hear of the check: {error}"))?;
    loop {
        match waitpid(None, None) {
            Ok(_) if !why.is_empty() => return Err(why),
            Ok(WaitStatus::Exited(pid, status)) if pid == child => return Ok(Report::Exited(status)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                return Ok(Report::Killed(signal as i32));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(format!("cannot wait for the check: {error}")),
        }
    }
}

/// Gives up everything and becomes the program; returns only with the reason why not. `fault` closes when the program begins.
fn become_program(user: &User, program: &Program, privileged: bool, fault: BorrowedFd<'_>) -> String {
    let prepared = restrict::limit(fault)
        .and_then(|()| if privileged { restrict::become_user(user) } else { Ok(()) })
        .and_then(|()| restrict::give_up_privileges());
    match prepared {
        Err(why) => why,
        Ok(()) => match execve(&program.path, &program.arguments, &program.environment) {
            Ok(never) => match never {},
            Err(error) => format!("cannot run {}: {}", program.path.to_string_lossy(), error.desc()),
        },
    }
}

/// What `execve` wants.
struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    fn new(command: &[String]) -> Result<Self, String> {
        let text = |text: &str| CString::new(text).map_err(|_zero| format!("{text:?} has a zero byte in it"));
        let arguments: Vec<CString> = command.iter().map(|word| text(word)).collect::<Result<_, _>>()?;
        let path = arguments.first().cloned().ok_or("no program is named")?;
        let environment = std::env::vars()
            .map(|(name, value)| text(&format!("{name}={value}")))
            .collect::<Result<_, _>>()?;
        Ok(Self { path, arguments, environment })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let all = [
            Report::Exited(0),
            Report::Exited(255),
            Report::Killed(9),
            Report::Failed("cannot run /x: y z".into()),
        ];
        for report in all {
            assert_eq!(Report::read(&format!("{report}\n")), Some(report));
        }
        for bad in ["", "exited", "exited x", "hello 3"] {
            assert_eq!(Report::read(bad), None, "{bad}");
        }
    }
}
