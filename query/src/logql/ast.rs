//! The tree of a LogQL query.
//!
//! Invariant: no tree is deeper than [`super::DEPTH_MAX`], chains of operators included, so code
//! may walk, print and drop it recursively.

use model::Matcher;

/// A byte of the query's text where something begins. Trees that say the same are equal wherever
/// their parts stand.
#[derive(Debug, Clone, Copy, Default)]
pub struct At(pub usize);

impl PartialEq for At {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// A query.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// Gives lines.
    Log(LogExpr),
    /// Gives numbers.
    Metric(MetricExpr),
}

/// Streams and what is done with their lines.
#[derive(Debug, Clone, PartialEq)]
pub struct LogExpr {
    /// Which streams.
    pub matchers: Vec<Matcher>,
    /// What each line passes through, in order.
    pub stages: Vec<Stage>,
}

/// A step of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// What it does.
    pub kind: StageKind,
    /// Where it stands.
    pub at: At,
}

/// What a step of a pipeline does.
#[derive(Debug, Clone, PartialEq)]
pub enum StageKind {
    /// `|= "text"`
    Line(LineFilter),
    /// `| json`, with expressions only those members
    Json(Vec<Extraction>),
    /// `| logfmt`
    Logfmt(Logfmt),
    /// `| regexp "(?P<name>…)"`
    Regexp(String),
    /// `| pattern "<name> …"`
    Pattern(String),
    /// `| unpack`
    Unpack,
    /// `| status >= 500`
    Label(LabelFilter),
    /// `| line_format "{{.name}}"`
    LineFormat(String),
    /// `| label_format a=b, c="{{.d}}"`
    LabelFormat(Vec<LabelFormat>),
    /// `| decolorize`
    Decolorize,
    /// `| drop a, b="x"`
    Drop(Vec<LabelChoice>),
    /// `| keep a, b="x"`
    Keep(Vec<LabelChoice>),
}

/// A condition on a line.
#[derive(Debug, Clone, PartialEq)]
pub struct LineFilter {
    /// How it compares.
    pub op: LineOp,
    /// With what. More than one only where the operator asks for a match: any of them is enough.
    /// `!= "a" or "b"` is two filters.
    pub terms: Vec<LineTerm>,
}

/// What a line is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineTerm {
    /// The text.
    pub text: String,
    /// Whether the text names IP addresses: `ip("10.0.0.0/8")`.
    pub is_ip: bool,
}

/// How a line is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineOp {
    /// `|=`
    Contains,
    /// `!=`
    ContainsNot,
    /// `|~`
    Matches,
    /// `!~`
    MatchesNot,
    /// `|>`
    Pattern,
    /// `!>`
    PatternNot,
}

/// `name="expression"`: what becomes a label of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extraction {
    /// The label.
    pub label: String,
    /// Where its value is found.
    pub expression: String,
}

/// `logfmt` and how it reads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Logfmt {
    /// `--strict`: a line that is not wholly logfmt is an error.
    pub strict: bool,
    /// `--keep-empty`: keys without a value are labels.
    pub keep_empty: bool,
    /// If there are any: only these keys.
    pub extractions: Vec<Extraction>,
}

/// A condition on labels.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelFilter {
    /// `name="value"`
    Text(Matcher),
    /// `name=ip("10.0.0.0/8")`
    Ip {
        /// The label.
        name: String,
        /// Whether it must not be one of them.
        negated: bool,
        /// Which addresses.
        addresses: String,
    },
    /// `name > 5`
    Number(Comparison<f64>),
    /// `name > 5s`, in nanoseconds
    Duration(Comparison<i64>),
    /// `name > 5MB`
    Bytes(Comparison<u64>),
    /// Both.
    And(Box<LabelFilter>, Box<LabelFilter>),
    /// One of them.
    Or(Box<LabelFilter>, Box<LabelFilter>),
}

/// A label compared with a quantity.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison<T> {
    /// The label.
    pub name: String,
    /// How; one of the comparisons. `=` is `==`.
    pub op: BinaryOp,
    /// With what.
    pub value: T,
}

/// `dst=src` or `dst="template"`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelFormat {
    /// The label that is set.
    pub label: String,
    /// To what.
    pub value: LabelFormatValue,
}

/// What a label is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelFormatValue {
    /// What that label had; it is gone then.
    Rename(String),
    /// What the template gives.
    Template(String),
}

/// A label that is dropped or kept.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelChoice {
    /// Whatever its value.
    Name(String),
    /// Where its value satisfies this.
    Matching(Matcher),
}

/// Lines over a range of time before each step.
#[derive(Debug, Clone, PartialEq)]
pub struct LogRange {
    /// Which lines.
    pub lines: LogExpr,
    /// The label whose values are the samples.
    pub unwrap: Option<Unwrap>,
    /// How long. Nanoseconds.
    pub range_ns: i64,
    /// `offset 5m`. Nanoseconds.
    pub offset_ns: i64,
}

/// `| unwrap label`
#[derive(Debug, Clone, PartialEq)]
pub struct Unwrap {
    /// The label whose values are the samples.
    pub label: String,
    /// What its value is read as, if not a number.
    pub conversion: Option<Conversion>,
    /// Conditions on what was unwrapped.
    pub filters: Vec<LabelFilter>,
    /// Where it stands.
    pub at: At,
}

/// An expression that gives numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricExpr {
    /// What it is.
    pub kind: MetricKind,
    /// Where it stands.
    pub at: At,
}

/// What an expression that gives numbers is.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricKind {
    /// `rate({…}[5m])`
    Range(Box<RangeAggregation>),
    /// `sum by (…) (…)`
    Aggregate(Box<Aggregation>),
    /// `a + b`
    Binary(Box<Binary>),
    /// `1.5`
    Literal(f64),
    /// `vector(1.5)`
    Vector(f64),
    /// `label_replace(…)`
    LabelReplace(Box<LabelReplace>),
    /// `variants(…) of (…)`
    Variants(Box<Variants>),
}

/// An aggregation of lines over time.
#[derive(Debug, Clone, PartialEq)]
pub struct RangeAggregation {
    /// What is computed.
    pub op: RangeOp,
    /// The first argument of `quantile_over_time`.
    pub param: Option<f64>,
    /// Of which lines.
    pub range: LogRange,
    /// `by` or `without`.
    pub grouping: Option<Grouping>,
}

/// An aggregation over groups of series.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregation {
    /// What is computed.
    pub op: VectorOp,
    /// The first argument of those that have two.
    pub param: Option<u64>,
    /// Of which series.
    pub expr: MetricExpr,
    /// `by` or `without`; `by ()` if nothing was said.
    pub grouping: Grouping,
}

/// `by (…)` or `without (…)`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grouping {
    /// The labels.
    pub labels: Vec<String>,
    /// Whether they are left out rather than kept.
    pub without: bool,
}

/// An operation on two expressions.
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// Which.
    pub op: BinaryOp,
    /// Left.
    pub lhs: MetricExpr,
    /// Right.
    pub rhs: MetricExpr,
    /// Whether a comparison gives 0 and 1 (`bool`) instead of filtering.
    pub return_bool: bool,
    /// How the series of both sides find each other.
    pub matching: Option<Matching>,
}

/// How series find each other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matching {
    /// Whether `labels` is of `on`; otherwise of `ignoring`.
    pub on: bool,
    /// The labels that are compared, or are left out.
    pub labels: Vec<String>,
    /// Which side may have several series of a group.
    pub group: Option<GroupSide>,
}

/// `group_left (these)` or `group_right (these)`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSide {
    /// Whether the left side is the one that has many.
    pub left: bool,
    /// Copied from the "one" side.
    pub include: Vec<String>,
}

/// `label_replace(expr, "dst", "replacement", "src", "regex")`
#[derive(Debug, Clone, PartialEq)]
pub struct LabelReplace {
    /// Of which series.
    pub expr: MetricExpr,
    /// The label that is set.
    pub dst: String,
    /// To what; `$1` stands for a group.
    pub replacement: String,
    /// The label that is read.
    pub src: String,
    /// What its whole value must match.
    pub regex: String,
}

/// Several aggregations of one pass over the same lines.
#[derive(Debug, Clone, PartialEq)]
pub struct Variants {
    /// The aggregations.
    pub variants: Vec<MetricExpr>,
    /// The lines.
    pub of: LogRange,
}

/// A set of words of the language, one for each member.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($member:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each is the word in the language")]
        pub enum $name { $($member),+ }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$member),+];

            /// The word in the language.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$member => $word),+ }
            }

        }
    };
}

words! {
    /// An aggregation of lines over time.
    RangeOp {
        Rate = "rate",
        RateCounter = "rate_counter",
        Count = "count_over_time",
        Bytes = "bytes_over_time",
        BytesRate = "bytes_rate",
        Sum = "sum_over_time",
        Avg = "avg_over_time",
        Max = "max_over_time",
        Min = "min_over_time",
        Stdvar = "stdvar_over_time",
        Stddev = "stddev_over_time",
        Quantile = "quantile_over_time",
        First = "first_over_time",
        Last = "last_over_time",
        Absent = "absent_over_time",
    }
}

words! {
    /// An aggregation over groups of series.
    VectorOp {
        Sum = "sum",
        Avg = "avg",
        Count = "count",
        Max = "max",
        Min = "min",
        Stddev = "stddev",
        Stdvar = "stdvar",
        Bottomk = "bottomk",
        Topk = "topk",
        ApproxTopk = "approx_topk",
        Sort = "sort",
        SortDesc = "sort_desc",
    }
}

words! {
    /// What an unwrapped value is read as.
    Conversion {
        Bytes = "bytes",
        Duration = "duration",
        DurationSeconds = "duration_seconds",
    }
}

words! {
    /// An operator between two expressions, or a comparison in a label filter.
    BinaryOp {
        Or = "or",
        And = "and",
        Unless = "unless",
        Add = "+",
        Sub = "-",
        Mul = "*",
        Div = "/",
        Mod = "%",
        Pow = "^",
        Equal = "==",
        NotEqual = "!=",
        Greater = ">",
        GreaterEqual = ">=",
        Less = "<",
        LessEqual = "<=",
    }
}

impl BinaryOp {
    /// `and`, `or`, `unless`.
    pub fn is_set(self) -> bool {
        matches!(self, Self::Or | Self::And | Self::Unless)
    }

    /// How tightly it binds; 1 is the loosest.
    pub fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And | Self::Unless => 2,
            op if op.is_comparison() => 3,
            Self::Add | Self::Sub => 4,
            Self::Mul | Self::Div | Self::Mod => 5,
            _ => 6,
        }
    }

    /// `==`, `<` and their kind.
    pub fn is_comparison(self) -> bool {
        use BinaryOp::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
        matches!(self, Equal | NotEqual | Greater | GreaterEqual | Less | LessEqual)
    }
}

impl RangeOp {
    /// Whether it may have `by` and `without` of its own.
    pub fn may_group(self) -> bool {
        use RangeOp::{Avg, First, Last, Max, Min, Quantile, Stddev, Stdvar};
        matches!(self, Avg | Stddev | Stdvar | Quantile | Max | Min | First | Last)
    }

    /// Whether it can be computed of unwrapped values.
    pub fn takes_values(self) -> bool {
        !matches!(self, Self::Count | Self::Bytes | Self::BytesRate)
    }

    /// Whether it can be computed of lines.
    pub fn takes_lines(self) -> bool {
        use RangeOp::{Absent, Bytes, BytesRate, Count, Rate};
        matches!(self, Bytes | BytesRate | Count | Rate | Absent)
    }
}

impl VectorOp {
    /// Whether it has a first argument, a count.
    pub fn has_param(self) -> bool {
        matches!(self, Self::Bottomk | Self::Topk | Self::ApproxTopk)
    }
}

impl LineOp {
    /// The sign in the language.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Contains => "|=",
            Self::ContainsNot => "!=",
            Self::Matches => "|~",
            Self::MatchesNot => "!~",
            Self::Pattern => "|>",
            Self::PatternNot => "!>",
        }
    }

    /// Whether lines that match are left out.
    pub fn is_negative(self) -> bool {
        matches!(self, Self::ContainsNot | Self::MatchesNot | Self::PatternNot)
    }
}
