//! PromQL: text in, checked tree out, and back. The whole language of Prometheus 3.14.
//!
//! ```text
//! text ─► lexer ─► parser ─► check ─► Expr ─► print
//!           └ token, literals └ functions
//! ```
//!
//! Every bound holds before the work it bounds: the text's bytes before reading, levels and parts
//! while building. Time is linear in the text's bytes.
//!
//! Never here: time ranges, storage, evaluation.

mod ast;
mod check;
mod durations;
mod error;
mod functions;
mod lexer;
pub(crate) mod literals;
mod parser;
mod print;
mod token;
mod visit;

#[cfg(test)]
mod tests;

pub use ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Call, Cardinality, Edges, Expr, ExprKind,
    Matching, MatrixSelector, Number, Sign, Span, StringLiteral, Subquery, ValueType,
    VectorSelector,
};
pub use durations::{Duration, DurationError, DurationExpr, DurationOp, QueryTimes, Sense};
pub use error::{ParseError, Position};
pub use functions::{FUNCTIONS, Function, Variadic, function};

use model::{Matcher, PatternBudget};

/// Longest text of a query. Bytes. Generated dashboards stay below a tenth of it.
pub const TEXT_BYTES_MAX: usize = 64 << 10;

/// Levels a tree may have, chains of operators included: whoever walks it, this module and the
/// engine, may recurse. The parser does within 2 MiB of stack, Rust's and tokio's default; the
/// engine needs more in unoptimised builds, and the server gives its threads that.
pub const DEPTH_MAX: usize = 250;

/// Expressions a query may consist of.
pub const NODES_MAX: usize = 16_384;

/// Parts of the language that are not switched on for everybody.
///
/// The default is Prometheus 3.14's: duration expressions on, all else off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// The functions marked experimental in [`FUNCTIONS`]; `limitk` and `limit_ratio`.
    pub experimental_functions: bool,
    /// Arithmetic, `step()`, `range()`, `min_of` and `max_of` in durations.
    pub duration_expressions: bool,
    /// `anchored` and `smoothed`.
    pub extended_selectors: bool,
    /// `fill`, `fill_left`, `fill_right`.
    pub fill_modifiers: bool,
}

impl Features {
    /// The whole language.
    pub const ALL: Self = Self {
        experimental_functions: true,
        duration_expressions: true,
        extended_selectors: true,
        fill_modifiers: true,
    };
}

impl Default for Features {
    fn default() -> Self {
        Self {
            experimental_functions: false,
            duration_expressions: true,
            extended_selectors: false,
            fill_modifiers: false,
        }
    }
}

/// Reads and checks a query, with Prometheus' default features.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    parse_with(text, Features::default())
}

/// Reads and checks a query.
pub fn parse_with(text: &str, features: Features) -> Result<Expr, ParseError> {
    parser::Parser::new(text, features)
        .and_then(|mut parser| parser.query())
        .map_err(|error| *error)
}

/// Reads a selector such as an HTTP parameter `match[]`. `{}` is one: whether everything may be
/// selected is for the caller to say.
pub fn parse_matchers(text: &str) -> Result<Vec<Matcher>, ParseError> {
    parse_matchers_within(text, &mut PatternBudget::default())
}

/// The same for one of several selectors, which together spend from one budget.
pub fn parse_matchers_within(
    text: &str,
    budget: &mut PatternBudget,
) -> Result<Vec<Matcher>, ParseError> {
    let parser = parser::Parser::new(text, Features::default());
    parser.and_then(|mut parser| parser.matchers_only(budget)).map_err(|error| *error)
}
