//! Tree to text, as Prometheus prints it: on one line ([`Display`](std::fmt::Display)), or over
//! several where a line would be too long ([`Expr::pretty`]).

use std::fmt::{self, Display, Formatter, Write};

use model::{METRIC_NAME, MatchOp, Matcher};

use super::ast::{
    Aggregate, At, Binary, BinaryOp, Cardinality, Edges, Expr, ExprKind, Matching, MatrixSelector,
    Number, Sign, Subquery, VectorSelector,
};
use super::durations::{Duration, DurationExpr, DurationOp};
use super::literals::{duration_text, name_text, number_text, quote};

/// Longer lines are split. Bytes.
const LINE_MAX: usize = 100;

impl Expr {
    /// The text over several lines: Prometheus' `format_query`.
    pub fn pretty(&self) -> String {
        let mut text = String::new();
        pretty(self, 0, &mut text);
        text
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Number(number) => number.fmt(f),
            ExprKind::String(literal) => f.write_str(&quote(&literal.bytes)),
            ExprKind::Vector(selector) => selector.fmt(f),
            ExprKind::Matrix(matrix) => matrix.fmt(f),
            ExprKind::Subquery(subquery) => {
                write!(f, "{}{}", subquery.expr, SubqueryTimes(subquery))
            }
            ExprKind::Call(call) => write!(f, "{}({})", call.func.name, List(&call.args)),
            ExprKind::Aggregate(aggregate) => {
                write!(f, "{}(", AggregateHead(aggregate))?;
                if let Some(param) = &aggregate.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", aggregate.expr)
            }
            ExprKind::Binary(binary) => {
                match infinite_base(binary) {
                    Some(base) => f.write_str(base)?,
                    None => binary.lhs.fmt(f)?,
                }
                write!(f, " {} {}", Operator(binary), binary.rhs)
            }
            ExprKind::Unary(sign, operand) => write!(f, "{sign}{operand}"),
            ExprKind::Paren(inner) => write!(f, "({inner})"),
        }
    }
}

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.duration {
            true => f.write_str(&duration_text(self.value)),
            false => f.write_str(&number_text(self.value)),
        }
    }
}

impl Display for Sign {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plus => "+",
            Self::Minus => "-",
        })
    }
}

impl Display for BinaryOp {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

struct List<'e>(&'e [Expr]);

impl Display for List<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (at, expr) in self.0.iter().enumerate() {
            f.write_str(if at > 0 { ", " } else { "" })?;
            expr.fmt(f)?;
        }
        Ok(())
    }
}

struct LabelNames<'e>(&'e [String]);

impl Display for LabelNames<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (at, name) in self.0.iter().enumerate() {
            f.write_str(if at > 0 { ", " } else { "" })?;
            f.write_str(&name_text(name))?;
        }
        Ok(())
    }
}

/// `sum by (a) `
struct AggregateHead<'e>(&'e Aggregate);

impl Display for AggregateHead<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Aggregate { op, grouping, without, .. } = self.0;
        f.write_str(op.as_str())?;
        match without {
            true => write!(f, " without ({}) ", LabelNames(grouping)),
            false if grouping.is_empty() => Ok(()),
            false => write!(f, " by ({}) ", LabelNames(grouping)),
        }
    }
}

/// `== bool on (a) group_left (b)`
struct Operator<'e>(&'e Binary);

impl Display for Operator<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.op.as_str())?;
        f.write_str(if self.0.return_bool { " bool" } else { "" })?;
        self.0.matching.iter().try_for_each(|matching| matching.fmt(f))
    }
}

impl Display for Matching {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let side = match self.cardinality {
            Cardinality::ManyToOne => Some("left"),
            Cardinality::OneToMany => Some("right"),
            Cardinality::OneToOne | Cardinality::ManyToMany => None,
        };
        if !self.labels.is_empty() || self.on || side.is_some() {
            write!(
                f,
                " {} ({})",
                if self.on { "on" } else { "ignoring" },
                LabelNames(&self.labels)
            )?;
        }
        if let Some(side) = side {
            write!(f, " group_{side} ({})", LabelNames(&self.include))?;
        }
        match (self.fill_left, self.fill_right) {
            (Some(left), Some(right)) if left.to_bits() == right.to_bits() => {
                write!(f, " fill ({})", number_text(left))
            }
            (left, right) => {
                left.iter()
                    .try_for_each(|value| write!(f, " fill_left ({})", number_text(*value)))?;
                right
                    .iter()
                    .try_for_each(|value| write!(f, " fill_right ({})", number_text(*value)))
            }
        }
    }
}

impl Display for VectorSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}{}", Series(self), Time(self.at), self.edges, Offset(&self.offset))
    }
}

impl Display for MatrixSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let VectorSelector { at, edges, offset, .. } = &self.selector;
        write!(
            f,
            "{}[{}]{edges}{}{}",
            Series(&self.selector),
            self.range,
            Time(*at),
            Offset(offset)
        )
    }
}

/// `metric{label="value"}`
struct Series<'e>(&'e VectorSelector);

impl Display for Series<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let VectorSelector { name, matchers, .. } = self.0;
        let is_name = |m: &&Matcher| {
            m.name() == METRIC_NAME
                && m.op() == MatchOp::Equal
                && Some(m.value()) == name.as_deref()
        };
        let mut shown: Vec<String> =
            matchers.iter().filter(|m| !is_name(m)).map(matcher_text).collect();
        shown.sort_unstable();
        f.write_str(name.as_deref().unwrap_or_default())?;
        match shown.is_empty() && name.is_some() {
            true => Ok(()),
            false => write!(f, "{{{}}}", shown.join(",")),
        }
    }
}

fn matcher_text(matcher: &Matcher) -> String {
    format!("{}{}{}", name_text(matcher.name()), matcher.op(), quote(matcher.value().as_bytes()))
}

/// ` @ 12.500`
struct Time(Option<At>);

impl Display for Time {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => Ok(()),
            Some(At::Start) => f.write_str(" @ start()"),
            Some(At::End) => f.write_str(" @ end()"),
            Some(At::Timestamp(ms)) => {
                let sign = if ms < 0 { "-" } else { "" };
                let ms = ms.unsigned_abs();
                write!(f, " @ {sign}{}.{:03}", ms / 1000, ms % 1000)
            }
        }
    }
}

/// ` offset 5m`
struct Offset<'e>(&'e Option<Duration>);

impl Display for Offset<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|duration| write!(f, " offset {duration}"))
    }
}

impl Display for Edges {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "",
            Self::Anchored => " anchored",
            Self::Smoothed => " smoothed",
        })
    }
}

/// `[1h:5m] @ 12.500 offset 5m`
struct SubqueryTimes<'e>(&'e Subquery);

impl Display for SubqueryTimes<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Subquery { range, step, offset, at, .. } = self.0;
        write!(f, "[{range}:")?;
        step.iter().try_for_each(|step| step.fmt(f))?;
        write!(f, "]{}{}", Time(*at), Offset(offset))
    }
}

impl Display for Duration {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.expr.fmt(f)
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(number) => number.fmt(f),
            Self::Step => f.write_str("step()"),
            Self::Range => f.write_str("range()"),
            Self::Negative(inner) => write!(f, "-{inner}"),
            Self::Paren(inner) => write!(f, "({inner})"),
            Self::Binary { op: op @ (DurationOp::MinOf | DurationOp::MaxOf), lhs, rhs } => {
                write!(f, "{}({lhs}, {rhs})", op.as_str())
            }
            Self::Binary { op, lhs, rhs } => write!(f, "{lhs} {} {rhs}", op.as_str()),
        }
    }
}

/// How infinity prints as the base of a power: there, `+Inf` would be a sign before the power.
fn infinite_base(binary: &Binary) -> Option<&'static str> {
    match &binary.lhs.kind {
        ExprKind::Number(base) if binary.op == BinaryOp::Pow && base.value == f64::INFINITY => {
            Some("Inf")
        }
        _ => None,
    }
}

fn indent(level: usize, text: &mut String) {
    text.extend(std::iter::repeat_n("  ", level));
}

fn pretty(expr: &Expr, level: usize, text: &mut String) {
    if let ExprKind::Unary(sign, operand) = &expr.kind {
        indent(level, text);
        let _ = write!(text, "{sign}");
        let mut child = String::new();
        pretty(operand, level, &mut child);
        text.push_str(child.trim_start());
        return;
    }
    // A subquery's own line begins where its expression's does.
    if let (ExprKind::Subquery(subquery), true) = (&expr.kind, is_long(expr)) {
        pretty(&subquery.expr, level, text);
        let _ = write!(text, "{}", SubqueryTimes(subquery));
        return;
    }
    if let (ExprKind::Binary(binary), true) = (&expr.kind, is_long(expr)) {
        match infinite_base(binary) {
            Some(base) => {
                indent(level + 1, text);
                text.push_str(base);
            }
            None => pretty(&binary.lhs, level + 1, text),
        }
        text.push('\n');
        indent(level, text);
        let _ = writeln!(text, "{}", Operator(binary));
        return pretty(&binary.rhs, level + 1, text);
    }
    indent(level, text);
    match &expr.kind {
        ExprKind::Call(call) if is_long(expr) => {
            block(call.func.name, &call.args.iter().collect::<Vec<_>>(), level, text)
        }
        ExprKind::Aggregate(aggregate) if is_long(expr) => {
            let head = AggregateHead(aggregate).to_string();
            block(&head, &expr.children(), level, text);
        }
        ExprKind::Paren(inner) if is_long(expr) => block("", &[&**inner], level, text),
        _ => {
            let _ = write!(text, "{expr}");
        }
    }
}

/// `head(`, a line for each part, and `)`.
fn block(head: &str, parts: &[&Expr], level: usize, text: &mut String) {
    text.push_str(head);
    text.push('(');
    for (at, part) in parts.iter().enumerate() {
        text.push_str(if at > 0 { ",\n" } else { "\n" });
        pretty(part, level + 1, text);
    }
    text.push('\n');
    indent(level, text);
    text.push(')');
}

/// Whether it does not fit a line. Stops printing once that is known: asking at every level of a
/// tree costs no more than its size.
fn is_long(expr: &Expr) -> bool {
    struct Room(usize);
    impl Write for Room {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 = self.0.checked_sub(text.len()).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    write!(Room(LINE_MAX), "{expr}").is_err()
}
