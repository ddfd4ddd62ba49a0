//! OpenMetrics 1.0, as strict and as lenient as Prometheus' own parser
//! (`model/textparse/openmetricsparse.go`): it checks the shape of lines and of what is declared,
//! not whether values, names and families make sense together.
//!
//! ```text
//! # TYPE name kind   # HELP name text   # UNIT name unit
//! name{label="value",…} value [seconds] [# {label="value",…} value [seconds]]
//! # EOF
//! ```
//!
//! Tokens are separated by exactly one space and nothing else.

use std::borrow::Cow;

use model::MetricKind;

use super::float::normalized;
use super::text::{Cursor, What, number, shown, unescaped, utf8};
use super::{Entry, Exemplar, TextError};

/// Reads entry by entry.
#[derive(Debug)]
pub struct OpenMetricsParser<'a> {
    text: &'a [u8],
    rest: &'a [u8],
    labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    exemplar: Option<Exemplar<'a>>,
    /// What the last `TYPE` said.
    kind: MetricKind,
    is_ended: bool,
    /// Whether the sample just read was the one expected.
    is_expected: bool,
}

impl<'a> OpenMetricsParser<'a> {
    /// A parser at the start of an exposition. Nothing at all is one without series: a scrape does
    /// not ask more of it.
    pub fn new(text: &'a [u8]) -> Self {
        let (labels, kind, is_ended) = (Vec::new(), MetricKind::Unknown, text.is_empty());
        Self { text, rest: text, labels, exemplar: None, kind, is_ended, is_expected: false }
    }

    /// Labels of the sample just read, as with the text format.
    pub fn labels(&self) -> &[(Cow<'a, str>, Cow<'a, str>)] {
        &self.labels
    }

    /// The exemplar of the sample just read.
    pub fn exemplar(&mut self) -> Option<Exemplar<'a>> {
        self.exemplar.take()
    }

    /// The next entry. After an error the parser is at an undefined place: the exposition is
    /// refused whole.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'a>>, TextError> {
        self.next_entry_expecting(&[])
    }

    /// As with the text format.
    pub fn is_expected(&self) -> bool {
        self.is_expected
    }

    /// As with the text format.
    pub fn next_entry_expecting(
        &mut self,
        expected: &[u8],
    ) -> Result<Option<Entry<'a>>, TextError> {
        self.is_expected = false;
        if self.is_ended {
            return Ok(None);
        }
        let start = self.rest;
        let mut cursor = Cursor { rest: start };
        self.exemplar = None;
        let entry = match cursor.rest {
            [] => Err("exposition does not end with # EOF"),
            [b'#', ..] => self.declaration(&mut cursor),
            _ => self.sample(&mut cursor, expected).map(Some),
        };
        self.rest = cursor.rest;
        entry.map_err(|what| self.error(what, start))
    }

    #[cold]
    fn error(&self, what: What, at: &[u8]) -> TextError {
        let before = &self.text[..self.text.len() - at.len()];
        TextError { line: 1 + memchr::memchr_iter(b'\n', before).count(), what, text: shown(at) }
    }

    /// A line that begins with `#`.
    fn declaration(&mut self, cursor: &mut Cursor<'a>) -> Result<Option<Entry<'a>>, What> {
        let Some((keyword, family, text)) = declaration(cursor)? else {
            self.is_ended = true;
            return Ok(None);
        };
        Ok(Some(match keyword {
            b"# HELP " => Entry::Help { family, text: unescaped(text)? },
            b"# TYPE " => {
                self.kind = kind(text)?;
                Entry::Type { family, kind: self.kind }
            }
            _ => Entry::Unit { unit: unit(&family, utf8(text)?)?.into(), family },
        }))
    }

    fn sample(&mut self, cursor: &mut Cursor<'a>, expected: &[u8]) -> Result<Entry<'a>, What> {
        self.labels.clear();
        let rest = cursor.rest.strip_prefix(expected).filter(|_| !expected.is_empty());
        let series = match rest.filter(|rest| rest.first() == Some(&b' ')) {
            Some(rest) => {
                let series = &cursor.rest[..expected.len()];
                self.is_expected = true;
                cursor.rest = rest;
                series
            }
            None => self.series(cursor)?,
        };
        let value = number(token(cursor).ok_or("expected a space and a value")?)?;
        let timestamp_ms = match cursor.rest {
            [b' ', b'#', ..] => None,
            [b' ', ..] => Some(seconds(token(cursor).ok_or("expected a timestamp")?)?),
            _ => None,
        };
        if let Some(rest) = cursor.rest.strip_prefix(b" # {") {
            cursor.rest = rest;
            self.exemplar = Some(exemplar(cursor)?);
        }
        match cursor.eat(b'\n') {
            true => Ok(Entry::Sample { series: series.into(), value, timestamp_ms }),
            false => Err("expected the end of the line"),
        }
    }

    /// Name and labels of a sample.
    fn series(&mut self, cursor: &mut Cursor<'a>) -> Result<&'a [u8], What> {
        let start = cursor.rest;
        let name = cursor.name(true);
        let mut has_name = !name.is_empty();
        if has_name {
            self.labels.push((model::METRIC_NAME.into(), utf8(name)?.into()));
        } else if cursor.rest.first() != Some(&b'{') {
            return Err("expected a metric name");
        }
        if cursor.eat(b'{') {
            has_name = pairs(cursor, &mut self.labels, Some(has_name))?;
        }
        if !has_name {
            return Err("metric name is missing");
        }
        for (name, value) in &mut self.labels {
            *value = normalized(self.kind, name, std::mem::take(value));
        }
        Ok(&start[..start.len() - cursor.rest.len()])
    }
}

/// Keyword, family and text of a line that begins with `#`; `None` at the end. There are no comments.
pub(super) fn declaration<'a>(cursor: &mut Cursor<'a>) -> Result<Option<Declaration<'a>>, What> {
    if let Some(rest) = cursor.rest.strip_prefix(b"# EOF") {
        let rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        return if rest.is_empty() { Ok(None) } else { Err("there is text after # EOF") };
    }
    let (Some(keyword), true) = (cursor.rest.get(..7), cursor.rest.starts_with(b"# ")) else {
        return Err("expected # HELP, # TYPE, # UNIT or # EOF");
    };
    cursor.rest = &cursor.rest[7..];
    if !matches!(keyword, b"# HELP " | b"# TYPE " | b"# UNIT ") {
        return Err("expected # HELP, # TYPE, # UNIT or # EOF");
    }
    let family = match cursor.rest.first() {
        Some(b'"') => unescaped(cursor.quoted().ok_or("quoted name does not end")?)?,
        _ => Cow::Borrowed(utf8(cursor.name(true))?),
    };
    if family.is_empty() {
        return Err("expected a metric name after HELP, TYPE or UNIT");
    }
    let text = cursor.rest.strip_prefix(b" ").ok_or("expected a space after the name")?;
    let end = memchr::memchr(b'\n', text).ok_or("expected the end of the line")?;
    let (text, rest) = text.split_at(end);
    cursor.rest = &rest[1..];
    Ok(Some((keyword, family, text)))
}

/// Keyword with its blanks, family, and what is said of it.
pub(super) type Declaration<'a> = (&'a [u8], Cow<'a, str>, &'a [u8]);

pub(super) fn kind(text: &[u8]) -> Result<MetricKind, What> {
    Ok(match text {
        b"counter" => MetricKind::Counter,
        b"gauge" => MetricKind::Gauge,
        b"histogram" => MetricKind::Histogram,
        b"gaugehistogram" => MetricKind::GaugeHistogram,
        b"summary" => MetricKind::Summary,
        b"info" => MetricKind::Info,
        b"stateset" => MetricKind::StateSet,
        b"unknown" => MetricKind::Unknown,
        _ => return Err("invalid metric type"),
    })
}

/// A unit is the last word of its family's name.
fn unit<'a>(family: &str, unit: &'a str) -> Result<&'a str, What> {
    match family.strip_suffix(unit) {
        Some(rest) if unit.is_empty() || rest.ends_with('_') => Ok(unit),
        _ => Err("unit is not the end of the metric name"),
    }
}

/// What follows one space, up to the next or to the end of the line.
pub(super) fn token<'a>(cursor: &mut Cursor<'a>) -> Option<&'a [u8]> {
    let rest = cursor.rest.strip_prefix(b" ")?;
    let end = memchr::memchr2(b' ', b'\n', rest).unwrap_or(rest.len());
    let (token, rest) = rest.split_at(end);
    cursor.rest = rest;
    (!token.is_empty()).then_some(token)
}

/// Seconds as milliseconds, cut off.
pub(super) fn seconds(token: &[u8]) -> Result<i64, What> {
    let seconds = number(token).map_err(|_| "timestamp is not a number")?;
    if !seconds.is_finite() {
        return Err("timestamp is not finite");
    }
    Ok((seconds * 1_000.0) as i64)
}

/// Labels up to the closing brace. For a series it is known whether it has a name yet, which may
/// stand alone in quotes; exemplars have none.
pub(super) fn pairs<'a>(
    cursor: &mut Cursor<'a>,
    labels: &mut Vec<(Cow<'a, str>, Cow<'a, str>)>,
    mut has_name: Option<bool>,
) -> Result<bool, What> {
    loop {
        if cursor.eat(b'}') {
            return Ok(has_name.unwrap_or(true));
        }
        let is_quoted = cursor.rest.first() == Some(&b'"');
        let name = match is_quoted {
            true => unescaped(cursor.quoted().ok_or("quoted name does not end")?)?,
            false => Cow::Borrowed(utf8(cursor.name(false))?),
        };
        if name.is_empty() && !is_quoted {
            return Err("expected a label name");
        }
        let is_alone = is_quoted && matches!(cursor.rest.first(), Some(b',' | b'}'));
        match (is_alone, has_name) {
            (true, Some(false)) => {
                has_name = Some(true);
                labels.insert(0, (model::METRIC_NAME.into(), name));
            }
            (true, Some(true)) => return Err("metric name is given twice"),
            (true, None) => return Err("expected a label name"),
            (false, _) => {
                if !cursor.eat(b'=') {
                    return Err("expected = after a label name");
                }
                let value = cursor.quoted().filter(|v| !v.contains(&b'\n'));
                labels.push((name, unescaped(value.ok_or("expected a quoted label value")?)?));
            }
        }
        if !cursor.eat(b',') && cursor.rest.first() != Some(&b'}') {
            return Err("expected a comma or the closing brace");
        }
    }
}

/// An exemplar behind its opening brace. Its time may be missing.
pub(super) fn exemplar<'a>(cursor: &mut Cursor<'a>) -> Result<Exemplar<'a>, What> {
    let mut labels = Vec::new();
    pairs(cursor, &mut labels, None)?;
    let value = number(token(cursor).ok_or("expected a space and the exemplar's value")?)?;
    let timestamp_ms = match cursor.rest.first() {
        Some(b' ') => Some(seconds(token(cursor).ok_or("expected the exemplar's timestamp")?)?),
        _ => None,
    };
    Ok(Exemplar { labels, value, timestamp_ms })
}
