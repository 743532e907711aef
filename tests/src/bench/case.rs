//! The cases, and what each may cost.
//!
//! In: quick or whole. Out: a list. The budgets are those that lbd was designed for, of the machine it was designed on
//! (2 vCPU at 2.5 GHz, kernel 6.18); docs/performance.md says what is reached.

use serde::Serialize;

use crate::program::{Family, Mode};

/// The way a packet takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// To no service of ours.
    NotOurs,
    /// TCP of an established flow.
    Tcp,
    /// UDP of an established flow.
    Udp,
    /// A reply of an established TCP flow (nat, full-nat).
    Reply,
    /// The first packet of a TCP flow, another flow each time.
    Syn,
}

impl Path {
    /// As tables show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotOurs => "not ours",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Reply => "reply",
            Self::Syn => "syn, new flow",
        }
    }
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Case {
    /// How packets reach the backends; the program has this mode alone.
    pub mode: Mode,
    /// Of the flows; the program has this family alone.
    pub family: Family,
    /// The way through the program.
    pub path: Path,
    /// Flows that packets are of by turns; 0 where every packet is another flow, or none.
    pub flows: u32,
}

impl Case {
    /// The most it may cost, ns; `None`: no budget was set.
    pub fn budget_ns(&self) -> Option<f64> {
        let is_translated = matches!(self.mode, Mode::Nat | Mode::FullNat);
        match (self.path, self.flows) {
            (Path::NotOurs, _) => Some(if is_translated { 20.0 } else { 12.0 }),
            (Path::Tcp | Path::Reply, 1) => Some(match self.family {
                Family::V4 if is_translated => 60.0,
                Family::V4 => 50.0,
                Family::V6 => 55.0,
            }),
            (Path::Tcp, MILLION) if !is_translated => Some(match self.family {
                Family::V4 => 190.0,
                Family::V6 => 240.0,
            }),
            _ => None,
        }
    }
}

/// A power of two, as the generator wants it.
const MILLION: u32 = 1 << 20;

/// Every case of one program, in the order they are measured in.
pub fn cases(mode: Mode, family: Family, is_quick: bool) -> Vec<Case> {
    let flows: &[u32] = if is_quick { &[1, 1 << 10] } else { &[1, 1 << 10, 1 << 17, MILLION] };
    let many = flows.iter().copied().max().unwrap_or(1);
    let case = |path, flows| Case { mode, family, path, flows };
    let mut cases = vec![case(Path::NotOurs, 0)];
    cases.extend(flows.iter().map(|flows| case(Path::Tcp, *flows)));
    if matches!(mode, Mode::Nat | Mode::FullNat) {
        cases.extend(flows.iter().map(|flows| case(Path::Reply, *flows)));
    }
    cases.extend([1, many].map(|flows| case(Path::Udp, flows)));
    cases.push(case(Path::Syn, 0));
    cases
}
