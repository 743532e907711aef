//! What people ask for.

use super::{Model, State};
use crate::membership::tests::ask::Ask;
use crate::membership::{RefusalCode, Then};

impl Model {
    pub(super) fn operate(&mut self, ask: &Ask) -> Result<(), RefusalCode> {
        match ask {
            Ask::Add(who, weight) => match self.cli.get(who) {
                Some(there) if there != weight => return Err(RefusalCode::Invalid),
                _ => drop(self.cli.insert(*who, *weight)),
            },
            Ask::Remove(who, drain) => {
                self.exists(*who)?;
                self.is_own(*who)?;
                match drain {
                    None => drop(self.cli.remove(who)),
                    Some(seconds) => self.set(*who, State::Until(self.now + seconds, Then::Remove)),
                }
            }
            Ask::Weight(who, weight) => {
                self.exists(*who)?;
                // A drain without a deadline is a weight of 0 by another name.
                if *weight > 0 && self.web[who].state == State::Draining {
                    self.set(*who, State::Active);
                }
                self.web.get_mut(who).unwrap().weight = Some(*weight);
            }
            Ask::Drain(who, deadline, then) => {
                self.exists(*who)?;
                if *then == Then::Remove {
                    self.is_own(*who)?;
                }
                match deadline {
                    None if *then != Then::Keep => return Err(RefusalCode::Invalid),
                    None => self.set(*who, State::Draining),
                    Some(seconds) => self.set(*who, State::Until(self.now + seconds, *then)),
                }
            }
            Ask::Disable(who) => {
                self.exists(*who)?;
                self.set(*who, State::Disabled);
            }
            Ask::Enable(who) => {
                self.exists(*who)?;
                let one = self.web[who];
                let is_idle = one.state == State::Active && one.weight != Some(0);
                if is_idle && self.defined_weight(*who) == 0 && self.weight(*who) == 0 {
                    return Err(RefusalCode::Owner);
                }
                self.set(*who, State::Active);
                self.web.get_mut(who).unwrap().weight = one.weight.filter(|weight| *weight > 0);
            }
            Ask::Clear(who) => {
                self.exists(*who)?;
                self.set(*who, State::Active);
                self.web.get_mut(who).unwrap().weight = None;
            }
        }
        Ok(())
    }

    fn exists(&self, who: u8) -> Result<(), RefusalCode> {
        if self.web.contains_key(&who) { Ok(()) } else { Err(RefusalCode::NotFound) }
    }

    fn is_own(&self, who: u8) -> Result<(), RefusalCode> {
        if self.cli.contains_key(&who) { Ok(()) } else { Err(RefusalCode::Owner) }
    }
}
