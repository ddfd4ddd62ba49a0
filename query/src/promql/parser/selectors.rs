//! Selectors and lists of labels.

use model::{METRIC_NAME, MatchOp, Matcher};

use super::super::ast::{BinaryOp, Edges, Span, VectorSelector};
use super::super::error::Fallible;
use super::super::literals;
use super::super::literals::{quote, unquote};
use super::super::token::{Kind, Token};
use super::Parser;

impl Parser<'_> {
    /// A selector: after its name, if that is given, otherwise at its brace.
    pub(super) fn vector_selector(
        &mut self,
        name: Option<Span>,
    ) -> Fallible<(VectorSelector, Span)> {
        let start = match name {
            Some(name) => name.start,
            None => self.peek()?.span.start,
        };
        let mut matchers = match self.peek()?.kind {
            Kind::LeftBrace => self.matchers()?,
            _ => Vec::new(),
        };
        let name = name.map(|name| self.word(name).to_owned());
        matchers.extend(name.as_deref().map(|name| Matcher::equal(METRIC_NAME, name)));
        let span = Span { start, end: self.used_to };
        Ok((VectorSelector { name, matchers, offset: None, at: None, edges: Edges::Plain }, span))
    }

    /// `{…}`
    fn matchers(&mut self) -> Fallible<Vec<Matcher>> {
        const CONTEXT: &str = "label matching";
        self.advance()?;
        let mut matchers = Vec::new();
        if self.accept(Kind::RightBrace)? {
            return Ok(matchers);
        }
        loop {
            let label = self.peek()?;
            if !matches!(label.kind, Kind::Identifier | Kind::String) {
                return Err(self.unexpected(label, CONTEXT, "identifier or \"}\""));
            }
            self.advance()?;
            let op = self.peek()?;
            match match_op(op.kind) {
                Some(match_op) => {
                    self.advance()?;
                    let value = self.peek()?;
                    if value.kind != Kind::String {
                        return Err(self.unexpected(value, CONTEXT, "string"));
                    }
                    self.advance()?;
                    matchers.push(self.matcher(label, match_op, value)?);
                }
                None if label.kind == Kind::Identifier => {
                    return Err(self.unexpected(op, CONTEXT, "label matching operator"));
                }
                None => matchers.push(Matcher::equal(METRIC_NAME, self.name(label)?)),
            }
            let after = self.peek()?;
            if !matches!(after.kind, Kind::Comma | Kind::RightBrace) {
                return Err(self.unexpected(after, CONTEXT, "\",\" or \"}\""));
            }
            self.advance()?;
            if after.kind == Kind::RightBrace || self.accept(Kind::RightBrace)? {
                return Ok(matchers);
            }
        }
    }

    fn matcher(&mut self, label: Token, op: MatchOp, value: Token) -> Fallible<Matcher> {
        let span = Span { start: label.span.start, end: value.span.end };
        let name = self.name(label)?;
        let value = unquote(self.word(value.span));
        let value = String::from_utf8_lossy(&value);
        Matcher::within(&mut self.patterns, op, name, &*value).map_err(|e| {
            // The library's text is a drawing of several lines; the last one says what is wrong.
            let reason = e.reason.lines().last().unwrap_or_default();
            let reason = reason.strip_prefix("error: ").unwrap_or(reason);
            self.error(span, format!("error parsing regexp: {reason}: `{value}`"))
        })
    }

    /// A label's name, quoted or not.
    fn name(&self, token: Token) -> Fallible<String> {
        let word = self.word(token.span);
        if token.kind != Kind::String {
            return Ok(word.to_owned());
        }
        let invalid =
            |bytes: &[u8]| self.error(token.span, format!("invalid label name {}", quote(bytes)));
        String::from_utf8(unquote(word)).map_err(|e| invalid(e.as_bytes()))
    }

    /// `(a, "b")`
    pub(super) fn grouping_labels(&mut self) -> Fallible<Vec<String>> {
        const CONTEXT: &str = "grouping opts";
        let open = self.peek()?;
        if open.kind != Kind::LeftParen {
            return Err(self.unexpected(open, CONTEXT, "\"(\""));
        }
        self.advance()?;
        let mut labels = Vec::new();
        if self.accept(Kind::RightParen)? {
            return Ok(labels);
        }
        loop {
            let label = self.peek()?;
            if label.kind != Kind::String && !label.kind.is_label_name() {
                return Err(self.unexpected(label, CONTEXT, "label"));
            }
            self.advance()?;
            labels.push(self.grouping_label(label)?);
            let after = self.peek()?;
            if !matches!(after.kind, Kind::Comma | Kind::RightParen) {
                return Err(self.unexpected(after, CONTEXT, "\",\" or \")\""));
            }
            self.advance()?;
            if after.kind == Kind::RightParen || self.accept(Kind::RightParen)? {
                return Ok(labels);
            }
        }
    }

    fn grouping_label(&self, token: Token) -> Fallible<String> {
        let bytes = match token.kind {
            Kind::String => literals::unquote(self.word(token.span)),
            _ => self.word(token.span).as_bytes().to_vec(),
        };
        let invalid = |bytes: &[u8]| {
            self.error(token.span, format!("invalid label name for grouping: {}", quote(bytes)))
        };
        match String::from_utf8(bytes) {
            Ok(name) if name.is_empty() => Err(invalid(b"")),
            Ok(name) => Ok(name),
            Err(e) => Err(invalid(e.as_bytes())),
        }
    }
}

fn match_op(kind: Kind) -> Option<MatchOp> {
    Some(match kind {
        Kind::Equal => MatchOp::Equal,
        Kind::Op(BinaryOp::NotEqual) => MatchOp::NotEqual,
        Kind::EqualRegex => MatchOp::Regex,
        Kind::NotEqualRegex => MatchOp::NotRegex,
        _ => return None,
    })
}
