//! `ORDER BY time`: entries are read in that order in the first place, from the end that is asked
//! for, and no more of them than are wanted.

use std::any::Any;
use std::sync::Arc;

use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion_common::Result;
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion_physical_expr::expressions::Column;
use datafusion_physical_plan::coop::CooperativeExec;
use datafusion_physical_plan::execution_plan::ChildrenPropertiesMode;
use datafusion_physical_plan::filter::FilterExec;
use datafusion_physical_plan::limit::GlobalLimitExec;
use datafusion_physical_plan::projection::ProjectionExec;
use datafusion_physical_plan::sorts::sort::SortExec;
use datafusion_physical_plan::{ExecutionPlan, ReplaceChildrenOptions};
use storage::entries::Direction;

use super::scan::EntriesExec;

/// Takes out sorts by time above tables of entries.
#[derive(Debug)]
pub(in crate::sql) struct InOrderOfTime;

impl PhysicalOptimizerRule for InOrderOfTime {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_down(|plan| {
            Ok(match unsorted(&plan)? {
                Some(unsorted) => Transformed::yes(unsorted),
                None => Transformed::no(plan),
            })
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "in_order_of_time"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// What gives the same without a sort.
fn unsorted(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(sort) = (&**plan as &dyn Any).downcast_ref::<SortExec>() else { return Ok(None) };
    // Only by time: what has the same instant is in no order that a statement could name.
    let [by] = &sort.expr()[..] else { return Ok(None) };
    let Some(column) = (&*by.expr as &dyn Any).downcast_ref::<Column>() else { return Ok(None) };
    let direction = match by.options.descending {
        true => Direction::Backward,
        false => Direction::Forward,
    };
    let Some(input) = ordered(sort.input(), column.index(), direction, sort.fetch())? else {
        return Ok(None);
    };
    Ok(Some(match sort.fetch() {
        Some(rows) => Arc::new(GlobalLimitExec::new(input, 0, Some(rows))),
        None => input,
    }))
}

/// A plan whose rows are in order of the instants in a column; `None` where these are not those of
/// a table of entries, row by row.
fn ordered(
    plan: &Arc<dyn ExecutionPlan>,
    column: usize,
    direction: Direction,
    rows_max: Option<usize>,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let any: &dyn Any = &**plan;
    if let Some(entries) = any.downcast_ref::<EntriesExec>() {
        let entries = entries.ordered(column, direction, rows_max);
        return Ok(entries.map(|entries| Arc::new(entries) as Arc<dyn ExecutionPlan>));
    }
    let (input, column, rows_max) = if let Some(projection) = any.downcast_ref::<ProjectionExec>() {
        let of = projection.expr().get(column).map(|one| &*one.expr as &dyn Any);
        match of.and_then(|of| of.downcast_ref::<Column>()) {
            Some(of) => (projection.input(), of.index(), rows_max),
            None => return Ok(None),
        }
    } else if let Some(filter) = any.downcast_ref::<FilterExec>() {
        let of = match filter.projection() {
            Some(places) => places.get(column).copied(),
            None => Some(column),
        };
        // Nobody knows how many rows it takes for as many to pass; and it has no limit of its own.
        match of.filter(|_| filter.fetch().is_none()) {
            Some(of) => (filter.input(), of, None),
            None => return Ok(None),
        }
    } else if let Some(cooperative) = any.downcast_ref::<CooperativeExec>() {
        (cooperative.input(), column, rows_max)
    } else {
        return Ok(None);
    };
    match ordered(input, column, direction, rows_max)? {
        Some(input) => {
            let anew = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
            Ok(Some(Arc::clone(plan).replace_children(vec![input], anew)?))
        }
        None => Ok(None),
    }
}
