//! Text to tokens, one at a time, so that an error is the first one in reading order.
//!
//! The rules differ inside braces (no keywords) and inside brackets (only durations).

use super::ast::{BinaryOp, Span};
use super::error::{Fallible, ParseError};
use super::literals::{quote, quote_char};
use super::token::{Kind, Token, keyword};

/// Reads tokens.
#[derive(Debug)]
pub(super) struct Lexer<'t> {
    text: &'t str,
    /// The next byte to read.
    at: usize,
    /// Where the token being read starts.
    start: usize,
    open_parens: usize,
    in_braces: bool,
    brackets: Brackets,
    /// Characters looked at: what the work is measured by in tests.
    pub(super) steps: usize,
}

/// Where we are inside `[…]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brackets {
    Outside,
    /// Nothing that could be a duration was seen yet.
    Empty,
    /// The range was seen.
    Range,
    /// The colon was seen.
    Step,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text,
            at: 0,
            start: 0,
            open_parens: 0,
            in_braces: false,
            brackets: Brackets::Outside,
            steps: 0,
        }
    }

    /// The next token; at the end, `Eof` again and again.
    pub(super) fn next(&mut self) -> Fallible<Token> {
        self.skip_blanks();
        self.start = self.at;
        let Some(first) = self.bump() else { return self.end() };
        let kind = match (self.in_braces, self.brackets) {
            (true, _) => self.in_braces(first)?,
            (false, Brackets::Outside) => self.outside(first)?,
            (false, _) => self.in_brackets(first)?,
        };
        Ok(self.token(kind))
    }

    fn token(&self, kind: Kind) -> Token {
        Token { kind, span: Span { start: self.start, end: self.at } }
    }

    fn end(&self) -> Fallible<Token> {
        let unclosed = match self.brackets {
            _ if self.in_braces => "unexpected end of input inside braces",
            Brackets::Empty => "unexpected end of input in duration expression",
            _ if self.open_parens > 0 => "unclosed left parenthesis",
            Brackets::Outside => return Ok(self.token(Kind::Eof)),
            _ => "unclosed left bracket",
        };
        Err(self.error(unclosed))
    }

    fn error(&self, message: impl Into<String>) -> Box<ParseError> {
        ParseError::boxed(self.text, Span { start: self.start, end: self.text.len() }, message)
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        self.steps += 1;
        let character = self.peek()?;
        self.at += character.len_utf8();
        Some(character)
    }

    fn accept(&mut self, wanted: impl Fn(char) -> bool) -> bool {
        let found = self.peek().is_some_and(wanted);
        if found {
            self.bump();
        }
        found
    }

    fn accept_all(&mut self, wanted: impl Fn(char) -> bool) {
        while self.accept(&wanted) {}
    }

    fn skip_blanks(&mut self) {
        loop {
            self.accept_all(is_space);
            match self.peek() {
                Some('#') => self.accept_all(|c| c != '\n' && c != '\r'),
                _ => return,
            }
        }
    }

    fn outside(&mut self, first: char) -> Fallible<Kind> {
        match first {
            '{' => {
                self.in_braces = true;
                Ok(Kind::LeftBrace)
            }
            '[' => {
                self.brackets = Brackets::Empty;
                Ok(Kind::LeftBracket)
            }
            ']' => Err(self.error("unexpected right bracket ']'")),
            '=' if self.peek() == Some('~') => {
                Err(self.error("unexpected character after '=': '~'"))
            }
            '=' if self.accept(|c| c == '=') => Ok(Kind::Op(BinaryOp::Equal)),
            '=' => Ok(Kind::Equal),
            '!' if self.accept(|c| c == '=') => Ok(Kind::Op(BinaryOp::NotEqual)),
            '!' => Err(self.after_exclamation("unexpected character after '!'")),
            '<' if self.accept(|c| c == '=') => Ok(Kind::Op(BinaryOp::LessEqual)),
            '<' if self.accept(|c| c == '/') => Ok(Kind::Op(BinaryOp::TrimUpper)),
            '<' => Ok(Kind::Op(BinaryOp::Less)),
            '>' if self.accept(|c| c == '=') => Ok(Kind::Op(BinaryOp::GreaterEqual)),
            '>' if self.accept(|c| c == '/') => Ok(Kind::Op(BinaryOp::TrimLower)),
            '>' => Ok(Kind::Op(BinaryOp::Greater)),
            '"' | '\'' | '`' => self.string(first),
            '@' => Ok(Kind::At),
            first if is_word_start(first) || first == ':' => Ok(self.word()),
            first => match self.arithmetic(first)? {
                Some(kind) => Ok(kind),
                None => Err(self.error(format!("unexpected character: {}", quote_char(first)))),
            },
        }
    }

    /// What may stand both outside and inside brackets.
    fn arithmetic(&mut self, first: char) -> Fallible<Option<Kind>> {
        Ok(Some(match first {
            ',' => Kind::Comma,
            '*' => Kind::Op(BinaryOp::Mul),
            '/' => Kind::Op(BinaryOp::Div),
            '%' => Kind::Op(BinaryOp::Mod),
            '+' => Kind::Op(BinaryOp::Add),
            '-' => Kind::Op(BinaryOp::Sub),
            '^' => Kind::Op(BinaryOp::Pow),
            '(' => {
                self.open_parens += 1;
                Kind::LeftParen
            }
            ')' if self.open_parens == 0 => {
                self.start = self.at;
                return Err(self.error("unexpected right parenthesis ')'"));
            }
            ')' => {
                self.open_parens -= 1;
                Kind::RightParen
            }
            '0'..='9' => self.number()?,
            '.' if self.peek().is_some_and(|c| c.is_ascii_digit()) => self.number()?,
            _ => return Ok(None),
        }))
    }

    fn in_brackets(&mut self, first: char) -> Fallible<Kind> {
        match first {
            ']' => {
                self.brackets = Brackets::Outside;
                Ok(Kind::RightBracket)
            }
            '[' => Err(self.error("unexpected left bracket '['")),
            ':' => match self.brackets {
                Brackets::Range => {
                    self.brackets = Brackets::Step;
                    Ok(Kind::Colon)
                }
                Brackets::Step => Err(self.error("unexpected colon ':'")),
                _ => {
                    self.start = self.at;
                    Err(self.error("unexpected colon before duration in duration expression"))
                }
            },
            first if is_word_start(first) => {
                let before = self.at;
                let kind = self.word();
                if !matches!(kind, Kind::Step | Kind::Range | Kind::MinOf | Kind::MaxOf) {
                    self.at = before;
                    return Err(self.not_a_duration(first));
                }
                self.duration_seen();
                Ok(kind)
            }
            first => {
                if first.is_ascii_digit() || first == '.' {
                    self.duration_seen();
                }
                match self.arithmetic(first)? {
                    Some(kind) => Ok(kind),
                    None => Err(self.not_a_duration(first)),
                }
            }
        }
    }

    fn duration_seen(&mut self) {
        if self.brackets == Brackets::Empty {
            self.brackets = Brackets::Range;
        }
    }

    fn not_a_duration(&self, found: char) -> Box<ParseError> {
        let found_text = quote_char(found);
        match self.brackets {
            Brackets::Empty => {
                self.error(format!("unexpected character in duration expression: {found_text}"))
            }
            _ if is_word_start(found) => {
                self.error(format!("unexpected character: {found_text}, expected ':'"))
            }
            _ => self.error(format!("unexpected character: {found_text}")),
        }
    }

    fn in_braces(&mut self, first: char) -> Fallible<Kind> {
        match first {
            ',' => Ok(Kind::Comma),
            '"' | '\'' | '`' => self.string(first),
            '=' if self.accept(|c| c == '~') => Ok(Kind::EqualRegex),
            '=' => Ok(Kind::Equal),
            '!' if self.accept(|c| c == '~') => Ok(Kind::NotEqualRegex),
            '!' if self.accept(|c| c == '=') => Ok(Kind::Op(BinaryOp::NotEqual)),
            '!' => Err(self.after_exclamation("unexpected character after '!' inside braces")),
            '{' => Err(self.error("unexpected left brace '{'")),
            '}' => {
                self.in_braces = false;
                Ok(Kind::RightBrace)
            }
            first if is_word_start(first) => {
                self.accept_all(is_word);
                Ok(Kind::Identifier)
            }
            first => {
                Err(self
                    .error(format!("unexpected character inside braces: {}", quote_char(first))))
            }
        }
    }

    fn after_exclamation(&self, message: &str) -> Box<ParseError> {
        // Go prints the end of the text as the replacement character.
        let found = self.peek().unwrap_or(char::REPLACEMENT_CHARACTER);
        self.error(format!("{message}: {}", quote_char(found)))
    }

    /// A keyword, an identifier or, with colons, a metric's name. One character was read.
    fn word(&mut self) -> Kind {
        self.accept_all(|c| is_word(c) || c == ':');
        let word = &self.text[self.start..self.at];
        match keyword(word) {
            // Younger than many metrics of that name: keywords only where nothing else makes sense.
            Some(Kind::Fill | Kind::FillLeft | Kind::FillRight) if !self.paren_follows() => {
                Kind::Identifier
            }
            Some(kind) => kind,
            None if word.contains(':') => Kind::MetricIdentifier,
            None => Kind::Identifier,
        }
    }

    fn paren_follows(&mut self) -> bool {
        let rest = &self.text[self.at..];
        let blanks = rest.len() - rest.trim_start_matches(is_space).len();
        self.steps += blanks;
        rest[blanks..].starts_with('(')
    }

    /// A number or a duration. One character was read.
    fn number(&mut self) -> Fallible<Kind> {
        self.at = self.start;
        if self.is_number() && !self.peek().is_some_and(is_word) {
            return Ok(Kind::Number);
        }
        if self.is_rest_of_duration() {
            return Ok(Kind::Duration);
        }
        let found = quote(&self.text.as_bytes()[self.start..self.at]);
        Err(self.error(format!("bad number or duration syntax: {found}")))
    }

    /// Reads what looks like a number; whether it is one, the parser decides.
    fn is_number(&mut self) -> bool {
        if self.text[self.at..].starts_with("0x") || self.text[self.at..].starts_with("0X") {
            self.at += 2;
            self.accept_all(|c| c == '_' || c.is_ascii_hexdigit());
            return self.at > self.start + 2;
        }
        let (mut dot, mut exponent) = (false, false);
        loop {
            self.accept_all(|c| c.is_ascii_digit());
            if self.accept(|c| c == '.') {
                if dot || exponent || self.accept(|c| c == '.' || c == '_') {
                    return false;
                }
                dot = true;
            } else if self.accept(|c| c == 'e' || c == 'E') {
                self.accept(|c| c == '+' || c == '-');
                if exponent || !self.peek().is_some_and(|c| c.is_ascii_digit()) {
                    return false;
                }
                exponent = true;
            } else if self.accept(|c| c == '_') {
                if !self.peek().is_some_and(|c| c.is_ascii_digit()) {
                    return false;
                }
            } else {
                return true;
            }
        }
    }

    fn is_rest_of_duration(&mut self) -> bool {
        let mut units: fn(char) -> bool = |c| "smhdwy".contains(c);
        loop {
            if !self.accept(units) {
                return false;
            }
            // `ms`; a unit that does not exist, such as `hs`, is refused when the value is read.
            self.accept(|c| c == 's');
            if !self.accept(|c| c.is_ascii_digit()) {
                break;
            }
            self.accept_all(|c| c.is_ascii_digit());
            units = |c| "smhdw".contains(c);
        }
        !self.accept(is_word)
    }

    /// A string. The opening quote was read.
    fn string(&mut self, quote: char) -> Fallible<Kind> {
        loop {
            match self.bump() {
                Some(character) if character == quote => return Ok(Kind::String),
                Some('\\') if quote != '`' => self.escape(quote)?,
                None if quote == '`' => return Err(self.error("unterminated raw string")),
                Some('\n') if quote != '`' => return Err(self.error("unterminated quoted string")),
                None => return Err(self.error("unterminated quoted string")),
                Some(_) => {}
            }
        }
    }

    /// The rest of an escape. The backslash was read.
    fn escape(&mut self, quote: char) -> Fallible<()> {
        let unterminated = "escape sequence not terminated";
        let Some(kind) = self.bump() else { return Err(self.error(unterminated)) };
        let (digits, radix, max) = match kind {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => return Ok(()),
            kind if kind == quote => return Ok(()),
            '0'..='7' => {
                self.at -= 1;
                (3, 8, 255)
            }
            'x' => (2, 16, 255),
            'u' => (4, 16, u32::from(char::MAX)),
            'U' => (8, 16, u32::from(char::MAX)),
            other => {
                return Err(self.error(format!("unknown escape sequence {}", code_point(other))));
            }
        };
        let mut value = 0_u32;
        for _ in 0..digits {
            let Some(character) = self.bump() else { return Err(self.error(unterminated)) };
            let Some(digit) = character.to_digit(radix) else {
                let found = code_point(character);
                return Err(self.error(format!("illegal character {found} in escape sequence")));
            };
            value = value.saturating_mul(radix).saturating_add(digit);
        }
        if value > max || (0xd800..0xe000).contains(&value) {
            return Err(self.error("escape sequence is an invalid Unicode code point"));
        }
        Ok(())
    }
}

/// As Go's `%#U` prints it.
fn code_point(character: char) -> String {
    match character.is_control() {
        true => format!("U+{:04X}", u32::from(character)),
        false => format!("U+{:04X} '{character}'", u32::from(character)),
    }
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r')
}

fn is_word_start(character: char) -> bool {
    character == '_' || character.is_ascii_alphabetic()
}

fn is_word(character: char) -> bool {
    is_word_start(character) || character.is_ascii_digit()
}
