//! Loading the program: the object, its constants and its maps become verified programs in the kernel.
//!
//! In: the object, [`Settings`], the directory of maps (the pinned ones are adopted, the others made and pinned there).
//! Out: [`Programs`]. Invariant: after loading, every map has the shape that was asked for, whatever the loader did.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use aya::programs::{ProgramError, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use lb_common::Settings;
use zerocopy::IntoBytes;

use super::pins::{self, Shape};
use super::{DatapathError, privilege, syscall};

/// The balancer.
pub(super) const BALANCER: &str = "lbd";
/// The balancer that changes nothing and leaves an explanation.
pub(super) const EXPLAIN: &str = "lbd_explain";
/// Returns the present tick.
pub(super) const CLOCK: &str = "lbd_clock";
/// The programs that are loaded and pinned.
const PROGRAMS: [&str; 3] = [BALANCER, EXPLAIN, CLOCK];

/// Lines of a verifier log that an error shows; the rest is in the debug log.
const LOG_TAIL_LINES: usize = 8;

/// The loaded programs.
#[derive(Debug)]
pub(super) struct Programs {
    ebpf: Ebpf,
}

impl Programs {
    /// Loads the object's programs over the maps in `directory`.
    pub(super) fn load(
        object: &[u8],
        settings: &Settings,
        directory: &Path,
        wanted: &BTreeMap<&'static str, Shape>,
    ) -> Result<Self, DatapathError> {
        let mut loader = EbpfLoader::new();
        loader.override_global("SETTINGS", settings.as_bytes(), true);
        for (name, shape) in wanted {
            loader.map_max_entries(name, shape.max_entries);
            loader.map_pin_path(name, directory.join(name));
        }
        let ebpf = loader.load(object).map_err(|error| not_loaded(&error))?;
        let mut programs = Self { ebpf };
        for name in PROGRAMS {
            programs.program_mut(name)?.load().map_err(|error| refused(name, &error))?;
        }
        verify_shapes(directory, wanted)?;
        Ok(programs)
    }

    /// A loaded program's descriptor.
    pub(super) fn fd(&self, name: &'static str) -> Result<BorrowedFd<'_>, DatapathError> {
        let program = self.program(name)?;
        program.fd().map(AsFd::as_fd).map_err(|error| refused(name, &error))
    }

    /// Runs a program once on `packet`; `context` is a `struct xdp_md` or empty. The answer is the return value and the
    /// packet as it left.
    pub(super) fn run(
        &self,
        name: &'static str,
        packet: &[u8],
        context: &[u8],
    ) -> Result<(u32, Vec<u8>), DatapathError> {
        // Room for an outer header and for an ICMP answer.
        let mut out = vec![0; packet.len() + 256];
        let options = TestRunOptions {
            data_in: Some(packet),
            data_out: Some(&mut out),
            ctx_in: (!context.is_empty()).then_some(context),
            ..TestRunOptions::default()
        };
        let result = self.program(name)?.test_run(options).map_err(|error| DatapathError::Run {
            program: name,
            reason: reason(&error),
            remedy: privilege::remedy(io_error(&error)),
        })?;
        out.truncate(result.data_size_out as usize);
        Ok((result.return_value, out))
    }

    /// Where the programs are pinned in a directory.
    pub(super) fn pins(&self, directory: &Path) -> impl Iterator<Item = PathBuf> {
        PROGRAMS.into_iter().map(|name| directory.join(name))
    }

    /// Pins the programs, in the place of those pinned before.
    pub(super) fn pin(&self, directory: &Path) -> Result<(), DatapathError> {
        for name in PROGRAMS {
            let (path, new) = (directory.join(name), directory.join(format!("{name}_new")));
            let pinned = || -> io::Result<()> {
                if new.exists() {
                    std::fs::remove_file(&new)?;
                }
                syscall::pin(self.fd(name).map_err(io::Error::other)?, &new)?;
                std::fs::rename(&new, &path)
            };
            pinned().map_err(|error| pins::broken(&path, &error))?;
        }
        Ok(())
    }

    fn program(&self, name: &'static str) -> Result<&Xdp, DatapathError> {
        let program = self.ebpf.program(name).ok_or_else(|| lacking(name))?;
        program.try_into().map_err(|error: ProgramError| refused(name, &error))
    }

    fn program_mut(&mut self, name: &'static str) -> Result<&mut Xdp, DatapathError> {
        let program = self.ebpf.program_mut(name).ok_or_else(|| lacking(name))?;
        program.try_into().map_err(|error: ProgramError| refused(name, &error))
    }
}

/// aya adopts whatever is pinned under a name; this is the look it does not take.
fn verify_shapes(directory: &Path, wanted: &BTreeMap<&'static str, Shape>) -> Result<(), DatapathError> {
    for (name, shape) in wanted {
        let path = directory.join(name);
        match pins::open_map(&path)? {
            Some((_, found)) if found == *shape => {}
            found => {
                return Err(DatapathError::Pin {
                    path,
                    reason: format!("changed while lbd was loading: found {found:?}, wanted {shape:?}"),
                    remedy: "see who else uses this pin path, and start again".into(),
                });
            }
        }
    }
    Ok(())
}

pub(super) fn lacking(name: &str) -> DatapathError {
    DatapathError::Object {
        what: "the BPF object".into(),
        reason: format!(
            "it has no XDP program {name}; it was built from another version of lbd (cargo xtask build)"
        ),
    }
}

pub(super) fn not_loaded(error: &EbpfError) -> DatapathError {
    DatapathError::Load {
        what: "the maps".into(),
        reason: chain(error),
        remedy: privilege::remedy(io_error(error)),
    }
}

pub(super) fn refused(program: &str, error: &ProgramError) -> DatapathError {
    if let ProgramError::LoadError { verifier_log, .. } = error {
        let log = verifier_log.to_string();
        tracing::debug!(program, log, "verifier log");
        if let Some(tail) = log_tail(&log) {
            let remedy = privilege::verifier_remedy();
            return DatapathError::Verifier { program: program.to_owned(), remedy, tail };
        }
    }
    DatapathError::Load {
        what: format!("the program {program}"),
        reason: reason(error),
        remedy: privilege::remedy(io_error(error)),
    }
}

/// The last lines of a verifier log that say something of the fault; `None`: it did not get to the verifier.
fn log_tail(log: &str) -> Option<String> {
    let is_statistic = |line: &str| {
        ["processed ", "verification time", "stack depth", "insns_processed", "peak_states"]
            .iter()
            .any(|start| line.starts_with(start))
    };
    let lines: Vec<&str> =
        log.lines().map(str::trim_end).filter(|line| !line.is_empty() && !is_statistic(line)).collect();
    let tail = lines.get(lines.len().saturating_sub(LOG_TAIL_LINES)..)?;
    (!tail.is_empty()).then(|| tail.join("\n  "))
}

/// An error's message without the verifier log.
fn reason(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, .. } => io_error.to_string(),
        other => chain(other),
    }
}

/// An error and its sources, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// The kernel's answer somewhere below an error.
fn io_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<io::Error>() {
            return Some(found);
        }
        if let Some(ProgramError::LoadError { io_error, .. }) = cause.downcast_ref::<ProgramError>() {
            return Some(io_error);
        }
        next = cause.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_verifier_log_is_shown_without_statistics() {
        let log = (0..50).map(|line| format!("{line}: (b7) r0 = 0\n")).collect::<String>()
            + "R1 invalid mem access 'scalar'\nprocessed 51 insns (limit 1000000)\nverification time 3 usec\n";
        let tail = log_tail(&log).unwrap();
        assert!(tail.ends_with("R1 invalid mem access 'scalar'"), "{tail}");
        assert_eq!(tail.lines().count(), LOG_TAIL_LINES);
        assert_eq!(log_tail("processed 0 insns (limit 1000000)\n"), None);
        assert_eq!(log_tail(""), None);
    }

    #[test]
    fn causes_are_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer: {0}")]
        struct Outer(#[source] io::Error);
        let error = Outer(io::Error::from_raw_os_error(libc::EPERM));
        assert_eq!(chain(&error).matches("not permitted").count(), 1);
        assert_eq!(io_error(&error).and_then(io::Error::raw_os_error), Some(libc::EPERM));
    }
}
