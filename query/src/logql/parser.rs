//! Tokens to tree: what every part of the language needs, and expressions of numbers. Operators
//! are read by precedence (Pratt).

mod labels;
mod pipeline;
mod ranges;

use model::{Matcher, PatternBudget};

use super::ast::{
    Aggregation, At, Binary, BinaryOp, Expr, GroupSide, Grouping, LabelReplace, Matching,
    MetricExpr, MetricKind, Variants, VectorOp,
};
use super::check;
use super::error::{Fallible, ParseError};
use super::lexer::Lexer;
use super::token::{Kind, Token};
use super::{DEPTH_MAX, PARTS_MAX, TEXT_BYTES_MAX};
use crate::promql::literals;

/// The state of one parse.
#[derive(Debug)]
pub(super) struct Parser<'t> {
    text: &'t str,
    lexer: Lexer<'t>,
    /// Read, but not yet used.
    ahead: Option<Token>,
    /// Calls of [`Self::descend`] that are under way.
    depth: usize,
    parts: usize,
    /// What the regular expressions may still cost.
    patterns: PatternBudget,
    /// The first thing that reads well but cannot be: told once the text is read, as Loki does.
    meaningless: Option<Box<ParseError>>,
}

/// A finished expression and the levels of its tree. On the heap: the functions between two
/// levels of nesting hold several of them, and the stack is what limits the levels.
#[derive(Debug)]
struct Built {
    expr: Box<Expr>,
    height: usize,
}

/// What stands between a binary operator and its right side.
#[derive(Debug, Default)]
struct Modifiers {
    return_bool: bool,
    matching: Option<Matching>,
}

impl<'t> Parser<'t> {
    pub(super) fn new(text: &'t str) -> Fallible<Self> {
        if text.len() > TEXT_BYTES_MAX {
            let length = text.len();
            let message = format!("input size too long ({length} > {TEXT_BYTES_MAX})");
            return Err(ParseError::meaning(message));
        }
        Ok(Self {
            text,
            lexer: Lexer::new(text),
            ahead: None,
            depth: 0,
            parts: 0,
            patterns: PatternBudget::default(),
            meaningless: None,
        })
    }

    /// The whole text as a query.
    pub(super) fn query(&mut self) -> Fallible<Expr> {
        let built = self.expression(0)?;
        self.end()?;
        match self.meaningless.take() {
            Some(error) => Err(error),
            None => Ok(*built.expr),
        }
    }

    /// The whole text as a selector.
    pub(super) fn matchers_only(&mut self, budget: &mut PatternBudget) -> Fallible<Vec<Matcher>> {
        self.patterns = *budget;
        let matchers = self.selector()?;
        self.end()?;
        *budget = self.patterns;
        Ok(matchers)
    }

    fn end(&mut self) -> Fallible<()> {
        let after = self.peek()?;
        match after.kind {
            Kind::Eof => Ok(()),
            _ => Err(self.unexpected(after, &[])),
        }
    }

    fn peek(&mut self) -> Fallible<Token> {
        if let Some(token) = self.ahead {
            return Ok(token);
        }
        let token = self.lexer.next()?;
        self.ahead = Some(token);
        Ok(token)
    }

    /// The token after the next one, for the two places that Loki's parser, which builds from the
    /// bottom, decides later.
    fn peek_second(&mut self) -> Fallible<Kind> {
        self.peek()?;
        self.lexer.clone().next().map(|token| token.kind)
    }

    fn advance(&mut self) -> Fallible<Token> {
        let token = self.peek()?;
        self.ahead = None;
        Ok(token)
    }

    /// Uses the next token if it is of that kind.
    fn accept(&mut self, kind: Kind) -> Fallible<bool> {
        let found = self.peek()?.kind == kind;
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    /// Uses the next token, which must be of that kind; if not, the message lists what may stand
    /// here: Loki's does up to four.
    fn expect(&mut self, kind: Kind, expected: &[&str]) -> Fallible<Token> {
        let token = self.peek()?;
        match token.kind == kind {
            true => self.advance(),
            false => Err(self.unexpected(token, expected)),
        }
    }

    fn word(&self, token: Token) -> &'t str {
        &self.text[token.start..token.end]
    }

    fn unexpected(&self, token: Token, expected: &[&str]) -> Box<ParseError> {
        let mut message = format!("syntax error: unexpected {}", token.kind.name());
        if !expected.is_empty() {
            message = format!("{message}, expecting {}", expected.join(" or "));
        }
        let mut error = ParseError::at(self.text, token.start, message);
        if let Some(place) = error.place.as_mut().filter(|_| token.lost_line) {
            place.line = 0;
        }
        error
    }

    /// Keeps the first of what is wrong with the meaning.
    fn refuse(&mut self, message: impl Into<String>) {
        if self.meaningless.is_none() {
            self.meaningless = Some(ParseError::meaning(message));
        }
    }

    /// One level down, as long as there is stack for it. Whoever calls it steps up again, unless
    /// the parse is over.
    fn descend(&mut self) -> Fallible<()> {
        if self.depth >= DEPTH_MAX {
            return Err(self.too_deep());
        }
        self.depth += 1;
        Ok(())
    }

    fn too_deep(&mut self) -> Box<ParseError> {
        let at = self.ahead.map_or(self.text.len(), |token| token.start);
        let message =
            format!("the expression has more than {DEPTH_MAX} levels, chained operators included");
        ParseError::at(self.text, at, message)
    }

    /// Counts a part of the tree of that many levels.
    fn count_part(&mut self, height: usize) -> Fallible<()> {
        self.parts += 1;
        if height > DEPTH_MAX {
            return Err(self.too_deep());
        }
        if self.parts > PARTS_MAX {
            let message = format!("the expression has more than {PARTS_MAX} parts");
            return Err(ParseError::meaning(message));
        }
        Ok(())
    }

    fn metric(&mut self, kind: MetricKind, at: usize, height_below: usize) -> Fallible<Built> {
        let height = height_below + 1;
        self.count_part(height)?;
        let expr = Box::new(Expr::Metric(MetricExpr { kind, at: At(at) }));
        Ok(Built { expr, height })
    }

    /// The text of a string token. A value that is not UTF-8 no line or label could be compared
    /// with as text.
    fn string(&mut self, expected: &[&str]) -> Fallible<String> {
        let token = self.expect(Kind::String, expected)?;
        String::from_utf8(literals::unquote(self.word(token))).map_err(|_| {
            ParseError::at(self.text, token.start, "a string must be UTF-8, also after its escapes")
        })
    }

    fn identifier(&mut self, expected: &[&str]) -> Fallible<String> {
        let token = self.expect(Kind::Identifier, expected)?;
        Ok(self.word(token).to_owned())
    }

    // Between two levels of nesting stand `expression`, `operation` and one more. Unlike other
    // functions these are cut so that each holds little on the stack.

    /// An expression whose operators bind at least as tightly as `floor`.
    fn expression(&mut self, floor: u8) -> Fallible<Built> {
        self.descend()?;
        let mut left = self.operand()?;
        while let Some((op, at)) = self.operator(floor)? {
            left = self.operation(left, op, at)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    /// Uses an operator that binds at least as tightly as `floor`, if that is what comes.
    fn operator(&mut self, floor: u8) -> Fallible<Option<(BinaryOp, usize)>> {
        let token = self.peek()?;
        match token.kind {
            Kind::Op(op) if op.precedence() >= floor => {
                self.advance()?;
                Ok(Some((op, token.start)))
            }
            _ => Ok(None),
        }
    }

    fn operation(&mut self, left: Built, op: BinaryOp, at: usize) -> Fallible<Built> {
        let modifiers = Box::new(self.modifiers()?);
        // `^` groups from the right.
        let right = self.expression(op.precedence() + u8::from(op != BinaryOp::Pow))?;
        self.binary(left, op, at, *modifiers, right)
    }

    fn binary(
        &mut self,
        left: Built,
        op: BinaryOp,
        at: usize,
        modifiers: Modifiers,
        right: Built,
    ) -> Fallible<Built> {
        let height = left.height.max(right.height);
        let lhs = self.leg(*left.expr, op, "left");
        let rhs = self.leg(*right.expr, op, "right");
        if let (MetricKind::Literal(left), MetricKind::Literal(right)) = (&lhs.kind, &rhs.kind)
            && !op.is_set()
        {
            return self.metric(MetricKind::Literal(check::fold(op, *left, *right)), at, 0);
        }
        let Modifiers { return_bool, matching } = modifiers;
        let binary = Binary { op, lhs, rhs, return_bool, matching };
        self.metric(MetricKind::Binary(Box::new(binary)), at, height)
    }

    /// A side of an operation, which must give numbers.
    fn leg(&mut self, expr: Expr, op: BinaryOp, side: &str) -> MetricExpr {
        let sign = op.as_str();
        match expr {
            Expr::Metric(expr) => {
                if let (MetricKind::Literal(value), true) = (&expr.kind, op.is_set()) {
                    self.refuse(format!(
                        "unexpected literal for {side} leg of logical/set binary operation ({sign}): {value:.6}"
                    ));
                }
                expr
            }
            Expr::Log(lines) => {
                let found = if lines.stages.is_empty() { "Matchers" } else { "Pipeline" };
                self.refuse(format!(
                    "unexpected type for {side} leg of binary operation ({sign}): *syntax.{found}Expr"
                ));
                // Stands in for what is refused.
                MetricExpr { kind: MetricKind::Vector(0.0), at: At::default() }
            }
        }
    }

    fn modifiers(&mut self) -> Fallible<Modifiers> {
        let mut modifiers =
            Modifiers { return_bool: self.accept(Kind::Bool)?, ..Modifiers::default() };
        let kind = self.peek()?.kind;
        if !matches!(kind, Kind::On | Kind::Ignoring) {
            return Ok(modifiers);
        }
        self.advance()?;
        let labels = self.label_list()?;
        let mut matching = Matching { on: kind == Kind::On, labels, group: None };
        let side = self.peek()?.kind;
        if matches!(side, Kind::GroupLeft | Kind::GroupRight) {
            self.advance()?;
            let include = match self.peek()?.kind {
                Kind::OpenParen => self.label_list()?,
                _ => Vec::new(),
            };
            matching.group = Some(GroupSide { left: side == Kind::GroupLeft, include });
        }
        modifiers.matching = Some(matching);
        Ok(modifiers)
    }

    /// `(a, b)` or `()`.
    fn label_list(&mut self) -> Fallible<Vec<String>> {
        self.expect(Kind::OpenParen, &["("])?;
        let mut labels = Vec::new();
        if self.accept(Kind::CloseParen)? {
            return Ok(labels);
        }
        labels.push(self.identifier(&["IDENTIFIER", ")"])?);
        while self.accept(Kind::Comma)? {
            labels.push(self.identifier(&["IDENTIFIER"])?);
        }
        self.expect(Kind::CloseParen, &[")", ","])?;
        Ok(labels)
    }

    /// `by (…)`, `without (…)` or nothing.
    fn grouping(&mut self) -> Fallible<Option<Grouping>> {
        let kind = self.peek()?.kind;
        if !matches!(kind, Kind::By | Kind::Without) {
            return Ok(None);
        }
        self.advance()?;
        Ok(Some(Grouping { labels: self.label_list()?, without: kind == Kind::Without }))
    }

    fn operand(&mut self) -> Fallible<Built> {
        let token = self.peek()?;
        match token.kind {
            Kind::OpenBrace => self.lines(),
            Kind::OpenParen => self.parenthesised(),
            Kind::Number | Kind::Op(BinaryOp::Add | BinaryOp::Sub) => {
                let value = self.signed_number()?;
                self.metric(MetricKind::Literal(value), token.start, 0)
            }
            Kind::RangeOp(op) => self.range_aggregation(op),
            Kind::VectorOp(op) => self.aggregation(op),
            Kind::LabelReplace => self.label_replace(),
            Kind::Vector => self.vector(),
            Kind::Variants => self.variants(),
            _ => Err(self.unexpected(token, &[])),
        }
    }

    fn lines(&mut self) -> Fallible<Built> {
        let lines = self.log_expr()?;
        Ok(Built { expr: Box::new(Expr::Log(lines)), height: 1 })
    }

    fn parenthesised(&mut self) -> Fallible<Built> {
        self.advance()?;
        let inner = self.expression(0)?;
        self.expect(Kind::CloseParen, &[])?;
        Ok(inner)
    }

    fn signed_number(&mut self) -> Fallible<f64> {
        let sign = match self.peek()?.kind {
            Kind::Op(BinaryOp::Add) => 1.0,
            Kind::Op(BinaryOp::Sub) => -1.0,
            _ => return self.number(&[]),
        };
        self.advance()?;
        Ok(sign * self.number(&["NUMBER"])?)
    }

    fn number(&mut self, expected: &[&str]) -> Fallible<f64> {
        let token = self.expect(Kind::Number, expected)?;
        let text = self.word(token);
        let invalid = |reason: &str| {
            let quoted = literals::quote(text.as_bytes());
            ParseError::meaning(format!(
                "unable to parse literal as a float: strconv.ParseFloat: parsing {quoted}: {reason}"
            ))
        };
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            Ok(_) => Err(invalid("value out of range")),
            Err(_) => Err(invalid("invalid syntax")),
        }
    }

    /// An expression that must give numbers: after one that gives lines, whatever comes is wrong.
    fn metric_expr(&mut self) -> Fallible<(MetricExpr, usize)> {
        let built = self.expression(0)?;
        match *built.expr {
            Expr::Metric(expr) => Ok((expr, built.height)),
            Expr::Log(_) => {
                let after = self.peek()?;
                Err(self.unexpected(after, &[]))
            }
        }
    }

    fn aggregation(&mut self, op: VectorOp) -> Fallible<Built> {
        let start = self.advance()?.start;
        let before = self.grouping()?;
        self.expect(Kind::OpenParen, &[])?;
        let param = self.first_argument(op)?;
        let (expr, height) = self.metric_expr()?;
        self.expect(Kind::CloseParen, &[])?;
        let grouping = match before {
            Some(grouping) => Some(grouping),
            None => self.grouping()?,
        };
        let sorts = matches!(op, VectorOp::Sort | VectorOp::SortDesc);
        if sorts && grouping.as_ref().is_some_and(|g| g.without || !g.labels.is_empty()) {
            self.refuse("sort and sort_desc doesn't allow grouping by ");
        }
        if op == VectorOp::ApproxTopk && grouping.is_some() {
            self.refuse("grouping not allowed for approx_topk aggregation");
        }
        let grouping = grouping.unwrap_or_default();
        let aggregation = Aggregation { op, param, expr, grouping };
        self.metric(MetricKind::Aggregate(Box::new(aggregation)), start, height)
    }

    /// `5,`: the first argument of `topk` and its kind.
    fn first_argument(&mut self, op: VectorOp) -> Fallible<Option<u64>> {
        let name = op.as_str();
        let token = self.peek()?;
        if token.kind != Kind::Number || self.peek_second()? != Kind::Comma {
            if op.has_param() {
                self.refuse(format!("parameter required for operation {name}"));
            }
            return Ok(None);
        }
        self.advance()?;
        self.advance()?;
        let text = self.word(token);
        if !op.has_param() {
            self.refuse(format!("unsupported parameter for operation {name}({text},"));
            return Ok(None);
        }
        match text.parse::<i64>().map(u64::try_from) {
            Ok(Ok(count)) if count > 0 => return Ok(Some(count)),
            Ok(_) => {
                self.refuse(format!("invalid parameter (must be greater than 0) {name}({text}"));
            }
            Err(_) => self.refuse(format!("invalid parameter {name}({text},")),
        }
        Ok(None)
    }

    fn label_replace(&mut self) -> Fallible<Built> {
        let start = self.advance()?.start;
        self.expect(Kind::OpenParen, &["("])?;
        let (expr, height) = self.metric_expr()?;
        self.expect(Kind::Comma, &[])?;
        let dst = self.string(&["STRING"])?;
        self.expect(Kind::Comma, &[","])?;
        let replacement = self.string(&["STRING"])?;
        self.expect(Kind::Comma, &[","])?;
        let src = self.string(&["STRING"])?;
        self.expect(Kind::Comma, &[","])?;
        let regex = self.string(&["STRING"])?;
        self.expect(Kind::CloseParen, &[")"])?;
        if let Err(reason) = check::whole_regex(&regex, &mut self.patterns) {
            self.refuse(format!("invalid regex in label_replace: {reason}"));
        }
        let replace = LabelReplace { expr, dst, replacement, src, regex };
        self.metric(MetricKind::LabelReplace(Box::new(replace)), start, height)
    }

    fn vector(&mut self) -> Fallible<Built> {
        let start = self.advance()?.start;
        self.expect(Kind::OpenParen, &["("])?;
        let value = self.number(&["NUMBER"])?;
        self.expect(Kind::CloseParen, &[")"])?;
        self.metric(MetricKind::Vector(value), start, 0)
    }

    /// `variants(a, b) of (range)`. `of` is a word of the language only here.
    fn variants(&mut self) -> Fallible<Built> {
        let start = self.advance()?.start;
        self.expect(Kind::OpenParen, &["("])?;
        let (mut variants, mut height) = (Vec::new(), 0);
        loop {
            let (variant, variant_height) = self.metric_expr()?;
            variants.push(variant);
            height = height.max(variant_height);
            if !self.accept(Kind::Comma)? {
                break;
            }
        }
        self.expect(Kind::CloseParen, &[])?;
        let of = self.expect(Kind::Identifier, &["of"])?;
        if !self.word(of).eq_ignore_ascii_case("of") {
            return Err(self.unexpected(of, &["of"]));
        }
        self.expect(Kind::OpenParen, &["("])?;
        let of = self.log_range()?;
        self.expect(Kind::CloseParen, &[")"])?;
        let variants = Variants { variants, of };
        self.metric(MetricKind::Variants(Box::new(variants)), start, height)
    }
}
