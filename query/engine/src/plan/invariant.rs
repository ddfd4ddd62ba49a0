//! Which parts of an expression are the same at every step: all their selectors have `@`, and no
//! function looks at the step's time.

use query::promql::{Expr, ExprKind};

/// Functions whose result depends on the step even if their arguments do not.
const LOOK_AT_THE_STEP: &[&str] = &[
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "time",
    "timestamp",
    "year",
];

/// Whether an expression gives the same at every step.
pub(crate) fn is_invariant(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) => true,
        ExprKind::Vector(selector) => selector.at.is_some(),
        ExprKind::Matrix(matrix) => matrix.selector.at.is_some(),
        ExprKind::Subquery(subquery) => subquery.at.is_some(),
        ExprKind::Call(call) => {
            !LOOK_AT_THE_STEP.contains(&call.func.name) && call.args.iter().all(is_invariant)
        }
        ExprKind::Aggregate(aggregate) => {
            is_invariant(&aggregate.expr) && aggregate.param.as_ref().is_none_or(is_invariant)
        }
        ExprKind::Binary(binary) => is_invariant(&binary.lhs) && is_invariant(&binary.rhs),
        ExprKind::Unary(_, inner) | ExprKind::Paren(inner) => is_invariant(inner),
    }
}
