//! The named cases: a world, what came before, a frame in; the verdict, every byte of the frame out and every counter.
//!
//! In: [`all`]. Out: [`judge`]d on any [`Machine`]: the host model (lb-datapath/tests/cases.rs) and the program as it is loaded
//! (tests/tests/program_cases.rs). Invariants: a counter that a case does not name must not move; the frame out is described from
//! its fields and summed from the start ([`frame`]), never taken from the packet path; what a case leaves open (the source port of
//! full-nat, the flow label of an outer header) is read from the frame out by name.

mod answers;
mod clients;
mod counts;
mod faults;
mod fill;
mod foreign;
pub mod frame;
mod headers;
mod host;
mod lost;
mod members;
mod modes;
mod moving;
mod ports;
mod room;
mod sizes;
mod sources;
mod ways;
pub mod world;
mod wrapped;

use lb_common::Reason;

pub use self::{
    counts::Counts,
    frame::{Frame, Payload},
    host::Host,
    world::World,
};
use crate::pipeline::Verdict;

/// Every case.
pub fn all() -> Vec<Case> {
    [
        modes::cases(),
        foreign::cases(),
        headers::cases(),
        faults::cases(),
        sizes::cases(),
        answers::cases(),
        clients::cases(),
        sources::cases(),
        members::cases(),
        lost::cases(),
        ports::cases(),
        ways::cases(),
        room::cases(),
        wrapped::cases(),
        moving::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The frames that left so far, in order, those of `Step::Many` excepted.
pub type Left<'a> = &'a [Vec<u8>];
/// Makes a frame from those that left.
pub type Make = Box<dyn Fn(Left<'_>) -> Vec<u8> + Send + Sync>;
/// Makes the frame that must leave from those that left before and from the one that did: of that only what is named in the module.
pub type Expect = Box<dyn Fn(Left<'_>, &[u8]) -> Vec<u8> + Send + Sync>;

/// What happens before the frame of a case.
pub enum Step {
    /// A packet; what becomes of it is not judged.
    One(Make),
    /// Many packets.
    Many(Vec<Vec<u8>>),
    /// The daemon changes the world.
    Becomes(World),
}

/// A case; see the module.
pub struct Case {
    /// Its name.
    pub name: String,
    /// The world it begins in.
    pub world: World,
    /// What happens first.
    pub before: Vec<Step>,
    /// The frame in.
    pub frame: Make,
    /// Room in front of the frame, bytes; `None` = as drivers leave it.
    pub headroom: Option<usize>,
    /// The verdict.
    pub verdict: Verdict,
    /// The frame out; not judged if it is dropped.
    pub out: Expect,
    /// Counters that move, and how far.
    pub moved: Counts,
    /// The reasons among them.
    pub reasons: Vec<Reason>,
    /// Which counter [`SOME_BACKEND`] stands for, by the frames that left before.
    pub backend: Which,
}

/// Tells the counter of a backend from the frames that left.
pub type Which = Box<dyn Fn(Left<'_>) -> usize + Send + Sync>;

/// Stands for the counter of a backend that depends on the seed.
pub(crate) const SOME_BACKEND: usize = usize::MAX;

/// Something that takes frames.
pub trait Machine {
    /// The world is this one from now on; flows and counters stay.
    ///
    /// # Errors
    /// Why it cannot be.
    fn become_world(&mut self, world: &World) -> Result<(), String>;

    /// Takes a frame with so much room in front; `None` = as drivers leave it.
    ///
    /// # Errors
    /// Why it could not be tried.
    fn take(&mut self, frame: &[u8], headroom: Option<usize>) -> Result<(Verdict, Vec<u8>), String>;

    /// Every counter.
    ///
    /// # Errors
    /// Why they cannot be read.
    fn counts(&self) -> Result<Counts, String>;
}

/// Runs a case.
///
/// # Errors
/// What differs, for people.
pub fn judge(case: &Case, machine: &mut impl Machine) -> Result<(), String> {
    machine.become_world(&case.world)?;
    let mut left = Vec::new();
    for step in &case.before {
        match step {
            Step::One(make) => left.push(machine.take(&make(&left), None)?.1),
            Step::Many(frames) => {
                for frame in frames {
                    machine.take(frame, None)?;
                }
            }
            Step::Becomes(world) => machine.become_world(world)?,
        }
    }
    let before = machine.counts()?;
    let frame = (case.frame)(&left);
    let (verdict, out) = machine.take(&frame, case.headroom)?;
    let moved = machine.counts()?.since(&before);
    let expected = (case.out)(&left, &out);
    if verdict != case.verdict {
        return Err(format!("verdict {verdict:?}, expected {:?}; moved: {:?}", case.verdict, moved.0));
    }
    if verdict != Verdict::Drop && out != expected {
        return Err(format!(
            "{verdict:?}:\n   left {out:02x?}\nexpected {expected:02x?}\n     in {frame:02x?}"
        ));
    }
    let expected = case.moved.with_backend(SOME_BACKEND, (case.backend)(&left));
    if moved != expected {
        return Err(format!("counters moved {:?}\n      expected {:?}", moved.0, expected.0));
    }
    Ok(())
}

impl Case {
    /// A frame that passes untouched, and nothing but the interface knows of it.
    pub(crate) fn new(name: impl Into<String>, world: World, frame: impl Into<In>) -> Self {
        let In(frame) = frame.into();
        let bytes = frame.clone();
        let mut case = Self::made(name, world, move |_| frame.clone());
        case.out = Box::new(move |_, _| bytes.clone());
        case.verdict_is(Verdict::Pass)
    }

    /// As [`Self::new`], the frame made from those that left before. The frame out is to be given.
    pub(crate) fn made(
        name: impl Into<String>,
        world: World,
        make: impl Fn(Left<'_>) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            world,
            before: Vec::new(),
            frame: Box::new(make),
            headroom: None,
            verdict: Verdict::Pass,
            out: Box::new(|_, _| Vec::new()),
            moved: Counts::default(),
            reasons: Vec::new(),
            backend: Box::new(|_| SOME_BACKEND),
        }
    }

    fn verdict_is(mut self, verdict: Verdict) -> Self {
        self.verdict = verdict;
        self.moved = Counts::default();
        self.moved.verdict(verdict);
        self
    }

    /// After this packet.
    pub(crate) fn after(self, frame: &Frame) -> Self {
        let bytes = frame.bytes();
        self.after_made(move |_| bytes.clone())
    }

    /// After a packet made from those that left before.
    pub(crate) fn after_made(mut self, make: impl Fn(Left<'_>) -> Vec<u8> + Send + Sync + 'static) -> Self {
        self.before.push(Step::One(Box::new(make)));
        self
    }

    /// After many packets.
    pub(crate) fn after_many(mut self, frames: Vec<Vec<u8>>) -> Self {
        self.before.push(Step::Many(frames));
        self
    }

    /// After the world became this one.
    pub(crate) fn becoming(mut self, world: World) -> Self {
        self.before.push(Step::Becomes(world));
        self
    }

    /// It passes, changed.
    pub(crate) fn passes(self, out: impl Fn(Left<'_>, &[u8]) -> Frame + Send + Sync + 'static) -> Self {
        self.leaves(Verdict::Pass, out)
    }

    /// It is sent back out.
    pub(crate) fn sends(self, out: impl Fn(Left<'_>, &[u8]) -> Frame + Send + Sync + 'static) -> Self {
        self.leaves(Verdict::Transmit, out)
    }

    /// It is sent out of the other interface.
    pub(crate) fn redirects(self, out: impl Fn(Left<'_>, &[u8]) -> Frame + Send + Sync + 'static) -> Self {
        self.leaves(Verdict::Redirect, out)
    }

    fn leaves(
        mut self,
        verdict: Verdict,
        out: impl Fn(Left<'_>, &[u8]) -> Frame + Send + Sync + 'static,
    ) -> Self {
        self.out = Box::new(move |left, seen| out(left, seen).bytes());
        self.verdict_is(verdict)
    }

    /// It is dropped, for this reason.
    pub(crate) fn drops(self, service: u16, reason: Reason) -> Self {
        self.verdict_is(Verdict::Drop).notes(service, reason)
    }

    /// This reason is counted.
    pub(crate) fn notes(mut self, service: u16, reason: Reason) -> Self {
        self.reasons.push(reason);
        self.counts(&format!("service {service} {}", reason.name()), 1)
    }

    /// This counter moves.
    pub(crate) fn counts(mut self, name: &str, by: u64) -> Self {
        self.moved.add(name, by);
        self
    }

    /// A client's packet of so many bytes is forwarded to the backend with this counter.
    pub(crate) fn forwards(self, service: u16, backend: usize, bytes: usize) -> Self {
        let bytes = bytes as u64;
        self.counts(&format!("service {service} packets"), 1)
            .counts(&format!("service {service} bytes"), bytes)
            .counts(&format!("backend {backend} packets"), 1)
            .counts(&format!("backend {backend} bytes"), bytes)
    }

    /// A flow begins with it, and is not entered.
    pub(crate) fn begins_unstored(self, service: u16, backend: usize) -> Self {
        self.counts(&format!("service {service} new_flows"), 1)
            .counts(&format!("backend {backend} new_flows"), 1)
    }

    /// A flow begins with it, entered in flow table 0 (IPv4) or 1 (wide).
    pub(crate) fn begins(self, service: u16, backend: usize, table: usize) -> Self {
        self.begins_unstored(service, backend).inserts(table)
    }

    /// An entry is written.
    pub(crate) fn inserts(self, table: usize) -> Self {
        self.counts(&format!("flows {} inserted", ["v4", "wide"][table]), 1)
    }

    /// A reply of so many bytes is translated back.
    pub(crate) fn replies(self, service: u16, backend: usize, bytes: usize) -> Self {
        let bytes = bytes as u64;
        self.counts(&format!("service {service} reply_packets"), 1)
            .counts(&format!("service {service} reply_bytes"), bytes)
            .counts(&format!("backend {backend} reply_packets"), 1)
            .counts(&format!("backend {backend} reply_bytes"), bytes)
    }
}

/// A frame in: described, or as bytes.
pub(crate) struct In(Vec<u8>);

impl From<&Frame> for In {
    fn from(frame: &Frame) -> Self {
        Self(frame.bytes())
    }
}

impl From<Vec<u8>> for In {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}
