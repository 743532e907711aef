//! What a change means for those on the connections: slots and tracked flows that move, pool by pool.
//!
//! In: the image of the maps, a plan from there, the flows as last counted. Out: [`PlanReport`], and a refusal where more would
//! move than allowed. Invariants: a flow counts as moved exactly if the program finds its backend now and would not after the plan;
//! flows whose backend is lost already are no matter of this change.

use std::collections::BTreeMap;

use super::Controller;
use crate::api::types::{PlanReport, PoolMoves};
use crate::api::{ApiError, ErrorCode};
use crate::datapath::flows::FlowCounts;
use crate::desired::{Desired, is_hidden};
use crate::image::Image;
use crate::membership::Membership;
use crate::plan::{Moves, Plan, PlanError, PoolSwap, plan};
use crate::store::StoreError;

/// What is known of a change before it is done.
pub(super) struct Foreseen {
    /// The way there from the maps as they are; `None`: they have to be made larger first.
    pub(super) plan: Option<Plan>,
    /// What it means.
    pub(super) report: PlanReport,
}

impl Controller {
    /// What putting a membership in force would mean; nothing is changed. Backends that it lets in are counted as if they took flows
    /// already, as they will when their first checks have succeeded.
    pub(super) fn foresee(&self, membership: &Membership) -> Result<Foreseen, ApiError> {
        let desired = membership.desired();
        let (report, plan) = match self.plan(desired) {
            Ok(plan) => (self.report(&plan)?, Some(plan)),
            // Larger maps are made when the change is accepted.
            Err(error) => (self.report_grown(desired, error)?, None),
        };
        let Some(later) = membership.once_admitted(&self.membership, self.clock.now()) else {
            return Ok(Foreseen { plan, report });
        };
        let later = match self.plan(later.desired()) {
            Ok(plan) => self.report(&plan)?,
            Err(error) => self.report_grown(later.desired(), error)?,
        };
        // What is written later is no part of this change.
        Ok(Foreseen { plan, report: PlanReport { map_writes: report.map_writes, ..later } })
    }

    /// What a state means for which the maps may be too small, planned for maps as large as they would be made.
    fn report_grown(&self, desired: &Desired, error: PlanError) -> Result<PlanReport, ApiError> {
        let Some(demand) = self.larger(desired, &error) else { return Err(invalid(error)) };
        let sizes = self.read_datapath().sizes_for(&demand);
        let mut settings = *self.read_datapath().settings();
        settings.directory_buckets = sizes.directory_buckets;
        let plan = plan(&self.image.grown(&sizes), desired, &settings).map_err(invalid)?;
        self.report(&plan)
    }

    /// What a plan means that is not done yet, of the flows as last counted.
    fn report(&self, plan: &Plan) -> Result<PlanReport, ApiError> {
        let swaps = plan.report.pools.iter().filter(|swap| !is_hidden(&swap.pool.name));
        let datapath = self.read_datapath();
        let moves = swaps.map(|swap| Ok((swap, plan.moves(swap, &self.image, &*datapath)?)));
        let moves: Result<Vec<_>, StoreError> = moves.collect();
        let moves = moves.map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?;
        Ok(report(&self.image, plan, &moves, &self.published.flows.last().counts))
    }
}

fn invalid(error: PlanError) -> ApiError {
    ApiError::new(ErrorCode::Invalid, error.to_string())
}

fn report(before: &Image, plan: &Plan, moves: &[(&PoolSwap, Moves)], counts: &FlowCounts) -> PlanReport {
    let mut report = PlanReport { map_writes: plan.report.map_writes as u64, ..PlanReport::default() };
    let mut pools: BTreeMap<String, PoolMoves> = BTreeMap::new();
    let mut slots: BTreeMap<String, u64> = BTreeMap::new();
    for (key, _, in_table) in plan.after.tables() {
        let Some(key) = key.filter(|key| !is_hidden(&key.name)) else { continue };
        report.slots += u64::from(in_table);
        *slots.entry(key.name).or_default() += u64::from(in_table);
    }
    for (swap, Moves { slots_moved, collateral }) in moves {
        let moves = pools.entry(swap.pool.name.clone()).or_default();
        moves.slots_moved += u64::from(*slots_moved);
        moves.collateral += u64::from(*collateral);
        report.changes.push(format!(
            "pool {}/{}: {slots_moved} of {} slots move, {collateral} of them without need",
            swap.pool.name, swap.pool.variant, swap.slots
        ));
    }
    let mut kept: BTreeMap<String, u64> = BTreeMap::new();
    for ((service, local), count) in &counts.by_backend {
        let Some(pool) = before.keeper(*service, *local) else { continue };
        if is_hidden(&before.pool_name(pool)) {
            continue;
        }
        if plan.after.keeper(*service, *local) == Some(pool)
            && before.is_same_backend(&plan.after, pool, *local)
        {
            *kept.entry(before.pool_name(pool)).or_default() += count.total();
        } else {
            pools.entry(before.pool_name(pool)).or_default().flows_moved += count.total();
        }
    }
    report.flows_kept = kept.values().sum();
    for (name, mut moves) in pools {
        moves.slots = slots.get(&name).copied().unwrap_or_default();
        moves.flows_kept = kept.get(&name).copied().unwrap_or_default();
        report.slots_moved += moves.slots_moved;
        report.collateral += moves.collateral;
        report.flows_moved += moves.flows_moved;
        report.pools.push(PoolMoves { pool: name, ..moves });
    }
    report
}

/// Refuses a change of which more moves than allowed: in any pool, a larger share of its tracked flows or of its slots.
pub(super) fn refuse_moves(report: &PlanReport, most: Option<f64>) -> Result<(), ApiError> {
    let Some(most) = most else { return Ok(()) };
    let all = report.pools.iter().flat_map(|pool| {
        let flows = (pool.flows_moved, pool.flows_moved + pool.flows_kept, "tracked flows");
        let slots = (pool.slots_moved, pool.slots, "slots");
        [flows, slots].map(|(moved, of, what)| (share(moved, of), moved, of, what, &pool.pool))
    });
    let Some((share, moved, of, what, pool)) = all.max_by(|a, b| a.0.total_cmp(&b.0)) else { return Ok(()) };
    if share <= most {
        return Ok(());
    }
    let (would, allowed) = (percent(share), percent(most));
    Err(ApiError::new(
        ErrorCode::MaxMoved,
        format!("it would move {would} of pool {pool}'s {what} ({moved} of {of}), {allowed} are allowed"),
    )
    .hint(format!(
        "nothing has changed; change less at once, or allow it with --max-moved {would} (lbctl plan and --dry-run show all of it)"
    )))
}

/// Part of a whole; none of nothing.
#[expect(clippy::cast_precision_loss, reason = "a share, shown to a tenth of a per cent")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// A share as people write it, rounded up so that what is shown is enough to allow it: `12.4%`.
fn percent(share: f64) -> String {
    let text = format!("{:.1}", (share * 1000.0 - 1e-6).ceil().abs() / 10.0);
    format!("{}%", text.strip_suffix(".0").unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(name: &str, moved: (u64, u64), flows: (u64, u64)) -> PoolMoves {
        let ((slots_moved, slots), (flows_moved, flows_kept)) = (moved, flows);
        PoolMoves { pool: name.to_owned(), slots, slots_moved, collateral: 0, flows_kept, flows_moved }
    }

    #[test]
    fn the_worst_share_of_any_pool_is_what_counts_and_is_named() {
        let report = PlanReport {
            pools: vec![pool("a", (10, 1021), (0, 900)), pool("b", (0, 1021), (300, 100))],
            ..PlanReport::default()
        };
        assert_eq!(refuse_moves(&report, None), Ok(()));
        assert_eq!(refuse_moves(&report, Some(0.75)), Ok(()));
        let error = refuse_moves(&report, Some(0.05)).unwrap_err();
        assert_eq!(error.code(), ErrorCode::MaxMoved);
        let said = error.to_string();
        for part in ["75% of pool b's tracked flows (300 of 400)", "5% are allowed", "--max-moved 75%"] {
            assert!(said.contains(part), "{said}");
        }
        let slots = PlanReport { pools: vec![pool("a", (333, 1021), (0, 5))], ..PlanReport::default() };
        let said = refuse_moves(&slots, Some(0.05)).unwrap_err().to_string();
        assert!(said.contains("32.7% of pool a's slots (333 of 1021)"), "{said}");
        assert_eq!(refuse_moves(&slots, Some(0.327)), Ok(()), "what is said to be enough is enough");
        assert_eq!(refuse_moves(&PlanReport::default(), Some(0.0)), Ok(()));
    }

    #[test]
    fn a_share_is_rounded_up() {
        assert_eq!([0.0, 0.05, 0.25, 0.3262, 1.0].map(percent), ["0%", "5%", "25%", "32.7%", "100%"]);
    }
}
