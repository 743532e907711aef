//! What is done to a balancer and its backends during a soak.
//!
//! In: nothing; these are values. Out: their names and what they say. Invariant: a [`Change`] holds all that is needed to make it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A backend, counted from 0; `b1` is 0.
pub(super) type Index = usize;

/// What the configuration file names: backends and their weights.
pub(super) type File = BTreeMap<Index, u16>;

/// What happens at the deadline of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Keep,
    Disable,
    Remove,
}

impl Then {
    pub(super) fn word(self) -> &'static str {
        match self {
            Then::Keep => "keep",
            Then::Disable => "disable",
            Then::Remove => "remove",
        }
    }
}

/// How a backend's data port is cut off while its checks go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Without a word.
    Drop,
    /// Every packet is answered by a reset.
    Reset,
}

/// What lbctl does to one backend; several of them may be one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hand {
    Add { weight: u16 },
    Remove { drain: Option<Duration> },
    Weight { weight: u16 },
    Drain { deadline: Option<(Duration, Then)> },
    Disable,
    Enable,
    Clear,
}

impl Hand {
    pub(super) fn kind(self) -> &'static str {
        match self {
            Hand::Add { .. } => "add",
            Hand::Remove { drain: None } => "remove",
            Hand::Remove { .. } => "remove --drain",
            Hand::Weight { .. } => "weight",
            Hand::Drain { deadline: None } => "drain",
            Hand::Drain { .. } => "drain --deadline",
            Hand::Disable => "disable",
            Hand::Enable => "enable",
            Hand::Clear => "override clear",
        }
    }

    /// The words after `lbctl`.
    pub(super) fn words(self, pool: &str, address: &str) -> Vec<String> {
        let time = |time: Duration| format!("{}ms", time.as_millis());
        let (verb, more) = match self {
            Hand::Add { weight } => ("add", vec!["--weight".to_owned(), weight.to_string()]),
            Hand::Remove { drain: None } => ("remove", vec!["--yes".to_owned()]),
            Hand::Remove { drain: Some(drain) } => {
                ("remove", vec!["--drain".to_owned(), time(drain), "--yes".to_owned()])
            }
            Hand::Weight { weight } => ("set", vec!["--weight".to_owned(), weight.to_string()]),
            Hand::Drain { deadline: None } => ("drain", vec![]),
            Hand::Drain { deadline: Some((deadline, then)) } => (
                "drain",
                vec!["--deadline".to_owned(), time(deadline), "--then".to_owned(), then.word().to_owned()],
            ),
            Hand::Disable => ("disable", vec!["--yes".to_owned()]),
            Hand::Enable => ("enable", vec![]),
            Hand::Clear => return ["override", "clear", pool, address].map(str::to_owned).to_vec(),
        };
        [["backend", verb, pool, address].map(str::to_owned).to_vec(), more].concat()
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// By lbctl.
    Hand(Index, Hand),
    /// Several at once, by `lbctl batch`.
    Batch(Vec<(Index, Hand)>),
    /// `lbctl rollback` to the revision before the last change.
    Rollback,
    /// Another file, and SIGHUP.
    Reload(File),
    /// SIGKILL of the backend's server.
    Kill(Index),
    /// The server is started again.
    Revive(Index),
    /// nftables at the backend: its TCP port is cut, checks and UDP go on.
    Cut(Index, How),
    /// The port is free again.
    Heal(Index),
    /// The backend has another MAC.
    Mac(Index),
    /// SIGKILL of lbd, and a start after this time.
    Crash(Duration),
    /// lbd is stopped and started: a new program takes the place of the old on the pinned link.
    Upgrade,
}

impl Change {
    /// By which changes are counted.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Change::Hand(_, hand) => hand.kind(),
            Change::Batch(_) => "batch",
            Change::Rollback => "rollback",
            Change::Reload(_) => "reload",
            Change::Kill(_) => "kill",
            Change::Revive(_) => "revive",
            Change::Cut(..) => "cut",
            Change::Heal(_) => "heal",
            Change::Mac(_) => "mac",
            Change::Crash(_) => "sigkill lbd",
            Change::Upgrade => "upgrade",
        }
    }
}

/// As people call it.
pub(super) fn name(backend: Index) -> String {
    format!("b{}", backend + 1)
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hand = |backend: Index, hand: Hand| hand.words("web", &name(backend)).join(" ");
        match self {
            Change::Hand(backend, one) => f.write_str(&hand(*backend, *one)),
            Change::Batch(all) => {
                let all: Vec<String> = all.iter().map(|(backend, one)| hand(*backend, *one)).collect();
                write!(f, "batch: {}", all.join("; "))
            }
            Change::Reload(file) => {
                let named: Vec<String> =
                    file.iter().map(|(backend, weight)| format!("{}={weight}", name(*backend))).collect();
                write!(f, "reload: {}", named.join(" "))
            }
            Change::Kill(backend)
            | Change::Revive(backend)
            | Change::Heal(backend)
            | Change::Mac(backend) => {
                write!(f, "{} {}", self.kind(), name(*backend))
            }
            Change::Cut(backend, how) => {
                write!(f, "cut {} ({})", name(*backend), if *how == How::Drop { "drop" } else { "reset" })
            }
            Change::Crash(down) => write!(f, "sigkill lbd, down for {} ms", down.as_millis()),
            Change::Rollback | Change::Upgrade => f.write_str(self.kind()),
        }
    }
}
