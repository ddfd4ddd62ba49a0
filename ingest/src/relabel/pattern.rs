//! Regular expressions as Prometheus reads them: Go's syntax (RE2), anchored, `.` matches a newline.
//!
//! Go and this crate's engine mean the same by nearly everything; where they do not, the expression
//! is rewritten: `\Q…\E`, octal escapes, `\d \w \s \b` (ASCII in Go), classes (no set operations in
//! Go), braces that are no repetition. What Go refuses is refused.

use std::fmt::Write;

use regex::{Captures, Regex, RegexBuilder};

/// Compiled size of one expression. Bytes.
const COMPILED_BYTES_MAX: usize = 4 << 20;

/// Largest number in a repetition (`regexp/syntax`).
const REPEAT_MAX: u32 = 1_000;

/// An anchored expression.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    regex: Regex,
    /// Names of groups with their numbers.
    names: Vec<(String, usize)>,
    /// `(.*)`: matches everything, the group is all of it.
    is_all: bool,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Pattern {
    /// Compiles an expression.
    pub fn new(text: &str) -> Result<Self, String> {
        let Translated { regex, names } = Translator::run(text)?;
        let compiled = RegexBuilder::new(&format!("^(?s:{regex})$"))
            .size_limit(COMPILED_BYTES_MAX)
            .build()
            .map_err(|e| format!("error parsing regexp {text:?}: {e}"))?;
        Ok(Self { text: text.to_owned(), regex: compiled, names, is_all: text == "(.*)" })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether a whole value matches.
    pub(super) fn matches(&self, value: &str) -> bool {
        self.is_all || self.regex.is_match(value)
    }

    /// What the groups found, if a whole value matches.
    pub(super) fn captures<'v>(&self, value: &'v str) -> Option<Found<'_, 'v>> {
        if self.is_all {
            return Some(Found { pattern: self, groups: Groups::All(value) });
        }
        let captures = self.regex.captures(value)?;
        Some(Found { pattern: self, groups: Groups::Some(captures) })
    }

    /// A template with what was found in a value that matches.
    pub fn expanded(&self, value: &str, template: &str) -> Option<String> {
        self.captures(value).map(|found| found.expand(template))
    }

    /// The number of a group, by number or name.
    fn group(&self, name: &str) -> Option<usize> {
        if name.bytes().all(|b| b.is_ascii_digit()) {
            return name.parse().ok();
        }
        self.names.iter().find(|(known, _)| known == name).map(|(_, number)| *number)
    }
}

/// A match.
#[derive(Debug)]
pub(super) struct Found<'p, 'v> {
    pattern: &'p Pattern,
    groups: Groups<'v>,
}

#[derive(Debug)]
enum Groups<'v> {
    All(&'v str),
    Some(Captures<'v>),
}

impl Found<'_, '_> {
    /// A template with its references filled in, as Go's `Expand` does.
    pub(super) fn expand(&self, template: &str) -> String {
        let (mut out, mut rest) = (String::with_capacity(template.len()), template);
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                out.push('$');
                rest = after;
                continue;
            }
            match reference(rest) {
                Some((name, after)) => {
                    out.push_str(self.pattern.group(name).map_or("", |group| self.group(group)));
                    rest = after;
                }
                None => out.push('$'),
            }
        }
        out.push_str(rest);
        out
    }

    fn group(&self, number: usize) -> &str {
        match &self.groups {
            Groups::All(value) if number <= 1 => value,
            Groups::All(_) => "",
            Groups::Some(captures) => captures.get(number).map_or("", |m| m.as_str()),
        }
    }
}

/// The name behind a `$`, and what follows it: letters, digits and underscores, or those in braces.
fn reference(text: &str) -> Option<(&str, &str)> {
    let in_braces = text.strip_prefix('{');
    let inner = in_braces.unwrap_or(text);
    let end = inner.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(inner.len());
    let (name, rest) = inner.split_at(end);
    let rest = if in_braces.is_some() { rest.strip_prefix('}')? } else { rest };
    (!name.is_empty()).then_some((name, rest))
}

/// Whether a template refers to a group, or may.
pub(super) fn has_reference(template: &str) -> bool {
    template.contains('$')
}

/// An expression in the syntax of this crate's engine.
struct Translated {
    regex: String,
    names: Vec<(String, usize)>,
}

struct Translator<'t> {
    text: &'t str,
    rest: &'t str,
    out: String,
    names: Vec<(String, usize)>,
    groups: usize,
    depth: usize,
    /// Whether what stands last can be repeated.
    can_repeat: Repeatable,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeatable {
    /// There is nothing before.
    Nothing,
    Atom,
    /// It is repeated already: Go wants no second operator.
    Repeated,
}

type Step = Result<(), String>;

impl<'t> Translator<'t> {
    fn run(text: &'t str) -> Result<Translated, String> {
        let mut it = Self {
            text,
            rest: text,
            out: String::with_capacity(text.len() + 8),
            names: Vec::new(),
            groups: 0,
            depth: 0,
            can_repeat: Repeatable::Nothing,
        };
        while let Some(c) = it.next() {
            it.one(c)?;
        }
        if it.depth > 0 {
            return Err(it.wrong("missing closing )", text));
        }
        Ok(Translated { regex: it.out, names: it.names })
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    #[cold]
    fn wrong(&self, what: &str, part: &str) -> String {
        format!("error parsing regexp {:?}: {what}: `{part}`", self.text)
    }

    fn one(&mut self, c: char) -> Step {
        match c {
            '(' => self.open(),
            ')' => {
                self.depth = self
                    .depth
                    .checked_sub(1)
                    .ok_or_else(|| self.wrong("unexpected )", self.text))?;
                self.atom(")");
                Ok(())
            }
            '|' => {
                self.out.push('|');
                self.can_repeat = Repeatable::Nothing;
                Ok(())
            }
            '*' | '+' | '?' => self.repeat(&c.to_string()),
            '{' => match repetition(self.rest) {
                Some((bounds, rest)) => {
                    self.rest = rest;
                    let (low, high) = bounds;
                    if low > REPEAT_MAX || high.is_some_and(|h| h > REPEAT_MAX || h < low) {
                        return Err(self.wrong("invalid repeat count", self.text));
                    }
                    let text = match high {
                        Some(high) => format!("{{{low},{high}}}"),
                        None => format!("{{{low},}}"),
                    };
                    self.repeat(&text)
                }
                None => {
                    self.atom("\\{");
                    Ok(())
                }
            },
            '[' => self.class(),
            '\\' => self.escape(),
            '^' | '$' | '.' => {
                self.atom(c.encode_utf8(&mut [0; 4]));
                Ok(())
            }
            c => {
                self.literal(c);
                Ok(())
            }
        }
    }

    fn atom(&mut self, text: &str) {
        self.out.push_str(text);
        self.can_repeat = Repeatable::Atom;
    }

    fn literal(&mut self, c: char) {
        put_literal(&mut self.out, c);
        self.can_repeat = Repeatable::Atom;
    }

    fn repeat(&mut self, operator: &str) -> Step {
        match self.can_repeat {
            Repeatable::Nothing => {
                return Err(self.wrong("missing argument to repetition operator", operator));
            }
            Repeatable::Repeated => {
                return Err(self.wrong("invalid nested repetition operator", operator));
            }
            Repeatable::Atom => {}
        }
        self.out.push_str(operator);
        if let Some(rest) = self.rest.strip_prefix('?') {
            self.rest = rest;
            self.out.push('?');
        }
        self.can_repeat = Repeatable::Repeated;
        Ok(())
    }

    /// What follows `(`: a group that counts, one that does not, or flags.
    fn open(&mut self) -> Step {
        let before = self.can_repeat;
        self.can_repeat = Repeatable::Nothing;
        let Some(rest) = self.rest.strip_prefix('?') else {
            self.groups += 1;
            self.depth += 1;
            self.out.push('(');
            return Ok(());
        };
        if let Some(named) = rest.strip_prefix("P<").or_else(|| rest.strip_prefix('<')) {
            let end = named.find('>').ok_or_else(|| self.wrong("invalid named capture", rest))?;
            let name = &named[..end];
            let is_word =
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !is_word {
                return Err(self.wrong("invalid named capture", &rest[..rest.len().min(end + 3)]));
            }
            if self.names.iter().any(|(known, _)| known == name) {
                return Err(self.wrong("duplicate capture group name", name));
            }
            self.groups += 1;
            self.names.push((name.to_owned(), self.groups));
            self.rest = &named[end + 1..];
            self.depth += 1;
            self.out.push('(');
            return Ok(());
        }
        let end = rest.find([':', ')']);
        let end = end.ok_or_else(|| self.wrong("missing closing )", self.text))?;
        let flags = &rest[..end];
        let is_known = flags.chars().all(|c| matches!(c, 'i' | 'm' | 's' | 'U' | '-'))
            && flags.matches('-').count() <= 1
            && !flags.ends_with('-');
        let is_group = rest[end..].starts_with(':');
        if !is_known || (flags.is_empty() && !is_group) {
            return Err(self.wrong("invalid or unsupported Perl syntax", &format!("(?{flags}")));
        }
        self.rest = &rest[end + 1..];
        let _ = write!(self.out, "(?{flags}{}", if is_group { ':' } else { ')' });
        match is_group {
            true => self.depth += 1,
            // Flags are no argument: what stood before stays what can be repeated.
            false => self.can_repeat = before,
        }
        Ok(())
    }

    fn escape(&mut self) -> Step {
        let at = self.rest;
        let c =
            self.next().ok_or_else(|| self.wrong("trailing backslash at end of expression", ""))?;
        match c {
            'Q' => {
                let (quoted, rest) = self.rest.split_once("\\E").unwrap_or((self.rest, ""));
                self.rest = rest;
                quoted.chars().for_each(|c| self.literal(c));
            }
            // The end of a quotation that did not begin.
            'E' => {}
            'A' | 'z' => self.atom(if c == 'A' { "\\A" } else { "\\z" }),
            'b' => self.atom("(?-u:\\b)"),
            'B' => self.atom("(?-u:\\B)"),
            'd' | 'D' | 'w' | 'W' | 's' | 'S' => {
                let not = if c.is_ascii_uppercase() { "^" } else { "" };
                let class = format!("(?-i:[{not}{}])", perl(c));
                self.atom(&class);
            }
            'p' | 'P' => {
                let class = self.unicode_class(c)?;
                self.atom(&class);
            }
            c => {
                let c = self.escaped_char(c, at)?;
                self.literal(c);
            }
        }
        Ok(())
    }

    /// `\pN`, `\p{Greek}`, `\p{^Greek}`, both ways of saying no.
    fn unicode_class(&mut self, c: char) -> Result<String, String> {
        let one = self.next().ok_or_else(|| self.wrong("invalid character class range", "\\p"))?;
        let name = match one {
            '{' => {
                let end = self.rest.find('}');
                let end =
                    end.ok_or_else(|| self.wrong("invalid character class range", self.rest))?;
                let name = &self.rest[..end];
                self.rest = &self.rest[end + 1..];
                name.to_owned()
            }
            one => one.to_string(),
        };
        let (no, name) = match name.strip_prefix('^') {
            Some(name) => (c == 'p', name.to_owned()),
            None => (c == 'P', name),
        };
        if name == "Any" {
            return Ok(if no { "[^\\s\\S]".to_owned() } else { "[\\s\\S]".to_owned() });
        }
        Ok(format!("\\{}{{{name}}}", if no { 'P' } else { 'p' }))
    }

    /// One character that was written with a backslash.
    fn escaped_char(&mut self, c: char, at: &str) -> Result<char, String> {
        let invalid = |it: &Self| {
            let shown: String = at.chars().take(1).collect();
            it.wrong("invalid escape sequence", &format!("\\{shown}"))
        };
        match c {
            'a' => Ok('\x07'),
            'f' => Ok('\x0c'),
            't' => Ok('\t'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            'v' => Ok('\x0b'),
            'x' => self.hexadecimal().ok_or_else(|| invalid(self)),
            // A digit other than 0 alone would refer back to a group, which RE2 cannot.
            '1'..='7' if !self.rest.starts_with(|c: char| ('0'..='7').contains(&c)) => {
                Err(invalid(self))
            }
            '0'..='7' => {
                let mut value = c as u32 - '0' as u32;
                for _ in 0..2 {
                    let Some(digit) = self.rest.chars().next().and_then(|c| c.to_digit(8)) else {
                        break;
                    };
                    value = value * 8 + digit;
                    self.next();
                }
                char::from_u32(value).ok_or_else(|| invalid(self))
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(c),
            _ => Err(invalid(self)),
        }
    }

    /// `\x7F` or `\x{10FFFF}`.
    fn hexadecimal(&mut self) -> Option<char> {
        let (digits, rest) = match self.rest.strip_prefix('{') {
            Some(inner) => inner.split_once('}')?,
            None => (self.rest.get(..2)?, self.rest.get(2..)?),
        };
        let is_hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        self.rest = rest;
        u32::from_str_radix(digits, 16).ok().filter(|_| is_hex).and_then(char::from_u32)
    }

    /// What follows `[`.
    fn class(&mut self) -> Step {
        let at = self.rest;
        let wrong = |it: &Self| it.wrong("missing closing ]", &format!("[{at}"));
        self.out.push('[');
        if let Some(rest) = self.rest.strip_prefix('^') {
            self.rest = rest;
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let c = self.next().ok_or_else(|| wrong(self))?;
            if c == ']' && !first {
                break;
            }
            // A dash stands for itself at both ends only.
            if c == '-' && !first && !self.rest.starts_with(']') {
                return Err(self.wrong("invalid character class range", &format!("[{at}")));
            }
            first = false;
            if c == '[' && self.rest.starts_with(':') {
                let end = self.rest.find(":]").ok_or_else(|| wrong(self))?;
                let (name, rest) = self.rest.split_at(end + 2);
                let bare = name[1..end].trim_start_matches('^');
                if !POSIX.contains(&bare) {
                    return Err(self.wrong("invalid character class range", &format!("[{name}")));
                }
                self.rest = rest;
                let _ = write!(self.out, "[{name}");
                continue;
            }
            if c == '\\' && self.rest.starts_with(['d', 'D', 'w', 'W', 's', 'S', 'p', 'P']) {
                let Some(c) = self.next() else { return Err(wrong(self)) };
                let class = match c {
                    'p' | 'P' => self.unicode_class(c)?,
                    c if c.is_ascii_uppercase() => format!("[^{}]", perl(c)),
                    c => perl(c).to_owned(),
                };
                self.out.push_str(&class);
                continue;
            }
            let low = self.class_char(c)?;
            let is_range = self.rest.starts_with('-') && !self.rest.starts_with("-]");
            put_literal(&mut self.out, low);
            if is_range {
                self.next();
                let c = self.next().ok_or_else(|| wrong(self))?;
                let high = self.class_char(c)?;
                if high < low {
                    return Err(
                        self.wrong("invalid character class range", &format!("{low}-{high}"))
                    );
                }
                self.out.push('-');
                put_literal(&mut self.out, high);
            }
        }
        self.atom("]");
        Ok(())
    }

    fn class_char(&mut self, c: char) -> Result<char, String> {
        if c != '\\' {
            return Ok(c);
        }
        let at = self.rest;
        let c =
            self.next().ok_or_else(|| self.wrong("trailing backslash at end of expression", ""))?;
        self.escaped_char(c, at)
    }
}

/// What Perl's classes hold, in ASCII.
fn perl(c: char) -> &'static str {
    match c.to_ascii_lowercase() {
        'd' => "0-9",
        'w' => "0-9A-Za-z_",
        _ => "\\t\\n\\x0c\\r ",
    }
}

const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// `2}`, `2,}` or `2,5}` behind an opening brace.
fn repetition(rest: &str) -> Option<((u32, Option<u32>), &str)> {
    let (inner, after) = rest.split_once('}')?;
    let number = |text: &str| {
        let is_number = !text.is_empty()
            && text.bytes().all(|b| b.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'));
        is_number.then(|| text.parse().unwrap_or(u32::MAX))
    };
    let bounds = match inner.split_once(',') {
        None => number(inner).map(|n| (n, Some(n)))?,
        Some((low, "")) => (number(low)?, None),
        Some((low, high)) => (number(low)?, Some(number(high)?)),
    };
    Some((bounds, after))
}

fn put_literal(out: &mut String, c: char) {
    if c.is_ascii_alphanumeric() || !c.is_ascii() {
        out.push(c);
    } else {
        let _ = write!(out, "\\x{:02x}", c as u32);
    }
}
