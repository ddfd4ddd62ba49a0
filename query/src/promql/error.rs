//! What is said about a text that is not PromQL, worded and placed as Prometheus does.

use std::fmt;

use super::ast::Span;

/// A text that is not PromQL. Prints as `1:5: parse error: …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Where; `None` in an empty text.
    pub position: Option<Position>,
    /// Bytes of the text that are meant.
    pub span: Span,
    /// What is wrong.
    pub message: String,
}

/// A place in a text, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Byte of that line.
    pub column: usize,
}

impl Position {
    /// Of a byte of a text.
    pub fn of(text: &str, at: usize) -> Self {
        let before = &text.as_bytes()[..at.min(text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let line_start =
            before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        Self { line, column: before.len() - line_start + 1 }
    }
}

/// What may fail in here. The error is on the heap: results pass through every level of nesting.
pub(super) type Fallible<T> = Result<T, Box<ParseError>>;

impl ParseError {
    pub(super) fn boxed(text: &str, span: Span, message: impl Into<String>) -> Box<Self> {
        let position = (!text.is_empty()).then(|| Position::of(text, span.start));
        Box::new(Self { position, span, message: message.into() })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(position) => write!(f, "{position}: parse error: {}", self.message),
            None => write!(f, "unknown position: parse error: {}", self.message),
        }
    }
}

impl std::error::Error for ParseError {}
