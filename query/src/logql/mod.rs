//! LogQL: text in, checked tree out, and back. The whole language of Loki 3.5.
//!
//! ```text
//! text ─► lexer ─► parser ─► check ─► Expr ─► print, pretty
//!           └ token, units
//! ```
//!
//! Every bound holds before the work it bounds: the text's bytes before reading, levels and parts
//! while building. Time is linear in the text's bytes.
//!
//! Never here: time ranges, storage, evaluation.

mod ast;
mod check;
mod error;
mod lexer;
mod parser;
mod pretty;
mod print;
mod regex;
mod token;
mod units;

#[cfg(test)]
mod tests;

pub use ast::{
    Aggregation, At, Binary, BinaryOp, Comparison, Conversion, Expr, Extraction, GroupSide,
    Grouping, LabelChoice, LabelFilter, LabelFormat, LabelFormatValue, LabelReplace, LineFilter,
    LineOp, LineTerm, LogExpr, LogRange, Logfmt, Matching, MetricExpr, MetricKind,
    RangeAggregation, RangeOp, Stage, StageKind, Unwrap, Variants, VectorOp,
};
pub(crate) use check::fold;
pub use error::{ParseError, Place};
pub use pretty::pretty;
pub(crate) use regex::go_regex;
pub(crate) use units::{duration_ns, range_ns};

use model::{Matcher, PatternBudget};

/// Longest text of a query. Bytes; Loki's own bound.
pub const TEXT_BYTES_MAX: usize = 128 << 10;

/// Levels a tree may have, chains of operators included: whoever walks it may recurse.
pub const DEPTH_MAX: usize = 200;

/// Parts (stages, conditions, operations) a query may consist of.
pub const PARTS_MAX: usize = 16_384;

/// Reads and checks a query.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    let read = parser::Parser::new(text).and_then(|mut parser| parser.query());
    read.and_then(|expr| check::selectors(&expr).map(|()| expr)).map_err(|error| *error)
}

/// Reads a selector such as an HTTP parameter `match[]`: `{…}` without a pipeline. It may match
/// everything: whether that is allowed is for the caller to say.
pub fn parse_matchers(text: &str) -> Result<Vec<Matcher>, ParseError> {
    parse_matchers_within(text, &mut PatternBudget::default())
}

/// The same for one of several selectors, which together spend from one budget.
pub fn parse_matchers_within(
    text: &str,
    budget: &mut PatternBudget,
) -> Result<Vec<Matcher>, ParseError> {
    parser::Parser::new(text)
        .and_then(|mut parser| parser.matchers_only(budget))
        .map_err(|error| *error)
}

/// Reads a query that gives lines, for questions that have no use for numbers.
pub fn parse_log(text: &str) -> Result<LogExpr, ParseError> {
    match parse(text)? {
        Expr::Log(lines) => Ok(lines),
        Expr::Metric(_) => Err(*ParseError::meaning(
            "only label matchers and a pipeline are supported here, not an expression of numbers",
        )),
    }
}
