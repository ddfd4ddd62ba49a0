//! Expressions with their selectors pinned to one time by `@`: they have the same answer whenever
//! they are asked for.

use query::promql::{At, Expr, ExprKind};

use crate::script::Eval;

/// Functions that look at the time they are called at. (`info` looks for info series there, whatever
/// its argument's time is.)
const LOOK_AT_THE_STEP: &[&str] = &[
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "hour",
    "info",
    "minute",
    "month",
    "predict_linear",
    "time",
    "timestamp",
    "year",
];

/// Whether an expression asks for the query's own times, which differ from query to query.
pub(crate) fn asks_for_the_range(query: &str) -> bool {
    ["start()", "end()", "range()", "step()"].iter().any(|word| query.contains(word))
}

/// The expression with `@` at all its selectors, and the times to ask for it at.
pub(crate) fn versions(eval: &Eval, mut expr: Expr) -> Vec<(i64, Expr)> {
    let at_ms = eval.start_ms;
    if eval.step_ms != 0 || asks_for_the_range(&eval.query) || varies(&expr) {
        return Vec::new();
    }
    pin(&mut expr, at_ms);
    let times = match at_ms {
        0 => vec![-1000, 0, 1000],
        at => vec![-10 * at, 0, at / 5, at, 10 * at],
    };
    times.into_iter().map(|at| (at, expr.clone())).collect()
}

fn varies(expr: &Expr) -> bool {
    let mut varies = false;
    expr.walk(&mut |expr| {
        if let ExprKind::Call(call) = &expr.kind {
            varies |= LOOK_AT_THE_STEP.contains(&call.func.name);
        }
    });
    varies
}

/// Of a subquery only its own time is fixed: what is in it moves with its steps.
fn pin(expr: &mut Expr, at_ms: i64) {
    let pinned = |at: &mut Option<At>| *at = at.or(Some(At::Timestamp(at_ms)));
    match &mut expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) => {}
        ExprKind::Vector(selector) => pinned(&mut selector.at),
        ExprKind::Matrix(matrix) => pinned(&mut matrix.selector.at),
        ExprKind::Subquery(subquery) => pinned(&mut subquery.at),
        ExprKind::Call(call) => call.args.iter_mut().for_each(|arg| pin(arg, at_ms)),
        ExprKind::Aggregate(aggregate) => {
            pin(&mut aggregate.expr, at_ms);
            aggregate.param.iter_mut().for_each(|param| pin(param, at_ms));
        }
        ExprKind::Binary(binary) => {
            pin(&mut binary.lhs, at_ms);
            pin(&mut binary.rhs, at_ms);
        }
        ExprKind::Unary(_, inner) | ExprKind::Paren(inner) => pin(inner, at_ms),
    }
}
