//! Ranges of lines, `{…} | json | unwrap x [5m] offset 1m`, and the aggregations over them.

use super::super::ast::{At, LogExpr, LogRange, MetricKind, RangeAggregation, RangeOp, Unwrap};
use super::super::check;
use super::super::error::Fallible;
use super::super::token::Kind;
use super::super::units;
use super::pipeline::Unwraps;
use super::{Built, Parser};

/// What may stand after `[5m]` if nothing did before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follows {
    Pipeline,
    Unwrap,
}

impl Parser<'_> {
    pub(super) fn range_aggregation(&mut self, op: RangeOp) -> Fallible<Built> {
        let start = self.advance()?.start;
        self.expect(Kind::OpenParen, &["("])?;
        let param = match self.peek()?.kind {
            Kind::Number => {
                let token = self.peek()?;
                let value = self.number(&[])?;
                self.expect(Kind::Comma, &[","])?;
                if op != RangeOp::Quantile {
                    let (text, name) = (self.word(token), op.as_str());
                    self.refuse(format!("parameter {text} not supported for operation {name}"));
                }
                Some(value)
            }
            _ => None,
        };
        if op == RangeOp::Quantile && param.is_none() {
            self.refuse(format!("parameter required for operation {}", op.as_str()));
        }
        let first: &[&str] = if param.is_none() { &["NUMBER", "{", "("] } else { &["{", "("] };
        let range = self.log_range_or(first)?;
        self.expect(Kind::CloseParen, &[")"])?;
        let grouping = self.grouping()?;
        let aggregation = RangeAggregation { op, param, range, grouping };
        if let Err(reason) = check::aggregation(&aggregation) {
            self.refuse(reason);
        }
        self.metric(MetricKind::Range(Box::new(aggregation)), start, 1)
    }

    pub(super) fn log_range(&mut self) -> Fallible<LogRange> {
        self.log_range_or(&["{", "("])
    }

    fn log_range_or(&mut self, expected: &[&str]) -> Fallible<LogRange> {
        let token = self.peek()?;
        match token.kind {
            Kind::OpenBrace => {
                let matchers = self.selector()?;
                let stages = self.stages(Unwraps::EndStages)?;
                let unwrap = self.unwrap()?;
                self.range_of(LogExpr { matchers, stages }, unwrap, Follows::Pipeline)
            }
            Kind::OpenParen => {
                self.descend()?;
                self.advance()?;
                let range = self.parenthesised_range()?;
                self.depth -= 1;
                Ok(range)
            }
            _ => Err(self.unexpected(token, expected)),
        }
    }

    /// `( {…} … ) [5m]`, or a whole range in parentheses.
    fn parenthesised_range(&mut self) -> Fallible<LogRange> {
        if self.peek()?.kind == Kind::OpenParen {
            let range = self.log_range()?;
            self.expect(Kind::CloseParen, &[")"])?;
            return Ok(range);
        }
        let matchers = self.selector()?;
        let stages = self.stages(Unwraps::EndStages)?;
        let unwrap = self.unwrap()?;
        let lines = LogExpr { matchers, stages };
        if self.peek()?.kind == Kind::Range {
            let range = self.range_of(lines, unwrap, Follows::Pipeline)?;
            self.expect(Kind::CloseParen, &[")"])?;
            return Ok(range);
        }
        self.expect(Kind::CloseParen, &[])?;
        self.range_of(lines, unwrap, Follows::Unwrap)
    }

    /// `[5m] offset 1m` and, if nothing stood before it, a pipeline.
    fn range_of(
        &mut self,
        mut lines: LogExpr,
        mut unwrap: Option<Unwrap>,
        follows: Follows,
    ) -> Fallible<LogRange> {
        let token = self.expect(Kind::Range, &[])?;
        let text = self.word(token);
        let range_ns = units::range_ns(&text[1..text.len() - 1]).unwrap_or_default();
        let mut offset_ns = 0;
        if self.accept(Kind::Offset)? {
            let duration = self.expect(Kind::Duration, &["DURATION"])?;
            offset_ns = units::duration_ns(self.word(duration)).unwrap_or_default();
        }
        if lines.stages.is_empty() && unwrap.is_none() {
            if follows == Follows::Pipeline {
                lines.stages = self.stages(Unwraps::EndStages)?;
            }
            unwrap = self.unwrap()?;
        }
        Ok(LogRange { lines, unwrap, range_ns, offset_ns })
    }

    /// `| unwrap label | filter`, or nothing.
    fn unwrap(&mut self) -> Fallible<Option<Unwrap>> {
        let pipe = self.peek()?;
        if pipe.kind != Kind::Pipe {
            return Ok(None);
        }
        self.advance()?;
        self.expect(Kind::Unwrap, &["unwrap"])?;
        self.count_part(1)?;
        let token = self.peek()?;
        let (label, conversion) = match token.kind {
            Kind::Conversion(conversion) => {
                self.advance()?;
                self.expect(Kind::OpenParen, &["("])?;
                let label = self.identifier(&["IDENTIFIER"])?;
                self.expect(Kind::CloseParen, &[")"])?;
                (label, Some(conversion))
            }
            _ => {
                let conversions = ["BYTES_CONV", "DURATION_CONV", "DURATION_SECONDS_CONV"];
                let expected = ["IDENTIFIER", conversions[0], conversions[1], conversions[2]];
                (self.identifier(&expected)?, None)
            }
        };
        let mut filters = Vec::new();
        while self.accept(Kind::Pipe)? {
            self.count_part(1)?;
            filters.push(self.label_filter()?);
        }
        Ok(Some(Unwrap { label, conversion, filters, at: At(pipe.start) }))
    }
}
