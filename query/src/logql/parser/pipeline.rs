//! Selectors and pipelines: `{…} |= "text" | json | status >= 500`.

use model::{MatchOp, Matcher};

use super::super::ast::{
    At, BinaryOp, Extraction, LabelChoice, LabelFormat, LabelFormatValue, LineFilter, LineOp,
    LineTerm, LogExpr, Logfmt, Stage, StageKind,
};
use super::super::check;
use super::super::error::Fallible;
use super::super::token::Kind;
use super::Parser;

/// What `| unwrap` means to a pipeline: only in a range it may stand, and the stages before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unwraps {
    AreRefused,
    EndStages,
}

impl Parser<'_> {
    /// `{a="b", c!="d"}`
    pub(super) fn selector(&mut self) -> Fallible<Vec<Matcher>> {
        self.expect(Kind::OpenBrace, &[])?;
        let mut matchers = Vec::new();
        if self.accept(Kind::CloseBrace)? {
            return Ok(matchers);
        }
        let mut expected: &[&str] = &["IDENTIFIER", "}"];
        loop {
            let name = self.identifier(expected)?;
            let op = self.match_op(&["=", "=~", "!~", "!="])?;
            matchers.push(self.matcher(name, op)?);
            if !self.accept(Kind::Comma)? {
                break;
            }
            expected = &["IDENTIFIER"];
        }
        self.expect(Kind::CloseBrace, &["}", ","])?;
        Ok(matchers)
    }

    fn match_op(&mut self, expected: &[&str]) -> Fallible<MatchOp> {
        let token = self.peek()?;
        let Some(op) = match_op(token.kind) else { return Err(self.unexpected(token, expected)) };
        self.advance()?;
        Ok(op)
    }

    /// A matcher, of which the name and the operator were read.
    pub(super) fn matcher(&mut self, name: String, op: MatchOp) -> Fallible<Matcher> {
        self.count_part(1)?;
        let value = self.string(&["STRING"])?;
        Matcher::within(&mut self.patterns, op, name, value).map_err(|error| {
            super::ParseError::meaning(format!("error parsing regexp: {}", error.reason))
        })
    }

    /// A selector and its pipeline.
    pub(super) fn log_expr(&mut self) -> Fallible<LogExpr> {
        let matchers = self.selector()?;
        Ok(LogExpr { matchers, stages: self.stages(Unwraps::AreRefused)? })
    }

    /// Stages as long as there are some.
    pub(super) fn stages(&mut self, unwraps: Unwraps) -> Fallible<Vec<Stage>> {
        let mut stages = Vec::new();
        loop {
            let token = self.peek()?;
            let at = At(token.start);
            if let Some(op) = line_op(token.kind) {
                self.advance()?;
                self.line_filters(op, at, &mut stages)?;
            } else if token.kind == Kind::Pipe {
                if unwraps == Unwraps::EndStages && self.peek_second()? == Kind::Unwrap {
                    return Ok(stages);
                }
                self.advance()?;
                let kind = self.stage()?;
                self.count_part(1)?;
                stages.push(Stage { kind, at });
            } else {
                return Ok(stages);
            }
        }
    }

    /// `"a" or ip("b")`, after the operator.
    fn line_filters(&mut self, op: LineOp, at: At, stages: &mut Vec<Stage>) -> Fallible<()> {
        let mut terms = vec![self.line_term()?];
        while self.accept(Kind::Op(BinaryOp::Or))? {
            terms.push(self.line_term()?);
        }
        let filters = match op.is_negative() {
            // Neither: each is a filter of its own.
            true => terms.into_iter().map(|term| vec![term]).collect(),
            false => vec![terms],
        };
        for terms in filters {
            self.count_part(1)?;
            stages.push(Stage { kind: StageKind::Line(LineFilter { op, terms }), at });
        }
        Ok(())
    }

    fn line_term(&mut self) -> Fallible<LineTerm> {
        self.count_part(1)?;
        if !self.accept(Kind::Ip)? {
            return Ok(LineTerm { text: self.string(&["STRING", "ip"])?, is_ip: false });
        }
        Ok(LineTerm { text: self.ip_addresses()?, is_ip: true })
    }

    /// `("10.0.0.0/8")`, after `ip`.
    pub(super) fn ip_addresses(&mut self) -> Fallible<String> {
        self.expect(Kind::OpenParen, &["("])?;
        let addresses = self.string(&["STRING"])?;
        self.expect(Kind::CloseParen, &[")"])?;
        Ok(addresses)
    }

    /// What stands after `|`.
    fn stage(&mut self) -> Fallible<StageKind> {
        let token = self.peek()?;
        match token.kind {
            Kind::Identifier | Kind::OpenParen => {
                return Ok(StageKind::Label(self.label_filter()?));
            }
            Kind::Json
            | Kind::Logfmt
            | Kind::Regexp
            | Kind::Pattern
            | Kind::Unpack
            | Kind::LineFormat
            | Kind::LabelFormat
            | Kind::Decolorize
            | Kind::Drop
            | Kind::Keep => self.advance()?,
            _ => return Err(self.unexpected(token, &[])),
        };
        match token.kind {
            Kind::Json => Ok(StageKind::Json(self.extractions()?)),
            Kind::Logfmt => self.logfmt(),
            Kind::Regexp => {
                let regex = self.string(&["STRING"])?;
                if let Err(reason) = check::capturing_regex(&regex, &mut self.patterns) {
                    self.refuse(format!("invalid regexp parser: {reason}"));
                }
                Ok(StageKind::Regexp(regex))
            }
            Kind::Pattern => {
                let pattern = self.string(&["STRING"])?;
                if let Err(reason) = check::capturing_pattern(&pattern) {
                    self.refuse(format!("invalid pattern parser: {reason}"));
                }
                Ok(StageKind::Pattern(pattern))
            }
            Kind::Unpack => Ok(StageKind::Unpack),
            Kind::LineFormat => Ok(StageKind::LineFormat(self.string(&["STRING"])?)),
            Kind::LabelFormat => self.label_formats(),
            Kind::Decolorize => Ok(StageKind::Decolorize),
            Kind::Drop => Ok(StageKind::Drop(self.label_choices()?)),
            _ => Ok(StageKind::Keep(self.label_choices()?)),
        }
    }

    fn logfmt(&mut self) -> Fallible<StageKind> {
        let mut logfmt = Logfmt::default();
        loop {
            let token = self.peek()?;
            if token.kind != Kind::Flag {
                break;
            }
            self.advance()?;
            match self.word(token) {
                "--strict" => logfmt.strict = true,
                _ => logfmt.keep_empty = true,
            }
        }
        logfmt.extractions = self.extractions()?;
        Ok(StageKind::Logfmt(logfmt))
    }

    /// `a="x.y", b`, or nothing.
    fn extractions(&mut self) -> Fallible<Vec<Extraction>> {
        let mut extractions = Vec::new();
        if self.peek()?.kind != Kind::Identifier {
            return Ok(extractions);
        }
        loop {
            self.count_part(1)?;
            let label = self.identifier(&["IDENTIFIER"])?;
            let expression = match self.accept(Kind::Equal)? {
                true => self.string(&["STRING"])?,
                false => label.clone(),
            };
            extractions.push(Extraction { label, expression });
            if !self.accept(Kind::Comma)? {
                return Ok(extractions);
            }
        }
    }

    fn label_formats(&mut self) -> Fallible<StageKind> {
        let mut formats = Vec::new();
        loop {
            self.count_part(1)?;
            let label = self.identifier(&["IDENTIFIER"])?;
            self.expect(Kind::Equal, &["="])?;
            let value = match self.peek()?.kind {
                Kind::Identifier => LabelFormatValue::Rename(self.identifier(&[])?),
                _ => LabelFormatValue::Template(self.string(&["IDENTIFIER", "STRING"])?),
            };
            formats.push(LabelFormat { label, value });
            if !self.accept(Kind::Comma)? {
                return Ok(StageKind::LabelFormat(formats));
            }
        }
    }

    /// `a, b="x"`
    fn label_choices(&mut self) -> Fallible<Vec<LabelChoice>> {
        let mut choices = Vec::new();
        loop {
            self.count_part(1)?;
            let name = self.identifier(&["IDENTIFIER"])?;
            choices.push(match match_op(self.peek()?.kind) {
                Some(op) => {
                    self.advance()?;
                    LabelChoice::Matching(self.matcher(name, op)?)
                }
                None => LabelChoice::Name(name),
            });
            if !self.accept(Kind::Comma)? {
                return Ok(choices);
            }
        }
    }
}

/// The operators of matchers.
pub(super) fn match_op(kind: Kind) -> Option<MatchOp> {
    match kind {
        Kind::Equal => Some(MatchOp::Equal),
        Kind::Op(BinaryOp::NotEqual) => Some(MatchOp::NotEqual),
        Kind::Regex => Some(MatchOp::Regex),
        Kind::NotRegex => Some(MatchOp::NotRegex),
        _ => None,
    }
}

fn line_op(kind: Kind) -> Option<LineOp> {
    match kind {
        Kind::PipeExact => Some(LineOp::Contains),
        Kind::Op(BinaryOp::NotEqual) => Some(LineOp::ContainsNot),
        Kind::PipeMatch => Some(LineOp::Matches),
        Kind::NotRegex => Some(LineOp::MatchesNot),
        Kind::PipePattern => Some(LineOp::Pattern),
        Kind::NotPattern => Some(LineOp::PatternNot),
        _ => None,
    }
}
