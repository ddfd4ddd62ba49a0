//! `fill`, `fill_left` and `fill_right`: numbers that stand in for series missing on a side.

use std::sync::Arc;

use model::Labels;
use query::Error;
use query::promql::Matching;

use super::keys::group_labels;
use crate::budget::{Budget, Reserved};
use crate::column::{Bitmap, Column};
use crate::frame::Series;
use crate::plan::Grouping;

/// What stands in for a missing series, when the "one" side is the second.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fill {
    /// For one of the first side.
    pub(super) first: Option<f64>,
    /// For one of the second side.
    pub(super) second: Option<f64>,
}

impl Fill {
    /// With `group_right` the sides change places and the numbers do not: `fill_left` is always for
    /// the side that is looked up, as in Prometheus.
    pub(super) fn of(matching: &Matching) -> Self {
        Self { first: matching.fill_left, second: matching.fill_right }
    }

    pub(super) fn any(self) -> bool {
        self.first.is_some() || self.second.is_some()
    }
}

/// A series that has the number at some steps, and of the labels of the one it is matched with
/// those that are matched.
pub(super) fn stand_in(
    value: f64,
    steps: Bitmap,
    matched: &Labels,
    grouping: &Grouping,
    budget: &Arc<Budget>,
) -> Result<(Series, Reserved), Error> {
    let reserved = budget.reserve_columns(1, steps.len())?;
    let column = Column { values: vec![value; steps.len()], present: steps, histograms: None };
    let labels = group_labels(matched, grouping);
    Ok((Series { labels, drop_name: false, column }, reserved))
}
