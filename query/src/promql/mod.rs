//! PromQL: text in, checked tree out.
//!
//! Never here: time ranges, storage, evaluation.

mod ast;
mod durations;
mod functions;

pub use ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Call, Cardinality, Edges, Expr, ExprKind,
    Matching, MatrixSelector, Number, Sign, Span, Subquery, ValueType, VectorSelector,
};
pub use durations::{Duration, DurationError, DurationExpr, DurationOp, QueryTimes, Sense};
pub use functions::{FUNCTIONS, Function, Variadic, function};

/// Levels a tree may have, chains of operators included: whoever walks it, this module and the
/// engine, may recurse without endangering a thread's stack (2 MiB, Rust's and tokio's default).
pub const DEPTH_MAX: usize = 250;
