//! Durations where the language wants one (`[…]`, `offset …`): literals, and arithmetic on them
//! that may also ask for the query's own step and range.

use super::ast::{Number, Span};

/// A duration as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Duration {
    /// What it says.
    pub expr: DurationExpr,
    /// Where it stands.
    pub span: Span,
}

/// Arithmetic in seconds.
#[derive(Debug, Clone, PartialEq)]
pub enum DurationExpr {
    /// `5m`, or `300`. One that is not part of a calculation counts as written the first way.
    Literal(Number),
    /// `step()`
    Step,
    /// `range()`
    Range,
    /// `-(5m)`
    Negative(Box<DurationExpr>),
    /// `5m * 2`, `min_of(5m, step())`
    Binary {
        /// Which.
        op: DurationOp,
        /// Left, or first.
        lhs: Box<DurationExpr>,
        /// Right, or second.
        rhs: Box<DurationExpr>,
    },
    /// `(5m)`
    Paren(Box<DurationExpr>),
}

/// An operation on two durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the word in the language")]
pub enum DurationOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    MinOf,
    MaxOf,
}

/// What `step()` and `range()` stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueryTimes {
    /// Between two evaluations; 0 for an instant query.
    pub step_ms: i64,
    /// From the first evaluation to the last; 0 for an instant query.
    pub range_ms: i64,
}

/// Which durations are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sense {
    /// An offset may be negative or zero.
    Any,
    /// A range or a step may not.
    Positive,
}

/// A duration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{}: {reason}", span.start, span.end)]
pub struct DurationError {
    /// Where it stands. Prometheus prints these byte positions as they are, so do we.
    pub span: Span,
    /// What is wrong.
    pub reason: &'static str,
}

/// The longest duration, as in Prometheus, which counts them in nanoseconds in an `i64`. Seconds.
const SECONDS_MAX: f64 = i64::MAX as f64 / 1e9;

/// Whether a number of seconds is within Prometheus' durations.
pub(super) fn in_range(seconds: f64) -> bool {
    (-SECONDS_MAX..=SECONDS_MAX).contains(&seconds)
}

impl Duration {
    /// Its length in milliseconds, in a query with these times.
    pub fn ms(&self, times: QueryTimes, sense: Sense) -> Result<i64, DurationError> {
        let error = |reason| DurationError { span: self.span, reason };
        let seconds = self.expr.seconds(times).map_err(error)?;
        if seconds <= 0.0 && sense == Sense::Positive {
            return Err(error("duration must be greater than 0"));
        }
        if !in_range(seconds) {
            return Err(error("duration is out of range"));
        }
        Ok(milliseconds(seconds))
    }

    /// Its length in milliseconds if that does not depend on the query.
    pub fn literal_ms(&self) -> Option<i64> {
        match self.expr {
            DurationExpr::Literal(number) => Some(milliseconds(number.value)),
            _ => None,
        }
    }
}

/// By way of nanoseconds, so that 1.001 s are 1001 ms and 1.5 ms are 1 ms, as in Prometheus.
fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64 / 1_000_000
}

impl DurationExpr {
    fn seconds(&self, times: QueryTimes) -> Result<f64, &'static str> {
        Ok(match self {
            Self::Literal(number) => number.value,
            Self::Step => times.step_ms as f64 / 1000.0,
            Self::Range => times.range_ms as f64 / 1000.0,
            Self::Paren(inner) => inner.seconds(times)?,
            Self::Negative(inner) => -inner.seconds(times)?,
            Self::Binary { op, lhs, rhs } => op.apply(lhs.seconds(times)?, rhs.seconds(times)?)?,
        })
    }
}

impl DurationOp {
    fn apply(self, lhs: f64, rhs: f64) -> Result<f64, &'static str> {
        Ok(match self {
            Self::Add => lhs + rhs,
            Self::Sub => lhs - rhs,
            Self::Mul => lhs * rhs,
            Self::Div if rhs == 0.0 => return Err("division by zero"),
            Self::Div => lhs / rhs,
            Self::Mod if rhs == 0.0 => return Err("modulo by zero"),
            Self::Mod => lhs % rhs,
            Self::Pow => lhs.powf(rhs),
            Self::MinOf => lhs.min(rhs),
            Self::MaxOf => lhs.max(rhs),
        })
    }

    /// The word in the language.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::MinOf => "min_of",
            Self::MaxOf => "max_of",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::{ExprKind, parse};

    #[track_caller]
    fn check(range: &str, expected: Result<i64, &str>) {
        let expr = parse(&format!("x[{range}]")).unwrap_or_else(|error| panic!("{range}: {error}"));
        let ExprKind::Matrix(matrix) = expr.kind else { panic!("{range}: no range") };
        let times = QueryTimes { step_ms: 15_000, range_ms: 3_600_000 };
        let found = matrix.range.ms(times, Sense::Positive).map_err(|error| error.to_string());
        assert_eq!(found, expected.map_err(String::from), "{range}");
    }

    #[test]
    fn durations_are_calculated_for_a_query() {
        check("5m", Ok(300_000));
        check("1.001", Ok(1001));
        check("0.0015", Ok(1));
        check("step()", Ok(15_000));
        check("range() / 2", Ok(1_800_000));
        check("-5m + 35m", Ok(1_800_000));
        check("2 ^ 3 ^ 2s", Ok(512_000));
        check("7 % 4", Ok(3000));
        check("max_of(step(), min_of(1h, 20s))", Ok(20_000));
        check("-step() ^ 2 + 1h", Ok(3_375_000));
        check("step() - 15", Err("2:13: duration must be greater than 0"));
        check("1h / (step() - 15s)", Err("2:21: division by zero"));
        check("1h % (step() - 15s)", Err("2:21: modulo by zero"));
        check("9e9 * step()", Err("2:14: duration is out of range"));
        check("(step() - 16) ^ 0.5", Err("2:21: duration is out of range"));
    }

    #[test]
    fn an_offset_may_be_negative() {
        let expr = parse("x offset (step() - 1h)").expect("valid");
        let ExprKind::Vector(selector) = expr.kind else { panic!("no selector") };
        let offset = selector.offset.expect("offset");
        assert_eq!(offset.ms(QueryTimes::default(), Sense::Any), Ok(-3_600_000));
        assert_eq!(offset.literal_ms(), None);
    }
}
