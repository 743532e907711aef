//! A visit to every CPU, after which no packet is under way that began before it.
//!
//! In: nothing. Out: whether a thread of ours has run on every CPU since it was asked. Why that is enough: packets reach XDP programs with
//! bottom halves off (NAPI in softirq, threaded or polled; generic mode: net/core/dev.c), and a CPU in that state switches to no other task. So
//! where our thread runs, no program does, and what begins later sees what was written before. (BPF_PROG_TEST_RUN has them off since Linux 6.3
//! alone; lbd runs `lbd_explain` so, of which [`super::Datapath::explain`] says why it is never under way beside a change.)
//! Why not leave it to the kernel: synchronize_rcu takes two to four ticks of its clock, 8 to 16 ms at 250 a second; CPUs are visited in
//! some tens of microseconds each, so up to a hundred of them are worth it. Invariants: not where that state can be left for another task
//! (PREEMPT_RT), nor where CPUs are kept free of us or of everybody; nobody waits longer than [`PATIENCE`] for a CPU that has no time for us.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;
use std::{fs, io, thread};

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::sys::statfs::{SYSFS_MAGIC, statfs};
use nix::sys::utsname::uname;
use nix::unistd::Pid;

/// A grace period of the kernel is seldom shorter.
const PATIENCE: Duration = Duration::from_millis(4);
/// After a visit that came to nothing so many are not tried: the CPUs are busy, or not ours to visit.
const NOT_TRIED: u32 = 64;

const ONLINE: &str = "/sys/devices/system/cpu/online";
/// The calling thread.
const THIS: Pid = Pid::from_raw(0);

/// Somebody waits.
struct Request {
    /// Whether every CPU was visited.
    answer: SyncSender<bool>,
    /// Nobody waits any more.
    is_over: Arc<AtomicBool>,
}

/// A thread that goes from CPU to CPU when it is asked to.
#[derive(Debug)]
pub(super) struct Visitor {
    requests: SyncSender<Request>,
    not_tried: AtomicU32,
}

impl Visitor {
    /// `None`: visits say nothing here, or would be in somebody's way.
    pub(super) fn start() -> Option<Self> {
        let everywhere = sched_getaffinity(THIS).ok()?;
        if !is_proof_here() || !online()?.iter().all(|cpu| everywhere.is_set(*cpu).unwrap_or(false)) {
            tracing::debug!("CPUs are not visited: what waits for packets under way waits for the kernel");
            return None;
        }
        let visit_all = move |is_over: &AtomicBool| {
            let all = online().is_some_and(|cpus| {
                cpus.into_iter().all(|cpu| !is_over.load(Ordering::Relaxed) && visit(cpu))
            });
            // Not to stay where it came to last, which may go offline.
            let _ = sched_setaffinity(THIS, &everywhere);
            all
        };
        Self::with(visit_all).ok()
    }

    /// A thread that answers each request with what `visit_all` finds. It ends with this value.
    fn with(visit_all: impl Fn(&AtomicBool) -> bool + Send + 'static) -> io::Result<Self> {
        // One that waits beside the one at work: a thread that is late for its next request need not be missed.
        let (requests, asked): (_, Receiver<Request>) = sync_channel(1);
        thread::Builder::new().name("lbd-visitor".to_owned()).spawn(move || {
            for Request { answer, is_over } in asked {
                let all = !is_over.load(Ordering::Relaxed) && visit_all(&is_over);
                // Who asked may have lost patience.
                let _ = answer.try_send(all);
            }
        })?;
        Ok(Self { requests, not_tried: AtomicU32::new(0) })
    }

    /// Whether every CPU was visited between the call and its return; `false` after [`PATIENCE`] at the latest.
    pub(super) fn visit_all(&self) -> bool {
        let one_less = |left: u32| left.checked_sub(1);
        if self.not_tried.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
            return false;
        }
        let (answer, answered) = sync_channel(1);
        let is_over = Arc::new(AtomicBool::new(false));
        let request = Request { answer, is_over: Arc::clone(&is_over) };
        let found = match self.requests.try_send(request) {
            Ok(()) => answered.recv_timeout(PATIENCE),
            Err(_others_ask) => Err(RecvTimeoutError::Timeout),
        };
        is_over.store(true, Ordering::Relaxed);
        if found != Ok(true) {
            tracing::debug!("not every CPU has time for a visit");
            self.not_tried.store(NOT_TRIED, Ordering::Relaxed);
        }
        found == Ok(true)
    }
}

/// Whether a task that runs on a CPU shows that no packet is under way there, and every CPU may be visited.
fn is_proof_here() -> bool {
    let says = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let is_list = |path: &str| says(path).chars().any(|letter| letter.is_ascii_digit());
    // Isolated CPUs are promised to somebody.
    let is_free =
        !is_list("/sys/devices/system/cpu/isolated") && !is_list("/sys/devices/system/cpu/nohz_full");
    // Containers are shown a list of their own CPUs (lxcfs), while packets come in on all.
    let is_whole = statfs(ONLINE).is_ok_and(|system| system.filesystem_type() == SYSFS_MAGIC);
    // `#1 SMP PREEMPT_RT …`; before it was mainline's, `PREEMPT RT`.
    let is_other = |version: &str| !version.contains("PREEMPT_RT") && !version.contains("PREEMPT RT");
    let has_no_rt = uname().is_ok_and(|name| name.version().to_str().is_some_and(is_other))
        && says("/sys/kernel/realtime").trim() != "1";
    is_free && is_whole && has_no_rt
}

/// CPUs that are online. One that comes online later runs what begins later.
fn online() -> Option<Vec<usize>> {
    let cpus = aya::util::online_cpus().ok().filter(|cpus| !cpus.is_empty())?;
    Some(cpus.into_iter().map(|cpu| cpu as usize).collect())
}

/// Whether this thread runs on that CPU now. Fails where a cpuset keeps it from there, and for CPUs beyond 1,023.
fn visit(cpu: usize) -> bool {
    let mut only = CpuSet::new();
    // The kernel moves a thread before the call returns.
    only.set(cpu).is_ok()
        && sched_setaffinity(THIS, &only).is_ok()
        && sched_getcpu().is_ok_and(|here| here == cpu)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_thread_runs_where_it_visits() {
        let mine = sched_getaffinity(THIS).unwrap();
        let visits = thread::spawn(move || {
            for cpu in online().unwrap() {
                // A cpuset may keep all of these tests from some.
                let is_there = visit(cpu);
                // Where this process was started on fewer (taskset) it may go to the others as well.
                assert!(is_there || !mine.is_set(cpu).unwrap(), "CPU {cpu}");
                assert!(!is_there || sched_getcpu().unwrap() == cpu);
            }
            assert!(!visit(usize::MAX), "nobody has so many");
        });
        visits.join().unwrap();
    }

    #[test]
    fn a_visit_that_is_stuck_is_not_waited_for_nor_tried_again_at_once() {
        let (begun, begins) = channel();
        let (go, goes) = channel::<()>();
        let visitor = Visitor::with(move |_is_over| {
            begun.send(()).unwrap();
            // Nobody sends: it waits until there is nobody who could.
            goes.recv().is_err()
        });
        let visitor = visitor.unwrap();
        until_begun(&visitor, &begins);
        for turn in 0..NOT_TRIED {
            assert!(!visitor.visit_all());
            assert_eq!(visitor.not_tried.load(Ordering::Relaxed), NOT_TRIED - 1 - turn);
        }
        drop(go);
        // A busy machine may keep the thread from it for some turns.
        assert!((0..100 * NOT_TRIED).any(|_| visitor.visit_all()));
        assert!(begins.try_recv().is_ok());
    }

    #[test]
    fn who_lost_patience_is_not_visited_for_and_its_answer_is_nobody_elses() {
        let (begun, begins) = channel();
        let (go, goes) = channel::<bool>();
        let visitor = Visitor::with(move |_is_over| {
            begun.send(()).unwrap();
            goes.recv().unwrap_or(false)
        });
        let visitor = visitor.unwrap();
        until_begun(&visitor, &begins);
        // In the queue behind it, where nobody takes it before patience is over.
        visitor.not_tried.store(0, Ordering::Relaxed);
        assert!(!visitor.visit_all());
        go.send(true).unwrap();
        // The next for whom somebody goes anywhere asks now, and will have lost patience; who may be in the queue behind it has.
        until_begun(&visitor, &begins);
        drop((go, visitor));
        assert!(begins.recv().is_err(), "it went for who had lost patience");
    }

    /// Asks until the visitor has set out, which a busy machine may keep it from for some turns, and comes to no end.
    fn until_begun(visitor: &Visitor, begins: &Receiver<()>) {
        loop {
            visitor.not_tried.store(0, Ordering::Relaxed);
            assert!(!visitor.visit_all(), "it was told what was found before it asked");
            if begins.try_recv().is_ok() {
                return;
            }
        }
    }
}
