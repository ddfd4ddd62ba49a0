//! What may follow an operand: `[…]`, `offset`, `@`, `anchored` and `smoothed`.

use super::super::ast::{At, BinaryOp, Edges, Expr, ExprKind, MatrixSelector, Span, Subquery};
use super::super::durations::{Duration, DurationExpr};
use super::super::error::Fallible;
use super::super::literals::number_text;
use super::super::token::{Kind, Token};
use super::{Built, Parser};

/// Where a modifier of a selector or subquery is kept.
struct Slots<'e> {
    offset: &'e mut Option<Duration>,
    at: &'e mut Option<At>,
}

impl Parser<'_> {
    /// The operand with all that follows it.
    pub(super) fn modified(&mut self, mut operand: Built) -> Fallible<Built> {
        loop {
            let token = self.peek()?;
            match token.kind {
                Kind::LeftBracket => operand = self.range(operand)?,
                Kind::Offset => self.offset(&mut operand.expr)?,
                Kind::At => self.at(&mut operand.expr)?,
                Kind::Anchored | Kind::Smoothed => self.edges(token, &mut operand.expr)?,
                _ => return Ok(operand),
            }
        }
    }

    /// `[5m]` makes a range of a selector, `[5m:1m]` a subquery of anything.
    fn range(&mut self, operand: Built) -> Fallible<Built> {
        let open = self.advance()?;
        let expected = "number, duration, step(), or range()";
        let range = self.positive_duration("subquery or range selector", expected)?;
        let after = self.peek()?;
        match after.kind {
            Kind::Colon => self.subquery(operand, range),
            Kind::RightBracket => self.matrix(operand, open, range),
            _ => Err(self.unexpected(after, "subquery or range", "\":\" or \"]\"")),
        }
    }

    fn matrix(&mut self, operand: Built, open: Token, range: Duration) -> Fallible<Built> {
        let close = self.advance()?;
        let brackets = Span { start: open.span.start, end: close.span.end };
        let Expr { kind: ExprKind::Vector(selector), span } = *operand.expr else {
            return Err(self.error(brackets, "ranges only allowed for vector selectors"));
        };
        if selector.offset.is_some() {
            return Err(self.error(brackets, "no offset modifiers allowed before range"));
        }
        if selector.at.is_some() {
            return Err(self.error(brackets, "no @ modifiers allowed before range"));
        }
        let matrix = MatrixSelector { selector, selector_span: span, range };
        let span = Span { start: span.start, end: close.span.end };
        self.build(ExprKind::Matrix(Box::new(matrix)), span, operand.height)
    }

    fn subquery(&mut self, operand: Built, range: Duration) -> Fallible<Built> {
        self.advance()?;
        let step = match self.peek()?.kind {
            Kind::RightBracket => None,
            _ => {
                let expected = "number, duration, step(), range(), or \"]\"";
                Some(self.positive_duration("subquery selector", expected)?)
            }
        };
        let close = self.peek()?;
        if close.kind != Kind::RightBracket {
            return Err(self.unexpected(close, "subquery selector", "\"]\""));
        }
        self.advance()?;
        let span = Span { start: operand.expr.span.start, end: close.span.end };
        let subquery = Subquery { expr: *operand.expr, range, step, offset: None, at: None };
        self.build(ExprKind::Subquery(Box::new(subquery)), span, operand.height)
    }

    fn offset(&mut self, operand: &mut Expr) -> Fallible<()> {
        self.advance()?;
        let duration = self.offset_duration()?;
        let span = operand.span;
        let Some(slots) = slots(operand) else {
            let wanted = "an instant vector selector or range vector selector or a subquery";
            return Err(self.error(span, format!("offset modifier must be preceded by {wanted}")));
        };
        if slots.offset.is_some() {
            return Err(self.error(span, "offset may not be set multiple times"));
        }
        // Zero is the same as none, so that it may be followed by another, as in Prometheus.
        *slots.offset = Some(duration).filter(|duration| !is_zero(duration));
        operand.span.end = self.used_to;
        Ok(())
    }

    fn at(&mut self, operand: &mut Expr) -> Fallible<()> {
        self.advance()?;
        let at = self.at_time(operand.span)?;
        let span = operand.span;
        let Some(slots) = slots(operand) else {
            let wanted = "an instant vector selector or range vector selector or a subquery";
            return Err(self.error(span, format!("@ modifier must be preceded by {wanted}")));
        };
        if slots.at.is_some() {
            return Err(self.error(span, "@ <timestamp> may not be set multiple times"));
        }
        *slots.at = Some(at);
        operand.span.end = self.used_to;
        Ok(())
    }

    /// `1609746000.5`, `start()` or `end()`
    fn at_time(&mut self, operand: Span) -> Fallible<At> {
        let token = self.peek()?;
        let negative = token.kind == Kind::Op(BinaryOp::Sub);
        let at = match token.kind {
            Kind::Start => At::Start,
            Kind::End => At::End,
            Kind::Number | Kind::Duration | Kind::Op(BinaryOp::Add | BinaryOp::Sub) => {
                self.sign()?;
                let number = self.peek()?;
                if !matches!(number.kind, Kind::Number | Kind::Duration) {
                    return Err(self.unexpected(number, "@", "timestamp"));
                }
                self.advance()?;
                let seconds = self.number(number)?.value;
                return self.timestamp(if negative { -seconds } else { seconds }, operand);
            }
            _ => return Err(self.unexpected(token, "@", "timestamp")),
        };
        self.advance()?;
        for kind in [Kind::LeftParen, Kind::RightParen] {
            let token = self.peek()?;
            if token.kind != kind {
                return Err(self.unexpected(token, "@", "timestamp"));
            }
            self.advance()?;
        }
        Ok(at)
    }

    fn timestamp(&self, seconds: f64, operand: Span) -> Fallible<At> {
        if !seconds.is_finite() || seconds >= i64::MAX as f64 || seconds <= i64::MIN as f64 {
            let shown =
                if seconds.is_finite() { format!("{seconds:.6}") } else { number_text(seconds) };
            return Err(
                self.error(operand, format!("timestamp out of bounds for @ modifier: {shown}"))
            );
        }
        Ok(At::Timestamp((seconds * 1000.0).round() as i64))
    }

    fn edges(&mut self, token: Token, operand: &mut Expr) -> Fallible<()> {
        self.advance()?;
        let (edges, word) = match token.kind {
            Kind::Anchored => (Edges::Anchored, "anchored"),
            _ => (Edges::Smoothed, "smoothed"),
        };
        let span = operand.span;
        if !self.features.extended_selectors {
            return Err(
                self.error(span, format!("{word} modifier is experimental and not enabled"))
            );
        }
        let slot = match &mut operand.kind {
            ExprKind::Vector(selector) => &mut selector.edges,
            ExprKind::Matrix(matrix) => &mut matrix.selector.edges,
            ExprKind::Subquery(_) => {
                return Err(
                    self.error(span, format!("{word} modifier is not supported for subqueries"))
                );
            }
            _ => return Err(self.error(span, format!("{word} modifier not implemented"))),
        };
        if *slot != Edges::Plain && *slot != edges {
            return Err(self.error(span, "anchored and smoothed modifiers cannot be used together"));
        }
        *slot = edges;
        operand.span.end = self.used_to;
        Ok(())
    }
}

fn is_zero(duration: &Duration) -> bool {
    matches!(duration.expr, DurationExpr::Literal(number) if number.value == 0.0)
}

fn slots(operand: &mut Expr) -> Option<Slots<'_>> {
    match &mut operand.kind {
        ExprKind::Vector(selector) => {
            Some(Slots { offset: &mut selector.offset, at: &mut selector.at })
        }
        ExprKind::Matrix(matrix) => {
            Some(Slots { offset: &mut matrix.selector.offset, at: &mut matrix.selector.at })
        }
        ExprKind::Subquery(subquery) => {
            Some(Slots { offset: &mut subquery.offset, at: &mut subquery.at })
        }
        _ => None,
    }
}
