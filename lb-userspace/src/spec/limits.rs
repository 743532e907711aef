//! What lengths and counts may be, for whoever reads them: the file and JSON alike.
//!
//! Invariant: within these no sum overflows a clock, nothing turns into a busy loop, and what is written down can be read again.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The longest time anything may last (a year): below it no sum of two overflows any clock.
pub const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// Interval and timeout of checks: from what is no load test to what still finds a fault on the same day.
pub(crate) const CHECK_RHYTHM: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(3600);

/// Checks in a row that make a change.
pub(crate) const CHECKS: RangeInclusive<u32> = 1..=1000;

/// From no ramp to one that is over by tomorrow.
pub(crate) const RAMP: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(86_400);

/// How long a pool may have to be well before it is trusted again.
pub(crate) const HOLD: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(86_400);

/// How long a client may take to go on: from a round trip on this continent to one over a bad radio link.
pub(crate) const PATIENCE: RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(4);

/// How long a backend is ejected at first.
pub(crate) const EJECT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// Discovery: from a rhythm that a server bears to one that still follows a change on the same day.
pub(crate) const SOURCE_RHYTHM: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(86_400);

/// How long an answer of a discovery source may take.
pub(crate) const SOURCE_TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(60);

/// Backends that one source may name.
pub(crate) const SOURCE_BACKENDS: RangeInclusive<u32> = 1..=65_535;

/// Flows to hold: below, the table is of no use; above, it does not fit into a map.
pub(crate) const FLOWS: RangeInclusive<u32> = 1 << 10..=1 << 26;

/// The flow table keeps ages as 16 bits of a tick, of which half can be told apart from the future; a tick is 0.7 to 1.4 seconds,
/// by the kernel. What fits on every kernel is taken; the datapath would cut off the rest without a word.
pub(crate) const IDLE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(6 * 3600);
