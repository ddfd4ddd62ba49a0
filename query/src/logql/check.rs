//! What must hold beyond the grammar.

use model::{MatchOp, Matcher, PatternBudget};

use super::ast::{BinaryOp, Expr, LogExpr, MetricExpr, MetricKind, RangeAggregation};
use super::error::{Fallible, ParseError};

/// Captures of one regular expression or pattern.
const CAPTURES_MAX: usize = 128;

/// Every selector must name something: one whose matchers all accept streams without the label
/// would read everything.
pub(super) fn selectors(expr: &Expr) -> Fallible<()> {
    match expr {
        Expr::Log(lines) => selector(lines),
        Expr::Metric(expr) => metric_selectors(expr),
    }
}

fn metric_selectors(expr: &MetricExpr) -> Fallible<()> {
    match &expr.kind {
        MetricKind::Range(aggregation) => selector(&aggregation.range.lines),
        MetricKind::Aggregate(aggregation) => metric_selectors(&aggregation.expr),
        MetricKind::Binary(binary) => {
            metric_selectors(&binary.lhs)?;
            metric_selectors(&binary.rhs)
        }
        MetricKind::LabelReplace(replace) => metric_selectors(&replace.expr),
        MetricKind::Variants(variants) => {
            selector(&variants.of.lines)?;
            variants.variants.iter().try_for_each(metric_selectors)
        }
        MetricKind::Literal(_) | MetricKind::Vector(_) => Ok(()),
    }
}

fn selector(lines: &LogExpr) -> Fallible<()> {
    let names_something = |matcher: &Matcher| {
        matches!(matcher.op(), MatchOp::Equal | MatchOp::Regex) && !matcher.matches_empty()
    };
    match lines.matchers.iter().any(names_something) {
        true => Ok(()),
        false => Err(ParseError::meaning(
            "queries require at least one regexp or equality matcher that does not have an \
             empty-compatible value. For instance, app=~\".*\" does not meet this requirement, \
             but app=~\".+\" will",
        )),
    }
}

/// Which aggregations may group, and which are of values, which of lines.
pub(super) fn aggregation(aggregation: &RangeAggregation) -> Result<(), String> {
    let (op, name) = (aggregation.op, aggregation.op.as_str());
    if aggregation.grouping.is_some() && !op.may_group() {
        return Err(format!("grouping not allowed for {name} aggregation"));
    }
    match aggregation.range.unwrap {
        Some(_) if !op.takes_values() => Err(format!("invalid aggregation {name} with unwrap")),
        None if !op.takes_lines() => Err(format!("invalid aggregation {name} without unwrap")),
        _ => Ok(()),
    }
}

/// A regular expression for whole values.
pub(super) fn whole_regex(regex: &str, budget: &mut PatternBudget) -> Result<(), String> {
    Matcher::within(budget, MatchOp::Regex, "", regex)
        .map(|_| ())
        .map_err(|error| format!("error parsing regexp: {}", error.reason))
}

/// A regular expression whose named groups become labels.
pub(super) fn capturing_regex(regex: &str, budget: &mut PatternBudget) -> Result<(), String> {
    group_names(regex)?;
    whole_regex(regex, budget)?;
    let compiled = regex::RegexBuilder::new(regex).size_limit(1 << 20).build();
    let compiled = compiled.map_err(|error| format!("error parsing regexp: {error}"))?;
    match compiled.capture_names().flatten().count() {
        0 => Err(String::from("at least one named capture must be supplied")),
        count if count > CAPTURES_MAX => {
            Err(format!("at most {CAPTURES_MAX} captures are allowed"))
        }
        _ => Ok(()),
    }
}

/// The groups' names must be names of labels, and no two alike: the regex library would say both
/// in other words.
fn group_names(regex: &str) -> Result<(), String> {
    let mut names: Vec<&str> = Vec::new();
    for (at, _) in regex.match_indices("(?P<") {
        let Some((name, _)) = regex[at + 4..].split_once('>') else { continue };
        if !is_label_name(name) {
            return Err(format!("invalid extracted label name '{name}'"));
        }
        if names.contains(&name) {
            return Err(format!("duplicate extracted label name '{name}'"));
        }
        if names.len() >= CAPTURES_MAX {
            return Err(format!("at most {CAPTURES_MAX} captures are allowed"));
        }
        names.push(name);
    }
    Ok(())
}

/// A pattern such as `<ip> - <_> "<method> <path>"`.
pub(super) fn capturing_pattern(pattern: &str) -> Result<(), String> {
    let mut names: Vec<&str> = Vec::new();
    let mut rest = pattern;
    let mut before: Option<&str> = None;
    while let Some((name, skipped)) = next_capture(rest) {
        if let Some(before) = before.filter(|_| skipped == 0) {
            return Err(format!(
                "found consecutive capture '<{before}><{name}>': invalid expression"
            ));
        }
        if name != "_" {
            if names.contains(&name) {
                return Err(format!("duplicate capture name ({name}): invalid expression"));
            }
            if names.len() >= CAPTURES_MAX {
                return Err(format!("at most {CAPTURES_MAX} captures are allowed"));
            }
            names.push(name);
        }
        before = Some(name);
        rest = &rest[skipped + name.len() + 2..];
    }
    match names.is_empty() {
        true => Err(String::from("at least one capture is required")),
        false => Ok(()),
    }
}

/// The first `<name>` of a pattern, and the bytes before it.
fn next_capture(pattern: &str) -> Option<(&str, usize)> {
    pattern.match_indices('<').find_map(|(at, _)| {
        let after = &pattern[at + 1..];
        let name = &after[..after.find(|c: char| c != '_' && !c.is_ascii_alphanumeric())?];
        (is_label_name(name) && after[name.len()..].starts_with('>')).then_some((name, at))
    })
}

fn is_label_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
}

/// What an operation on two numbers gives.
pub(crate) fn fold(op: BinaryOp, left: f64, right: f64) -> f64 {
    let truth = |holds: bool| f64::from(u8::from(holds));
    match op {
        BinaryOp::Add => left + right,
        BinaryOp::Sub => left - right,
        BinaryOp::Mul => left * right,
        // Loki says so, where others would say infinity.
        BinaryOp::Div | BinaryOp::Mod if right == 0.0 => f64::NAN,
        BinaryOp::Div => left / right,
        BinaryOp::Mod => left % right,
        BinaryOp::Pow => left.powf(right),
        BinaryOp::Equal => truth(left == right),
        BinaryOp::NotEqual => truth(left != right),
        BinaryOp::Greater => truth(left > right),
        BinaryOp::GreaterEqual => truth(left >= right),
        BinaryOp::Less => truth(left < right),
        BinaryOp::LessEqual => truth(left <= right),
        // Numbers have no labels to be compared by: refused before.
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => f64::NAN,
    }
}
