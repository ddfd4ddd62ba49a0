//! What is said about a text that is not LogQL, worded and placed as Loki does.

use std::fmt;

/// A text that is not LogQL. Prints as `parse error at line 1, col 5: …`, or, where Loki says
/// nothing of the place, as `parse error : …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Where; `None` if the text reads well but what it says is wrong.
    pub place: Option<Place>,
    /// What is wrong.
    pub message: String,
}

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Counted from 1. Loki says 0 of a token it had to look beyond, and so do we: the texts are
    /// compared by people and by tests.
    pub line: usize,
    /// Character of that line, counted from 1.
    pub column: usize,
}

impl Place {
    /// Of a byte of a text.
    pub fn of(text: &str, at: usize) -> Self {
        let before = &text.as_bytes()[..at.min(text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let line_start =
            before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        // Characters, not bytes: bytes that continue a character are not counted.
        let column = 1 + before[line_start..].iter().filter(|byte| **byte & 0xc0 != 0x80).count();
        Self { line, column }
    }
}

/// What may fail in here. The error is on the heap: results pass through every level of nesting.
pub(super) type Fallible<T> = Result<T, Box<ParseError>>;

impl ParseError {
    /// Of a text that cannot be read further.
    pub(super) fn at(text: &str, at: usize, message: impl Into<String>) -> Box<Self> {
        Box::new(Self { place: Some(Place::of(text, at)), message: message.into() })
    }

    /// Of a text that reads well but says what cannot be.
    pub(super) fn meaning(message: impl Into<String>) -> Box<Self> {
        Box::new(Self { place: None, message: message.into() })
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some(Place { line, column }) => {
                write!(f, "parse error at line {line}, col {column}: {}", self.message)
            }
            None => write!(f, "parse error : {}", self.message),
        }
    }
}

impl std::error::Error for ParseError {}
