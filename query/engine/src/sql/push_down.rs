//! Filters on their way down: what a `WHERE` says of time and labels narrows what is read.
//!
//! What is taken over exactly is not looked at again; patterns are, since SQL and selectors read
//! them by rules of their own: there the selection is never smaller than the answer.

use std::collections::BTreeSet;

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
    patterns: PatternBudget,
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
const VALUES_MAX: usize = 1_000;

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
                    Some(name) => self.values(&name, MatchOp::Regex, texts),
                    None => Taken::No,
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
            Column::Time => self.compare_time(op, value),
            Column::Label(name) => match text(value) {
                Some(value) => self.compare_label(name, op, value),
                None => Taken::No,
            },
            Column::Value | Column::Labels | Column::Histogram => Taken::No,
        }
    }

    fn compare_time(&mut self, op: Operator, value: &ScalarValue) -> Taken {
        let Some((count, per_ms)) = instant(value) else { return Taken::No };
        let floor = count.div_euclid(per_ms);
        let whole = count.rem_euclid(per_ms) == 0;
        let ceiling = if whole { floor } else { floor.saturating_add(1) };
        let (low, high) = match op {
            Operator::GtEq => (ceiling, i64::MAX),
            Operator::Gt => (floor.saturating_add(1), i64::MAX),
            Operator::LtEq => (i64::MIN, floor),
            Operator::Lt => (i64::MIN, ceiling.saturating_sub(1)),
            Operator::Eq if whole => (floor, floor),
            _ => return Taken::No,
        };
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

/// The label of which all parts of an OR say that it equals something.
fn either<'e>(expr: &'e Expr, columns: &Columns, texts: &mut BTreeSet<&'e str>) -> Option<String> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else { return None };
    match op {
        Operator::Or => {
            let name = either(left, columns, texts)?;
            (either(right, columns, texts)? == name).then_some(name)
        }
        Operator::Eq => {
            let (of, value) = match literal(right) {
                Some(value) => (left, value),
                None => (right, literal(left)?),
            };
            let Some(Column::Label(name)) = subject(of, columns) else { return None };
            texts.insert(text(value)?);
            Some(name)
        }
        _ => None,
    }
}

/// A regular expression that is looked for anywhere, as one that matches the whole.
fn anywhere(flags: &str, pattern: &str) -> String {
    format!("(?s:.*)(?{flags}-s:{pattern})(?s:.*)")
}

/// `%` is anything, `_` one character.
fn like_pattern(pattern: &str, escape: char) -> String {
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
fn subject(expr: &Expr, columns: &Columns) -> Option<Column> {
    match expr {
        Expr::Column(column) => columns.named(&column.name).cloned(),
        Expr::Cast(cast) if keeps_meaning(cast.field.data_type()) => subject(&cast.expr, columns),
        Expr::Alias(alias) => subject(&alias.expr, columns),
        // `labels['job']`
        Expr::ScalarFunction(call) if call.name() == "get_field" => {
            let [of, name] = call.args.as_slice() else { return None };
            let is_map = subject(of, columns) == Some(Column::Labels);
            let name = literal(name).and_then(text).filter(|name| *name != model::METRIC_NAME)?;
            is_map.then(|| Column::Label(name.to_owned()))
        }
        _ => None,
    }
}

/// Casts that change how a label or an instant is held and not what it is.
fn keeps_meaning(to: &arrow_schema::DataType) -> bool {
    use arrow_schema::DataType::{Dictionary, LargeUtf8, Timestamp, Utf8, Utf8View};
    use arrow_schema::TimeUnit::Second;
    match to {
        Utf8 | LargeUtf8 | Utf8View => true,
        Dictionary(_, values) => keeps_meaning(values),
        Timestamp(Second, _) => false,
        Timestamp(_, zone) => zone.as_deref().is_none_or(|zone| ["UTC", "+00:00"].contains(&zone)),
        _ => false,
    }
}

fn literal(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value),
        _ => None,
    }
}

fn text(value: &ScalarValue) -> Option<&str> {
    match value {
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => {
            text.as_deref()
        }
        ScalarValue::Dictionary(_, value) => text(value),
        _ => None,
    }
}

/// An instant as a count, and how many of what is counted a millisecond has.
pub(super) fn instant(value: &ScalarValue) -> Option<(i64, i64)> {
    match value {
        ScalarValue::TimestampSecond(Some(count), _) => Some((count.checked_mul(1_000)?, 1)),
        ScalarValue::TimestampMillisecond(Some(count), _) => Some((*count, 1)),
        ScalarValue::TimestampMicrosecond(Some(count), _) => Some((*count, 1_000)),
        ScalarValue::TimestampNanosecond(Some(count), _) => Some((*count, 1_000_000)),
        _ => None,
    }
}
