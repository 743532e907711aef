//! What an operator asks for of 10.0.0.1, 10.0.0.2 and so on, in random histories.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
pub(super) enum Ask {
    Add(u8, u16),
    Remove(u8, Option<u64>),
    Weight(u8, u16),
    Drain(u8, Option<u64>, Then),
    Disable(u8),
    Enable(u8),
    Clear(u8),
}

/// Of one of so many backends.
pub(super) fn ask(addresses: u8) -> impl Strategy<Value = Ask> {
    let who = move || 1..=addresses;
    let time = || prop::option::of(1_u64..60);
    let then = prop_oneof![Just(Then::Keep), Just(Then::Disable), Just(Then::Remove)];
    prop_oneof![
        2 => (who(), 0_u16..4).prop_map(|(who, weight)| Ask::Add(who, weight)),
        1 => (who(), time()).prop_map(|(who, drain)| Ask::Remove(who, drain)),
        1 => (who(), 0_u16..4).prop_map(|(who, weight)| Ask::Weight(who, weight)),
        2 => (who(), time(), then).prop_map(|(who, deadline, then)| Ask::Drain(who, deadline, then)),
        1 => who().prop_map(Ask::Disable),
        2 => who().prop_map(Ask::Enable),
        1 => who().prop_map(Ask::Clear),
    ]
}

pub(super) fn at(who: u8) -> String {
    format!("10.0.0.{who}")
}

impl Ask {
    /// The same of backends in pool `web`.
    pub(super) fn operation(&self) -> Operation {
        let pool = name("web");
        let address = |who: &u8| address(&at(*who));
        let seconds = |time: &Option<u64>| time.map(Duration::from_secs);
        match self {
            Self::Add(who, weight) => Operation::BackendAdd { pool, address: address(who), weight: *weight },
            Self::Remove(who, drain) => {
                Operation::BackendRemove { pool, address: address(who), drain: seconds(drain) }
            }
            Self::Weight(who, weight) => {
                Operation::BackendWeight { pool, address: address(who), weight: *weight }
            }
            Self::Drain(who, deadline, then) => Operation::BackendDrain {
                pool,
                address: address(who),
                deadline: seconds(deadline),
                then: *then,
            },
            Self::Disable(who) => Operation::BackendDisable { pool, address: address(who) },
            Self::Enable(who) => Operation::BackendEnable { pool, address: address(who) },
            Self::Clear(who) => Operation::OverrideClear { pool, address: address(who) },
        }
    }
}

/// What the health engine has been told to check.
#[derive(Debug)]
pub(super) struct Told(pub(super) BTreeSet<CheckId>);

impl Told {
    /// At a start.
    pub(super) fn all(world: &World) -> Self {
        Self(world.membership.health_targets().into_iter().map(|target| target.id).collect())
    }

    /// What it is told by a step adds up to what is to be checked.
    pub(super) fn follow(&mut self, outcome: Option<&Outcome>, world: &World) -> Result<(), TestCaseError> {
        if let Some(outcome) = outcome {
            self.0.retain(|id| !outcome.checks_removed.contains(id));
            self.0.extend(outcome.checks_put.iter().map(|target| target.id.clone()));
        }
        prop_assert_eq!(&self.0, &Self::all(world).0);
        Ok(())
    }
}
