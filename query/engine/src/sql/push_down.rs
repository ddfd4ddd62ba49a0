//! Filters on their way down: what a `WHERE` says of time and labels narrows what is read.
//!
//! What is taken over exactly is not looked at again; patterns are, since SQL and selectors read
//! them by rules of their own: there the selection is never smaller than the answer.

use std::collections::BTreeSet;

use arrow_schema::{DataType, TimeUnit};
use datafusion_common::ScalarValue;
use datafusion_expr::expr::{InList, Like};
use datafusion_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown};
use model::{MatchOp, Matcher, PatternBudget, TimeRange};

use super::columns::{Column, Columns};

/// What a scan is narrowed to.
#[derive(Debug, Clone)]
pub(super) struct Narrowed {
    pub(super) matchers: Vec<Matcher>,
    pub(super) range: TimeRange,
    /// For all patterns together; one that would exceed it is not taken over.
    pub(super) patterns: PatternBudget,
}

/// How much of a filter a selection takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Taken {
    /// Nothing.
    No,
    /// The selection has all rows that pass, and maybe others.
    Roughly,
    /// The selection is what passes.
    Exactly,
}

impl From<Taken> for TableProviderFilterPushDown {
    fn from(taken: Taken) -> Self {
        match taken {
            Taken::No => Self::Unsupported,
            Taken::Roughly => Self::Inexact,
            Taken::Exactly => Self::Exact,
        }
    }
}

/// Label values of one filter that become one pattern. More are compared row by row.
pub(super) const VALUES_MAX: usize = 1_000;

pub(super) const NS_PER_MS: i128 = 1_000_000;

impl Narrowed {
    /// To series that these matchers allow, at any time.
    pub(super) fn new(matchers: Vec<Matcher>) -> Self {
        Self { matchers, range: TimeRange::ALL, patterns: PatternBudget::default() }
    }

    /// Takes over what it can of a filter.
    pub(super) fn take(&mut self, filter: &Expr, columns: &Columns) -> Taken {
        match filter {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                let (left, right) = (self.take(left, columns), self.take(right, columns));
                match left.min(right) {
                    Taken::No if left.max(right) > Taken::No => Taken::Roughly,
                    least => least,
                }
            }
            // What the planner makes of a short IN.
            Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }) => {
                let mut texts = BTreeSet::new();
                match either(filter, columns, &mut texts) {
                    Some(Column::Label(name)) => self.values(&name, MatchOp::Regex, texts),
                    _ => Taken::No,
                }
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                match (subject(left, columns), literal(right)) {
                    (Some(subject), Some(value)) => self.compare(&subject, *op, value),
                    _ => match (subject(right, columns), literal(left), op.swap()) {
                        (Some(subject), Some(value), Some(op)) => self.compare(&subject, op, value),
                        _ => Taken::No,
                    },
                }
            }
            Expr::Between(between) if !between.negated => {
                let Some(subject) = subject(&between.expr, columns) else { return Taken::No };
                let (Some(low), Some(high)) = (literal(&between.low), literal(&between.high))
                else {
                    return Taken::No;
                };
                let low = self.compare(&subject, Operator::GtEq, low);
                low.min(self.compare(&subject, Operator::LtEq, high))
            }
            Expr::InList(list) => self.one_of(list, columns),
            Expr::IsNull(expr) => self.presence(expr, columns, MatchOp::Equal),
            Expr::IsNotNull(expr) => self.presence(expr, columns, MatchOp::NotEqual),
            Expr::Like(like) => self.like(like, columns),
            _ => Taken::No,
        }
    }

    fn compare(&mut self, subject: &Column, op: Operator, value: &ScalarValue) -> Taken {
        match subject {
            Column::Time(TimeUnit::Millisecond) => self.compare_time(op, value),
            Column::Label(name) => match text(value) {
                Some(value) => self.compare_label(name, op, value),
                None => Taken::No,
            },
            _ => Taken::No,
        }
    }

    fn compare_time(&mut self, op: Operator, value: &ScalarValue) -> Taken {
        let Some((low, high)) = within(op, value, NS_PER_MS) else { return Taken::No };
        self.range.start_ms = self.range.start_ms.max(low);
        self.range.end_ms = self.range.end_ms.min(high);
        Taken::Exactly
    }

    fn compare_label(&mut self, name: &str, op: Operator, value: &str) -> Taken {
        // A label of no length is none: null, of which no comparison holds.
        match op {
            Operator::Eq if !value.is_empty() => {
                self.matchers.push(Matcher::equal(name, value));
                Taken::Exactly
            }
            Operator::NotEq => {
                let differs = self.matcher(MatchOp::NotEqual, name, value);
                differs.min(self.matcher(MatchOp::NotEqual, name, ""))
            }
            Operator::RegexMatch => self.pattern(MatchOp::Regex, name, &anywhere("", value)),
            Operator::RegexIMatch => self.pattern(MatchOp::Regex, name, &anywhere("i", value)),
            Operator::RegexNotMatch => self.pattern(MatchOp::NotRegex, name, &anywhere("", value)),
            Operator::RegexNotIMatch => {
                self.pattern(MatchOp::NotRegex, name, &anywhere("i", value))
            }
            _ => Taken::No,
        }
    }

    fn matcher(&mut self, op: MatchOp, name: &str, value: &str) -> Taken {
        match Matcher::within(&mut self.patterns, op, name, value) {
            Ok(matcher) => {
                self.matchers.push(matcher);
                Taken::Exactly
            }
            Err(_) => Taken::No,
        }
    }

    /// A pattern that values which are there match, or do not.
    fn pattern(&mut self, op: MatchOp, name: &str, pattern: &str) -> Taken {
        let matches = self.matcher(op, name, pattern);
        if matches > Taken::No {
            self.matcher(MatchOp::NotEqual, name, "");
        }
        matches.min(Taken::Roughly)
    }

    fn one_of(&mut self, InList { expr, list, negated }: &InList, columns: &Columns) -> Taken {
        let Some(Column::Label(name)) = subject(expr, columns) else { return Taken::No };
        let texts = list.iter().map(|item| literal(item).and_then(text));
        let Some(texts) = texts.collect::<Option<BTreeSet<&str>>>() else { return Taken::No };
        let op = if *negated { MatchOp::NotRegex } else { MatchOp::Regex };
        self.values(&name, op, texts)
    }

    /// A label that has one of some values, or is there and has none of them.
    fn values(&mut self, name: &str, op: MatchOp, texts: BTreeSet<&str>) -> Taken {
        let texts: Vec<String> =
            texts.into_iter().filter(|t| !t.is_empty()).map(regex::escape).collect();
        if texts.is_empty() || texts.len() > VALUES_MAX {
            return Taken::No;
        }
        let taken = self.matcher(op, name, &texts.join("|"));
        if taken > Taken::No && op == MatchOp::NotRegex {
            return taken.min(self.matcher(MatchOp::NotEqual, name, ""));
        }
        taken
    }

    fn presence(&mut self, expr: &Expr, columns: &Columns, op: MatchOp) -> Taken {
        match subject(expr, columns) {
            Some(Column::Label(name)) => self.matcher(op, &name, ""),
            _ => Taken::No,
        }
    }

    fn like(&mut self, like: &Like, columns: &Columns) -> Taken {
        let Some(Column::Label(name)) = subject(&like.expr, columns) else { return Taken::No };
        let Some(pattern) = literal(&like.pattern).and_then(text) else { return Taken::No };
        let flags = if like.case_insensitive { "(?i)" } else { "" };
        let pattern = format!("{flags}{}", like_pattern(pattern, like.escape_char.unwrap_or('\\')));
        let op = if like.negated { MatchOp::NotRegex } else { MatchOp::Regex };
        self.pattern(op, &name, &pattern)
    }
}

/// Instants that a comparison allows, first and last, counted in units of so many nanoseconds;
/// `None` where they are no range.
pub(super) fn within(op: Operator, value: &ScalarValue, unit_ns: i128) -> Option<(i64, i64)> {
    let at_ns = instant_ns(value)?;
    let count = |count: i128| count.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
    let floor = count(at_ns.div_euclid(unit_ns));
    let whole = at_ns.rem_euclid(unit_ns) == 0;
    let ceiling = if whole { floor } else { floor.saturating_add(1) };
    match op {
        Operator::GtEq => Some((ceiling, i64::MAX)),
        Operator::Gt => Some((floor.saturating_add(1), i64::MAX)),
        Operator::LtEq => Some((i64::MIN, floor)),
        Operator::Lt => Some((i64::MIN, ceiling.saturating_sub(1))),
        Operator::Eq if whole => Some((floor, floor)),
        _ => None,
    }
}

/// What all parts of an OR say of it that it equals something.
pub(super) fn either<'e>(
    expr: &'e Expr,
    columns: &Columns,
    texts: &mut BTreeSet<&'e str>,
) -> Option<Column> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else { return None };
    match op {
        Operator::Or => {
            let of = either(left, columns, texts)?;
            (either(right, columns, texts)? == of).then_some(of)
        }
        Operator::Eq => {
            let (of, value) = match literal(right) {
                Some(value) => (left, value),
                None => (right, literal(left)?),
            };
            texts.insert(text(value)?);
            subject(of, columns)
        }
        _ => None,
    }
}

/// A regular expression that is looked for anywhere, as one that matches the whole.
pub(super) fn anywhere(flags: &str, pattern: &str) -> String {
    format!("(?s:.*)(?{flags}-s:{pattern})(?s:.*)")
}

/// `%` is anything, `_` one character.
pub(super) fn like_pattern(pattern: &str, escape: char) -> String {
    let mut out = String::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '%' => out.push_str("(?s:.*)"),
            '_' => out.push_str("(?s:.)"),
            character => {
                let literal = match character == escape {
                    true => characters.next().unwrap_or(escape),
                    false => character,
                };
                out.push_str(&regex::escape(literal.encode_utf8(&mut [0; 4])));
            }
        }
    }
    out
}

/// What a side of a comparison is about.
pub(super) fn subject(expr: &Expr, columns: &Columns) -> Option<Column> {
    match expr {
        Expr::Column(column) => columns.named(&column.name).cloned(),
        Expr::Cast(cast) => {
            let of = subject(&cast.expr, columns)?;
            keeps_meaning(&of, cast.field.data_type()).then_some(of)
        }
        Expr::Alias(alias) => subject(&alias.expr, columns),
        // `labels['job']`, `fields['verb']`
        Expr::ScalarFunction(call) if call.name() == "get_field" => {
            let [of, name] = call.args.as_slice() else { return None };
            let name = literal(name).and_then(text)?;
            match subject(of, columns)? {
                Column::Labels if name != model::METRIC_NAME => {
                    Some(Column::Label(name.to_owned()))
                }
                Column::Fields => Some(Column::Field(name.to_owned())),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Casts that change how a text or an instant is held and not what it is.
fn keeps_meaning(of: &Column, to: &DataType) -> bool {
    match (of, to) {
        (Column::Time(unit), DataType::Timestamp(to, zone)) => {
            // No coarser than it was.
            to >= unit && zone.as_deref().is_none_or(|zone| ["UTC", "+00:00"].contains(&zone))
        }
        (_, DataType::Dictionary(_, values)) => keeps_meaning(of, values),
        (_, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => {
            !matches!(of, Column::Time(_))
        }
        _ => false,
    }
}

pub(super) fn literal(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value),
        _ => None,
    }
}

pub(super) fn text(value: &ScalarValue) -> Option<&str> {
    match value {
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => {
            text.as_deref()
        }
        ScalarValue::Dictionary(_, value) => text(value),
        _ => None,
    }
}

/// An instant in nanoseconds since the Unix epoch.
pub(super) fn instant_ns(value: &ScalarValue) -> Option<i128> {
    let (count, unit_ns) = match value {
        ScalarValue::TimestampSecond(count, _) => (count, NS_PER_MS * 1_000),
        ScalarValue::TimestampMillisecond(count, _) => (count, NS_PER_MS),
        ScalarValue::TimestampMicrosecond(count, _) => (count, 1_000),
        ScalarValue::TimestampNanosecond(count, _) => (count, 1),
        _ => return None,
    };
    Some(i128::from((*count)?) * unit_ns)
}
