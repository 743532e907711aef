//! `passive = false` and `passive = { patience = "300ms" }`.
//!
//! In: the table of a pool, of a service, or `[defaults]`, and what is beneath it. Out: the policy, or `None`: off.

use super::keys;
use super::section::Section;
use super::settings::set;
use crate::spec::{PassiveSpec, limits};

pub(super) fn read(section: &Section<'_>, beneath: Option<PassiveSpec>) -> Option<PassiveSpec> {
    let Some(item) = section.item("passive") else { return beneath };
    if item.get_ref().as_table().is_none() {
        return match section.boolean("passive") {
            Some(false) => None,
            _ => Some(beneath.unwrap_or_default()),
        };
    }
    let mut policy = beneath.unwrap_or_default();
    let Some(table) = section.table("passive", format!("passive of {}", section.label), keys::PASSIVE) else {
        return Some(policy);
    };
    set(&mut policy.patience, table.duration("patience", limits::PATIENCE));
    set(&mut policy.eject, table.duration("eject", limits::EJECT));
    set(&mut policy.max_ejected, table.parsed("max_ejected"));
    Some(policy)
}
