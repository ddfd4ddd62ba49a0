//! Durations: literals and arithmetic.

use super::super::DEPTH_MAX;
use super::super::ast::{BinaryOp, Number, Sign, Span};
use super::super::durations::{Duration, DurationExpr, DurationOp, in_range};
use super::super::error::Fallible;
use super::super::token::{Kind, Token};
use super::{Parser, precedence};

/// What an unexpected token is said to be in, and what was expected instead.
type Context = (&'static str, &'static str);

const OFFSET: Context = ("offset", "number, duration, step(), or range()");

/// A finished part and the levels under it, itself included.
struct Part {
    expr: DurationExpr,
    span: Span,
    height: usize,
}

impl Parser<'_> {
    /// A range or a step.
    pub(super) fn positive_duration(
        &mut self,
        context: &'static str,
        expected: &'static str,
    ) -> Fallible<Duration> {
        let part = self.duration(0, (context, expected))?;
        // Prometheus reads the token behind before it looks at the value.
        self.peek()?;
        match part.expr {
            DurationExpr::Literal(number) if number.value <= 0.0 => {
                Err(self.error(part.span, "duration must be greater than 0"))
            }
            _ => Ok(part.into_duration()),
        }
    }

    /// An offset. Without parentheses it ends after one term: `a offset 5m + 1` is
    /// `(a offset 5m) + 1`. After a parenthesis it goes on, as in Prometheus.
    pub(super) fn offset_duration(&mut self) -> Fallible<Duration> {
        let part = match self.peek()?.kind {
            Kind::LeftParen => self.duration(0, OFFSET)?,
            _ => self.offset_term()?,
        };
        Ok(part.into_duration())
    }

    /// One operand with any number of signs.
    fn offset_term(&mut self) -> Fallible<Part> {
        self.descend()?;
        let token = self.peek()?;
        let part = match self.sign()? {
            None => self.duration_primary(OFFSET)?,
            sign => {
                let operand = self.offset_term()?;
                self.signed(sign, token, operand)?
            }
        };
        self.depth -= 1;
        Ok(part)
    }

    fn duration(&mut self, floor: u8, context: Context) -> Fallible<Part> {
        self.descend()?;
        let token = self.peek()?;
        let left = match self.sign()? {
            None => self.duration_primary(context)?,
            sign => {
                let operand = self.duration(precedence(BinaryOp::Pow), context)?;
                self.signed(sign, token, operand)?
            }
        };
        let whole = self.duration_rest(left, floor, context)?;
        self.depth -= 1;
        Ok(whole)
    }

    /// The operators after a first operand.
    fn duration_rest(&mut self, mut left: Part, floor: u8, context: Context) -> Fallible<Part> {
        loop {
            let token = self.peek()?;
            let Kind::Op(binary_op) = token.kind else { return Ok(left) };
            let Some(op) = duration_op(binary_op).filter(|_| precedence(binary_op) >= floor) else {
                return Ok(left);
            };
            self.advance()?;
            let right_floor = precedence(binary_op) + u8::from(binary_op != BinaryOp::Pow);
            let right = self.duration(right_floor, context)?;
            self.experimental_duration(left.span)?;
            let divides_by_zero =
                matches!(right.expr, DurationExpr::Literal(number) if number.value == 0.0);
            match op {
                DurationOp::Div if divides_by_zero => {
                    return Err(self.error(token.span, "division by zero"));
                }
                DurationOp::Mod if divides_by_zero => {
                    return Err(self.error(token.span, "modulo by zero"));
                }
                _ => left = self.duration_binary(op, left, right)?,
            }
        }
    }

    fn duration_binary(&mut self, op: DurationOp, left: Part, right: Part) -> Fallible<Part> {
        let span = Span { start: left.span.start, end: right.span.end };
        let height = left.height.max(right.height);
        let expr = DurationExpr::Binary { op, lhs: Box::new(left.expr), rhs: Box::new(right.expr) };
        self.part(expr, span, height)
    }

    fn part(&mut self, expr: DurationExpr, span: Span, height_below: usize) -> Fallible<Part> {
        self.nodes += 1;
        match height_below < DEPTH_MAX {
            true => Ok(Part { expr, span, height: height_below + 1 }),
            false => Err(self.too_deep(span)),
        }
    }

    fn signed(&mut self, sign: Option<Sign>, sign_token: Token, operand: Part) -> Fallible<Part> {
        let span = Span { start: sign_token.span.start, end: operand.span.end };
        if sign != Some(Sign::Minus) {
            return Ok(Part { span, ..operand });
        }
        match operand.expr {
            DurationExpr::Literal(Number { value, duration }) => {
                let expr = DurationExpr::Literal(Number { value: -value, duration });
                Ok(Part { expr, span, height: operand.height })
            }
            expr => self.part(DurationExpr::Negative(Box::new(expr)), span, operand.height),
        }
    }

    fn duration_primary(&mut self, context: Context) -> Fallible<Part> {
        let token = self.peek()?;
        match token.kind {
            Kind::Number | Kind::Duration => {
                self.advance()?;
                let number = self.number(token)?;
                if !in_range(number.value) {
                    return Err(self.error(token.span, "duration out of range"));
                }
                self.part(DurationExpr::Literal(number), token.span, 0)
            }
            Kind::Step | Kind::Range => {
                self.advance()?;
                self.duration_expect(Kind::LeftParen, context)?;
                let close = self.duration_expect(Kind::RightParen, context)?;
                let span = Span { start: token.span.start, end: close.span.end };
                self.experimental_duration(span)?;
                let expr =
                    if token.kind == Kind::Step { DurationExpr::Step } else { DurationExpr::Range };
                self.part(expr, span, 0)
            }
            Kind::MinOf | Kind::MaxOf => self.duration_choice(token, context),
            Kind::LeftParen => {
                self.advance()?;
                let inner = self.duration(0, context)?;
                let close = self.duration_expect(Kind::RightParen, context)?;
                self.experimental_duration(inner.span)?;
                let span = Span { start: token.span.start, end: close.span.end };
                match inner.expr {
                    // One pair says as much as two.
                    DurationExpr::Paren(_) => Ok(Part { span, ..inner }),
                    expr => self.part(DurationExpr::Paren(Box::new(expr)), span, inner.height),
                }
            }
            _ => Err(self.unexpected(token, context.0, context.1)),
        }
    }

    /// `min_of(a, b)`
    fn duration_choice(&mut self, name: Token, context: Context) -> Fallible<Part> {
        self.advance()?;
        self.duration_expect(Kind::LeftParen, context)?;
        let first = self.duration(0, context)?;
        self.duration_expect(Kind::Comma, context)?;
        let second = self.duration(0, context)?;
        let close = self.duration_expect(Kind::RightParen, context)?;
        let span = Span { start: name.span.start, end: close.span.end };
        self.experimental_duration(span)?;
        let op = if name.kind == Kind::MinOf { DurationOp::MinOf } else { DurationOp::MaxOf };
        Ok(Part { span, ..self.duration_binary(op, first, second)? })
    }

    fn duration_expect(&mut self, kind: Kind, context: Context) -> Fallible<Token> {
        let token = self.peek()?;
        match token.kind == kind {
            true => self.advance(),
            false => Err(self.unexpected(token, context.0, context.1)),
        }
    }

    fn experimental_duration(&self, span: Span) -> Fallible<()> {
        match self.features.duration_expressions {
            true => Ok(()),
            false => Err(self.error(span, "experimental duration expression is not enabled")),
        }
    }
}

impl Part {
    fn into_duration(self) -> Duration {
        let expr = match self.expr {
            DurationExpr::Literal(Number { value, .. }) => {
                DurationExpr::Literal(Number { value, duration: true })
            }
            expr => expr,
        };
        Duration { expr, span: self.span }
    }
}

fn duration_op(op: BinaryOp) -> Option<DurationOp> {
    Some(match op {
        BinaryOp::Add => DurationOp::Add,
        BinaryOp::Sub => DurationOp::Sub,
        BinaryOp::Mul => DurationOp::Mul,
        BinaryOp::Div => DurationOp::Div,
        BinaryOp::Mod => DurationOp::Mod,
        BinaryOp::Pow => DurationOp::Pow,
        _ => return None,
    })
}
