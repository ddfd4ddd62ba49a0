//! The tree of a PromQL expression. Every node knows the bytes of the text it came from.
//!
//! Invariant: no tree is deeper than [`super::DEPTH_MAX`], chains of operators included, so code
//! may walk, print and drop it recursively.

use std::borrow::Cow;

use model::Matcher;

use super::durations::Duration;
use super::functions::Function;

/// Bytes of the query's text: from `start` up to, and without, `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// The byte after the last one.
    pub end: usize,
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where it stands.
    pub span: Span,
}

/// What an expression is.
#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    /// `1.5`, or `5m` where a number may stand.
    Number(Number),
    /// `"text"`
    String(StringLiteral),
    /// `metric{label="value"}`, an instant vector.
    Vector(VectorSelector),
    /// `metric[5m]`, a range vector.
    Matrix(Box<MatrixSelector>),
    /// `expr[1h:5m]`, a range vector.
    Subquery(Box<Subquery>),
    /// `rate(…)`
    Call(Call),
    /// `sum by (…) (…)`
    Aggregate(Box<Aggregate>),
    /// `a + b`
    Binary(Box<Binary>),
    /// `-a`
    Unary(Sign, Box<Expr>),
    /// `(a)`
    Paren(Box<Expr>),
}

/// A number literal.
#[derive(Debug, Clone, Copy)]
pub struct Number {
    /// The value; of a duration, its seconds.
    pub value: f64,
    /// Whether it was written as a duration, and prints as one.
    pub duration: bool,
}

/// NaN equals NaN here: two trees are the same if they say the same.
impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.duration == other.duration
            && (self.value == other.value
                && self.value.is_sign_negative() == other.value.is_sign_negative()
                || self.value.is_nan() && other.value.is_nan())
    }
}

/// A string literal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StringLiteral {
    /// What it says. Escapes (`"\xff"`) can make it something that is not UTF-8.
    pub bytes: Vec<u8>,
}

impl StringLiteral {
    /// The text, unless it is not UTF-8, as every label's name and value must be.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }

    /// The text, U+FFFD standing in for what is not UTF-8.
    pub fn to_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

/// A selection of series.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSelector {
    /// The metric's name, if it stands before the braces. A quoted one inside them is a matcher only.
    pub name: Option<String>,
    /// All conditions; that of `name` (`__name__="…"`) is the last one.
    pub matchers: Vec<Matcher>,
    /// `offset 5m`; in a range selector, the range's.
    pub offset: Option<Duration>,
    /// `@ …`; in a range selector, the range's.
    pub at: Option<At>,
    /// `anchored` or `smoothed`; in a range selector, the range's.
    pub edges: Edges,
}

/// How the values at a range's (or, for `smoothed`, an instant's) edges are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Edges {
    /// Only samples inside count.
    #[default]
    Plain,
    /// `anchored`: the last sample at or before each edge counts as lying on it.
    Anchored,
    /// `smoothed`: interpolated between the samples around each edge.
    Smoothed,
}

/// A fixed evaluation time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// `@ 1609746000.5`, as milliseconds since the epoch.
    Timestamp(i64),
    /// `@ start()`: the start of the query's range.
    Start,
    /// `@ end()`: its end.
    End,
}

/// A selection of series over a range of time before each step.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSelector {
    /// Which series; offset, `@` and edges are here too.
    pub selector: VectorSelector,
    /// Where the selector without the brackets stands.
    pub selector_span: Span,
    /// How long.
    pub range: Duration,
}

/// An expression evaluated at many times before each step.
#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    /// What is evaluated.
    pub expr: Expr,
    /// How long before.
    pub range: Duration,
    /// How often; `None` is the default resolution.
    pub step: Option<Duration>,
    /// `offset …`
    pub offset: Option<Duration>,
    /// `@ …`
    pub at: Option<At>,
}

/// A function call. The number and types of its arguments are right.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// What is called.
    pub func: &'static Function,
    /// With what; optional arguments that were not written are not here.
    pub args: Vec<Expr>,
}

/// An aggregation over groups.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// What is computed of each group.
    pub op: AggregateOp,
    /// The instant vector that is aggregated.
    pub expr: Expr,
    /// The first argument of those that have two (`topk(5, x)`): a scalar, for `count_values` a string.
    pub param: Option<Expr>,
    /// The labels of `by` or `without`, as written.
    pub grouping: Vec<String>,
    /// Whether `grouping` is of `without`.
    pub without: bool,
}

/// An aggregation's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the word in the language")]
pub enum AggregateOp {
    Avg,
    Bottomk,
    Count,
    CountValues,
    Group,
    Limitk,
    LimitRatio,
    Max,
    Min,
    Quantile,
    Stddev,
    Stdvar,
    Sum,
    Topk,
}

const ALL_AGGREGATIONS: [AggregateOp; 14] = {
    use AggregateOp::{Avg, Bottomk, Count, CountValues, Group, LimitRatio, Limitk};
    use AggregateOp::{Max, Min, Quantile, Stddev, Stdvar, Sum, Topk};
    [
        Avg,
        Bottomk,
        Count,
        CountValues,
        Group,
        LimitRatio,
        Limitk,
        Max,
        Min,
        Quantile,
        Stddev,
        Stdvar,
        Sum,
        Topk,
    ]
};

/// An operation on two expressions.
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// Which.
    pub op: BinaryOp,
    /// Where the operator's word stands.
    pub op_span: Span,
    /// Left.
    pub lhs: Expr,
    /// Right.
    pub rhs: Expr,
    /// Whether a comparison gives 0 and 1 (`bool`) instead of filtering.
    pub return_bool: bool,
    /// How the sides' series find each other; there if, and only if, both sides are vectors.
    pub matching: Option<Matching>,
}

/// How the series of two vectors find each other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Matching {
    /// How many may share a group.
    pub cardinality: Cardinality,
    /// Whether `labels` is of `on`; otherwise of `ignoring`.
    pub on: bool,
    /// The labels that are compared, or are left out.
    pub labels: Vec<String>,
    /// `group_left (these)`: copied from the "one" side.
    pub include: Vec<String>,
    /// `fill`, `fill_left`: stands in for a series missing on the left.
    pub fill_left: Option<f64>,
    /// `fill`, `fill_right`: stands in for a series missing on the right.
    pub fill_right: Option<f64>,
}

/// How many series of each side may share a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cardinality {
    /// One of each.
    #[default]
    OneToOne,
    /// `group_left`: many left, one right.
    ManyToOne,
    /// `group_right`: one left, many right.
    OneToMany,
    /// Set operators.
    ManyToMany,
}

/// An operator between two expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `^`
    Pow,
    /// `atan2`
    Atan2,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
    /// `</`: keeps a histogram's observations below the scalar.
    TrimUpper,
    /// `>/`: keeps a histogram's observations above the scalar.
    TrimLower,
    /// `and`
    And,
    /// `or`
    Or,
    /// `unless`
    Unless,
}

impl BinaryOp {
    /// The word in the language.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
        }
    }

    /// `==`, `<` and their kind.
    pub fn is_comparison(self) -> bool {
        use BinaryOp::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
        matches!(self, Equal | NotEqual | Less | LessEqual | Greater | GreaterEqual)
    }

    /// `and`, `or`, `unless`.
    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }
}

impl AggregateOp {
    /// The word in the language.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Avg => "avg",
            Self::Bottomk => "bottomk",
            Self::Count => "count",
            Self::CountValues => "count_values",
            Self::Group => "group",
            Self::Limitk => "limitk",
            Self::LimitRatio => "limit_ratio",
            Self::Max => "max",
            Self::Min => "min",
            Self::Quantile => "quantile",
            Self::Stddev => "stddev",
            Self::Stdvar => "stdvar",
            Self::Sum => "sum",
            Self::Topk => "topk",
        }
    }

    /// The aggregation of that name, in lower case.
    pub(super) fn from_word(word: &str) -> Option<Self> {
        ALL_AGGREGATIONS.iter().find(|op| op.as_str() == word).copied()
    }

    /// Whether it has a first argument beside the vector.
    pub fn has_param(self) -> bool {
        use AggregateOp::{Bottomk, CountValues, LimitRatio, Limitk, Quantile, Topk};
        matches!(self, Bottomk | CountValues | LimitRatio | Limitk | Quantile | Topk)
    }

    /// Whether it must be switched on.
    pub fn is_experimental(self) -> bool {
        matches!(self, Self::Limitk | Self::LimitRatio)
    }
}

/// The operator before one expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// `+`
    Plus,
    /// `-`
    Minus,
}

/// What an expression gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// One number per step.
    Scalar,
    /// Series with one sample per step.
    Vector,
    /// Series with a range of samples per step.
    Matrix,
    /// A text.
    String,
}
