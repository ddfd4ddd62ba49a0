//! OpenMetrics 2.0 (release candidate 0): a metric is one line, whatever its type.
//!
//! ```text
//! # TYPE name kind   # HELP name text   # UNIT name unit
//! name{label="value",…} value [seconds] [st@seconds] {# {label="value",…} value seconds}
//! # EOF
//! ```
//!
//! The value is a number, or for histograms and summaries composite (`composite.rs`); what follows
//! `st@` is since when it counts. Shape and types are checked as by Prometheus' parser
//! (`model/textparse/openmetrics2parse.go`). Composite values are taken apart into the series that
//! other formats write, with exemplars at the bucket they fall into.

use std::borrow::Cow;

use model::{METRIC_NAME, MetricKind};

use super::composite::Composite;
use super::metric::{Metric, OF_GAUGE, PLAIN};
use super::openmetrics::{self, kind, pairs, seconds, token};
use super::queue::{Pairs, Queue};
use super::text::{Cursor, What, number, shown, unescaped, utf8};
use super::{Entry, Exemplar, Forms, TextError};

/// Reads entry by entry.
#[derive(Debug)]
pub struct OpenMetrics2Parser<'a> {
    text: &'a [u8],
    rest: &'a [u8],
    forms: Forms,
    family: Family<'a>,
    /// Entries of a composite value.
    queue: Queue<'a>,
    /// Whether the last entry came from there.
    is_queued: bool,
    labels: Pairs<'a>,
    after: After<'a>,
    is_ended: bool,
    is_expected: bool,
}

/// What is known of the family that is being read.
#[derive(Debug, Default)]
struct Family<'a> {
    name: Cow<'a, str>,
    kind: MetricKind,
    has_unit: bool,
}

/// What follows a value.
#[derive(Debug, Default)]
struct After<'a> {
    timestamp_ms: Option<i64>,
    start_ms: i64,
    exemplars: Vec<Exemplar<'a>>,
}

impl<'a> OpenMetrics2Parser<'a> {
    /// A parser at the start of an exposition; an empty one has no series.
    pub fn new(text: &'a [u8], forms: Forms) -> Self {
        Self {
            text,
            rest: text,
            forms,
            family: Family::default(),
            queue: Queue::default(),
            is_queued: false,
            labels: Vec::new(),
            after: After::default(),
            is_ended: text.is_empty(),
            is_expected: false,
        }
    }

    /// Labels of the sample or histogram just read, as with the text format.
    pub fn labels(&self) -> &[(Cow<'a, str>, Cow<'a, str>)] {
        if self.is_queued { &self.queue.labels } else { &self.labels }
    }

    /// Exemplars of the sample or histogram just read.
    pub fn exemplars(&mut self) -> Vec<Exemplar<'a>> {
        match self.is_queued {
            true => self.queue.exemplars(),
            false => std::mem::take(&mut self.after.exemplars),
        }
    }

    /// Since when it counts, milliseconds; 0 is unknown.
    pub fn start_ms(&self) -> i64 {
        if self.is_queued { self.queue.start_ms } else { self.after.start_ms }
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
        if let Some(entry) = self.queue.next() {
            return Ok(Some(entry));
        }
        if self.is_ended {
            return Ok(None);
        }
        let start = self.rest;
        let mut cursor = Cursor { rest: start };
        self.is_queued = false;
        let entry = match cursor.rest {
            [] => Err("exposition does not end with # EOF"),
            [b'#', ..] => self.declaration(&mut cursor),
            _ => self.sample(&mut cursor, expected),
        };
        self.rest = cursor.rest;
        entry.map_err(|what| self.error(what, start))
    }

    #[cold]
    fn error(&self, what: What, at: &[u8]) -> TextError {
        let before = &self.text[..self.text.len() - at.len()];
        TextError { line: 1 + memchr::memchr_iter(b'\n', before).count(), what, text: shown(at) }
    }

    /// A family begins, unless it is the same.
    fn enter(&mut self, name: Cow<'a, str>) {
        if self.family.name != name {
            self.family = Family { name, ..Family::default() };
        }
    }

    fn declaration(&mut self, cursor: &mut Cursor<'a>) -> Result<Option<Entry<'a>>, What> {
        let Some((keyword, family, text)) = openmetrics::declaration(cursor)? else {
            self.is_ended = true;
            return Ok(None);
        };
        if text.ends_with(b"\r") {
            return Err("line ends with a carriage return");
        }
        self.enter(family.clone());
        let entry = match keyword {
            b"# HELP " => Entry::Help { family, text: unescaped(text)? },
            b"# TYPE " => {
                self.family.kind = kind(text)?;
                Entry::Type { family, kind: self.family.kind }
            }
            _ => {
                self.family.has_unit = !text.is_empty();
                Entry::Unit { family, unit: utf8(text)?.into() }
            }
        };
        let Family { name, kind, has_unit } = &self.family;
        if *kind == MetricKind::Info && !name.ends_with("_info") {
            return Err("name of an info metric does not end with _info");
        }
        match kind {
            MetricKind::Info | MetricKind::StateSet if *has_unit => {
                Err("info and stateset have no unit")
            }
            _ => Ok(Some(entry)),
        }
    }

    fn sample(
        &mut self,
        cursor: &mut Cursor<'a>,
        expected: &[u8],
    ) -> Result<Option<Entry<'a>>, What> {
        self.labels.clear();
        let series = match self.expected(cursor, expected)? {
            Some(series) => series,
            None => self.series(cursor)?,
        };
        if let Some(rest) = cursor.rest.strip_prefix(b" {") {
            cursor.rest = rest;
            let value = Composite::read(cursor)?;
            let after = after(cursor)?;
            self.take_apart(&value, after)?;
            self.is_queued = true;
            return Ok(self.queue.next());
        }
        let value = number(token(cursor).ok_or("expected a space and a value")?)?;
        self.check(value)?;
        self.after = after(cursor)?;
        let timestamp_ms = self.after.timestamp_ms;
        Ok(Some(Entry::Sample { series: series.into(), value, timestamp_ms }))
    }

    /// The series that is expected, if it has a number. Only names without quotes are known by their
    /// bytes; of state sets the labels are looked at.
    fn expected(
        &mut self,
        cursor: &mut Cursor<'a>,
        expected: &[u8],
    ) -> Result<Option<&'a [u8]>, What> {
        let start = cursor.rest;
        let found = start.strip_prefix(expected).filter(|_| !expected.is_empty());
        let Some(rest) = found.filter(|rest| matches!(rest, [b' ', next, ..] if *next != b'{'))
        else {
            return Ok(None);
        };
        let name = Cursor { rest: start }.name(true);
        if name.is_empty() {
            return Ok(None);
        }
        self.enter(utf8(name)?.into());
        if self.family.kind == MetricKind::StateSet {
            return Ok(None);
        }
        (self.is_expected, cursor.rest) = (true, rest);
        Ok(Some(&start[..expected.len()]))
    }

    /// Name and labels of a sample. A name in quotes stands first.
    fn series(&mut self, cursor: &mut Cursor<'a>) -> Result<&'a [u8], What> {
        let start = cursor.rest;
        let name = cursor.name(true);
        if !name.is_empty() {
            self.labels.push((METRIC_NAME.into(), utf8(name)?.into()));
        } else if !begins_with_name(start) {
            return Err("expected a metric name");
        }
        if cursor.eat(b'{') && !pairs(cursor, &mut self.labels, Some(!name.is_empty()))? {
            return Err("metric name is missing");
        }
        let (_, name) = self.labels.first().ok_or("metric name is missing")?;
        if name.is_empty() || self.labels.iter().any(|(name, _)| name.is_empty()) {
            return Err("name of the metric or of a label is empty");
        }
        self.enter(name.clone());
        Ok(&start[..start.len() - cursor.rest.len()])
    }

    /// Whether a number may be the value of the family.
    fn check(&self, value: f64) -> Result<(), What> {
        match self.family.kind {
            MetricKind::Histogram | MetricKind::GaugeHistogram | MetricKind::Summary => {
                Err("histograms and summaries have composite values")
            }
            MetricKind::Counter if value.is_nan() => Err("counter is not a number"),
            MetricKind::Info if value != 1.0 => Err("value of an info metric is not 1"),
            MetricKind::StateSet if value != 0.0 && value != 1.0 => {
                Err("value of a state is neither 0 nor 1")
            }
            MetricKind::StateSet
                if !self.labels[1..].iter().any(|(n, _)| *n == self.family.name) =>
            {
                Err("state has no label of the name of its metric")
            }
            _ => Ok(()),
        }
    }

    fn take_apart(&mut self, value: &Composite<'a>, after: After<'a>) -> Result<(), What> {
        let kind = match self.family.kind {
            MetricKind::Unknown => value.kind(),
            kind => kind,
        };
        let After { timestamp_ms, start_ms, exemplars } = after;
        let mut labels = std::mem::take(&mut self.labels);
        labels.remove(0);
        let (name, queue) = (self.family.name.clone(), &mut self.queue);
        let mut metric = Metric { queue, name, labels, timestamp_ms, start_ms };
        match kind {
            MetricKind::Summary => {
                metric.summary(value.summary()?, exemplars);
                Ok(())
            }
            MetricKind::Histogram => {
                let measured = value.histogram(kind, exemplars)?;
                metric.histogram(measured, kind, self.forms, PLAIN)
            }
            MetricKind::GaugeHistogram => {
                let measured = value.histogram(kind, exemplars)?;
                metric.histogram(measured, kind, self.forms, OF_GAUGE)
            }
            _ => Err("only histograms and summaries have composite values"),
        }
    }
}

/// Whether braces have a metric's name in quotes before any label.
fn begins_with_name(text: &[u8]) -> bool {
    let mut cursor = Cursor { rest: text };
    cursor.eat(b'{') && cursor.quoted().is_some() && matches!(cursor.rest, [b',' | b'}', ..])
}

/// Time, start and exemplars, each behind one space, and the end of the line.
fn after<'a>(cursor: &mut Cursor<'a>) -> Result<After<'a>, What> {
    let mut after = After::default();
    if !matches!(cursor.rest, [b' ', b'#', ..] | [b'\n', ..] | [])
        && !cursor.rest.starts_with(b" st@")
    {
        after.timestamp_ms = Some(seconds(token(cursor).ok_or("expected a timestamp")?)?);
    }
    if cursor.rest.starts_with(b" st@") {
        let start = token(cursor).and_then(|token| token.strip_prefix(b"st@"));
        after.start_ms = seconds(start.unwrap_or_default())?;
    }
    while let Some(rest) = cursor.rest.strip_prefix(b" # {") {
        cursor.rest = rest;
        let exemplar = openmetrics::exemplar(cursor)?;
        if exemplar.timestamp_ms.is_none() {
            return Err("exemplar has no timestamp");
        }
        if exemplar.labels.iter().any(|(name, _)| name.is_empty()) {
            return Err("label name of an exemplar is empty");
        }
        after.exemplars.push(exemplar);
    }
    match cursor.eat(b'\n') {
        true => Ok(after),
        false => Err("expected the end of the line"),
    }
}
