//! `backends = [ … ]`.
//!
//! In: the table of a pool or service. Out: its backends with their lines. Invariant: one that cannot be read is a problem and
//! takes nothing from the others.

use super::keys;
use super::section::{Item, Section};
use crate::spec::{BackendSpec, DEFAULT_WEIGHT};

/// The backends of this pool, in their order.
pub(super) fn read(section: &Section<'_>) -> Vec<BackendSpec> {
    let items = section.array("backends").unwrap_or_default();
    items.into_iter().enumerate().filter_map(|(index, item)| backend(section, index, item)).collect()
}

fn backend<'a>(section: &Section<'a>, index: usize, item: &'a Item<'a>) -> Option<BackendSpec> {
    let line = section.document.line(&item.span());
    let origin = section.document.origin(line);
    if let Some(text) = item.get_ref().as_str() {
        let address = section.accept(line, text.parse())?;
        return Some(BackendSpec { address, weight: DEFAULT_WEIGHT, origin });
    }
    let Some(table) = item.get_ref().as_table() else {
        let hint = "write \"10.0.0.11\" or { address = \"10.0.0.11\", weight = 5 }";
        section.fault(line, format!("backend {} is neither an address nor a table", index + 1), hint);
        return None;
    };
    let label = match table.get("address").and_then(|address| address.get_ref().as_str()) {
        Some(address) => format!("backend {address:?} of {}", section.label),
        None => format!("backend {} of {}", index + 1, section.label),
    };
    let entry = Section::open(section.document, table, label, line, keys::BACKEND);
    if !entry.has("address") {
        entry.fault(line, "address is missing", "write { address = \"10.0.0.11\", weight = 5 }");
    }
    let address = entry.string("address").and_then(|(text, line)| section.accept(line, text.parse()));
    let weight = match entry.has("weight") {
        true => entry.integer("weight", 0..=u16::MAX),
        false => Some(DEFAULT_WEIGHT),
    };
    // A weight that cannot be read takes nothing from what the address means.
    Some(BackendSpec { address: address?, weight: weight.unwrap_or(DEFAULT_WEIGHT), origin })
}
