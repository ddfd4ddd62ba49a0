//! Tokens to tree: operators by precedence climbing, everything else by recursive descent.
//!
//! The first error ends the work. Which error that is, and how it is worded, follows Prometheus'
//! grammar: inside an aggregation's parentheses an unexpected token is "in aggregation", and so on.

mod durations;
mod modifiers;
mod selectors;

use model::Matcher;

use super::ast::{
    Aggregate, AggregateOp, Binary, BinaryOp, Call, Cardinality, Expr, ExprKind, Matching, Number,
    Sign, Span, StringLiteral,
};
use super::error::ParseError;
use super::functions::function;
use super::lexer::Lexer;
use super::token::{Kind, Token, describe};
use super::{DEPTH_MAX, Features, NODES_MAX, TEXT_BYTES_MAX, check, literals};

/// The state of one parse.
#[derive(Debug)]
pub(super) struct Parser<'t> {
    text: &'t str,
    lexer: Lexer<'t>,
    /// Read, but not yet used: Prometheus' parser, too, looks ahead by at most one.
    ahead: Option<Token>,
    features: Features,
    /// The end of the last token that was used.
    used_to: usize,
    /// Calls of [`Self::deeper`] that are under way.
    depth: usize,
    nodes: usize,
    patterns: usize,
    /// Aggregations whose arguments are being read.
    aggregations: usize,
}

/// A finished node and the levels under it, itself included.
#[derive(Debug)]
struct Built {
    expr: Expr,
    height: usize,
}

/// What stands between a binary operator and its right side.
#[derive(Debug, Default)]
struct BinaryModifiers {
    return_bool: bool,
    matching: Matching,
}

impl<'t> Parser<'t> {
    pub(super) fn new(text: &'t str, features: Features) -> Result<Self, ParseError> {
        if text.len() > TEXT_BYTES_MAX {
            let message = format!(
                "the query is {} bytes long, at most {TEXT_BYTES_MAX} are allowed",
                text.len()
            );
            return Err(ParseError::new(text, Span { start: 0, end: text.len() }, message));
        }
        Ok(Self {
            text,
            lexer: Lexer::new(text),
            ahead: None,
            features,
            used_to: 0,
            depth: 0,
            nodes: 0,
            patterns: 0,
            aggregations: 0,
        })
    }

    /// The whole text as an expression.
    pub(super) fn query(&mut self) -> Result<Expr, ParseError> {
        if self.peek()?.kind == Kind::Eof {
            return Err(self.error(Span::default(), "no expression found in input"));
        }
        let mut built = self.expression(0)?;
        let after = self.peek()?;
        if after.kind != Kind::Eof {
            return Err(self.unexpected(after, "", ""));
        }
        check::check(&mut built.expr, self.text)?;
        Ok(built.expr)
    }

    /// The whole text as a vector selector's matchers. They may all match the empty value.
    pub(super) fn matchers_only(&mut self) -> Result<Vec<Matcher>, ParseError> {
        let first = self.peek()?;
        if first.kind != Kind::LeftBrace && !first.kind.is_metric_name() {
            return Err(self.unexpected(first, "", ""));
        }
        let name = match first.kind {
            Kind::LeftBrace => None,
            _ => Some(self.advance()?.span),
        };
        let (selector, _) = self.vector_selector(name)?;
        let after = self.peek()?;
        match after.kind {
            Kind::Eof => Ok(selector.matchers),
            _ => Err(self.unexpected(after, "", "")),
        }
    }

    fn peek(&mut self) -> Result<Token, ParseError> {
        if let Some(token) = self.ahead {
            return Ok(token);
        }
        let token = self.lexer.next()?;
        self.ahead = Some(token);
        Ok(token)
    }

    fn advance(&mut self) -> Result<Token, ParseError> {
        let token = self.peek()?;
        self.ahead = None;
        self.used_to = token.span.end;
        Ok(token)
    }

    /// Uses the next token if it is of that kind.
    fn accept(&mut self, kind: Kind) -> Result<bool, ParseError> {
        let found = self.peek()?.kind == kind;
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn word(&self, span: Span) -> &'t str {
        &self.text[span.start..span.end]
    }

    fn error(&self, span: Span, message: impl Into<String>) -> ParseError {
        ParseError::new(self.text, span, message)
    }

    fn unexpected(&self, token: Token, context: &str, expected: &str) -> ParseError {
        let mut message = format!("unexpected {}", describe(token, self.text));
        if !context.is_empty() {
            message = format!("{message} in {context}");
        }
        if !expected.is_empty() {
            message = format!("{message}, expected {expected}");
        }
        self.error(token.span, message)
    }

    /// A token that nothing more precise can be said about.
    fn misplaced(&self, token: Token) -> ParseError {
        self.unexpected(token, if self.aggregations > 0 { "aggregation" } else { "" }, "")
    }

    fn too_deep(&self, span: Span) -> ParseError {
        let message =
            format!("the expression has more than {DEPTH_MAX} levels, chained operators included");
        self.error(span, message)
    }

    /// Does something that may come back here, as long as there is stack for it.
    fn deeper<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, ParseError>,
    ) -> Result<T, ParseError> {
        if self.depth >= DEPTH_MAX {
            let span = self.peek()?.span;
            return Err(self.too_deep(span));
        }
        self.depth += 1;
        let done = work(self);
        self.depth -= 1;
        done
    }

    /// A node over the highest of the nodes under it, within the bounds.
    fn build(
        &mut self,
        kind: ExprKind,
        span: Span,
        height_below: usize,
    ) -> Result<Built, ParseError> {
        self.nodes += 1;
        let height = height_below + 1;
        if height > DEPTH_MAX {
            return Err(self.too_deep(span));
        }
        if self.nodes > NODES_MAX {
            return Err(self.error(span, format!("the expression has more than {NODES_MAX} parts")));
        }
        Ok(Built { expr: Expr { kind, span }, height })
    }

    /// An expression whose operators bind at least as tightly as `floor`.
    fn expression(&mut self, floor: u8) -> Result<Built, ParseError> {
        let mut left = self.deeper(Self::operand)?;
        loop {
            let token = self.peek()?;
            let Kind::Op(op) = token.kind else { return Ok(left) };
            if precedence(op) < floor {
                return Ok(left);
            }
            self.advance()?;
            let modifiers = self.binary_modifiers()?;
            let right_floor = if op == BinaryOp::Pow { precedence(op) } else { precedence(op) + 1 };
            let right = self.deeper(|parser| parser.expression(right_floor))?;
            left = self.binary(left, op, token.span, modifiers, right)?;
        }
    }

    fn binary(
        &mut self,
        left: Built,
        op: BinaryOp,
        op_span: Span,
        modifiers: BinaryModifiers,
        right: Built,
    ) -> Result<Built, ParseError> {
        let span = Span { start: left.expr.span.start, end: right.expr.span.end };
        let BinaryModifiers { return_bool, matching } = modifiers;
        if !self.features.fill_modifiers
            && (matching.fill_left.is_some() || matching.fill_right.is_some())
        {
            return Err(self.error(span, "binop fill modifiers are experimental and not enabled"));
        }
        let height = left.height.max(right.height);
        let binary = Binary {
            op,
            op_span,
            lhs: left.expr,
            rhs: right.expr,
            return_bool,
            matching: Some(matching),
        };
        self.build(ExprKind::Binary(Box::new(binary)), span, height)
    }

    fn binary_modifiers(&mut self) -> Result<BinaryModifiers, ParseError> {
        let mut modifiers =
            BinaryModifiers { return_bool: self.accept(Kind::Bool)?, ..Default::default() };
        let matching = &mut modifiers.matching;
        let kind = self.peek()?.kind;
        if matches!(kind, Kind::On | Kind::Ignoring) {
            self.advance()?;
            matching.on = kind == Kind::On;
            matching.labels = self.grouping_labels()?;
            matching.cardinality = match self.peek()?.kind {
                Kind::GroupLeft => Cardinality::ManyToOne,
                Kind::GroupRight => Cardinality::OneToMany,
                _ => Cardinality::OneToOne,
            };
            if matching.cardinality != Cardinality::OneToOne {
                self.advance()?;
                if self.peek()?.kind == Kind::LeftParen {
                    matching.include = self.grouping_labels()?;
                }
            }
        }
        self.fill_modifiers(matching)?;
        Ok(modifiers)
    }

    /// `fill (v)`, or `fill_left (v)` and `fill_right (v)` in any order, each at most once.
    fn fill_modifiers(&mut self, matching: &mut Matching) -> Result<(), ParseError> {
        if self.accept(Kind::Fill)? {
            let value = Some(self.fill_value()?);
            (matching.fill_left, matching.fill_right) = (value, value);
            return Ok(());
        }
        loop {
            match self.peek()?.kind {
                Kind::FillLeft if matching.fill_left.is_none() => {
                    self.advance()?;
                    matching.fill_left = Some(self.fill_value()?);
                }
                Kind::FillRight if matching.fill_right.is_none() => {
                    self.advance()?;
                    matching.fill_right = Some(self.fill_value()?);
                }
                _ => return Ok(()),
            }
        }
    }

    fn fill_value(&mut self) -> Result<f64, ParseError> {
        self.expect(Kind::LeftParen)?;
        let sign = self.sign()?;
        let token = self.advance()?;
        if !matches!(token.kind, Kind::Number | Kind::Duration) {
            return Err(self.misplaced(token));
        }
        let value = self.number(token)?.value;
        self.expect(Kind::RightParen)?;
        Ok(if sign == Some(Sign::Minus) { -value } else { value })
    }

    fn expect(&mut self, kind: Kind) -> Result<Token, ParseError> {
        let token = self.peek()?;
        match token.kind == kind {
            true => self.advance(),
            false => Err(self.misplaced(token)),
        }
    }

    /// Uses a sign if there is one.
    fn sign(&mut self) -> Result<Option<Sign>, ParseError> {
        let sign = match self.peek()?.kind {
            Kind::Op(BinaryOp::Add) => Sign::Plus,
            Kind::Op(BinaryOp::Sub) => Sign::Minus,
            _ => return Ok(None),
        };
        self.advance()?;
        Ok(Some(sign))
    }

    /// The value of a number or duration token.
    fn number(&self, token: Token) -> Result<Number, ParseError> {
        let duration = token.kind == Kind::Duration;
        let read = if duration { literals::duration } else { literals::number };
        let value =
            read(self.word(token.span)).map_err(|message| self.error(token.span, message))?;
        Ok(Number { value, duration })
    }

    /// A sign and its operand, or an operand with what follows it (`[…]`, `offset`, `@`).
    fn operand(&mut self) -> Result<Built, ParseError> {
        let start = self.peek()?.span.start;
        let Some(sign) = self.sign()? else {
            let primary = self.primary()?;
            return self.modified(primary);
        };
        // Signs bind as tightly as `*`: `-a ^ b` is `-(a ^ b)`.
        let Built { mut expr, height } = self.expression(precedence(BinaryOp::Pow))?;
        if let ExprKind::Number(number) = &mut expr.kind {
            if sign == Sign::Minus {
                number.value = -number.value;
            }
            expr.span.start = start;
            return Ok(Built { expr, height });
        }
        let span = Span { start, end: expr.span.end };
        self.build(ExprKind::Unary(sign, Box::new(expr)), span, height)
    }

    fn primary(&mut self) -> Result<Built, ParseError> {
        let token = self.advance()?;
        match token.kind {
            Kind::Number | Kind::Duration => {
                let number = self.number(token)?;
                self.build(ExprKind::Number(number), token.span, 0)
            }
            Kind::String => {
                let bytes = literals::unquote(self.word(token.span));
                self.build(ExprKind::String(StringLiteral { bytes }), token.span, 0)
            }
            Kind::LeftParen => self.parenthesised(token),
            Kind::Aggregation(op) => match self.peek()?.kind {
                Kind::LeftParen | Kind::By | Kind::Without => self.aggregate(op, token),
                _ => self.named_selector(token),
            },
            kind if kind == Kind::Identifier || kind.is_function_keyword() => {
                match self.peek()?.kind {
                    Kind::LeftParen => self.call(token),
                    _ => self.named_selector(token),
                }
            }
            Kind::LeftBrace => {
                self.ahead = Some(token);
                let (selector, span) = self.vector_selector(None)?;
                self.build(ExprKind::Vector(selector), span, 0)
            }
            kind if kind.is_metric_name() => self.named_selector(token),
            _ => Err(self.misplaced(token)),
        }
    }

    fn named_selector(&mut self, name: Token) -> Result<Built, ParseError> {
        let (selector, span) = self.vector_selector(Some(name.span))?;
        self.build(ExprKind::Vector(selector), span, 0)
    }

    fn parenthesised(&mut self, open: Token) -> Result<Built, ParseError> {
        let inner = self.expression(0)?;
        let close = self.expect(Kind::RightParen)?;
        let span = Span { start: open.span.start, end: close.span.end };
        self.build(ExprKind::Paren(Box::new(inner.expr)), span, inner.height)
    }

    fn call(&mut self, name: Token) -> Result<Built, ParseError> {
        let (args, height) = self.arguments()?;
        let word = self.word(name.span);
        let func = match name.kind.is_function_keyword() {
            true => function(&word.to_ascii_lowercase()),
            false => function(word),
        };
        let quoted = literals::quote(word.as_bytes());
        let Some(func) = func else {
            return Err(self.error(name.span, format!("unknown function with name {quoted}")));
        };
        if func.experimental && !self.features.experimental_functions {
            return Err(self.error(name.span, format!("function {quoted} is not enabled")));
        }
        let span = Span { start: name.span.start, end: self.used_to };
        self.build(ExprKind::Call(Call { func, args }), span, height)
    }

    /// `(a, b)`, and the highest of them.
    fn arguments(&mut self) -> Result<(Vec<Expr>, usize), ParseError> {
        let (mut args, mut height) = (Vec::new(), 0);
        self.expect(Kind::LeftParen)?;
        if self.accept(Kind::RightParen)? {
            return Ok((args, height));
        }
        loop {
            let arg = self.expression(0)?;
            args.push(arg.expr);
            height = height.max(arg.height);
            let token = self.peek()?;
            if token.kind != Kind::Comma {
                self.expect(Kind::RightParen)?;
                return Ok((args, height));
            }
            self.advance()?;
            if !self.peek()?.kind.starts_expression() {
                return Err(
                    self.error(token.span, "trailing commas not allowed in function call args")
                );
            }
        }
    }

    fn aggregate(&mut self, op: AggregateOp, name: Token) -> Result<Built, ParseError> {
        self.aggregations += 1;
        let mut grouping = self.grouping()?;
        let (args, height) = self.arguments()?;
        self.aggregations -= 1;
        let mut end = self.used_to;
        if grouping.is_none() {
            grouping = self.grouping()?;
            end = self.used_to;
        }
        let (without, grouping) = grouping.unwrap_or_default();
        let span = Span { start: name.span.start, end };
        let (param, expr) = self.aggregate_arguments(op, span, args)?;
        let aggregate = Aggregate { op, expr, param, grouping, without };
        self.build(ExprKind::Aggregate(Box::new(aggregate)), span, height)
    }

    fn aggregate_arguments(
        &self,
        op: AggregateOp,
        span: Span,
        mut args: Vec<Expr>,
    ) -> Result<(Option<Expr>, Expr), ParseError> {
        if args.is_empty() {
            return Err(self.error(span, "no arguments for aggregate expression provided"));
        }
        if op.is_experimental() && !self.features.experimental_functions {
            let flag = "--enable-feature=promql-experimental-functions";
            let message =
                format!("{}() is experimental and must be enabled with {flag}", op.as_str());
            return Err(self.error(span, message));
        }
        let (wanted, found) = (1 + usize::from(op.has_param()), args.len());
        match (args.pop(), args.pop()) {
            (Some(expr), param) if wanted == found => Ok((param, expr)),
            _ => {
                let problem = "wrong number of arguments for aggregate expression provided";
                Err(self.error(span, format!("{problem}, expected {wanted}, got {found}")))
            }
        }
    }

    /// `by (…)` or `without (…)`, if there is one; `true` for the second.
    fn grouping(&mut self) -> Result<Option<(bool, Vec<String>)>, ParseError> {
        let kind = self.peek()?.kind;
        if !matches!(kind, Kind::By | Kind::Without) {
            return Ok(None);
        }
        self.advance()?;
        Ok(Some((kind == Kind::Without, self.grouping_labels()?)))
    }
}

/// How tightly an operator binds; 1 is the loosest.
pub(super) fn precedence(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 1,
        BinaryOp::And | BinaryOp::Unless => 2,
        op if op.is_comparison() => 3,
        BinaryOp::TrimLower | BinaryOp::TrimUpper => 3,
        BinaryOp::Add | BinaryOp::Sub => 4,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::Atan2 => 5,
        _ => 6,
    }
}
