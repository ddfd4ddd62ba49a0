//! Text to tokens, one at a time, by the rules of Go's `text/scanner` that Loki reads with:
//! comments of Go (`//`, `/* */`) are blanks too, and so is all from `#` to the end of the line.

use super::error::{Fallible, ParseError};
use super::token::{Kind, Token, function, plain};
use super::units;

/// Reads tokens.
#[derive(Debug, Clone)]
pub(super) struct Lexer<'t> {
    text: &'t str,
    /// The next byte to read.
    at: usize,
}

/// Characters of the units of durations.
const DURATION_UNITS: &str = "nuµmshdwy";

/// Characters of the units of sizes.
const BYTE_UNITS: &str = "BikKMGTP";

/// Characters a quantity may have after its first number: more than any needs, and few enough that
/// looking ahead costs nothing.
const QUANTITY_CHARS_MAX: usize = 128;

/// The flags of `logfmt`.
const FLAGS: [&str; 2] = ["--strict", "--keep-empty"];

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// The next token; at the end, `Eof` again and again.
    pub(super) fn next(&mut self) -> Fallible<Token> {
        self.skip_blanks()?;
        let start = self.at;
        let Some(first) = self.bump() else { return Ok(self.token(Kind::Eof, start)) };
        match first {
            '0'..='9' => self.number(start),
            '.' if self.peek().is_some_and(|c| c.is_ascii_digit()) => self.number(start),
            '"' => self.string(start),
            '`' => self.raw_string(start),
            '\'' => self.character(start),
            '-' => Ok(self.minus(start)),
            '[' => self.range(start),
            first if first == '_' || first.is_alphabetic() => {
                self.accept_all(|c| c == '_' || c.is_alphanumeric());
                Ok(self.word(start))
            }
            _ => Ok(self.sign(start)),
        }
    }

    fn token(&self, kind: Kind, start: usize) -> Token {
        Token { kind, start, end: self.at, lost_line: false }
    }

    /// A token that Loki's reader looked beyond.
    fn far_token(&self, kind: Kind, start: usize) -> Token {
        Token { lost_line: true, ..self.token(kind, start) }
    }

    fn error(&self, at: usize, message: impl Into<String>) -> Box<ParseError> {
        ParseError::at(self.text, at, message)
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.at += character.len_utf8();
        Some(character)
    }

    fn accept_all(&mut self, wanted: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.find(|c| !wanted(c)).unwrap_or(rest.len());
    }

    fn skip_blanks(&mut self) -> Fallible<()> {
        loop {
            self.accept_all(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
            let rest = self.rest();
            if rest.starts_with('#') || rest.starts_with("//") {
                self.accept_all(|c| c != '\n');
            } else if let Some(comment) = rest.strip_prefix("/*") {
                let Some(end) = comment.find("*/") else {
                    return Err(self.error(self.at, "comment not terminated"));
                };
                self.at += end + 4;
            } else {
                return Ok(());
            }
        }
    }

    /// A number, a duration or a size. One character was read.
    fn number(&mut self, start: usize) -> Fallible<Token> {
        self.at = start;
        self.digits(start)?;
        if self.quantity(start, DURATION_UNITS, |text| units::duration_ns(text).is_some()) {
            return Ok(self.far_token(Kind::Duration, start));
        }
        if self.quantity(start, BYTE_UNITS, |text| units::bytes(text).is_some()) {
            return Ok(self.far_token(Kind::Bytes, start));
        }
        Ok(self.token(Kind::Number, start))
    }

    /// Uses what follows a number, or a sign, if both together are a quantity.
    fn quantity(&mut self, start: usize, units: &str, is_one: impl Fn(&str) -> bool) -> bool {
        let part = |c: char| c == '.' || c.is_numeric() || units.contains(c);
        let more = self.rest().chars().take(QUANTITY_CHARS_MAX).take_while(|c| part(*c));
        let end = self.at + more.map(char::len_utf8).sum::<usize>();
        let found = end > self.at && is_one(&self.text[start..end]);
        if found {
            self.at = end;
        }
        found
    }

    /// Reads what Go takes for a number.
    fn digits(&mut self, start: usize) -> Fallible<()> {
        let rest = self.rest();
        let prefix = rest.get(..2).unwrap_or_default().to_ascii_lowercase();
        if matches!(prefix.as_str(), "0x" | "0o" | "0b") {
            self.at += 2;
            let digits = self.at;
            match prefix.as_str() {
                "0x" => self.accept_all(|c| c == '_' || c.is_ascii_hexdigit()),
                _ => self.accept_all(|c| c == '_' || c.is_ascii_digit()),
            }
            return match self.at > digits {
                true => Ok(()),
                false => Err(self.error(start, "decimal literal has no digits")),
            };
        }
        let number = |c: char| c == '_' || c.is_ascii_digit();
        self.accept_all(number);
        if self.peek() == Some('.') {
            self.at += 1;
            self.accept_all(number);
        }
        if matches!(self.peek(), Some('e' | 'E')) {
            self.at += 1;
            if matches!(self.peek(), Some('+' | '-')) {
                self.at += 1;
            }
            let exponent = self.at;
            self.accept_all(number);
            if self.at == exponent {
                return Err(self.error(start, "exponent has no digits"));
            }
        }
        Ok(())
    }

    /// A string in double quotes. The opening one was read.
    fn string(&mut self, start: usize) -> Fallible<Token> {
        loop {
            match self.bump() {
                Some('"') => return Ok(self.token(Kind::String, start)),
                Some('\\') => self.escape(start, '"')?,
                None | Some('\n') => return Err(self.error(start, "literal not terminated")),
                Some(_) => {}
            }
        }
    }

    fn raw_string(&mut self, start: usize) -> Fallible<Token> {
        self.accept_all(|c| c != '`');
        match self.bump() {
            Some(_) => Ok(self.token(Kind::String, start)),
            None => Err(self.error(start, "literal not terminated")),
        }
    }

    /// Go's character literal: no part of the language, and so an identifier like all else.
    fn character(&mut self, start: usize) -> Fallible<Token> {
        match self.bump() {
            Some('\\') => self.escape(start, '\'')?,
            Some('\'') => return Err(self.error(start, "invalid char literal")),
            None | Some('\n') => return Err(self.error(start, "literal not terminated")),
            Some(_) => {}
        }
        match self.bump() {
            Some('\'') => Ok(self.token(Kind::Identifier, start)),
            None | Some('\n') => Err(self.error(start, "literal not terminated")),
            Some(_) => Err(self.error(start, "invalid char literal")),
        }
    }

    /// The rest of an escape. The backslash was read.
    fn escape(&mut self, start: usize, quote: char) -> Fallible<()> {
        let invalid = "invalid char escape";
        let (digits, radix, max) = match self.bump() {
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\') => return Ok(()),
            Some(kind) if kind == quote => return Ok(()),
            Some('0'..='7') => {
                self.at -= 1;
                (3, 8, 255)
            }
            Some('x') => (2, 16, 255),
            Some('u') => (4, 16, u32::from(char::MAX)),
            Some('U') => (8, 16, u32::from(char::MAX)),
            _ => return Err(self.error(start, invalid)),
        };
        let mut value = 0_u32;
        for _ in 0..digits {
            let digit = self.peek().and_then(|c| c.to_digit(radix));
            let Some(digit) = digit else { return Err(self.error(start, invalid)) };
            self.at += 1;
            value = value.saturating_mul(radix).saturating_add(digit);
        }
        match value > max || (0xd800..0xe000).contains(&value) {
            true => Err(self.error(start, "invalid syntax")),
            false => Ok(()),
        }
    }

    /// A flag, a negative duration or the operator. The sign was read.
    fn minus(&mut self, start: usize) -> Token {
        let from_sign = &self.text[start..];
        for flag in FLAGS {
            let goes_on = |c: char| c == '-' || c.is_alphabetic();
            if from_sign.strip_prefix(flag).is_some_and(|after| !after.starts_with(goes_on)) {
                self.at = start + flag.len();
                return self.far_token(Kind::Flag, start);
            }
        }
        match self.quantity(start, DURATION_UNITS, |text| units::duration_ns(text).is_some()) {
            true => self.far_token(Kind::Duration, start),
            false => self.sign(start),
        }
    }

    /// `[5m]`. The bracket was read.
    fn range(&mut self, start: usize) -> Fallible<Token> {
        let lost = |message: String| {
            let mut error = self.error(start, message);
            if let Some(place) = &mut error.place {
                place.line = 0;
            }
            error
        };
        let Some(length) = self.rest().find(']') else {
            return Err(lost(String::from("missing closing ']' in duration")));
        };
        units::range_ns(&self.rest()[..length]).map_err(lost)?;
        self.at += length + 1;
        Ok(self.far_token(Kind::Range, start))
    }

    /// What a word is depends on what follows.
    fn word(&mut self, start: usize) -> Token {
        let word = &self.text[start..self.at];
        let kind = match function(word) {
            Some(kind) if self.is_called() => kind,
            Some(_) => Kind::Identifier,
            None => plain(word).unwrap_or(Kind::Identifier),
        };
        self.token(kind, start)
    }

    /// Whether `(`, `by (` or `without (` follows.
    fn is_called(&self) -> bool {
        let rest = self.rest().trim_start();
        let grouping = ["by", "without"].iter().find_map(|word| rest.strip_prefix(word));
        grouping.map_or(rest, str::trim_start).starts_with('(')
    }

    /// A sign of one or two characters, or a character that is none. The first was read.
    fn sign(&mut self, start: usize) -> Token {
        let one_end = self.at;
        if self.bump().is_some() {
            if let Some(kind) = plain(&self.text[start..self.at]) {
                return self.far_token(kind, start);
            }
            self.at = one_end;
        }
        self.token(plain(&self.text[start..one_end]).unwrap_or(Kind::Identifier), start)
    }
}
