//! What a packet costs: ns over a null program, by mode, family, path and number of flows; and what the control plane costs.
//!
//! In: which cases. Out: a figure for each, beside the budget it has to meet. Invariant: a figure and the null it is over are measured
//! by turns in one run, by the same generator, so that what the generator, TEST_RUN and the machine cost is in both.

mod case;
pub mod control;
mod measure;
mod report;

pub use case::{Case, Path, cases};
pub use measure::{Figure, Scale, measure};
pub use report::{Report, Row};
