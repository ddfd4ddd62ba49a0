//! The messages of remote read (`prometheus.ReadRequest` and its answers), read and written field
//! by field: there are few, and answers are long.

use std::sync::Arc;

use model::{Buckets, Histogram, Labels, MatchOp, Matcher, PatternBudget, Span, TimeRange, varint};

use super::chunks::Chunk;
use crate::RawSeries;

/// Queries in one request. Prometheus sends one.
const QUERIES_MAX: usize = 100;

/// Matchers of one query.
const MATCHERS_MAX: usize = 1_000;

/// Which forms of answer a request takes; the numbers are those of `prompb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// All samples in one message.
    Samples = 0,
    /// Chunks, series by series.
    StreamedChunks = 1,
}

/// A question.
#[derive(Debug)]
pub(super) struct ReadRequest {
    pub(super) queries: Vec<Query>,
    pub(super) form: Form,
}

/// One selection.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) matchers: Vec<Matcher>,
    pub(super) range: TimeRange,
    /// The asker wants to know the series and no samples of them.
    pub(super) series_only: bool,
}

/// One field of a message.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Four or eight bytes, which nothing here has.
    Fixed,
}

/// Takes the next field off a message: its number and what it holds.
fn field<'a>(rest: &mut &'a [u8]) -> Result<Option<(u64, Field<'a>)>, String> {
    if rest.is_empty() {
        return Ok(None);
    }
    let broken = || "the message is cut short or not protobuf".to_owned();
    let tag = varint::take(rest).ok_or_else(broken)?;
    let mut skip = |count: u64| {
        let count = usize::try_from(count).ok()?;
        let (taken, after) = rest.split_at_checked(count)?;
        *rest = after;
        Some(taken)
    };
    let found = match tag & 7 {
        1 => skip(8).map(|_| Field::Fixed),
        5 => skip(4).map(|_| Field::Fixed),
        0 => varint::take(rest).map(Field::Number),
        2 => {
            let length = varint::take(rest).ok_or_else(broken)?;
            let taken = usize::try_from(length).ok().and_then(|n| rest.split_at_checked(n));
            taken.map(|(taken, after)| {
                *rest = after;
                Field::Bytes(taken)
            })
        }
        _ => None,
    };
    found.map(|found| Some((tag >> 3, found))).ok_or_else(broken)
}

impl ReadRequest {
    /// Reads a request. Regular expressions of all its queries have one budget.
    pub(super) fn parse(mut rest: &[u8]) -> Result<Self, String> {
        let (mut queries, mut accepted) = (Vec::new(), Vec::new());
        let mut budget = PatternBudget::default();
        while let Some(found) = field(&mut rest)? {
            match found {
                (1, Field::Bytes(query)) => {
                    if queries.len() == QUERIES_MAX {
                        return Err(format!("a request may have at most {QUERIES_MAX} queries"));
                    }
                    queries.push(query_of(query, &mut budget)?);
                }
                (2, Field::Number(form)) => accepted.push(form),
                (2, Field::Bytes(mut forms)) => {
                    while !forms.is_empty() {
                        let form = varint::take(&mut forms);
                        accepted.push(form.ok_or("accepted_response_types is cut short")?);
                    }
                }
                _ => {}
            }
        }
        Ok(Self { queries, form: form_of(&accepted)? })
    }
}

/// The first form that is known; samples if none is named.
fn form_of(accepted: &[u64]) -> Result<Form, String> {
    if accepted.is_empty() {
        return Ok(Form::Samples);
    }
    let known = |number: &u64| match number {
        0 => Some(Form::Samples),
        1 => Some(Form::StreamedChunks),
        _ => None,
    };
    accepted.iter().find_map(known).ok_or_else(|| {
        let few = &accepted[..accepted.len().min(10)];
        format!(
            "server does not support any of the requested response types: {few:?}; supported: \
             SAMPLES (0), STREAMED_XOR_CHUNKS (1)"
        )
    })
}

fn query_of(mut rest: &[u8], budget: &mut PatternBudget) -> Result<Query, String> {
    let range = TimeRange { start_ms: 0, end_ms: 0 };
    let mut query = Query { matchers: Vec::new(), range, series_only: false };
    while let Some(found) = field(&mut rest)? {
        match found {
            (1, Field::Number(at)) => query.range.start_ms = at as i64,
            (2, Field::Number(at)) => query.range.end_ms = at as i64,
            (3, Field::Bytes(matcher)) => {
                if query.matchers.len() == MATCHERS_MAX {
                    return Err(format!("a query may have at most {MATCHERS_MAX} matchers"));
                }
                query.matchers.push(matcher_of(matcher, budget)?);
            }
            (4, Field::Bytes(hints)) => query.series_only = wants_series_only(hints)?,
            _ => {}
        }
    }
    Ok(query)
}

fn matcher_of(mut rest: &[u8], budget: &mut PatternBudget) -> Result<Matcher, String> {
    let (mut op, mut name, mut value) = (MatchOp::Equal, "", "");
    while let Some(found) = field(&mut rest)? {
        match found {
            (1, Field::Number(number)) => {
                op = *[MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex]
                    .get(usize::try_from(number).unwrap_or(usize::MAX))
                    .ok_or("invalid matcher type")?;
            }
            (2, Field::Bytes(text)) => name = utf8(text)?,
            (3, Field::Bytes(text)) => value = utf8(text)?,
            _ => {}
        }
    }
    Matcher::within(budget, op, name, value).map_err(|e| e.to_string())
}

fn utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "a matcher is not valid UTF-8".to_owned())
}

/// The hint `func` is `series` where only the series are asked for. The others are for storage that
/// keeps less exact samples.
fn wants_series_only(mut hints: &[u8]) -> Result<bool, String> {
    let mut wants = false;
    while let Some(found) = field(&mut hints)? {
        if let (2, Field::Bytes(func)) = found {
            wants = func == b"series";
        }
    }
    Ok(wants)
}

fn put_tag(out: &mut Vec<u8>, number: u64, wire_type: u64) {
    varint::put(out, number << 3 | wire_type);
}

/// Zero is what a missing number means.
fn put_number(out: &mut Vec<u8>, number: u64, value: u64) {
    if value != 0 {
        put_number_always(out, number, value);
    }
}

pub(in crate::http) fn put_number_always(out: &mut Vec<u8>, number: u64, value: u64) {
    put_tag(out, number, 0);
    varint::put(out, value);
}

fn put_float(out: &mut Vec<u8>, number: u64, value: f64) {
    if value.to_bits() != 0 {
        put_float_always(out, number, value);
    }
}

pub(in crate::http) fn put_float_always(out: &mut Vec<u8>, number: u64, value: f64) {
    put_tag(out, number, 1);
    out.extend_from_slice(&value.to_le_bytes());
}

pub(in crate::http) fn put_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_tag(out, number, 2);
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A message inside a message; `scratch` saves an allocation for each of many.
fn put_message(
    out: &mut Vec<u8>,
    number: u64,
    scratch: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>),
) {
    scratch.clear();
    write(scratch);
    put_bytes(out, number, scratch);
}

/// The labels of a series, as field 1 of it.
pub(super) fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    let mut scratch = Vec::new();
    for (name, value) in labels.iter() {
        put_message(out, 1, &mut scratch, |out| {
            put_bytes(out, 1, name.as_bytes());
            put_bytes(out, 2, value.as_bytes());
        });
    }
}

/// A `TimeSeries`.
pub(super) fn put_series(out: &mut Vec<u8>, series: &RawSeries) {
    put_labels(out, &series.labels);
    let mut scratch = Vec::new();
    for (at, value) in series.timestamps.iter().zip(&series.values) {
        put_message(out, 2, &mut scratch, |out| {
            put_float(out, 1, *value);
            put_number(out, 2, *at as u64);
        });
    }
    for (at, histogram) in &series.histograms {
        put_message(out, 4, &mut scratch, |out| put_histogram(out, *at, histogram));
    }
}

pub(in crate::http) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(in crate::http) fn packed_signed(deltas: &[i64]) -> Vec<u8> {
    let mut packed = Vec::new();
    deltas.iter().for_each(|delta| varint::put(&mut packed, zigzag(*delta)));
    packed
}

pub(in crate::http) fn packed_floats(counts: &[f64]) -> Vec<u8> {
    counts.iter().flat_map(|count| count.to_le_bytes()).collect()
}

fn put_histogram(out: &mut Vec<u8>, at_ms: i64, histogram: &Arc<Histogram>) {
    // Which of two fields there is says whether counts are integers.
    match &histogram.buckets {
        Buckets::Integer { count, .. } => put_number_always(out, 1, *count),
        Buckets::Float { count, .. } => put_float_always(out, 2, *count),
    }
    put_float(out, 3, histogram.sum);
    put_number(out, 4, zigzag(i64::from(histogram.schema)));
    put_float(out, 5, histogram.zero_threshold);
    let (negative, positive) = match &histogram.buckets {
        Buckets::Integer { zero_count, positive_deltas, negative_deltas, .. } => {
            put_number_always(out, 6, *zero_count);
            ((9, packed_signed(negative_deltas)), (12, packed_signed(positive_deltas)))
        }
        Buckets::Float { zero_count, positive, negative, .. } => {
            put_float_always(out, 7, *zero_count);
            ((10, packed_floats(negative)), (13, packed_floats(positive)))
        }
    };
    for (spans, number, (field, packed)) in
        [(&histogram.negative_spans, 8, negative), (&histogram.positive_spans, 11, positive)]
    {
        spans.iter().for_each(|span| put_span(out, number, span));
        if !packed.is_empty() {
            put_bytes(out, field, &packed);
        }
    }
    put_number(out, 14, histogram.reset_hint as u64);
    put_number(out, 15, at_ms as u64);
    if !histogram.custom_values.is_empty() {
        put_bytes(out, 16, &packed_floats(&histogram.custom_values));
    }
}

pub(in crate::http) fn put_span(out: &mut Vec<u8>, number: u64, span: &Span) {
    put_message(out, number, &mut Vec::new(), |out| {
        put_number(out, 1, zigzag(i64::from(span.offset)));
        put_number(out, 2, u64::from(span.length));
    });
}

/// A `Chunk`, as field 2 of a series.
pub(super) fn put_chunk(out: &mut Vec<u8>, chunk: &Chunk) {
    put_message(out, 2, &mut Vec::with_capacity(chunk.data.len() + 32), |out| {
        put_number(out, 1, chunk.min_ms as u64);
        put_number(out, 2, chunk.max_ms as u64);
        put_number(out, 3, chunk.encoding as u64);
        put_bytes(out, 4, &chunk.data);
    });
}

/// A `ChunkedReadResponse` with one series (labels and chunks as written), in its frame: length,
/// checksum, message.
pub(super) fn frame(series: &[u8], query: usize) -> Vec<u8> {
    let mut message = Vec::with_capacity(series.len() + 16);
    put_bytes(&mut message, 1, series);
    put_number(&mut message, 2, query as u64);
    let mut out = Vec::with_capacity(message.len() + 16);
    varint::put(&mut out, message.len() as u64);
    out.extend_from_slice(&crc32c::crc32c(&message).to_be_bytes());
    out.extend_from_slice(&message);
    out
}
