//! The text format 0.0.4 (and 1.0.0's quoted names), as strict and as lenient as Prometheus' own
//! parser (`model/textparse/promparse.go`): what it refuses fails the scrape here too, what it
//! accepts is read the same way.
//!
//! ```text
//! # HELP name text        # TYPE name kind        # anything else is a comment
//! name{label="value",…} value [timestamp in ms]   {"name",label="value"} value
//! ```
//!
//! A label set's raw text is handed out with each sample, so that a scraper can recognise a series
//! it knows without looking at its labels.

use std::borrow::Cow;

use model::{METRIC_NAME, MetricKind};

use super::float::normalized;
use super::{Entry, TextError};

/// The NaN that scraped NaNs become (`value.NormalNaN`): bits that are not the stale marker's.
const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// Reads entry by entry.
#[derive(Debug)]
pub struct TextParser<'a> {
    text: &'a [u8],
    rest: &'a [u8],
    labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// What the last `TYPE` said.
    kind: MetricKind,
    /// Whether the sample just read was the one expected.
    is_expected: bool,
}

impl<'a> TextParser<'a> {
    /// A parser at the start of an exposition. The last line may lack its line feed.
    pub fn new(text: &'a [u8]) -> Self {
        let (labels, kind) = (Vec::new(), MetricKind::Unknown);
        Self { text, rest: text, labels, kind, is_expected: false }
    }

    /// Labels of the sample just read, the name first as `__name__`, then as written: in any
    /// order, maybe repeated, maybe empty.
    pub fn labels(&self) -> &[(Cow<'a, str>, Cow<'a, str>)] {
        &self.labels
    }

    /// The next entry; comments and blank lines are passed over. After an error the parser is at
    /// an undefined place: the exposition is refused whole.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'a>>, TextError> {
        self.next_entry_expecting(&[])
    }

    /// Whether the sample just read is the one that was expected: its labels were not looked at.
    pub fn is_expected(&self) -> bool {
        self.is_expected
    }

    /// As [`next_entry`](Self::next_entry). A sample of the series that was written as `expected` in
    /// an exposition before is recognised by its bytes, without taking its labels apart.
    pub fn next_entry_expecting(
        &mut self,
        expected: &[u8],
    ) -> Result<Option<Entry<'a>>, TextError> {
        self.is_expected = false;
        while !self.rest.is_empty() {
            let mut cursor = Cursor { rest: self.rest };
            cursor.blanks();
            let start = cursor.rest;
            let entry = match start.first() {
                None | Some(b'\n') => Ok(None),
                Some(b'#') => comment(&mut cursor),
                Some(_) => {
                    self.labels.clear();
                    let series = expected_series(&mut cursor, expected);
                    self.is_expected = series.is_some();
                    let series =
                        series.map_or_else(|| series_of(&mut cursor, &mut self.labels), Ok);
                    series.and_then(|series| sample(&mut cursor, series)).map(Some)
                }
            };
            let entry = entry.and_then(|entry| {
                cursor.blanks();
                match cursor.rest.split_first() {
                    None => Ok((entry, cursor.rest)),
                    Some((b'\n', rest)) => Ok((entry, rest)),
                    Some(_) => Err("expected the end of the line"),
                }
            });
            match entry {
                Ok((entry, rest)) => {
                    self.rest = rest;
                    match &entry {
                        Some(Entry::Type { kind, .. }) => self.kind = *kind,
                        Some(Entry::Sample { .. }) => self.normalize(),
                        _ => {}
                    }
                    if let Some(entry) = entry {
                        return Ok(Some(entry));
                    }
                }
                Err(what) => return Err(self.error(what, start)),
            }
        }
        Ok(None)
    }

    fn normalize(&mut self) {
        for (name, value) in &mut self.labels {
            *value = normalized(self.kind, name, std::mem::take(value));
        }
    }

    #[cold]
    fn error(&self, what: What, at: &[u8]) -> TextError {
        let before = &self.text[..self.text.len() - at.len()];
        TextError { line: 1 + memchr::memchr_iter(b'\n', before).count(), what, text: shown(at) }
    }
}

pub(super) fn shown(line: &[u8]) -> String {
    let end = line.iter().position(|b| *b == b'\n').unwrap_or(line.len()).min(120);
    String::from_utf8_lossy(&line[..end]).into_owned()
}

/// What is wrong in a line.
pub(super) type What = &'static str;

/// A place in a line.
pub(super) struct Cursor<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn take_while(&mut self, accept: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.rest.iter().position(|b| !accept(*b)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    fn blanks(&mut self) {
        self.take_while(is_blank);
    }

    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let found = self.rest.first() == Some(&byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    /// A name that starts with a letter, `_` or, for metrics, `:`.
    pub(super) fn name(&mut self, colon: bool) -> &'a [u8] {
        let letter = |b: u8| b.is_ascii_alphabetic() || b == b'_' || (colon && b == b':');
        match self.rest.first() {
            Some(first) if letter(*first) => self.take_while(|b| letter(b) || b.is_ascii_digit()),
            _ => &[],
        }
    }

    /// A quoted string without its quotes, escapes still in it; may span lines, as in Prometheus.
    pub(super) fn quoted(&mut self) -> Option<&'a [u8]> {
        let inner = self.rest.strip_prefix(b"\"")?;
        let mut at = 0;
        loop {
            at += memchr::memchr2(b'"', b'\\', &inner[at..])?;
            if inner[at] == b'"' {
                self.rest = &inner[at + 1..];
                return Some(&inner[..at]);
            }
            // The lexer's `\\.` takes any byte but a line feed.
            if matches!(inner.get(at + 1), None | Some(b'\n')) {
                return None;
            }
            at += 2;
        }
    }
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// A line that begins with `#`.
fn comment<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Entry<'a>>, What> {
    cursor.eat(b'#');
    let line_end = memchr::memchr(b'\n', cursor.rest).unwrap_or(cursor.rest.len());
    let (line, rest) = cursor.rest.split_at(line_end);
    cursor.rest = rest;
    let mut line = Cursor { rest: line };
    if line.take_while(is_blank).is_empty() {
        return Ok(None);
    }
    let keyword = line.take_while(|b| !is_blank(b));
    if line.take_while(is_blank).is_empty() || !matches!(keyword, b"HELP" | b"TYPE") {
        return Ok(None);
    }
    let family = match line.rest.first() {
        Some(b'"') => unescaped(line.quoted().ok_or("quoted name does not end")?)?,
        _ => Cow::Borrowed(utf8(line.name(true))?),
    };
    if family.is_empty() {
        return Err("expected a metric name after HELP or TYPE");
    }
    // One separator, whatever it is; the rest of the line is text, blanks included.
    let text = line.rest.get(1..).unwrap_or_default();
    Ok(Some(match keyword {
        b"HELP" => Entry::Help { family, text: help(utf8(text)?) },
        _ => Entry::Type { family, kind: kind(text)? },
    }))
}

fn kind(text: &[u8]) -> Result<MetricKind, What> {
    Ok(match text {
        b"counter" => MetricKind::Counter,
        b"gauge" => MetricKind::Gauge,
        b"histogram" => MetricKind::Histogram,
        b"summary" => MetricKind::Summary,
        b"untyped" => MetricKind::Unknown,
        _ => return Err("invalid metric type"),
    })
}

/// The series that is expected, if the line begins with it: what follows must be blanks and no brace,
/// which could still belong to it.
fn expected_series<'a>(cursor: &mut Cursor<'a>, expected: &[u8]) -> Option<&'a [u8]> {
    let rest = cursor.rest.strip_prefix(expected).filter(|_| !expected.is_empty())?;
    let value = rest.iter().position(|b| !is_blank(*b)).filter(|blanks| *blanks > 0)?;
    if rest[value] == b'{' {
        return None;
    }
    let series = &cursor.rest[..expected.len()];
    cursor.rest = rest;
    Some(series)
}

/// Name and labels of a sample.
fn series_of<'a>(
    cursor: &mut Cursor<'a>,
    labels: &mut Vec<(Cow<'a, str>, Cow<'a, str>)>,
) -> Result<&'a [u8], What> {
    let start = cursor.rest;
    let name = cursor.name(true);
    let mut has_name = !name.is_empty();
    if has_name {
        labels.push((METRIC_NAME.into(), utf8(name)?.into()));
    } else if cursor.rest.first() != Some(&b'{') {
        return Err("expected a metric name");
    }
    let mut series_end = cursor.rest;
    cursor.blanks();
    if cursor.eat(b'{') {
        has_name = braces(cursor, labels, has_name)?;
        series_end = cursor.rest;
    }
    match has_name {
        true => Ok(&start[..start.len() - series_end.len()]),
        false => Err("metric name is missing"),
    }
}

/// What follows the series in a sample's line, up to but not including its line feed.
fn sample<'a>(cursor: &mut Cursor<'a>, series: &'a [u8]) -> Result<Entry<'a>, What> {
    cursor.blanks();
    let value = number(cursor.take_while(|b| !matches!(b, b'{' | b' ' | b'\t' | b'\n')))?;
    cursor.blanks();
    let digits = cursor.take_while(|b| b.is_ascii_digit());
    let timestamp_ms = match digits {
        [] => None,
        digits => Some(utf8(digits)?.parse().map_err(|_| "timestamp is out of range")?),
    };
    Ok(Entry::Sample { series: series.into(), value, timestamp_ms })
}

/// What stands between braces. As in Prometheus, a comma may follow the last label and may be
/// missing between two, and a quoted string without a value is the metric's name. Says whether
/// there is a name now.
fn braces<'a>(
    cursor: &mut Cursor<'a>,
    labels: &mut Vec<(Cow<'a, str>, Cow<'a, str>)>,
    mut has_name: bool,
) -> Result<bool, What> {
    loop {
        cursor.blanks();
        if cursor.eat(b'}') {
            return Ok(has_name);
        }
        let is_quoted = cursor.rest.first() == Some(&b'"');
        let name = match is_quoted {
            true => unescaped(cursor.quoted().ok_or("quoted name does not end")?)?,
            false => Cow::Borrowed(utf8(cursor.name(false))?),
        };
        if name.is_empty() {
            return Err("expected a label name");
        }
        cursor.blanks();
        if is_quoted && matches!(cursor.rest.first(), Some(b',' | b'}')) {
            if has_name {
                return Err("metric name is given twice");
            }
            has_name = true;
            labels.insert(0, (METRIC_NAME.into(), name));
        } else {
            if !cursor.eat(b'=') {
                return Err("expected = after a label name");
            }
            cursor.blanks();
            let value = unescaped(cursor.quoted().ok_or("expected a quoted label value")?)?;
            labels.push((name, value));
        }
        cursor.blanks();
        cursor.eat(b',');
    }
}

pub(super) fn utf8(bytes: &[u8]) -> Result<&str, What> {
    std::str::from_utf8(bytes).map_err(|_| "text is not UTF-8")
}

/// Resolves `\\`, `\"` and `\n`; other escapes stay as they are.
pub(super) fn unescaped(bytes: &[u8]) -> Result<Cow<'_, str>, What> {
    Ok(resolve(utf8(bytes)?, true))
}

/// Resolves `\\` and `\n`.
fn help(text: &str) -> Cow<'_, str> {
    resolve(text, false)
}

fn resolve(text: &str, quotes: bool) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let resolved = match (c, chars.peek()) {
            ('\\', Some('\\')) => '\\',
            ('\\', Some('n')) => '\n',
            ('\\', Some('"')) if quotes => '"',
            _ => {
                out.push(c);
                continue;
            }
        };
        chars.next();
        out.push(resolved);
    }
    Cow::Owned(out)
}

/// A float as Go writes and reads it (`strconv.ParseFloat`), without hexadecimal and underscores.
pub(super) fn number(bytes: &[u8]) -> Result<f64, What> {
    if bytes.is_empty() {
        return Err("expected a value");
    }
    let text = utf8(bytes)?;
    // Rust reads a sign before NaN, and numbers too large as infinite; Go refuses both.
    if text.starts_with(['+', '-']) && text[1..].eq_ignore_ascii_case("nan") {
        return Err("value is not a number");
    }
    let value: f64 = text.parse().map_err(|_| "value is not a number")?;
    if value.is_infinite() && text.bytes().any(|b| b.is_ascii_digit()) {
        return Err("value is out of range");
    }
    Ok(if value.is_nan() { f64::from_bits(NORMAL_NAN_BITS) } else { value })
}
