//! A LogQL pipeline as a question about entries: what the side of the rows can decide is put into
//! the filter, what it cannot is decided here, row by row.
//!
//! Stages that change lines or labels are not evaluated yet; they are refused by name and place.

use super::{EntryFilter, EntryRow, LineCondition, LineTest};
use crate::Error;
use crate::logql::{
    LabelFilter, LineFilter, LineOp, LogExpr, Place as TextPlace, Stage, StageKind, go_regex,
};

/// What becomes of the entries of some streams.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Pipeline {
    /// Decided where the rows are.
    pub(crate) filter: EntryFilter,
    /// Decided here.
    rest: Vec<LabelFilter>,
}

impl Pipeline {
    /// Of an expression; `text` is the query's, for the place of what is not supported.
    pub(crate) fn of(lines: &LogExpr, text: &str) -> Result<Self, Error> {
        let mut pipeline = Self::default();
        for stage in &lines.stages {
            match &stage.kind {
                StageKind::Line(filter) => {
                    let condition = line_condition(filter, stage, text)?;
                    pipeline.filter.lines.push(condition);
                }
                StageKind::Label(filter) => pipeline.require(filter, stage, text)?,
                other => return Err(unsupported(stage, text, what(other))),
            }
        }
        Ok(pipeline)
    }

    /// Whether the filter alone decides.
    pub(crate) fn is_filter(&self) -> bool {
        self.rest.is_empty()
    }

    /// Whether an entry that passed the filter passes.
    pub(crate) fn keeps(&self, row: &EntryRow) -> bool {
        self.rest.iter().all(|filter| holds(filter, row))
    }

    fn require(&mut self, filter: &LabelFilter, stage: &Stage, text: &str) -> Result<(), Error> {
        match filter {
            LabelFilter::Text(matcher) => self.filter.named.push(matcher.clone()),
            LabelFilter::And(left, right) => {
                self.require(left, stage, text)?;
                self.require(right, stage, text)?;
            }
            LabelFilter::Or(..) => {
                if !is_of_texts(filter) {
                    return Err(unsupported(stage, text, QUANTITIES));
                }
                self.rest.push(filter.clone());
            }
            _ => return Err(unsupported(stage, text, QUANTITIES)),
        }
        Ok(())
    }
}

const QUANTITIES: &str = "a label filter that compares numbers, durations, sizes or addresses";

fn is_of_texts(filter: &LabelFilter) -> bool {
    match filter {
        LabelFilter::Text(_) => true,
        LabelFilter::And(left, right) | LabelFilter::Or(left, right) => {
            is_of_texts(left) && is_of_texts(right)
        }
        _ => false,
    }
}

fn holds(filter: &LabelFilter, row: &EntryRow) -> bool {
    match filter {
        LabelFilter::Text(matcher) => matcher.matches(row.named(matcher.name())),
        LabelFilter::And(left, right) => holds(left, row) && holds(right, row),
        LabelFilter::Or(left, right) => holds(left, row) || holds(right, row),
        // Refused when the pipeline was made.
        _ => false,
    }
}

fn line_condition(filter: &LineFilter, stage: &Stage, text: &str) -> Result<LineCondition, Error> {
    if filter.terms.iter().any(|term| term.is_ip) {
        return Err(unsupported(stage, text, "the line filter ip(…)"));
    }
    let regex = match filter.op {
        LineOp::Contains | LineOp::ContainsNot => false,
        LineOp::Matches | LineOp::MatchesNot => true,
        LineOp::Pattern | LineOp::PatternNot => {
            return Err(unsupported(stage, text, "the line filter by pattern"));
        }
    };
    let tests = filter.terms.iter().map(|term| match regex {
        true => LineTest::Regex(go_regex(&term.text)),
        false => LineTest::Contains(term.text.clone()),
    });
    let is_negative = filter.op.is_negative();
    Ok(LineCondition { any: tests.collect(), is_negative, ignores_case: false })
}

fn what(stage: &StageKind) -> &'static str {
    match stage {
        StageKind::Line(_) => "a line filter",
        StageKind::Label(_) => "a label filter",
        StageKind::Json(_) => "the parser json",
        StageKind::Logfmt(_) => "the parser logfmt",
        StageKind::Regexp(_) => "the parser regexp",
        StageKind::Pattern(_) => "the parser pattern",
        StageKind::Unpack => "the parser unpack",
        StageKind::LineFormat(_) => "line_format",
        StageKind::LabelFormat(_) => "label_format",
        StageKind::Decolorize => "decolorize",
        StageKind::Drop(_) => "drop",
        StageKind::Keep(_) => "keep",
    }
}

fn unsupported(stage: &Stage, text: &str, what: &str) -> Error {
    not_yet(text, stage.at.0, what)
}

/// What the language has and this server does not evaluate yet.
pub(super) fn not_yet(text: &str, at: usize, what: &str) -> Error {
    let TextPlace { line, column } = TextPlace::of(text, at);
    Error::BadData(format!("not supported yet at line {line}, col {column}: {what}"))
}
