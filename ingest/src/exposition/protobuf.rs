//! Protobuf: length-delimited `io.prometheus.client.MetricFamily`, the format that carries native
//! histograms (`model/textparse/protobufparse.go`).
//!
//! ```text
//! MetricFamily { name = 1, help = 2, type = 3, metric = 4, unit = 5 }
//! Metric { label = 1 { name = 1, value = 2 }, gauge = 2, counter = 3, summary = 4, untyped = 5,
//!          timestamp_ms = 6, histogram = 7 }
//! Counter { value = 1, exemplar = 2, start_timestamp = 3 }
//! Histogram { sample_count = 1, sample_sum = 2, bucket = 3, sample_count_float = 4, schema = 5,
//!             zero_threshold = 6, zero_count = 7, zero_count_float = 8, negative spans, deltas,
//!             counts = 9, 10, 11, positive = 12, 13, 14, start_timestamp = 15, exemplars = 16 }
//! ```
//!
//! A family is read as a whole and handed out entry by entry. A histogram that has native parts is
//! handed out in the forms that are asked for.

use std::borrow::Cow;

use model::{Buckets, Histogram, MetricKind, ResetHint, Span};

use super::metric::{Bucket, Measured, Metric, PLAIN, Summary};
use super::queue::Queue;
use super::{Entry, Exemplar, Forms, TextError};
use crate::native;
use crate::wire::{Reader, WireError};

/// Reads entry by entry.
#[derive(Debug)]
pub struct ProtobufParser<'a> {
    messages: Reader<'a>,
    /// Which family it is, counted from 1: told in errors.
    family: usize,
    queue: Queue<'a>,
    forms: Forms,
}

impl<'a> ProtobufParser<'a> {
    /// A parser at the start of an exposition.
    pub fn new(bytes: &'a [u8], forms: Forms) -> Self {
        Self { messages: Reader::new(bytes), family: 0, queue: Queue::default(), forms }
    }

    /// Labels of the entry just read, as with the text format.
    pub fn labels(&self) -> &[(Cow<'a, str>, Cow<'a, str>)] {
        &self.queue.labels
    }

    /// Exemplars of the entry just read.
    pub fn exemplars(&mut self) -> Vec<Exemplar<'a>> {
        self.queue.exemplars()
    }

    /// Since when the entry just read counts, milliseconds; 0 is unknown.
    pub fn start_ms(&self) -> i64 {
        self.queue.start_ms
    }

    /// The next entry. After an error the parser is at an undefined place: the exposition is
    /// refused whole.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'a>>, TextError> {
        while self.queue.is_empty() {
            if self.messages.is_at_end() {
                return Ok(None);
            }
            self.family += 1;
            let family = self.messages.message().map_err(Wrong::from);
            family.and_then(|family| self.read_family(family)).map_err(|Wrong(what)| {
                TextError { line: self.family, what, text: "metric family in protobuf".to_owned() }
            })?;
        }
        Ok(self.queue.next())
    }

    fn read_family(&mut self, message: Reader<'a>) -> Result<(), Wrong> {
        let (mut name, mut help, mut unit, mut kind) = ("", "", "", 0);
        let mut first = message;
        while !first.is_at_end() {
            match first.varint()? {
                0x0a => name = text(&mut first)?,
                0x12 => help = text(&mut first)?,
                0x18 => kind = first.varint()?,
                0x22 => {
                    first.range()?;
                }
                0x2a => unit = text(&mut first)?,
                tag => first.skip(tag, &[1, 2, 3, 4, 5])?,
            }
        }
        if name.is_empty() {
            return Err(Wrong("metric family without a name"));
        }
        let told = match kind {
            0 => MetricKind::Counter,
            1 => MetricKind::Gauge,
            2 => MetricKind::Summary,
            3 => MetricKind::Unknown,
            4 => MetricKind::Histogram,
            5 => MetricKind::GaugeHistogram,
            _ => return Err(Wrong("unknown metric type")),
        };
        let family = || Cow::Borrowed(name);
        self.queue.declare(Entry::Help { family: family(), text: help.into() });
        self.queue.declare(Entry::Type { family: family(), kind: told });
        if !unit.is_empty() {
            self.queue.declare(Entry::Unit { family: family(), unit: unit.into() });
        }
        let mut metrics = message;
        while !metrics.is_at_end() {
            match metrics.varint()? {
                0x22 => {
                    let metric = metrics.message()?;
                    self.read_metric(name, told, metric)?;
                }
                0x18 => drop(metrics.varint()?),
                0x0a | 0x12 | 0x2a => {
                    metrics.range()?;
                }
                tag => metrics.skip(tag, &[1, 2, 3, 4, 5])?,
            }
        }
        Ok(())
    }

    fn read_metric(
        &mut self,
        name: &'a str,
        kind: MetricKind,
        mut message: Reader<'a>,
    ) -> Result<(), Wrong> {
        let (mut labels, mut timestamp_ms, mut value) = (Vec::new(), None, None);
        while !message.is_at_end() {
            match message.varint()? {
                0x0a => labels.push(pair(message.message()?)?),
                0x30 => timestamp_ms = Some(message.varint()? as i64).filter(|at| *at != 0),
                tag @ (0x12 | 0x1a | 0x22 | 0x2a | 0x3a) => value = Some((tag, message.message()?)),
                tag => message.skip(tag, &[1, 2, 3, 4, 5, 6, 7])?,
            }
        }
        let (queue, name) = (&mut self.queue, Cow::Borrowed(name));
        let mut out = Metric { queue, name, labels, timestamp_ms, start_ms: 0 };
        match (kind, value) {
            (MetricKind::Counter, Some((0x1a, message))) => counter(&mut out, message),
            (MetricKind::Gauge, Some((0x12, message)))
            | (MetricKind::Unknown, Some((0x2a, message))) => number(&mut out, message),
            (MetricKind::Summary, Some((0x22, message))) => summary(&mut out, message),
            (MetricKind::Histogram | MetricKind::GaugeHistogram, Some((0x3a, message))) => {
                histogram(&mut out, message, kind, self.forms)
            }
            _ => Err(Wrong("metric has no value of its family's type")),
        }
    }
}

/// What is wrong with a family.
#[derive(Debug)]
struct Wrong(&'static str);

impl From<WireError> for Wrong {
    fn from(why: WireError) -> Self {
        Self(why.what)
    }
}

/// `{ value = 1 }`.
fn number(out: &mut Metric<'_, '_>, mut message: Reader<'_>) -> Result<(), Wrong> {
    let mut value = 0.0;
    while !message.is_at_end() {
        match message.varint()? {
            0x09 => value = message.double()?,
            tag => message.skip(tag, &[1])?,
        }
    }
    out.sample("", None, value, Vec::new());
    Ok(())
}

/// `{ value = 1, exemplar = 2, start_timestamp = 3 }`.
fn counter<'a>(out: &mut Metric<'_, 'a>, mut message: Reader<'a>) -> Result<(), Wrong> {
    let (mut value, mut exemplars) = (0.0, Vec::new());
    while !message.is_at_end() {
        match message.varint()? {
            0x09 => value = message.double()?,
            0x12 => exemplars = vec![exemplar(message.message()?)?],
            0x1a => out.start_ms = time_ms(message.message()?)?,
            tag => message.skip(tag, &[1, 2, 3])?,
        }
    }
    out.sample("", None, value, exemplars);
    Ok(())
}

/// `{ sample_count = 1, sample_sum = 2, quantile = 3 { quantile = 1, value = 2 }, start_timestamp = 4 }`.
fn summary(out: &mut Metric<'_, '_>, mut message: Reader<'_>) -> Result<(), Wrong> {
    let mut summary = Summary::default();
    while !message.is_at_end() {
        match message.varint()? {
            0x08 => summary.count = message.varint()? as f64,
            0x11 => summary.sum = message.double()?,
            0x1a => {
                let mut one = message.message()?;
                let (mut quantile, mut value) = (0.0, 0.0);
                while !one.is_at_end() {
                    match one.varint()? {
                        0x09 => quantile = one.double()?,
                        0x11 => value = one.double()?,
                        tag => one.skip(tag, &[1, 2])?,
                    }
                }
                summary.quantiles.push((quantile, value));
            }
            0x22 => out.start_ms = time_ms(message.message()?)?,
            tag => message.skip(tag, &[1, 2, 3, 4])?,
        }
    }
    out.summary(summary, Vec::new());
    Ok(())
}

fn histogram<'a>(
    out: &mut Metric<'_, 'a>,
    message: Reader<'a>,
    kind: MetricKind,
    forms: Forms,
) -> Result<(), Wrong> {
    let mut read = Read::default();
    read.read(message)?;
    out.start_ms = read.start_ms;
    let measured = Measured {
        native: read.is_native().then(|| read.native(kind)),
        count: read.count(),
        sum: read.sum,
        buckets: read.buckets,
        exemplars: read.exemplars,
    };
    out.histogram(measured, kind, forms, PLAIN).map_err(Wrong)
}

/// A histogram as it came.
#[derive(Debug, Default)]
struct Read<'a> {
    count_integer: u64,
    count_float: f64,
    sum: f64,
    buckets: Vec<Bucket<'a>>,
    schema: i32,
    zero_threshold: f64,
    zero_integer: u64,
    zero_float: f64,
    negative: Side,
    positive: Side,
    exemplars: Vec<Exemplar<'a>>,
    start_ms: i64,
}

/// One side of a native histogram.
#[derive(Debug, Default)]
struct Side {
    spans: Vec<Span>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

impl<'a> Read<'a> {
    fn read(&mut self, mut message: Reader<'a>) -> Result<(), Wrong> {
        while !message.is_at_end() {
            match message.varint()? {
                0x08 => self.count_integer = message.varint()?,
                0x11 => self.sum = message.double()?,
                0x1a => self.buckets.push(bucket(message.message()?)?),
                0x21 => self.count_float = message.double()?,
                0x28 => self.schema = message.zigzag()? as i32,
                0x31 => self.zero_threshold = message.double()?,
                0x38 => self.zero_integer = message.varint()?,
                0x41 => self.zero_float = message.double()?,
                0x4a => self.negative.spans.push(span(message.message()?)?),
                0x52 => packed(message.message()?, &mut self.negative.deltas, Reader::zigzag)?,
                0x50 => self.negative.deltas.push(message.zigzag()?),
                0x5a => packed(message.message()?, &mut self.negative.counts, Reader::double)?,
                0x59 => self.negative.counts.push(message.double()?),
                0x62 => self.positive.spans.push(span(message.message()?)?),
                0x6a => packed(message.message()?, &mut self.positive.deltas, Reader::zigzag)?,
                0x68 => self.positive.deltas.push(message.zigzag()?),
                0x72 => packed(message.message()?, &mut self.positive.counts, Reader::double)?,
                0x71 => self.positive.counts.push(message.double()?),
                0x7a => self.start_ms = time_ms(message.message()?)?,
                0x82 => self.exemplars.push(exemplar(message.message()?)?),
                tag => {
                    message.skip(tag, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16])?;
                }
            }
        }
        Ok(())
    }

    /// A histogram without observations marks itself native by an empty span.
    fn is_native(&self) -> bool {
        !self.positive.spans.is_empty()
            || !self.negative.spans.is_empty()
            || self.zero_threshold > 0.0
            || self.zero_integer > 0
            || self.zero_float > 0.0
    }

    fn is_float(&self) -> bool {
        self.count_float > 0.0 || self.zero_float > 0.0
    }

    fn count(&self) -> f64 {
        if self.count_float > 0.0 { self.count_float } else { self.count_integer as f64 }
    }

    fn native(&mut self, kind: MetricKind) -> Histogram {
        let (positive, negative) =
            (std::mem::take(&mut self.positive), std::mem::take(&mut self.negative));
        let buckets = match self.is_float() {
            true => Buckets::Float {
                count: self.count_float,
                zero_count: self.zero_float,
                positive: positive.counts,
                negative: negative.counts,
            },
            false => Buckets::Integer {
                count: self.count_integer,
                zero_count: self.zero_integer,
                positive_deltas: positive.deltas,
                negative_deltas: negative.deltas,
            },
        };
        let is_gauge = kind == MetricKind::GaugeHistogram;
        let mut histogram = Histogram {
            reset_hint: if is_gauge { ResetHint::Gauge } else { ResetHint::Unknown },
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            sum: self.sum,
            positive_spans: without_empty(positive.spans),
            negative_spans: without_empty(negative.spans),
            buckets,
            custom_values: vec![],
        };
        native::fit(&mut histogram);
        histogram
    }
}

/// The span that only marks a histogram as native says nothing more.
fn without_empty(spans: Vec<Span>) -> Vec<Span> {
    if spans.iter().all(|span| span.length == 0) { vec![] } else { spans }
}

fn text<'a>(message: &mut Reader<'a>) -> Result<&'a str, Wrong> {
    std::str::from_utf8(message.slice()?).map_err(|_| Wrong("text is not UTF-8"))
}

fn pair<'a>(mut message: Reader<'a>) -> Result<(Cow<'a, str>, Cow<'a, str>), Wrong> {
    let (mut name, mut value) = ("", "");
    while !message.is_at_end() {
        match message.varint()? {
            0x0a => name = text(&mut message)?,
            0x12 => value = text(&mut message)?,
            tag => message.skip(tag, &[1, 2])?,
        }
    }
    if name.is_empty() {
        return Err(Wrong("label with an empty name"));
    }
    Ok((name.into(), value.into()))
}

/// `{ label = 1, value = 2, timestamp = 3 { seconds = 1, nanos = 2 } }`.
fn exemplar<'a>(mut message: Reader<'a>) -> Result<Exemplar<'a>, Wrong> {
    let mut exemplar = Exemplar { labels: Vec::new(), value: 0.0, timestamp_ms: None };
    while !message.is_at_end() {
        match message.varint()? {
            0x0a => exemplar.labels.push(pair(message.message()?)?),
            0x11 => exemplar.value = message.double()?,
            0x1a => exemplar.timestamp_ms = Some(time_ms(message.message()?)?),
            tag => message.skip(tag, &[1, 2, 3])?,
        }
    }
    Ok(exemplar)
}

/// `{ seconds = 1, nanos = 2 }` as milliseconds.
fn time_ms(mut message: Reader<'_>) -> Result<i64, Wrong> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    while !message.is_at_end() {
        match message.varint()? {
            0x08 => seconds = message.varint()? as i64,
            0x10 => nanos = message.varint()? as i64,
            tag => message.skip(tag, &[1, 2])?,
        }
    }
    Ok(seconds.saturating_mul(1_000).saturating_add(nanos / 1_000_000))
}

/// `{ cumulative_count = 1, upper_bound = 2, exemplar = 3, cumulative_count_float = 4 }`.
fn bucket<'a>(mut message: Reader<'a>) -> Result<Bucket<'a>, Wrong> {
    let (mut bucket, mut float) = (Bucket::default(), 0.0);
    while !message.is_at_end() {
        match message.varint()? {
            0x08 => bucket.count = message.varint()? as f64,
            0x11 => bucket.bound = message.double()?,
            0x1a => bucket.exemplars = vec![exemplar(message.message()?)?],
            0x21 => float = message.double()?,
            tag => message.skip(tag, &[1, 2, 3, 4])?,
        }
    }
    if float > 0.0 {
        bucket.count = float;
    }
    Ok(bucket)
}

fn span(mut message: Reader<'_>) -> Result<Span, Wrong> {
    let mut span = Span { offset: 0, length: 0 };
    while !message.is_at_end() {
        match message.varint()? {
            0x08 => span.offset = message.zigzag()? as i32,
            0x10 => span.length = message.varint()? as u32,
            tag => message.skip(tag, &[1, 2])?,
        }
    }
    Ok(span)
}

fn packed<'r, T>(
    mut numbers: Reader<'r>,
    out: &mut Vec<T>,
    one: impl Fn(&mut Reader<'r>) -> Result<T, WireError>,
) -> Result<(), Wrong> {
    while !numbers.is_at_end() {
        out.push(one(&mut numbers)?);
    }
    Ok(())
}
