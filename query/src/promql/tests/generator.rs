//! Random trees that a text could have led to: parentheses stand wherever the text needs them.

use model::{METRIC_NAME, MatchOp, Matcher};
use testkit::SeededRandom;

use crate::promql::parser::precedence;
use crate::promql::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Call, Cardinality, Duration, DurationExpr,
    DurationOp, Edges, Expr, ExprKind, FUNCTIONS, Function, Matching, MatrixSelector, Number, Sign,
    Span, StringLiteral, Subquery, ValueType, Variadic, VectorSelector,
};

/// Makes trees.
pub(super) struct Generator {
    random: SeededRandom,
    /// Whether to use what came after Prometheus 3.5.
    newest: bool,
}

const NAMES: [&str; 12] = [
    "up",
    "job:rate5m",
    "sum",
    "by",
    "offset",
    "start",
    "end",
    "unless",
    "group",
    "A_b9",
    "_",
    "http_requests_total",
];
const LABELS: [&str; 10] =
    ["job", "le", "by", "on", "bool", "a label", "é", "__name__x", "dots.and-dashes", "\"q\"\n"];
const VALUES: [&str; 6] = ["x", "", "a\\b\"c", "line\nline", "é😀", "a.*b|c"];
const ARITHMETIC: [BinaryOp; 7] = [
    BinaryOp::Add,
    BinaryOp::Sub,
    BinaryOp::Mul,
    BinaryOp::Div,
    BinaryOp::Mod,
    BinaryOp::Pow,
    BinaryOp::Atan2,
];
const COMPARISONS: [BinaryOp; 6] = [
    BinaryOp::Equal,
    BinaryOp::NotEqual,
    BinaryOp::Less,
    BinaryOp::LessEqual,
    BinaryOp::Greater,
    BinaryOp::GreaterEqual,
];
const SETS: [BinaryOp; 3] = [BinaryOp::And, BinaryOp::Or, BinaryOp::Unless];
const AGGREGATIONS: [AggregateOp; 8] = [
    AggregateOp::Sum,
    AggregateOp::Avg,
    AggregateOp::Count,
    AggregateOp::Group,
    AggregateOp::Topk,
    AggregateOp::Quantile,
    AggregateOp::CountValues,
    AggregateOp::Limitk,
];

fn expr(kind: ExprKind) -> Expr {
    Expr { kind, span: Span::default() }
}

fn paren(inner: Expr) -> Expr {
    expr(ExprKind::Paren(Box::new(inner)))
}

impl Generator {
    pub(super) fn new(seed: u64, newest: bool) -> Self {
        Self { random: SeededRandom::new(seed), newest }
    }

    fn below(&self, bound: usize) -> usize {
        self.random.below(bound as u64) as usize
    }

    fn one<T: Copy>(&self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// A tree of any type.
    pub(super) fn any(&self, levels: usize) -> Expr {
        self.of_type(
            self.one(&[ValueType::Vector, ValueType::Vector, ValueType::Scalar, ValueType::Matrix]),
            levels,
        )
    }

    fn of_type(&self, wanted: ValueType, levels: usize) -> Expr {
        match wanted {
            ValueType::Scalar => self.scalar(levels),
            ValueType::Vector => self.vector(levels),
            ValueType::Matrix => self.matrix(levels),
            ValueType::String => {
                let bytes = self.one(&VALUES).as_bytes().to_vec();
                expr(ExprKind::String(StringLiteral { bytes }))
            }
        }
    }

    fn number(&self) -> Number {
        let value =
            self.one(&[0.0, 1.0, -2.5, 1e21, 1e-9, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]);
        match self.random.chance(20) {
            true => Number { value: self.milliseconds() as f64 / 1000.0, duration: true },
            false => Number { value, duration: false },
        }
    }

    fn milliseconds(&self) -> u64 {
        let unit = self.one(&[1, 1000, 60_000, 3_600_000, 86_400_000, 604_800_000, 31_536_000_000]);
        unit * (1 + self.random.below(99))
    }

    fn scalar(&self, levels: usize) -> Expr {
        match self.below(5) {
            0 if levels > 0 => self.binary(ValueType::Scalar, ValueType::Scalar, levels - 1),
            1 if levels > 0 => paren(self.scalar(levels - 1)),
            2 if levels > 0 => self.unary(self.scalar(levels - 1)),
            3 if levels > 0 => self.call(ValueType::Scalar, levels - 1),
            _ => expr(ExprKind::Number(self.number())),
        }
    }

    fn vector(&self, levels: usize) -> Expr {
        match self.below(9) {
            0 | 1 if levels > 0 => self.binary(ValueType::Vector, ValueType::Vector, levels - 1),
            2 if levels > 0 => self.binary(ValueType::Vector, ValueType::Scalar, levels - 1),
            3 if levels > 0 => self.unary(self.vector(levels - 1)),
            4 if levels > 0 => paren(self.vector(levels - 1)),
            5 if levels > 0 => self.call(ValueType::Vector, levels - 1),
            6 if levels > 0 => self.aggregate(levels - 1),
            _ => expr(ExprKind::Vector(self.selector())),
        }
    }

    fn matrix(&self, levels: usize) -> Expr {
        if levels > 0 && self.random.chance(30) {
            let inner = match self.vector(levels - 1) {
                inner if matches!(inner.kind, ExprKind::Binary(_) | ExprKind::Unary(..)) => {
                    paren(inner)
                }
                inner => inner,
            };
            return expr(ExprKind::Subquery(Box::new(Subquery {
                expr: inner,
                range: self.range(),
                step: self.random.chance(50).then(|| self.range()),
                offset: self.offset(),
                at: self.at(),
            })));
        }
        let matrix = MatrixSelector {
            selector: self.selector(),
            selector_span: Span::default(),
            range: self.range(),
        };
        expr(ExprKind::Matrix(Box::new(matrix)))
    }

    fn unary(&self, operand: Expr) -> Expr {
        let loose = match &operand.kind {
            // A sign before a number becomes part of it.
            ExprKind::Number(_) => true,
            ExprKind::Binary(binary) => binary.op != BinaryOp::Pow,
            _ => false,
        };
        let sign = self.one(&[Sign::Minus, Sign::Plus]);
        expr(ExprKind::Unary(sign, Box::new(if loose { paren(operand) } else { operand })))
    }

    fn binary(&self, left: ValueType, right: ValueType, levels: usize) -> Expr {
        let vectors = left == ValueType::Vector && right == ValueType::Vector;
        let trim = self.newest && !vectors && left == ValueType::Vector && self.random.chance(20);
        let op = match self.below(3) {
            _ if trim => self.one(&[BinaryOp::TrimLower, BinaryOp::TrimUpper]),
            0 => self.one(&COMPARISONS),
            1 if vectors => self.one(&SETS),
            _ => self.one(&ARITHMETIC),
        };
        let both_scalar = left == ValueType::Scalar && right == ValueType::Scalar;
        let return_bool = op.is_comparison() && (both_scalar || self.random.chance(30));
        let (lhs, rhs) = (self.of_type(left, levels), self.of_type(right, levels));
        let tightness = |side: &Expr| match &side.kind {
            ExprKind::Binary(binary) => precedence(binary.op),
            ExprKind::Unary(..) => 5,
            ExprKind::Number(number) if number.value.is_sign_negative() => 5,
            _ => 9,
        };
        let own = precedence(op);
        let left_needs = own + u8::from(op == BinaryOp::Pow);
        let right_needs = own + u8::from(op != BinaryOp::Pow);
        let lhs = if tightness(&lhs) < left_needs { paren(lhs) } else { lhs };
        let rhs = match &rhs.kind {
            ExprKind::Binary(_) if tightness(&rhs) < right_needs => paren(rhs),
            _ => rhs,
        };
        let matching = vectors.then(|| self.matching(op));
        expr(ExprKind::Binary(Box::new(Binary {
            op,
            op_span: Span::default(),
            lhs,
            rhs,
            return_bool,
            matching,
        })))
    }

    fn matching(&self, op: BinaryOp) -> Matching {
        let mut matching =
            Matching { on: self.random.chance(50), labels: self.labels(), ..Default::default() };
        if op.is_set() {
            matching.cardinality = Cardinality::ManyToMany;
            return matching;
        }
        let cardinalities = [Cardinality::OneToOne, Cardinality::OneToMany, Cardinality::ManyToOne];
        matching.cardinality = self.one(&cardinalities);
        if matching.cardinality != Cardinality::OneToOne {
            matching.include = self
                .labels()
                .into_iter()
                .filter(|label| !matching.labels.contains(label))
                .collect();
        }
        if self.random.chance(20) {
            let values = [None, Some(0.0), Some(-1.5), Some(f64::INFINITY)];
            (matching.fill_left, matching.fill_right) = (self.one(&values), self.one(&values));
        }
        matching
    }

    fn labels(&self) -> Vec<String> {
        (0..self.below(3)).map(|_| self.one(&LABELS).to_owned()).collect()
    }

    fn aggregate(&self, levels: usize) -> Expr {
        let op = self.one(&AGGREGATIONS);
        let param = match op {
            AggregateOp::CountValues => Some(self.of_type(ValueType::String, levels)),
            op => op.has_param().then(|| self.scalar(levels)),
        };
        let (grouping, without) = (self.labels(), self.random.chance(30));
        let aggregate = Aggregate { op, expr: self.vector(levels), param, grouping, without };
        expr(ExprKind::Aggregate(Box::new(aggregate)))
    }

    fn call(&self, returns: ValueType, levels: usize) -> Expr {
        let fits = |f: &&Function| {
            f.returns == returns && (self.newest || !f.experimental) && f.name != "info"
        };
        let all: Vec<&'static Function> = FUNCTIONS.iter().filter(fits).collect();
        let func = self.one(&all);
        let count = match func.variadic {
            Variadic::No => func.args.len(),
            _ => func.args.len() - self.below(2),
        };
        let args =
            func.args.iter().take(count).map(|wanted| self.of_type(*wanted, levels)).collect();
        expr(ExprKind::Call(Call { func, args }))
    }

    fn selector(&self) -> VectorSelector {
        let name = self.random.chance(80).then(|| self.one(&NAMES).to_owned());
        let mut matchers: Vec<Matcher> = (0..self.below(3)).map(|_| self.matcher()).collect();
        matchers.push(match &name {
            Some(name) => Matcher::equal(METRIC_NAME, name.as_str()),
            None => Matcher::equal("never empty", "x"),
        });
        let edges = match self.below(10) {
            0 if self.newest => Edges::Anchored,
            1 if self.newest => Edges::Smoothed,
            _ => Edges::Plain,
        };
        VectorSelector { name, matchers, offset: self.offset(), at: self.at(), edges }
    }

    fn matcher(&self) -> Matcher {
        // Few patterns: unoptimised, each takes longer to compile than all else to parse.
        let op = match self.below(20) {
            0 => MatchOp::Regex,
            1 => MatchOp::NotRegex,
            n if n % 2 == 0 => MatchOp::Equal,
            _ => MatchOp::NotEqual,
        };
        let value = match op {
            MatchOp::Regex | MatchOp::NotRegex => "a.*b|c",
            _ => self.one(&VALUES),
        };
        Matcher::new(op, self.one(&LABELS), value).expect("valid pattern")
    }

    fn at(&self) -> Option<At> {
        match self.below(8) {
            0 => Some(At::Start),
            1 => Some(At::End),
            2 => Some(At::Timestamp(self.random.below(1 << 45) as i64 - (1 << 44))),
            _ => None,
        }
    }

    fn offset(&self) -> Option<Duration> {
        let span = Span::default();
        match self.below(6) {
            0 => Some(Duration { expr: self.literal(), span }),
            1 => {
                let DurationExpr::Literal(number) = self.literal() else { return None };
                let negative = Number { value: -number.value, ..number };
                Some(Duration { expr: DurationExpr::Literal(negative), span })
            }
            // Not in parentheses: what follows would be taken for a part of it.
            2 if self.newest => {
                let inner = DurationExpr::Paren(Box::new(self.duration(2)));
                Some(Duration { expr: DurationExpr::Negative(Box::new(inner)), span })
            }
            3 if self.newest => Some(Duration { expr: DurationExpr::Step, span }),
            _ => None,
        }
    }

    fn literal(&self) -> DurationExpr {
        DurationExpr::Literal(Number { value: self.milliseconds() as f64 / 1000.0, duration: true })
    }

    fn range(&self) -> Duration {
        let expr = match self.newest && self.random.chance(40) {
            true => self.duration(3),
            false => self.literal(),
        };
        Duration { expr, span: Span::default() }
    }

    fn duration(&self, levels: usize) -> DurationExpr {
        let wrapped = |levels| match self.duration(levels) {
            inner @ (DurationExpr::Paren(_) | DurationExpr::Literal(_) | DurationExpr::Step) => {
                inner
            }
            inner => DurationExpr::Paren(Box::new(inner)),
        };
        match self.below(6) {
            0 if levels > 0 => DurationExpr::Negative(Box::new(match wrapped(levels - 1) {
                literal @ DurationExpr::Literal(_) => DurationExpr::Paren(Box::new(literal)),
                inner => inner,
            })),
            1 | 2 if levels > 0 => {
                let ops = [
                    DurationOp::Add,
                    DurationOp::Sub,
                    DurationOp::Mul,
                    DurationOp::Div,
                    DurationOp::Mod,
                ];
                let (lhs, rhs) = (Box::new(wrapped(levels - 1)), Box::new(wrapped(levels - 1)));
                DurationExpr::Binary { op: self.one(&ops), lhs, rhs }
            }
            3 if levels > 0 => {
                let op = self.one(&[DurationOp::MinOf, DurationOp::MaxOf]);
                let (lhs, rhs) =
                    (Box::new(self.duration(levels - 1)), Box::new(self.duration(levels - 1)));
                DurationExpr::Binary { op, lhs, rhs }
            }
            4 => DurationExpr::Step,
            _ => self.literal(),
        }
    }
}
