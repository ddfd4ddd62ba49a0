//! Trees to text on several lines, as `format_query` answers: whatever is longer than a line is
//! broken, its parts indented by two spaces.

use super::ast::{
    Aggregation, Binary, BinaryOp, Expr, LabelReplace, LogExpr, LogRange, MetricExpr, MetricKind,
    RangeAggregation, StageKind, Unwrap,
};
use super::print::{Selector, number, quote};
use super::units;

/// Longest text that stays on one line. Bytes.
const LINE_BYTES_MAX: usize = 100;

/// A query on as many lines as it needs.
pub fn pretty(expr: &Expr) -> String {
    match expr {
        Expr::Log(lines) => log(lines, 0),
        Expr::Metric(expr) => metric(expr, 0),
    }
}

fn indent(level: usize) -> String {
    "  ".repeat(level)
}

/// The text on one line if it fits, else broken by `split`.
fn fit(text: String, level: usize, split: impl FnOnce() -> String) -> String {
    match text.len() > LINE_BYTES_MAX {
        true => split(),
        false => format!("{}{text}", indent(level)),
    }
}

fn log(lines: &LogExpr, level: usize) -> String {
    if lines.stages.is_empty() {
        return format!("{}{lines}", indent(level));
    }
    fit(lines.to_string(), level, || {
        let mut text = format!("{}{}", indent(level), Selector(&lines.matchers));
        let mut after_line_filter = false;
        for stage in &lines.stages {
            let is_line_filter = matches!(stage.kind, StageKind::Line(_));
            match stage.kind {
                // Neighbours are one condition.
                StageKind::Line(_) if after_line_filter => text.push(' '),
                // Loki forgets to indent it.
                StageKind::Decolorize => text.push('\n'),
                _ => text.push_str(&format!("\n{}", indent(level + 1))),
            }
            text.push_str(&stage.kind.to_string());
            after_line_filter = is_line_filter;
        }
        text
    })
}

fn metric(expr: &MetricExpr, level: usize) -> String {
    match &expr.kind {
        MetricKind::Range(aggregation) => {
            fit(aggregation.to_string(), level, || range_aggregation(aggregation, level))
        }
        MetricKind::Aggregate(one) => fit(one.to_string(), level, || aggregation(one, level)),
        MetricKind::Binary(one) => fit(one.to_string(), level, || binary(one, level)),
        MetricKind::LabelReplace(one) => fit(expr.to_string(), level, || label_replace(one, level)),
        MetricKind::Literal(_) | MetricKind::Vector(_) | MetricKind::Variants(_) => {
            format!("{}{expr}", indent(level))
        }
    }
}

fn range_aggregation(aggregation: &RangeAggregation, level: usize) -> String {
    let mut text = format!("{}{}(\n", indent(level), aggregation.op.as_str());
    if let Some(param) = aggregation.param {
        text.push_str(&format!("{}{},\n", indent(level + 1), number(param)));
    }
    text.push_str(&range(&aggregation.range, level + 1));
    text.push_str(&format!("\n{})", indent(level)));
    if let Some(grouping) = &aggregation.grouping {
        text.push_str(&grouping.text(", "));
    }
    text
}

fn range(range: &LogRange, level: usize) -> String {
    let mut text = log(&range.lines, level);
    if let Some(one) = &range.unwrap {
        text.push_str(&unwrap(one, level + 1));
    }
    text.push_str(&format!(" [{}]", units::range_text(range.range_ns)));
    if range.offset_ns != 0 {
        text.push_str(&format!(" offset {}", units::range_text(range.offset_ns)));
    }
    text
}

fn unwrap(unwrap: &Unwrap, level: usize) -> String {
    let mut text = format!("\n{}{}", indent(level), unwrap.head());
    for filter in &unwrap.filters {
        text.push_str(&format!("\n{}| {filter}", indent(level)));
    }
    text
}

fn aggregation(aggregation: &Aggregation, level: usize) -> String {
    let mut text = format!("{}{}(\n", indent(level), aggregation.head(", "));
    if let Some(param) = aggregation.param {
        text.push_str(&format!("{}{param},\n", indent(level + 1)));
    }
    text.push_str(&metric(&aggregation.expr, level + 1));
    text.push_str(&format!("\n{})", indent(level)));
    text
}

fn binary(binary: &Binary, level: usize) -> String {
    let precedence = binary.op.precedence();
    // `^` groups from the right, all others from the left.
    let from_right = binary.op == BinaryOp::Pow;
    let left = leg(&binary.lhs, precedence + u8::from(from_right), level + 1);
    let right = leg(&binary.rhs, precedence + u8::from(!from_right), level + 1);
    format!("{left}\n{}{}\n{right}", indent(level), binary.operator(false))
}

/// A side of an operation; in parentheses, which Loki forgets here, if it would else be read as
/// something else.
fn leg(expr: &MetricExpr, floor: u8, level: usize) -> String {
    match &expr.kind {
        MetricKind::Binary(one)
            if one.op.precedence() < floor && one.to_string().len() > LINE_BYTES_MAX =>
        {
            let indent = indent(level);
            format!("{indent}(\n{}\n{indent})", metric(expr, level + 1))
        }
        _ => metric(expr, level),
    }
}

fn label_replace(replace: &LabelReplace, level: usize) -> String {
    let mut text = format!("{}label_replace(\n{}", indent(level), metric(&replace.expr, level + 1));
    for argument in [&replace.dst, &replace.replacement, &replace.src, &replace.regex] {
        text.push_str(&format!(",\n{}{}", indent(level + 1), quote(argument)));
    }
    text.push_str(&format!("\n{})", indent(level)));
    text
}
