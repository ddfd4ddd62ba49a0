//! Label filters: `a="b" and (c > 5 or d <= 5s)`.
//!
//! A comma, or nothing at all, between two filters is an "and" that binds most loosely of all,
//! groups from the right, and may stand wherever a filter may end: `a or b, c` is `a or (b, c)`.
//! So Loki's grammar reads it, which gives these two no precedence.

use super::super::ast::{BinaryOp, Comparison, LabelFilter};
use super::super::error::Fallible;
use super::super::token::Kind;
use super::super::units;
use super::Parser;
use super::pipeline::match_op;

/// A finished filter and its levels.
struct Filter {
    filter: Box<LabelFilter>,
    height: usize,
}

impl Parser<'_> {
    pub(super) fn label_filter(&mut self) -> Fallible<LabelFilter> {
        Ok(*self.filter(0)?.filter)
    }

    /// A filter whose `and` and `or` bind at least as tightly as `floor`.
    fn filter(&mut self, floor: u8) -> Fallible<Filter> {
        self.descend()?;
        let mut left = self.filter_operand()?;
        loop {
            let next = self.peek()?.kind;
            let (joins, right_floor): (fn(_, _) -> _, _) = match next {
                Kind::Op(BinaryOp::Or) if floor <= 1 => (LabelFilter::Or, 2),
                Kind::Op(BinaryOp::And) if floor <= 2 => (LabelFilter::And, 3),
                Kind::Comma | Kind::Identifier | Kind::OpenParen => (LabelFilter::And, 0),
                _ => break,
            };
            if matches!(next, Kind::Op(_) | Kind::Comma) {
                self.advance()?;
            }
            let right = self.filter(right_floor)?;
            let height = left.height.max(right.height) + 1;
            self.count_part(height)?;
            left = Filter { filter: Box::new(joins(left.filter, right.filter)), height };
        }
        self.depth -= 1;
        Ok(left)
    }

    fn filter_operand(&mut self) -> Fallible<Filter> {
        let token = self.peek()?;
        if token.kind == Kind::OpenParen {
            self.advance()?;
            let inner = self.filter(0)?;
            self.expect(Kind::CloseParen, &[])?;
            return Ok(inner);
        }
        let name = self.identifier(&["IDENTIFIER", "("])?;
        self.count_part(1)?;
        Ok(Filter { filter: Box::new(self.comparison(name)?), height: 1 })
    }

    /// What stands after a label's name.
    fn comparison(&mut self, name: String) -> Fallible<LabelFilter> {
        let token = self.peek()?;
        let op = match token.kind {
            Kind::Equal => BinaryOp::Equal,
            Kind::Op(op) if op.is_comparison() => op,
            Kind::Regex | Kind::NotRegex => BinaryOp::Equal,
            _ => return Err(self.unexpected(token, &[])),
        };
        self.advance()?;
        let matching = match_op(token.kind);
        let value = self.peek()?;
        let only_text = matches!(token.kind, Kind::Regex | Kind::NotRegex);
        match (value.kind, matching) {
            (Kind::String, Some(op)) => Ok(LabelFilter::Text(self.matcher(name, op)?)),
            _ if only_text => Err(self.unexpected(value, &["STRING"])),
            (Kind::Ip, Some(_)) => {
                self.advance()?;
                let negated = op == BinaryOp::NotEqual;
                Ok(LabelFilter::Ip { name, negated, addresses: self.ip_addresses()? })
            }
            _ => self.quantity(name, op),
        }
    }

    fn quantity(&mut self, name: String, op: BinaryOp) -> Fallible<LabelFilter> {
        let token = self.peek()?;
        let text = self.word(token);
        match token.kind {
            Kind::Duration => {
                self.advance()?;
                let value = units::duration_ns(text).unwrap_or_default();
                Ok(LabelFilter::Duration(Comparison { name, op, value }))
            }
            Kind::Bytes => {
                self.advance()?;
                let value = units::bytes(text).unwrap_or_default();
                Ok(LabelFilter::Bytes(Comparison { name, op, value }))
            }
            _ => {
                let value = self.signed_number()?;
                Ok(LabelFilter::Number(Comparison { name, op, value }))
            }
        }
    }
}
