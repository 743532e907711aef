//! What a pool does when its backends are not well, and with one that comes back: `panic_below`, `slow_start`, `backup`.
//!
//! In: the table of a pool or service. Out: the values, with what `[defaults]` says beneath them. Invariant: a backup whose
//! thresholds contradict each other is a problem here, where both are seen.

use std::time::Duration;

use super::keys;
use super::section::{Missing, Section};
use super::settings::set;
use crate::spec::{BackupSpec, Percent, limits};

pub(super) fn panic_below(section: &Section<'_>) -> Option<Percent> {
    section.parsed("panic_below")
}

pub(super) fn slow_start(section: &Section<'_>) -> Option<Duration> {
    section.duration("slow_start", limits::RAMP)
}

/// `backup = "sorry"` or `backup = { pool = "sorry", below = "25%" }`.
pub(super) fn backup(section: &Section<'_>, gaps: &mut Missing) -> Option<BackupSpec> {
    section.noting(gaps, "backup", |key| {
        let item = section.item(key)?;
        if item.get_ref().as_table().is_none() {
            return section.parsed(key).map(BackupSpec::new);
        }
        let table = section.table(key, format!("backup of {}", section.label), keys::BACKUP)?;
        if !table.has("pool") {
            table.fault(table.line, "pool is missing", "write { pool = \"sorry\" }");
        }
        let mut backup = BackupSpec::new(table.parsed("pool")?);
        set(&mut backup.below, table.parsed("below"));
        // Whoever names only the lower threshold gets one above it.
        backup.above = table.parsed("above").unwrap_or(backup.above.max(backup.below));
        set(&mut backup.hold, table.duration("hold", limits::HOLD));
        if backup.above < backup.below {
            let message = format!("above = \"{}\" is less than below = \"{}\"", backup.above, backup.below);
            table.fault(
                table.line_of("above"),
                message,
                "the pool comes back at a larger share than it went at",
            );
            return None;
        }
        Some(backup)
    })
}
