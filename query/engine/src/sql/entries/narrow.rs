//! Filters on their way down: what a `WHERE` says of streams, times, lines, fields and levels narrows
//! what is searched.

use std::collections::BTreeSet;

use datafusion_common::ScalarValue;
use datafusion_expr::expr::{InList, Like};
use datafusion_expr::{BinaryExpr, Expr, Operator};
use model::{Level, MatchOp, Matcher};
use storage::entries::EntryFilter;

use super::super::columns::{Column, Columns};
use super::super::push_down::{
    self, Taken, VALUES_MAX, anywhere, either, like_pattern, literal, subject, text, within,
};
use super::lines::said;

/// Tests of lines in one search. Well below what the store takes.
const TESTS_MAX: usize = 32;

/// Conditions on fields in one search.
const FIELDS_MAX: usize = 32;

/// What a search is narrowed to.
#[derive(Debug, Clone)]
pub(super) struct Narrowed {
    /// By labels.
    streams: push_down::Narrowed,
    /// First and last instant.
    range_ns: (i64, i64),
    filter: EntryFilter,
}

impl Narrowed {
    /// To nothing yet.
    pub(super) fn new() -> Self {
        Self {
            streams: push_down::Narrowed::new(Vec::new()),
            range_ns: (i64::MIN, i64::MAX),
            filter: EntryFilter::default(),
        }
    }

    /// Matchers of streams, first and last instant, and what must hold of entries.
    pub(super) fn into_parts(self) -> (Vec<Matcher>, (i64, i64), EntryFilter) {
        (self.streams.matchers, self.range_ns, self.filter)
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
            Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }) => {
                let mut texts = BTreeSet::new();
                match either(filter, columns, &mut texts) {
                    Some(Column::Field(name)) => self.field_in(&name, &texts),
                    Some(Column::Level) => self.level_in(&texts),
                    _ => self.rest(filter, columns),
                }
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let (of, op, value) = match (literal(right), literal(left), op.swap()) {
                    (Some(value), _, _) => (subject(left, columns), *op, value),
                    (None, Some(value), Some(op)) => (subject(right, columns), op, value),
                    _ => return self.rest(filter, columns),
                };
                match of {
                    Some(Column::Time(_)) => self.compare_time(op, value),
                    Some(Column::Field(name)) => self.compare_field(&name, op, value),
                    Some(Column::Level) if op == Operator::Eq => {
                        self.level_in(&text(value).into_iter().collect())
                    }
                    _ => self.rest(filter, columns),
                }
            }
            Expr::Between(between) if !between.negated => {
                let of = subject(&between.expr, columns);
                match (of, literal(&between.low), literal(&between.high)) {
                    (Some(Column::Time(_)), Some(low), Some(high)) => {
                        let low = self.compare_time(Operator::GtEq, low);
                        low.min(self.compare_time(Operator::LtEq, high))
                    }
                    _ => Taken::No,
                }
            }
            Expr::InList(list) => self.one_of(filter, list, columns),
            Expr::Like(like) => match subject(&like.expr, columns) {
                Some(Column::Field(name)) => self.like(&name, like),
                _ => self.rest(filter, columns),
            },
            _ => self.rest(filter, columns),
        }
    }

    /// What is about lines alone, or about labels.
    fn rest(&mut self, filter: &Expr, columns: &Columns) -> Taken {
        let said = said(filter, columns);
        if said.taken == Taken::No {
            return self.streams.take(filter, columns);
        }
        let tests = self.filter.lines.iter().chain(&said.conditions).map(|line| line.any.len());
        if tests.sum::<usize>() > TESTS_MAX {
            return Taken::No;
        }
        self.filter.lines.extend(said.conditions);
        said.taken
    }

    fn compare_time(&mut self, op: Operator, value: &ScalarValue) -> Taken {
        let Some((first, last)) = within(op, value, 1) else { return Taken::No };
        self.range_ns = (self.range_ns.0.max(first), self.range_ns.1.min(last));
        Taken::Exactly
    }

    /// To the store a field that is absent has the empty value; here it is null, of which no
    /// comparison holds. So nothing is exact that holds for the empty value.
    fn compare_field(&mut self, name: &str, op: Operator, value: &ScalarValue) -> Taken {
        let Some(value) = text(value) else { return Taken::No };
        match op {
            Operator::Eq if !value.is_empty() => self.field(name, MatchOp::Equal, value),
            Operator::NotEq if !value.is_empty() => {
                self.field(name, MatchOp::NotEqual, value).min(Taken::Roughly)
            }
            Operator::RegexMatch => self.pattern(name, MatchOp::Regex, &anywhere("", value)),
            Operator::RegexIMatch => self.pattern(name, MatchOp::Regex, &anywhere("i", value)),
            Operator::RegexNotMatch => self.pattern(name, MatchOp::NotRegex, &anywhere("", value)),
            Operator::RegexNotIMatch => {
                self.pattern(name, MatchOp::NotRegex, &anywhere("i", value))
            }
            _ => Taken::No,
        }
    }

    fn field(&mut self, name: &str, op: MatchOp, value: &str) -> Taken {
        if self.filter.fields.len() == FIELDS_MAX {
            return Taken::No;
        }
        match Matcher::within(&mut self.streams.patterns, op, name, value) {
            Ok(matcher) => {
                self.filter.fields.push(matcher);
                Taken::Exactly
            }
            Err(_) => Taken::No,
        }
    }

    /// A pattern of SQL, which reads it by rules of its own.
    fn pattern(&mut self, name: &str, op: MatchOp, pattern: &str) -> Taken {
        self.field(name, op, pattern).min(Taken::Roughly)
    }

    fn like(&mut self, name: &str, like: &Like) -> Taken {
        let Some(pattern) = literal(&like.pattern).and_then(text) else { return Taken::No };
        let flags = if like.case_insensitive { "(?i)" } else { "" };
        let pattern = format!("{flags}{}", like_pattern(pattern, like.escape_char.unwrap_or('\\')));
        let op = if like.negated { MatchOp::NotRegex } else { MatchOp::Regex };
        self.pattern(name, op, &pattern)
    }

    fn one_of(&mut self, filter: &Expr, list: &InList, columns: &Columns) -> Taken {
        let texts = list.list.iter().map(|item| literal(item).and_then(text));
        match (subject(&list.expr, columns), texts.collect::<Option<BTreeSet<&str>>>()) {
            (Some(Column::Field(name)), Some(texts)) if !list.negated => {
                self.field_in(&name, &texts)
            }
            (Some(Column::Level), Some(texts)) if !list.negated => self.level_in(&texts),
            _ => self.streams.take(filter, columns),
        }
    }

    fn field_in(&mut self, name: &str, texts: &BTreeSet<&str>) -> Taken {
        if texts.contains("") || texts.is_empty() || texts.len() > VALUES_MAX {
            return Taken::No;
        }
        let texts: Vec<String> = texts.iter().map(|text| regex::escape(text)).collect();
        self.field(name, MatchOp::Regex, &texts.join("|"))
    }

    /// Levels that are at least as bad as the least bad of these.
    fn level_in(&mut self, words: &BTreeSet<&str>) -> Taken {
        let levels = Level::ALL.into_iter().filter(|level| words.contains(level.as_str()));
        let Some(least) = levels.min() else { return Taken::No };
        let known = self.filter.level_min.unwrap_or_default();
        self.filter.level_min = Some(known.max(least));
        Taken::Roughly
    }
}
