//! Tokens to tree: operators by precedence climbing, everything else by recursive descent.
//!
//! The first error ends the work. Which error that is, and how it is worded, follows Prometheus'
//! grammar: inside an aggregation's parentheses an unexpected token is "in aggregation", and so on.

mod calls;
mod durations;
mod modifiers;
mod selectors;

use model::{Matcher, PatternBudget};

use super::ast::{
    Binary, BinaryOp, Cardinality, Expr, ExprKind, Matching, Number, Sign, Span, StringLiteral,
};
use super::error::{Fallible, ParseError};
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
    /// What the regular expressions may still cost.
    patterns: PatternBudget,
    /// Aggregations whose arguments are being read.
    aggregations: usize,
}

/// A finished node and the levels under it, itself included. On the heap: the functions between
/// two levels of nesting hold several of them, and the stack is what limits the levels.
#[derive(Debug)]
struct Built {
    expr: Box<Expr>,
    height: usize,
}

/// What stands between a binary operator and its right side.
#[derive(Debug, Default)]
struct BinaryModifiers {
    return_bool: bool,
    matching: Matching,
}

impl<'t> Parser<'t> {
    pub(super) fn new(text: &'t str, features: Features) -> Fallible<Self> {
        if text.len() > TEXT_BYTES_MAX {
            let message = format!(
                "the query is {} bytes long, at most {TEXT_BYTES_MAX} are allowed",
                text.len()
            );
            return Err(ParseError::boxed(text, Span { start: 0, end: text.len() }, message));
        }
        Ok(Self {
            text,
            lexer: Lexer::new(text),
            ahead: None,
            features,
            used_to: 0,
            depth: 0,
            nodes: 0,
            patterns: PatternBudget::default(),
            aggregations: 0,
        })
    }

    /// The whole text as an expression.
    pub(super) fn query(&mut self) -> Fallible<Expr> {
        if self.peek()?.kind == Kind::Eof {
            return Err(self.error(Span::default(), "no expression found in input"));
        }
        let mut built = self.expression(0)?;
        let after = self.peek()?;
        if after.kind != Kind::Eof {
            return Err(self.unexpected(after, "", ""));
        }
        check::check(&mut built.expr, self.text)?;
        Ok(*built.expr)
    }

    /// The whole text as a vector selector's matchers. They may all match the empty value.
    pub(super) fn matchers_only(&mut self, budget: &mut PatternBudget) -> Fallible<Vec<Matcher>> {
        self.patterns = *budget;
        let first = self.peek()?;
        if first.kind != Kind::LeftBrace && !first.kind.is_metric_name() {
            return Err(self.unexpected(first, "", ""));
        }
        let name = match first.kind {
            Kind::LeftBrace => None,
            _ => Some(self.advance()?.span),
        };
        let (selector, _) = self.vector_selector(name)?;
        *budget = self.patterns;
        let after = self.peek()?;
        match after.kind {
            Kind::Eof => Ok(selector.matchers),
            _ => Err(self.unexpected(after, "", "")),
        }
    }

    /// Characters read and nodes built.
    #[cfg(test)]
    pub(super) fn steps(&self) -> usize {
        self.lexer.steps + self.nodes
    }

    fn peek(&mut self) -> Fallible<Token> {
        if let Some(token) = self.ahead {
            return Ok(token);
        }
        let token = self.lexer.next()?;
        self.ahead = Some(token);
        Ok(token)
    }

    fn advance(&mut self) -> Fallible<Token> {
        let token = self.peek()?;
        self.ahead = None;
        self.used_to = token.span.end;
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

    fn word(&self, span: Span) -> &'t str {
        &self.text[span.start..span.end]
    }

    fn error(&self, span: Span, message: impl Into<String>) -> Box<ParseError> {
        ParseError::boxed(self.text, span, message)
    }

    fn unexpected(&self, token: Token, context: &str, expected: &str) -> Box<ParseError> {
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
    fn misplaced(&self, token: Token) -> Box<ParseError> {
        self.unexpected(token, if self.aggregations > 0 { "aggregation" } else { "" }, "")
    }

    fn too_deep(&self, span: Span) -> Box<ParseError> {
        let message =
            format!("the expression has more than {DEPTH_MAX} levels, chained operators included");
        self.error(span, message)
    }

    /// One level down, as long as there is stack for it. Whoever calls it steps up again, unless
    /// the parse is over.
    fn descend(&mut self) -> Fallible<()> {
        if self.depth >= DEPTH_MAX {
            let span = self.peek()?.span;
            return Err(self.too_deep(span));
        }
        self.depth += 1;
        Ok(())
    }

    /// A node over the highest of the nodes under it, within the bounds.
    fn build(&mut self, kind: ExprKind, span: Span, height_below: usize) -> Fallible<Built> {
        self.nodes += 1;
        let height = height_below + 1;
        if height > DEPTH_MAX {
            return Err(self.too_deep(span));
        }
        if self.nodes > NODES_MAX {
            return Err(self.error(span, format!("the expression has more than {NODES_MAX} parts")));
        }
        Ok(Built { expr: Box::new(Expr { kind, span }), height })
    }

    // Between two levels of nesting stand `expression`, `operand`, `primary` and one more. Unlike
    // other functions these are cut so that each holds little on the stack.

    /// An expression whose operators bind at least as tightly as `floor`.
    fn expression(&mut self, floor: u8) -> Fallible<Built> {
        self.descend()?;
        let mut left = self.operand()?;
        while let Some((op, span)) = self.operator(floor)? {
            left = self.operation(left, op, span)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    /// Uses an operator that binds at least as tightly as `floor`, if that is what comes.
    fn operator(&mut self, floor: u8) -> Fallible<Option<(BinaryOp, Span)>> {
        let token = self.peek()?;
        match token.kind {
            Kind::Op(op) if precedence(op) >= floor => {
                self.advance()?;
                Ok(Some((op, token.span)))
            }
            _ => Ok(None),
        }
    }

    fn operation(&mut self, left: Built, op: BinaryOp, op_span: Span) -> Fallible<Built> {
        let modifiers = Box::new(self.binary_modifiers()?);
        // `^` groups from the right.
        let right = self.expression(precedence(op) + u8::from(op != BinaryOp::Pow))?;
        self.binary(left, op, op_span, *modifiers, right)
    }

    fn binary(
        &mut self,
        left: Built,
        op: BinaryOp,
        op_span: Span,
        modifiers: BinaryModifiers,
        right: Built,
    ) -> Fallible<Built> {
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
            lhs: *left.expr,
            rhs: *right.expr,
            return_bool,
            matching: Some(matching),
        };
        self.build(ExprKind::Binary(Box::new(binary)), span, height)
    }

    fn binary_modifiers(&mut self) -> Fallible<BinaryModifiers> {
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
    fn fill_modifiers(&mut self, matching: &mut Matching) -> Fallible<()> {
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

    fn fill_value(&mut self) -> Fallible<f64> {
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

    fn expect(&mut self, kind: Kind) -> Fallible<Token> {
        let token = self.peek()?;
        match token.kind == kind {
            true => self.advance(),
            false => Err(self.misplaced(token)),
        }
    }

    /// Uses a sign if there is one.
    fn sign(&mut self) -> Fallible<Option<Sign>> {
        let sign = match self.peek()?.kind {
            Kind::Op(BinaryOp::Add) => Sign::Plus,
            Kind::Op(BinaryOp::Sub) => Sign::Minus,
            _ => return Ok(None),
        };
        self.advance()?;
        Ok(Some(sign))
    }

    /// The value of a number or duration token.
    fn number(&self, token: Token) -> Fallible<Number> {
        let duration = token.kind == Kind::Duration;
        let read = if duration { literals::duration } else { literals::number };
        let value =
            read(self.word(token.span)).map_err(|message| self.error(token.span, message))?;
        Ok(Number { value, duration })
    }

    /// A sign and its operand, or an operand with what follows it (`[…]`, `offset`, `@`).
    fn operand(&mut self) -> Fallible<Built> {
        let start = self.peek()?.span.start;
        match self.sign()? {
            // Signs bind as tightly as `*`: `-a ^ b` is `-(a ^ b)`.
            Some(sign) => {
                let operand = self.expression(precedence(BinaryOp::Pow))?;
                self.signed_expression(sign, start, operand)
            }
            None => {
                let primary = self.primary()?;
                self.modified(primary)
            }
        }
    }

    fn signed_expression(
        &mut self,
        sign: Sign,
        start: usize,
        mut operand: Built,
    ) -> Fallible<Built> {
        if let ExprKind::Number(number) = &mut operand.expr.kind {
            if sign == Sign::Minus {
                number.value = -number.value;
            }
            operand.expr.span.start = start;
            return Ok(operand);
        }
        let span = Span { start, end: operand.expr.span.end };
        self.build(ExprKind::Unary(sign, operand.expr), span, operand.height)
    }

    fn primary(&mut self) -> Fallible<Built> {
        let token = self.advance()?;
        match token.kind {
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
            _ => self.leaf(token),
        }
    }

    /// A literal, or a selector whose name is no plain word.
    fn leaf(&mut self, token: Token) -> Fallible<Built> {
        match token.kind {
            Kind::Number | Kind::Duration => {
                let number = self.number(token)?;
                self.build(ExprKind::Number(number), token.span, 0)
            }
            Kind::String => {
                let bytes = literals::unquote(self.word(token.span));
                self.build(ExprKind::String(StringLiteral { bytes }), token.span, 0)
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

    fn named_selector(&mut self, name: Token) -> Fallible<Built> {
        let (selector, span) = self.vector_selector(Some(name.span))?;
        self.build(ExprKind::Vector(selector), span, 0)
    }

    fn parenthesised(&mut self, open: Token) -> Fallible<Built> {
        let inner = self.expression(0)?;
        let close = self.expect(Kind::RightParen)?;
        let span = Span { start: open.span.start, end: close.span.end };
        self.build(ExprKind::Paren(inner.expr), span, inner.height)
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
